# The node: namespaces of its own, the link to the host, and starting, entering and removing it.
#
# All of the cluster runs in one PID, mount and network namespace, held by one process, the holder.
# Killing the holder ends every process in it, and with them its mounts, its interfaces, its
# firewall rules and its sockets, however the cluster ended; remove_node has only cgroups and files
# left to remove. control.sh and workload.sh start the programs in the node.
# shellcheck shell=bash disable=SC2153 # NAME is set in common.sh

readonly KEEPER_PID=$STATE/keeper.pid
readonly HOLDER_IDENTITY=$STATE/holder
readonly LINK=${NAME}0
readonly CGROUP=/$NAME

# The keeper is the unshare process that created the holder; each ends with the other. Its PID
# counts only if its command line is that of this cluster.
keeper() {
    local pid
    pid=$(cat "$KEEPER_PID" 2>/dev/null) || return 1
    [[ -n $pid && $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") == "unshare "*"/holder $STATE "* ]] \
        || return 1
    printf '%s' "$pid"
}

# The holder is the keeper's one child, once it has become pause.
holder() {
    local keeper pid
    keeper=$(keeper) || return 1
    pid=$(tr -d ' ' 2>/dev/null <"/proc/$keeper/task/$keeper/children") || return 1
    [[ -n $pid && $(tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline") == *"/pause $STATE " ]] || return 1
    printf '%s' "$pid"
}

# Runs a command in the node. Never `ip netns exec`: it remounts /sys, and the kubelet then finds no
# cgroups.
enter() {
    local pid
    pid=$(holder) || die "the cluster is not running; start it with: cluster up"
    nsenter --target "$pid" --mount --net --pid -- "$@" 9>&-
}

make_node() {
    [[ -z $(ip -4 route show root "$NETWORK4")$(ip -6 route show root "$NETWORK6") ]] \
        || die "this machine already has routes in $NETWORK4 or $NETWORK6; choose others with SMIDGE_CLUSTER_NET"
    [[ $STATE != /run* && $STATE != /var/lib* && $STATE != /var/log* ]] \
        || die "SMIDGE_STATE may not lie under /run, /var/lib or /var/log: the node has its own"
    mkdir -p "$STATE"/{bin,etc,log,pids,pki,sysctl,var-lib}
    chmod 700 "$STATE"
    make_cgroup
    setsid unshare --net --mount --pid --fork --kill-child=KILL --propagation private --mount-proc \
        -- "$HERE/lib/holder" "$STATE" "$BIN" "${PAUSE_BIN##*/}" \
        </dev/null >"$STATE/log/holder.log" 2>&1 9>&- &
    printf '%s' $! >"$KEEPER_PID"
    wait_for 10 "the node's namespaces" holder
    identity_of "$(holder)" >"$HOLDER_IDENTITY"
    make_link
}

# A veth pair gives the node its addresses and its default routes, and the host routes to the API
# server, to pods and to Services. The host forwards nothing to other networks.
make_link() {
    local pid i
    pid=$(holder)
    ip link add "$LINK" type veth peer name eth0 netns "$pid"
    ip link set "$LINK" up
    enter sh -ec "
        ip link set lo up
        ip link set eth0 up
        echo 1 >/proc/sys/net/ipv4/ip_forward
        [ ! -e /proc/sys/net/ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
    "
    for i in "${!NODE_IPS[@]}"; do
        join_family "${HOST_IPS[i]}" "${NODE_IPS[i]}" "${LINK_BITS[i]}" "${POD_CIDRS[i]}" "${SERVICE_CIDRS[i]}"
    done
}

# Without detection of duplicates, an IPv6 address is usable at once.
join_family() {
    local host=$1 node=$2 bits=$3 network flag=()
    shift 3
    ! is_ipv6 "$host" || flag=(nodad)
    ip address add "$host/$bits" dev "$LINK" "${flag[@]}"
    enter ip address add "$node/$bits" dev eth0 "${flag[@]}"
    enter ip route add default via "$host"
    for network in "$@"; do
        ip route add "$network" via "$node"
    done
}

cgroup_hierarchies() {
    awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/mounts
}

# The kubelet's cgroups are below one of this cluster, which must exist in every hierarchy.
make_cgroup() {
    local root controller
    while read -r root; do
        for controller in cpu cpuset memory pids hugetlb; do
            grep -qsw "$controller" "$root/cgroup.controllers" || continue
            echo "+$controller" >"$root/cgroup.subtree_control"
        done
        mkdir -p "$root$CGROUP"
        if [[ -e $root/cpuset.cpus && ! -e $root/cgroup.controllers ]]; then
            cat "$root/cpuset.cpus" >"$root$CGROUP/cpuset.cpus"
            cat "$root/cpuset.mems" >"$root$CGROUP/cpuset.mems"
        fi
    done < <(cgroup_hierarchies)
}

remove_cgroup() {
    local root
    while read -r root; do
        [[ ! -d $root$CGROUP ]] || find "$root$CGROUP" -depth -type d -exec rmdir {} + || return 1
    done < <(cgroup_hierarchies)
}

# Ends the node in any state. Safe to call when there is none.
remove_node() {
    local pid
    rm -rf "$STATE/pids" "$STATE/up"
    if pid=$(keeper); then
        kill -KILL "$pid"
    fi
    wait_for 30 "the end of the node's processes" holder_gone
    ip link delete "$LINK" 2>/dev/null || true
    wait_for 10 "the end of the node's cgroups" remove_cgroup
    rm -rf "${STATE:?}"/{bin,etc,pki,sysctl,var-lib} "$KEEPER_PID" "$HOLDER_IDENTITY" "$KUBECONFIG_FILE"
}

# The kernel ends process 1 of a PID namespace only after every other process in it. Meanwhile it
# has no command line any more, so it is identified by its PID and the time of its start.
holder_gone() {
    local pid start
    read -r pid start 2>/dev/null <"$HOLDER_IDENTITY" || return 0
    [[ $(identity_of "$pid") != "$pid $start" ]]
}

identity_of() { awk '{ print $1, $22 }' "/proc/$1/stat" 2>/dev/null; }

# Starts a component in the node: a session and an environment of its own, its output in a log, its
# PID (as counted in the node) in a file.
spawn() {
    local name=$1
    shift
    # shellcheck disable=SC2016 # expanded by the shell in the node
    enter env --ignore-environment PATH="$PATH" HOME=/root bash -c 'setsid "$@" </dev/null >>"$0" 2>&1 & echo $!' "$STATE/log/$name.log" "$@" \
        >"$STATE/pids/$name"
}

# Succeeds if a component runs: reads the node's own /proc through its holder.
component_alive() {
    local holder_pid pid
    holder_pid=$(holder) && pid=$(cat "$STATE/pids/$1") \
        && [[ -n $pid && -d /proc/$holder_pid/root/proc/$pid ]]
}

components() {
    local file
    for file in "$STATE"/pids/*; do
        [[ ! -e $file ]] || printf '%s\n' "${file##*/}"
    done
}

dead_components() {
    local name
    for name in $(components); do
        component_alive "$name" || printf '%s\n' "$name"
    done
}

# Waits for a named condition: a command that succeeds. Fails at the deadline, or immediately when a
# component has ended, and then prints the state of all components and the tails of their logs.
wait_for() {
    local seconds=$1 what=$2 end dead
    shift 2
    end=$(($(now) + seconds))
    until "$@" >/dev/null 2>&1; do
        dead=$(dead_components)
        if [[ -n $dead ]]; then
            explain_state
            die "waiting for $what: ended: ${dead//$'\n'/, }"
        fi
        if (($(now) >= end)); then
            explain_state
            die "$what: not within $seconds s"
        fi
        sleep 0.1
    done
}

explain_state() {
    local name
    for name in $(components); do
        if component_alive "$name"; then
            say "${BOLD}$name${PLAIN} is running; the end of its log:"
        else
            say "${BOLD}$name${PLAIN} ${RED}has ended${PLAIN}; the end of its log:"
        fi
        tail -n 6 "$STATE/log/$name.log" | cut -c1-300 | sed 's/^/    | /' >&2
    done
    say "all logs: $STATE/log"
}
