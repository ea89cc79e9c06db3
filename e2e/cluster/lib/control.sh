# The control plane: keys and certificates, etcd, API server, controller manager and scheduler.
#
# Runs in the node's namespaces (node.sh); workload.sh starts the node's own agents. Components log
# in with static tokens; the keys are in $STATE/pki, so that a test can sign a ServiceAccount token
# with the cluster's own key (pki/sa.key).
# shellcheck shell=bash

readonly PKI=$STATE/pki
readonly TOKENS=$PKI/tokens.csv
readonly ISSUER=https://kubernetes.default.svc.cluster.local
readonly WEBHOOK_CLIENT=kube-apiserver
readonly SYSTEM_USERS=(
    'admin,admin,system:masters'
    'controller-manager,system:kube-controller-manager,'
    'scheduler,system:kube-scheduler,'
    'proxy,system:kube-proxy,system:node-proxier'
    'dns,system:serviceaccount:kube-system:coredns,'
    'policies,system:serviceaccount:kube-system:kube-router,'
    "kubelet,system:node:$NAME,system:nodes"
)

start_control_plane() {
    start_api
    start_controllers
}

# Starts the API server and what it needs, with further flags of the API server.
start_api() {
    make_keys
    make_tokens
    configure_admission
    start_etcd
    start_apiserver "$@"
}

make_keys() {
    local authority
    for authority in ca front-proxy-ca webhook-client-ca; do
        openssl_certificate "$authority" "/CN=$NAME $authority" \
            -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
    done
    signed_certificate apiserver ca /CN=kube-apiserver serverAuth \
        "$(ip_names "${NODE_IPS[@]}" "${API_SERVICE_IPS[@]}" 127.0.0.1 ::1),DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
    signed_certificate kubelet ca "/CN=$NAME" serverAuth "$(ip_names "${NODE_IPS[@]}"),DNS:$NAME"
    signed_certificate kubelet-client ca "/O=system:masters/CN=kube-apiserver" clientAuth
    signed_certificate front-proxy-client front-proxy-ca /CN=front-proxy-client clientAuth
    signed_certificate webhook-client webhook-client-ca "/CN=$WEBHOOK_CLIENT" clientAuth
    openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$PKI/sa.key" 2>/dev/null \
        || openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$PKI/sa.key" 2>/dev/null
    openssl pkey -in "$PKI/sa.key" -pubout -out "$PKI/sa.pub"
}

# The addresses as names of a certificate.
ip_names() { listed "${@/#/IP:}"; }

signed_certificate() {
    local name=$1 authority=$2 subject=$3 usage=$4 names=${5:-}
    openssl_certificate "$name" "$subject" -CA "$PKI/$authority.crt" -CAkey "$PKI/$authority.key" \
        -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature \
        -addext "extendedKeyUsage=$usage" ${names:+-addext "subjectAltName=$names"}
}

# Creates a certificate with a fresh P-256 key; without -CA it is self-signed.
openssl_certificate() {
    local name=$1 subject=$2
    shift 2
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -sha256 \
        -config /dev/stdin -keyout "$PKI/$name.key" -out "$PKI/$name.crt" -subj "$subject" "$@" \
        <<<$'[req]\ndistinguished_name = subject\n[subject]' 2>>"$STATE/log/openssl.log"
}

make_tokens() {
    local user name rest group
    for user in "${SYSTEM_USERS[@]}"; do
        IFS=, read -r name rest group <<<"$user"
        printf '%s,%s,%s,"%s"\n' "$(openssl rand -hex 24)" "$rest" "$name" "$group"
    done >"$TOKENS"
    for user in "${SYSTEM_USERS[@]}"; do
        name=${user%%,*}
        write_kubeconfig "$name" >"$STATE/etc/$name.kubeconfig"
    done
    install -m 600 "$STATE/etc/admin.kubeconfig" "$KUBECONFIG_FILE"
}

token_of() { awk -F, -v name="$1" '$3 == name { print $1 }' "$TOKENS"; }

write_kubeconfig() {
    local user=$1
    cat <<EOF
apiVersion: v1
kind: Config
current-context: $NAME
clusters:
- name: $NAME
  cluster:
    server: $API
    certificate-authority-data: $(base64 -w0 "$PKI/ca.crt")
contexts:
- name: $NAME
  context: {cluster: $NAME, user: $user}
users:
- name: $user
  user:
    token: $(token_of "$user")
EOF
}

# The API server presents a client certificate to every admission webhook that is a Service and
# requests one: its name is $WEBHOOK_CLIENT, and pki/webhook-client-ca.crt has signed it. Conversion
# webhooks receive none: Kubernetes has no setting for them.
configure_admission() {
    cat >"$STATE/etc/webhooks.kubeconfig" <<EOF
apiVersion: v1
kind: Config
users:
- name: '*.svc'
  user:
    client-certificate: $PKI/webhook-client.crt
    client-key: $PKI/webhook-client.key
EOF
    cat >"$STATE/etc/admission.yaml" <<EOF
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: MutatingAdmissionWebhook
  configuration: &webhooks
    apiVersion: apiserver.config.k8s.io/v1
    kind: WebhookAdmissionConfiguration
    kubeConfigFile: $STATE/etc/webhooks.kubeconfig
- name: ValidatingAdmissionWebhook
  configuration: *webhooks
EOF
}

start_etcd() {
    spawn etcd etcd --data-dir /var/lib/etcd --unsafe-no-fsync --logger zap --log-level warn \
        --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
        --listen-peer-urls http://127.0.0.1:2380
}

# --enable-aggregator-routing: webhooks and aggregated APIs are called at their pods' addresses,
# which the API server reaches, since it runs in the node.
start_apiserver() {
    spawn kube-apiserver "$(node_bin "$KUBERNETES_BIN")/kube-apiserver" \
        --etcd-servers=http://127.0.0.1:2379 \
        --advertise-address="$NODE_IP" --secure-port=6443 \
        --service-cluster-ip-range="$(listed "${SERVICE_CIDRS[@]}")" \
        --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
        --client-ca-file="$PKI/ca.crt" --token-auth-file="$TOKENS" \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
        --admission-control-config-file="$STATE/etc/admission.yaml" \
        --allow-privileged \
        --service-account-issuer="$ISSUER" \
        --service-account-signing-key-file="$PKI/sa.key" --service-account-key-file="$PKI/sa.pub" \
        --kubelet-certificate-authority="$PKI/ca.crt" \
        --kubelet-client-certificate="$PKI/kubelet-client.crt" \
        --kubelet-client-key="$PKI/kubelet-client.key" \
        --kubelet-preferred-address-types=InternalIP \
        --requestheader-client-ca-file="$PKI/front-proxy-ca.crt" \
        --requestheader-allowed-names=front-proxy-client \
        --requestheader-extra-headers-prefix=X-Remote-Extra- \
        --requestheader-group-headers=X-Remote-Group \
        --requestheader-username-headers=X-Remote-User \
        --proxy-client-cert-file="$PKI/front-proxy-client.crt" \
        --proxy-client-key-file="$PKI/front-proxy-client.key" \
        --enable-aggregator-routing "$@"
}

start_controllers() {
    local bin
    bin=$(node_bin "$KUBERNETES_BIN")
    spawn kube-controller-manager "$bin/kube-controller-manager" \
        --kubeconfig="$STATE/etc/controller-manager.kubeconfig" --leader-elect=false \
        --use-service-account-credentials \
        --service-account-private-key-file="$PKI/sa.key" --root-ca-file="$PKI/ca.crt" \
        --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key"
    spawn kube-scheduler "$bin/kube-scheduler" \
        --kubeconfig="$STATE/etc/scheduler.kubeconfig" --leader-elect=false
}

# The path of a tool in the node: the cache may be in a folder that the node replaces by its own.
node_bin() { printf '%s' "$STATE/bin/${1#"$BIN"/}"; }

apiserver_ready() {
    [[ $(curl --silent --max-time 5 --noproxy '*' --cacert "$PKI/ca.crt" "$API/readyz") == ok ]]
}
