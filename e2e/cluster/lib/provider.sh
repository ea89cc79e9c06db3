# The three kinds of cluster that CLUSTER selects: our own (the default), the kubeconfig's current
# one, and kind. Each has up, down, clean, load and status.
#
# This file decides only the order of the steps that start our own cluster; other files do them.
# shellcheck shell=bash disable=SC2153 # NAME is set in common.sh

provider() {
    case ${CLUSTER:-own} in
        own | current | kind) printf '%s' "${CLUSTER:-own}" ;;
        *) die "CLUSTER is own, current or kind, not ${CLUSTER}" ;;
    esac
}

kubeconfig_path() {
    case $(provider) in
        own) printf '%s' "$KUBECONFIG_FILE" ;;
        current) printf '%s' "${KUBECONFIG:-$HOME/.kube/config}" ;;
        kind) printf '%s' "$STATE/kind.kubeconfig" ;;
    esac
}

# Prints our own kubectl where it was built; another cluster does not need the rest of our
# Kubernetes.
kubectl_path() {
    if [[ $(provider) == own || -x $KUBERNETES_BIN/kubectl ]]; then
        printf '%s' "$KUBERNETES_BIN/kubectl"
    else
        command -v kubectl || die "no kubectl found"
    fi
}

own_up() {
    local started archives
    started=$(now)
    require_root
    archives=$(all_images)
    mapfile -t STANDARD_IMAGES <<<"$archives"
    with_lock "$CACHE/cluster-$NAME.lock" own_ensure
    say "the cluster is up after $(($(now) - started)) s; look around with:"
    say "    export KUBECONFIG=$KUBECONFIG_FILE PATH=$KUBERNETES_BIN:\$PATH"
}

# Leaves a cluster of these families that is up and complete unchanged; removes anything less and starts it anew.
own_ensure() {
    if own_healthy; then
        say "the cluster is already up"
    else
        own_start
    fi
}

own_healthy() {
    [[ $(cat "$STATE/up" 2>/dev/null) == "$FAMILIES" ]] && holder >/dev/null && [[ -z $(dead_components) ]] && apiserver_ready
}

own_start() {
    heading "starting Kubernetes $KUBERNETES_VERSION in $STATE"
    remove_node
    rm -rf "$STATE/log"
    make_node
    start_control_plane
    start_containerd
    own_wait 10 "containerd" containerd_ready
    step "loading the images" import_images "${STANDARD_IMAGES[@]}"
    own_wait 60 "the API server" apiserver_ready
    start_kubelet
    start_proxy
    start_dns
    own_wait 60 "the node" node_ready
    start_policies
    own_wait 30 "the Services' rules" proxy_ready
    own_wait 30 "cluster DNS" dns_ready
    own_wait 30 "network policies" policies_ready
    own_wait 30 "the default ServiceAccount" default_account_exists
    printf '%s' "$FAMILIES" >"$STATE/up"
}

# Starts only the API: objects without controllers that process them and without pods that run. No
# ServiceAccount needs to exist.
own_api() {
    local started
    started=$(now)
    require_root
    tools
    with_lock "$CACHE/cluster-$NAME.lock" own_start_api
    say "the API server is up after $(($(now) - started)) s"
}

own_start_api() {
    heading "starting the API server of Kubernetes $KUBERNETES_VERSION in $STATE"
    remove_node
    rm -rf "$STATE/log"
    make_node
    start_api --disable-admission-plugins=ServiceAccount
    own_wait 60 "the API server" apiserver_ready
}

own_wait() {
    local started
    started=$(now)
    wait_for "$@"
    say "    ${GREEN}ready${PLAIN} after $(($(now) - started)) s: $2"
}

own_down() {
    require_root
    with_lock "$CACHE/cluster-$NAME.lock" remove_node
    say "the cluster is down; its logs are in $STATE/log"
}

own_clean() {
    require_root
    with_lock "$CACHE/cluster-$NAME.lock" remove_node
    rm -rf "$STATE"
    say "the cluster is down, and nothing is left of it"
}

own_load() {
    require_root
    step "loading ${*##*/}" import_images "$@"
}

own_status() {
    local name status=0
    if ! holder >/dev/null; then
        say "the cluster is not running"
        return 1
    fi
    for name in $(components); do
        if component_alive "$name"; then
            printf 'running  %s\n' "$name"
        else
            printf 'ended    %s\n' "$name"
            status=1
        fi
    done
    kubectl_node get nodes --output wide
    return "$status"
}

# The current cluster is used unchanged: not started, not stopped, not modified beyond the commands.
current_up() { current_status; }
current_down() { say "CLUSTER=current: the cluster is yours; it goes on running"; }
current_clean() { current_down; }
current_status() { "$(kubectl_path)" --kubeconfig "$(kubeconfig_path)" get nodes --output wide; }
current_load() {
    say "CLUSTER=current: give these images to the cluster yourself (they are docker archives):"
    printf '%s\n' "$@"
}

kind_up() {
    command -v kind >/dev/null || die "CLUSTER=kind needs the command kind"
    command -v docker >/dev/null || die "CLUSTER=kind needs Docker"
    mkdir -p "$STATE"
    kind create cluster --name "$NAME" --kubeconfig "$(kubeconfig_path)"
    local archives
    archives=$(all_images)
    mapfile -t archives <<<"$archives"
    kind_load "${archives[@]}"
}
kind_down() { kind delete cluster --name "$NAME" --kubeconfig "$(kubeconfig_path)"; }
kind_clean() { kind_down; }
kind_status() { current_status; }
kind_load() {
    local archive
    for archive in "$@"; do
        kind load image-archive "$archive" --name "$NAME"
    done
}
