//! Shapes of traffic: `shapes try` is run for each column, against a `shapes serve` at the place of the column's server.

use std::{env, time::Duration};

use anyhow::Context as _;
use serde::Deserialize;
use smidge_e2e::{
    Pod,
    bookstore::{EVERYTHING, split, target, tcp_route},
    until,
};

use crate::{
    place::{COLUMNS, Places},
    table::{Column, Row},
};

/// Time limit for a caller to see the effect of an edit, on a machine with other load.
const EFFECT: Duration = Duration::from_secs(30);

/// One line of the output of `shapes try`.
#[derive(Deserialize)]
struct Line {
    shape: String,
    seen: String,
}

fn workload(app: &str, arguments: &str, ports: &str) -> String {
    let probe = if ports.is_empty() {
        ""
    } else {
        "readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}"
    };
    format!(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {app}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {app}}}
spec:
  selector: {{matchLabels: {{app: {app}}}}}
  template:
    metadata: {{labels: {{app: {app}}}, annotations: {{smidge.mesh/proxy-max-connections: '15000'}}}}
    spec:
      serviceAccountName: {app}
      terminationGracePeriodSeconds: 1
      containers:
        - name: {app}
          image: smidge.local/shapes:dev
          imagePullPolicy: IfNotPresent
          args: {arguments}
          # For the privileged port.
          securityContext: {{runAsUser: 0}}
          {probe}
---
"
    )
}

fn service(ports: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: server}}
spec: {{selector: {{app: server}}, ports: {ports}}}
---
"
    )
}

/// Builds the Services of a TrafficSplit over the server, and the split.
fn parted() -> String {
    let service = |name: &str| {
        format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: server}}, ports: [{{name: grpc, port: 8081, appProtocol: kubernetes.io/h2c}}]}}
---
"
        )
    };
    ["parted", "one", "two"].map(service).concat() + &split("v1alpha4", "parted", &[("one", 50), ("two", 50)])
}

/// Returns the options of `shapes try` for sizes that take longer than `make test` may: `SMIDGE_BODY_MIB` for bodies, and
/// `SMIDGE_CONNECTIONS` for connections at once.
fn sizes() -> Vec<String> {
    let sizes = [("--body", "SMIDGE_BODY_MIB"), ("--connections", "SMIDGE_CONNECTIONS")];
    sizes.iter().filter_map(|(option, name)| Some(format!("{option}={}", env::var(name).ok()?))).collect()
}

/// Makes the calls of all columns.
pub async fn observe(places: &Places<'_>) -> anyhow::Result<Vec<Row>> {
    let clients = places.clients("shaper", &workload("shaper", "[serve]", "")).await?;
    let ports = clients.outside.run(&["shapes", "ports"]).await?;
    let server = workload("server", "[serve]", &ports) + &service(&ports) + &parted();
    for namespace in places.servers() {
        namespace.apply(&server).await?;
    }
    let many: Vec<String> = (10_000..10_020).map(|port: u16| port.to_string()).collect();
    let routes = tcp_route("bytes", "[9000, 9001, 9002, 9003, 9004, 9443, 9444, 3128]")
        + &tcp_route("many", &format!("[{}]", many.join(", ")));
    let bytes = "[{kind: TCPRoute, name: bytes}, {kind: TCPRoute, name: many}]";
    let rules = routes
        + &target("http", "server", &["shaper"], EVERYTHING)
        + &target("bytes", "server", &["shaper"], bytes);
    places.mesh.apply(&rules).await?;
    for namespace in places.servers() {
        Pod::one(namespace, "server").await?;
    }
    let mut columns = Vec::new();
    for (name, (client, server)) in COLUMNS.iter().zip(places.pairs(&clients)) {
        let host = format!("server.{}", server.name);
        until(&format!("the server to be reached, {name}"), EFFECT, async || {
            let seen = run(client, &host, &["--only=two requests on one connection"]).await?;
            anyhow::ensure!(seen.iter().all(|(_, seen)| seen == "200 200"), "{seen:?}");
            Ok(())
        })
        .await?;
        let sizes = sizes();
        let sizes: Vec<_> = sizes.iter().map(String::as_str).collect();
        let mut column = run(client, &host, &sizes).await.with_context(|| (*name).to_owned())?;
        let parted = run(client, &format!("parted.{}", server.name), &["--only=gRPC"]).await?;
        column
            .extend(parted.into_iter().map(|(shape, seen)| (format!("TrafficSplit of two: {shape}"), seen)));
        columns.push(column);
    }
    Row::of_columns(&columns)
}

async fn run(client: &Pod, host: &str, options: &[&str]) -> anyhow::Result<Column> {
    let mut command = vec!["shapes", "try", "--server", host];
    command.extend(options);
    let output = client.run(&command).await?;
    let lines = output.lines().map(|line| {
        let Line { shape, seen } = serde_json::from_str(line).with_context(|| line.to_owned())?;
        anyhow::Ok((shape, seen))
    });
    lines.collect()
}
