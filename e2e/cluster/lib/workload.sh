# The programs by which the node runs pods: containerd with its network, kubelet, kube-proxy,
# cluster DNS, network policies, and the import of images.
#
# Needs the namespaces of node.sh and the control plane of control.sh.
# shellcheck shell=bash

# Folders of the network's configuration and of its plugins.
readonly CNI_CONF=$STATE/etc/cni
readonly CNI_BIN=$STATE/etc/cni-bin

start_containerd() {
    # A folder of links, so that a plugin that is installed in the cluster stays in it.
    mkdir -p "$CNI_CONF" "$CNI_BIN"
    ln -sf /usr/lib/cni/* "$CNI_BIN"
    write_cni_config >"$CNI_CONF/10-$NAME.conflist"
    write_containerd_config >"$STATE/etc/containerd.toml"
    spawn containerd containerd --config "$STATE/etc/containerd.toml"
}

containerd_ready() { enter ctr --connect-timeout 2s version; }

write_containerd_config() {
    cat <<EOF
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$REGISTRY/pause:dev"
  restrict_oom_score_adj = true
  disable_apparmor = true
  stream_server_address = "127.0.0.1"
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "$CNI_BIN"
  conf_dir = "$CNI_CONF"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "overlayfs"
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = false
EOF
}

# Point to point and routed, not bridged: a reply from a pod to another one on the node then passes
# the node's firewall, which must reverse the translation of a Service's address, without
# br_netfilter.
write_cni_config() {
    local network ranges=() routes=()
    for network in "${POD_CIDRS[@]}"; do
        ranges+=("[{\"subnet\": \"$network\"}]")
        if is_ipv6 "$network"; then routes+=('{"dst": "::/0"}'); else routes+=('{"dst": "0.0.0.0/0"}'); fi
    done
    cat <<EOF
{
  "cniVersion": "0.4.0",
  "name": "$NAME",
  "plugins": [
    {"type": "ptp",
     "ipam": {"type": "host-local", "ranges": [$(listed "${ranges[@]}")],
              "routes": [$(listed "${routes[@]}")]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
EOF
}

# Imports image archives into the namespace of containerd that the kubelet uses.
import_images() {
    local archive
    for archive in "$@"; do
        enter ctr --namespace k8s.io images import - <"$archive"
    done
}

start_kubelet() {
    write_kubelet_config >"$STATE/etc/kubelet.yaml"
    spawn kubelet "$(node_bin "$KUBERNETES_BIN")/kubelet" --config="$STATE/etc/kubelet.yaml" \
        --kubeconfig="$STATE/etc/kubelet.kubeconfig" --hostname-override="$NAME" \
        --node-ip="$(listed "${NODE_IPS[@]}")"
}

write_kubelet_config() {
    cat <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $PKI/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: $PKI/kubelet.crt
tlsPrivateKeyFile: $PKI/kubelet.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: $CGROUP
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
resolvConf: ""
clusterDNS: [$DNS_IP]
clusterDomain: cluster.local
maxPods: 250
evictionHard: {memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%}
imageGCHighThresholdPercent: 100
imageMinimumGCAge: 24h
serializeImagePulls: false
EOF
}

start_proxy() {
    spawn kube-proxy "$(node_bin "$KUBERNETES_BIN")/kube-proxy" \
        --kubeconfig="$STATE/etc/proxy.kubeconfig" --proxy-mode=iptables \
        --hostname-override="$NAME" --cluster-cidr="$(listed "${POD_CIDRS[@]}")" \
        --healthz-bind-address=127.0.0.1:10256 --conntrack-max-per-core=0
}

proxy_ready() { enter curl --silent --fail --max-time 2 http://127.0.0.1:10256/healthz; }

# CoreDNS is a process of the node, behind a Service without selector that has the node's address.
start_dns() {
    write_dns_objects | kubectl_node apply --filename - >/dev/null
    cat >"$STATE/etc/Corefile" <<EOF
.:53 {
    errors
    health 127.0.0.1:8080
    ready 127.0.0.1:8181
    cache 5
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        kubeconfig $STATE/etc/dns.kubeconfig
        ttl 5
    }
}
EOF
    spawn coredns "$(node_bin "$COREDNS_BIN")/coredns" -conf "$STATE/etc/Corefile"
}

# kube-router replaces the whole filter table whenever a pod changes, and would undo what kube-proxy
# has written in between. So it uses the kernel's older tables, which are separate; kube-proxy uses
# nf_tables.
#
# Each family has a process of its own, which sees the sets of this family alone: one for both would write back old
# content of the other family's sets. And this version names IPv6 sets in its rules without the prefix that it gives them.
start_policies() {
    local network
    kubectl_node apply --filename "$HERE/manifests/policies.yaml" >/dev/null
    for network in "${SERVICE_CIDRS[@]}"; do
        if is_ipv6 "$network"; then start_policies_of 6 "$network"; else start_policies_of 4 "$network"; fi
    done
}

start_policies_of() {
    local version=$1 network=$2 name legacy=$STATE/etc/legacy$1 own='/ inet6:/d'
    mkdir -p "$legacy"
    for name in iptables{,-save,-restore} ip6tables; do
        ln -sf "$(command -v "${name/tables/tables-legacy}")" "$legacy/$name"
    done
    write_tool "$legacy/ip6tables-save" 'ip6tables-legacy-save "$@" | sed "s/--match-set inet6:KUBE-/--match-set KUBE-/g"'
    write_tool "$legacy/ip6tables-restore" 'sed "s/--match-set KUBE-/--match-set inet6:KUBE-/g" | ip6tables-legacy-restore "$@"'
    ((version == 4)) || own='/ inet6:/!d'
    write_tool "$legacy/ipset" "if [[ \$1 == save ]]; then
        $(command -v ipset) save | sed '$own'
    else
        exec $(command -v ipset) \"\$@\"
    fi"
    spawn "netpol$version" env PATH="$legacy:$PATH" "$(node_bin "$POLICIES_BIN")/netpol" \
        --kubeconfig "$STATE/etc/policies.kubeconfig" --node "$NAME" --service-cidr "$network"
}

write_tool() {
    printf '#!/bin/bash\nset -o pipefail\n%s\n' "$2" >"$1"
    chmod 755 "$1"
}

# The chain in which every pod's rules end is written with the first rules.
policies_ready() {
    local address
    for address in "${NODE_IPS[@]}"; do
        if is_ipv6 "$address"; then
            enter ip6tables-legacy --list KUBE-NWPLCY-DEFAULT || return 1
        else
            enter iptables-legacy --list KUBE-NWPLCY-DEFAULT || return 1
        fi
    done
}

dns_ready() { enter curl --silent --fail --max-time 2 http://127.0.0.1:8181/ready; }

# One slice for each family, as a Service without selector has none from Kubernetes.
write_dns_objects() {
    local address family policy=SingleStack
    ((${#NODE_IPS[@]} == 1)) || policy=RequireDualStack
    sed -e "s/DNS_FIRST/\"$DNS_IP\"/" -e "s/DNS_IPS/$(listed "${DNS_IPS[@]/#/\"}" | sed 's/,/",/g')\"/" -e "s/POLICY/$policy/" "$HERE/manifests/dns.yaml"
    for address in "${NODE_IPS[@]}"; do
        family=IPv4
        ! is_ipv6 "$address" || family=IPv6
        sed -e "s/FAMILY/$family/" -e "s/NAME/${family,,}/" -e "s/NODE_IP/\"$address\"/" "$HERE/manifests/dns-endpoints.yaml"
    done
}

node_ready() {
    [[ $(kubectl_node get node "$NAME" --output \
        'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == True ]]
}

default_account_exists() { kubectl_node get --namespace default serviceaccount default; }

kubectl_node() { "$KUBERNETES_BIN/kubectl" --kubeconfig "$KUBECONFIG_FILE" "$@"; }
