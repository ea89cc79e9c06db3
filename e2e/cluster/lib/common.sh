# Names, versions, paths and the few functions that every other file of the cluster uses.
#
# Sourced first by ../cluster. It defines paths and how the programs report to their user; it
# starts, builds and removes nothing. Messages go to standard error, so that standard output has
# only the result of a command (a path, a variable, kubectl's answer).
# shellcheck shell=bash disable=SC2034 # most names are used by the other files

readonly KUBERNETES_VERSION=1.34.4
readonly COREDNS_VERSION=1.12.4
readonly KUBE_ROUTER_VERSION=2.1.0
readonly HELM_VERSION=3.17.3.post1
readonly ENVOY_VERSION=1.40.0
readonly ENVOY_OLDEST_VERSION=1.36.4
readonly GO_OLDEST_MINOR=24
readonly GO_VERSION=1.26.6

# One machine may run several clusters when each has its own name and its own two octets.
NAME=${SMIDGE_CLUSTER_NAME:-smidge}
NET=${SMIDGE_CLUSTER_NET:-10.99}
CACHE=${SMIDGE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/smidge}
STATE=${SMIDGE_STATE:-/var/tmp/$NAME-cluster}
FAMILIES=${SMIDGE_CLUSTER_FAMILIES:-ipv4}
readonly NAME NET CACHE STATE FAMILIES

# The same decimal octets, in a network for local use (RFC 4193).
readonly NET6=fd00:${NET//./:}
readonly NETWORK4=$NET.0.0/16
readonly NETWORK6=$NET6::/48
# Each list has one address or network for each family of the cluster, and the first is that of the API server.
case $FAMILIES in
    ipv4 | dual)
        HOST_IPS=("$NET.0.1") NODE_IPS=("$NET.0.2") LINK_BITS=(24) API_SERVICE_IPS=("$NET.32.1")
        SERVICE_CIDRS=("$NET.32.0/19") DNS_IPS=("$NET.32.10") POD_CIDRS=("$NET.64.0/18")
        ;;&
    ipv6 | dual)
        HOST_IPS+=("$NET6::1") NODE_IPS+=("$NET6::2") LINK_BITS+=(64) API_SERVICE_IPS+=("$NET6:1::1")
        SERVICE_CIDRS+=("$NET6:1::/112") DNS_IPS+=("$NET6:1::a") POD_CIDRS+=("$NET6:2::/64")
        ;;&
    ipv4 | ipv6 | dual) ;;
    *)
        printf 'SMIDGE_CLUSTER_FAMILIES is ipv4, ipv6 or dual, not %s\n' "$FAMILIES" >&2
        exit 2
        ;;
esac
readonly HOST_IPS NODE_IPS LINK_BITS API_SERVICE_IPS SERVICE_CIDRS DNS_IPS POD_CIDRS
readonly HOST_IP=${HOST_IPS[0]}
readonly NODE_IP=${NODE_IPS[0]}
readonly DNS_IP=${DNS_IPS[0]}

is_ipv6() { [[ $1 == *:* ]]; }
# The words, separated by commas.
listed() { (IFS=, && printf '%s' "$*"); }
# An address as the host of a URL.
in_url() { if is_ipv6 "$1"; then printf '[%s]' "$1"; else printf '%s' "$1"; fi; }
# The network of one address.
alone() { if is_ipv6 "$1"; then printf '%s/128' "$1"; else printf '%s/32' "$1"; fi; }

API=https://$(in_url "$NODE_IP"):6443
readonly API
readonly KUBECONFIG_FILE=$STATE/kubeconfig

readonly EXIT_MISSING=3

# kubectl and other Go programs use a proxy from the environment for everything else.
export NO_PROXY=${NO_PROXY:+$NO_PROXY,}$NETWORK4,$NETWORK6

if [[ -t 2 && -z ${NO_COLOR:-} ]]; then
    BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' GREEN=$'\e[32m' PLAIN=$'\e[0m' CLEAR=$'\r\e[K'
else
    BOLD='' DIM='' RED='' GREEN='' PLAIN='' CLEAR=''
fi
readonly BOLD DIM RED GREEN PLAIN CLEAR

say() { printf '%s\n' "$*" >&2; }
heading() { say "${BOLD}==> $*${PLAIN}"; }
die() {
    say "${RED}error:${PLAIN} $*"
    exit 1
}

# The seconds since the epoch, without a process.
now() { printf '%(%s)T' -1; }

# Runs a command under a heading and prints how long it took. Its output goes to a log, of which the
# last line is shown while it runs and the tail when it fails. STEP_TOTAL, when set, is the number
# of lines that the command is expected to print. Must not be called in a condition: there bash
# would ignore `set -e` inside the command, and an incomplete result would count as complete.
step() {
    local what=$1 log started pid status=0
    shift
    log=$(mktemp "${TMPDIR:-/tmp}/smidge-step.XXXXXX")
    started=$(now)
    heading "$what"
    set -m # a process group of its own, so that an interrupt can end all of it
    ("$@") </dev/null >"$log" 2>&1 9>&- &
    set +m
    pid=$!
    # shellcheck disable=SC2064 # this step's process
    trap "kill -TERM -- -$pid 2>/dev/null; wait $pid || true; exit 130" INT TERM HUP
    step_progress "$pid" "$log" "$started"
    wait "$pid" || status=$?
    trap - INT TERM HUP
    if ((status != 0)); then
        say "${RED}    failed after $(($(now) - started)) s; the end of its output:${PLAIN}"
        tail -n 30 "$log" | sed 's/^/    | /' >&2
    else
        say "    ${GREEN}done${PLAIN} in $(($(now) - started)) s"
    fi
    rm -f "$log"
    return "$status"
}

# Shows the progress of a step: in place every second on a terminal, a line every 20 s in a pipe.
step_progress() {
    local pid=$1 log=$2 started=$3 elapsed line next=20
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.2
        elapsed=$(($(now) - started))
        ((elapsed >= 3)) || continue
        if [[ -z $CLEAR ]]; then
            ((elapsed >= next)) || continue
            next=$((elapsed + 20))
        fi
        line=$(tail -n 1 "$log" | cut -c1-70)
        [[ -z ${STEP_TOTAL:-} ]] || line="$(wc -l <"$log") of $STEP_TOTAL  $line"
        printf '%s    %s%s s  %s%s' "$CLEAR" "$DIM" "$elapsed" "$line" "$PLAIN" >&2
        [[ -n $CLEAR ]] || printf '\n' >&2
    done
    printf '%s' "$CLEAR" >&2
}

# Runs a function while holding a lock file, so that two runs never build or start the same thing.
with_lock() {
    local file=$1
    shift
    mkdir -p "${file%/*}"
    exec 9>"$file"
    if ! flock --nonblock 9; then
        say "waiting for another run that holds $file"
        flock 9
    fi
    "$@"
    exec 9>&-
}

# Runs a function that adds to the cache. Under the lock, files in tmp/ are left from a killed run.
with_cache_lock() { with_lock "$CACHE/lock" fresh_cache_tmp "$@"; }

fresh_cache_tmp() {
    rm -rf "$CACHE/tmp"
    "$@"
}

# Creates a folder in the cache: its content is moved into place when complete.
cache_tmp() {
    mkdir -p "$CACHE/tmp"
    mktemp -d "$CACHE/tmp/$1.XXXXXX"
}

# Evaluates the shell variables that a command prints. In two steps: within the words of `eval`, a
# failure of the command would be lost.
take_over() {
    local words
    words=$("$@")
    eval "$words"
}

require_root() {
    ((EUID == 0)) && return
    say "the cluster needs root: it makes namespaces, a veth pair and cgroups"
    exit "$EXIT_MISSING"
}
