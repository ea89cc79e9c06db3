# The system packages of the cluster: finds which are missing, and installs them where that is
# allowed.
#
# Installs only as root and only with apt; anywhere else it names what is missing and stops before
# anything is changed. Services that a package would start (etcd, containerd) are not started.
# shellcheck shell=bash

# Requirements, as PROBE:PACKAGE. A probe is a command, or a file when it contains a slash.
readonly PROBES=(
    containerd:containerd
    runc:runc
    etcd:etcd-server
    /usr/lib/cni/ptp:containernetworking-plugins
    iptables:iptables
    ipset:ipset
    nft:nftables
    ip:iproute2
    conntrack:conntrack
    socat:socat
    mmdebstrap:mmdebstrap
    /usr/share/keyrings/debian-archive-keyring.gpg:debian-archive-keyring
    gcc:gcc
    /usr/include/stdlib.h:libc6-dev
    openssl:openssl
    curl:curl
    jq:jq
    unzip:unzip
    python3:python3
    nsenter:util-linux
)

PATH=$PATH:/usr/sbin:/sbin

missing_packages() {
    local entry probe
    for entry in "${PROBES[@]}"; do
        probe=${entry%%:*}
        if [[ $probe == */* ]]; then
            [[ -e $probe ]] || printf '%s\n' "${entry##*:}"
        else
            command -v "$probe" >/dev/null || printf '%s\n' "${entry##*:}"
        fi
    done
    python3 -c 'import pip' 2>/dev/null || printf 'python3-pip\n'
}

# Installs all packages without arguments, else only those named.
ensure_packages() {
    local missing
    missing=$(missing_packages)
    if (($# > 0)); then
        missing=$(grep -Fx "$(printf '%s\n' "$@")" <<<"$missing") || true
    fi
    [[ -n $missing ]] || return 0
    mapfile -t missing <<<"$missing"
    if ((EUID != 0)) || ! command -v apt-get >/dev/null; then
        say "missing on this machine, named as Debian packages: ${missing[*]}"
        say "nothing was changed; install them, or run this as root on Debian or Ubuntu"
        exit "$EXIT_MISSING"
    fi
    step "installing Debian packages: ${missing[*]}" install_packages "${missing[@]}"
}

# Runs in a subshell (of step), so that the trap ends with the installation.
install_packages() {
    local policy=/usr/sbin/policy-rc.d
    export DEBIAN_FRONTEND=noninteractive
    if [[ ! -e $policy ]]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    apt-get -o DPkg::Lock::Timeout=300 update
    apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "$@"
    [[ ! -d /run/systemd/system ]] || disable_services "$@"
}

# The cluster runs its own etcd and containerd; those of the packages would start at the next boot.
disable_services() {
    local package
    for package in "$@"; do
        case $package in
            etcd-server) systemctl disable etcd.service ;;
            containerd) systemctl disable containerd.service ;;
        esac
    done
}
