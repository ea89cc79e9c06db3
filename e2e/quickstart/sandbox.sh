# What the quickstart runs: namespaces, the control plane, programs and their Envoys. The parts that `smidge try` has as
# well, networks and what a proxy needs, are made by the same program.
#
# A process namespace holds everything, so that ending its first process ends all of it, and the network namespaces go
# with it. For users other than root there is a user namespace around it, in which all processes have one user: the
# redirection then knows a proxy by the mark of its sockets instead of its user.
# shellcheck shell=bash

readonly WORK=${SMIDGE_QUICKSTART:-/var/tmp/smidge-quickstart-$EUID}
readonly MESH=$WORK/mesh
readonly STATE_FOLDER=$WORK/state
readonly PROGRAMS=${SMIDGE_PROGRAMS:-${CARGO_TARGET_DIR:-$ROOT/target}/debug}
readonly SMIDGE=$PROGRAMS/smidge
readonly BOOKSTORE=$PROGRAMS/bookstore
readonly CONTROL_PLANE=10.77.0.1
readonly PROXY_USER=1337
# Workloads: name, namespace, address and arguments of the program.
readonly WORKLOADS=(
    "bookbuyer bookbuyer 10.77.0.11 bookbuyer --bookstore http://bookstore.bookstore:14001 --every-ms 2000"
    "bookthief bookthief 10.77.0.12 bookthief --bookstore http://bookstore.bookstore:14001 --every-ms 2000"
    "bookstore-v1 bookstore 10.77.0.13 bookstore --name v1"
    "bookstore-v2 bookstore 10.77.0.14 bookstore --name v2"
    "store bookwarehouse 10.77.0.15 store"
)
# A machine in the same network without a proxy.
readonly OUTSIDER_ADDRESS=10.77.0.99

start() {
    rm -rf "$WORK"
    mkdir -p "$WORK/log"
    chmod 755 "$WORK"
    cp -r "$ROOT/examples/bookstore/standalone" "$MESH"
    start_holder
    network
    hosts
    start_control_plane
    prepare_workloads
    local workload
    for workload in "${WORKLOADS[@]}"; do
        # shellcheck disable=SC2086 # the words of one line
        start_workload $workload
    done
    for workload in "${WORKLOADS[@]}"; do
        # shellcheck disable=SC2086
        wait_for "the proxy of ${workload%% *} is ready" ready $workload
    done
}

# Makes a network for each workload, and one for the outsider.
network() {
    local workload name address machines=("outsider=$OUTSIDER_ADDRESS")
    for workload in "${WORKLOADS[@]}"; do
        read -r name _ address _ <<<"$workload"
        machines+=("$name=$address")
    done
    inside "$SMIDGE" sandbox-part network "$CONTROL_PLANE" "${machines[@]}"
}

# Starts the first process of the namespaces. Its number is that outside of them.
start_holder() {
    local user=() launcher
    ((EUID == 0)) || user=(--user --map-root-user)
    setsid unshare "${user[@]}" --net --mount --pid --fork --mount-proc --kill-child \
        sleep infinity </dev/null >"$WORK/log/holder" 2>&1 &
    launcher=$!
    wait_for "the namespaces exist" holder_of "$launcher"
    printf '%s %s\n' "$HOLDER" "$(start_time "$HOLDER")" >"$WORK/holder"
    enter
}

# Finds the child of the process that made the namespaces.
holder_of() {
    local status
    for status in /proc/[0-9]*/status; do
        if grep -qs "^PPid:[[:space:]]*$1\$" "$status"; then
            HOLDER=${status#/proc/}
            HOLDER=${HOLDER%/status}
            return
        fi
    done
    return 1
}

# The time at which a process started: another process of the same number has another one.
start_time() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

is_running() {
    local started
    [[ -e $WORK/holder ]] && read -r HOLDER started <"$WORK/holder" &&
        [[ -n $started && $(start_time "$HOLDER") == "$started" ]]
}

running() {
    is_running || die "the quickstart does not run (hint: make quickstart)"
    enter
}

end_sandbox() {
    is_running || return 0
    kill -KILL "$HOLDER"
    local end=$((SECONDS + 10))
    while [[ -d /proc/$HOLDER ]]; do
        ((SECONDS < end)) || die "process $HOLDER does not end"
        sleep 0.05
    done
}

# Sets ENTER to the words before a command in the namespaces of the sandbox.
enter() {
    ENTER=(nsenter --target "$HOLDER")
    ((EUID == 0)) || ENTER+=(--user --preserve-credentials)
    ENTER+=(--net --mount --pid --)
}

# Runs a command in the namespaces of the sandbox, in the network of the control plane.
inside() { "${ENTER[@]}" "$@"; }

# Runs a command in the network of a workload.
as() { inside nsenter --net="/run/netns/$1" -- "${@:2}"; }

# Starts a command in the sandbox, which runs on. Its log is $WORK/log/LOG.
background() {
    local log=$1
    shift
    setsid "${ENTER[@]}" "$@" </dev/null >"$WORK/log/$log" 2>&1 &
}

# Names of Services, for every program.
hosts() {
    { printf '127.0.0.1 localhost\n' && "$SMIDGE" hosts -f "$MESH"; } >"$WORK/hosts"
    inside mount --bind "$WORK/hosts" /etc/hosts
}

start_control_plane() {
    background smidge "$SMIDGE" run --dir "$MESH" --state "$STATE_FOLDER" --xds-listen "$CONTROL_PLANE:15012"
    wait_for "the control plane is ready" get 127.0.0.1 15014 /readyz
}

# Ends the control plane as a crash would.
kill_control_plane() {
    # shellcheck disable=SC2016 # expanded inside
    inside sh -c 'for status in /proc/[0-9]*; do
        case $(tr "\0" " " <$status/cmdline 2>/dev/null) in */smidge\ run\ *) kill -KILL ${status#/proc/} ;; esac
    done'
}

# Prepares all machines at once: each has a network and a folder of its own.
prepare_workloads() {
    local workload name namespace address preparing=() users=() process
    ((EUID == 0)) || users=(--one-user)
    mkdir -p "$WORK/machines"
    for workload in "${WORKLOADS[@]}"; do
        read -r name namespace address _ <<<"$workload"
        inside "$SMIDGE" sandbox-part prepare "$name" "$namespace/$name" "$address" "$WORK/machines/$name" \
            --state "$STATE_FOLDER" --control-plane "$CONTROL_PLANE:15012" "${users[@]}" &
        preparing+=($!)
    done
    for process in "${preparing[@]}"; do wait "$process"; done
}

start_workload() {
    local name=$1 credentials=$WORK/machines/$1 user=()
    shift 3
    ((EUID != 0)) || user=(setpriv --reuid "$PROXY_USER" --regid "$PROXY_USER" --clear-groups --)
    background "$name.envoy" nsenter --net="/run/netns/$name" -- "${user[@]}" "$(envoy_bin "$ENVOY_VERSION")/envoy" \
        --config-path "$credentials/envoy.json" --concurrency 1 --disable-hot-restart --log-level warning
    background "$name" nsenter --net="/run/netns/$name" -- "$BOOKSTORE" "$@"
}

# Succeeds if the proxy of a workload answers that it is ready.
ready() { get "$3" 15021 /healthz/ready; }

# Succeeds if a page is answered with 200.
get() {
    # shellcheck disable=SC2016 # expanded inside
    inside bash -c 'exec 3<>"/dev/tcp/$0/$1" && printf "GET $2 HTTP/1.1\r\nHost: $0\r\nConnection: close\r\n\r\n" >&3 &&
        read -r _ status _ <&3 && [[ $status == 200 ]]' "$1" "$2" "$3" 2>/dev/null
}

# Repeats a check until it succeeds.
wait_for() {
    local what=$1 end=$((SECONDS + 20))
    shift
    until "$@"; do
        if ((SECONDS >= end)); then
            tail -n 5 "$WORK"/log/* >&2
            die "not within 20 s: $what; the logs are in $WORK/log"
        fi
        sleep 0.02
    done
}
