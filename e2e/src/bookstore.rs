//! Parts of the bookstore as manifests, each a few lines of YAML that a test combines as it needs them.
//!
//! Names are short because every test has a namespace of its own: `shop` and `store` listen, `buyer` calls.

/// Port of the HTTP servers.
pub const HTTP: u16 = 14001;
/// Port of the TCP store.
pub const TCP: u16 = 14003;

/// Builds a ServiceAccount and a Deployment of one pod, labelled `app` and with a container of the same name.
///
/// `port` 0 means that the pod has no port to probe, and is ready when it runs.
pub fn workload(app: &str, account: &str, args: &[&str], port: u16) -> String {
    let labels = format!("{{app: {app}}}");
    deployment(app, account, &labels, "", args, port)
}

/// Builds the same with pods that have the labels `labels` and `annotations` (YAML flow maps, the latter may be empty).
pub fn deployment(
    app: &str,
    account: &str,
    labels: &str,
    annotations: &str,
    args: &[&str],
    port: u16,
) -> String {
    let args = serde_json::json!(args);
    let annotations = if annotations.is_empty() { "{}" } else { annotations };
    let (ports, probe) = match port {
        0 => ("[]".to_owned(), "null".to_owned()),
        TCP => (
            format!("[{{containerPort: {port}}}]"),
            format!("{{tcpSocket: {{port: {port}}}, periodSeconds: 1}}"),
        ),
        _ => (
            format!("[{{containerPort: {port}}}]"),
            format!("{{httpGet: {{path: /healthz, port: {port}}}, periodSeconds: 1}}"),
        ),
    };
    format!(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {account}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {app}}}
spec:
  selector: {{matchLabels: {{app: {app}}}}}
  template:
    metadata: {{labels: {labels}, annotations: {annotations}}}
    spec:
      serviceAccountName: {account}
      terminationGracePeriodSeconds: 2
      containers:
        - name: {app}
          image: smidge.local/bookstore:dev
          imagePullPolicy: IfNotPresent
          args: {args}
          ports: {ports}
          readinessProbe: {probe}
---
"
    )
}

/// Builds a Service for the pods with label `app: <selector>`, of all IP families of the cluster; HTTP unless the port is the
/// store's.
pub fn service(name: &str, selector: &str, port: u16) -> String {
    let protocol = if port == TCP { "tcp" } else { "http" };
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  ipFamilyPolicy: PreferDualStack
  selector: {{app: {selector}}}
  ports: [{{name: {protocol}, port: {port}, appProtocol: {protocol}}}]
---
"
    )
}

/// Builds an HTTP server that answers as `version`, with a Service of its own name. Its ServiceAccount is `account`.
pub fn shop(app: &str, account: &str, version: &str) -> String {
    workload(app, account, &["bookstore", "--name", version], HTTP) + &service(app, app, HTTP)
}

/// Builds the TCP store with its Service; its ServiceAccount is `store`.
pub fn store() -> String {
    named_store("store")
}

/// Builds a TCP store `app` that answers with its name, with its Service; its ServiceAccount is `store`.
pub fn named_store(app: &str) -> String {
    workload(app, "store", &["store", "--name", app], TCP) + &service(app, app, TCP)
}

/// Builds a client pod: it has the program `bookstore`, and no test calls its ports.
pub fn caller(app: &str) -> String {
    workload(app, app, &["patient"], 0)
}

/// Builds the same without a proxy.
pub fn outsider(app: &str) -> String {
    let labels = format!("{{app: {app}, smidge.mesh/inject: disabled}}");
    deployment(app, app, &labels, "", &["patient"], 0)
}

/// Builds a TrafficTarget `name` that allows `sources` (ServiceAccounts of this namespace) to do to `destination` what
/// `rules` list.
pub fn target(name: &str, destination: &str, sources: &[&str], rules: &str) -> String {
    let sources: Vec<String> =
        sources.iter().map(|source| format!("{{kind: ServiceAccount, name: {source}}}")).collect();
    format!(
        "
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: {name}}}
spec:
  destination: {{kind: ServiceAccount, name: {destination}}}
  sources: [{}]
  rules: {rules}
---
",
        sources.join(", ")
    )
}

/// Rules of a target: every HTTP request that the group `everything` matches.
pub const EVERYTHING: &str = "[{kind: HTTPRouteGroup, name: everything}]";

/// Builds the group that `EVERYTHING` names.
pub fn everything() -> String {
    route_group("everything", "[{name: all, pathRegex: '.*', methods: ['*']}]")
}

/// Builds an HTTPRouteGroup.
pub fn route_group(name: &str, matches: &str) -> String {
    format!(
        "
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {{name: {name}}}
spec: {{matches: {matches}}}
---
"
    )
}

/// Builds a TCPRoute.
pub fn tcp_route(name: &str, ports: &str) -> String {
    format!(
        "
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {{name: {name}}}
spec: {{matches: {{ports: {ports}}}}}
---
"
    )
}

/// Builds a TrafficSplit of `root` in an API version of its group.
pub fn split(version: &str, root: &str, backends: &[(&str, u32)]) -> String {
    let backends: Vec<String> = backends
        .iter()
        .map(|(service, weight)| format!("{{service: {service}, weight: {weight}}}"))
        .collect();
    format!(
        "
apiVersion: split.smi-spec.io/{version}
kind: TrafficSplit
metadata: {{name: {root}}}
spec:
  service: {root}
  backends: [{}]
---
",
        backends.join(", ")
    )
}
