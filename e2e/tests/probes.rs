//! Tests that health checks of every kind keep their meaning behind a proxy that enforces mTLS: a healthy container is
//! ready, an unhealthy one is not, and a recovered one is ready again.
//!
//! One pod with a container for each kind. The container `patient` listens for all of them, and closes its ports while
//! it is unhealthy.

use std::{collections::BTreeMap, time::Duration};

use smidge_e2e::{Namespace, Pod, until, with_temp_ns};

/// Time limit for a change to be noticed: two periods of a second each, on a machine with other load.
const NOTICED: Duration = Duration::from_secs(30);

/// (container, its readiness probe).
const PROBES: &[(&str, &str)] = &[
    ("http", "{httpGet: {path: /anything, port: 8080, httpHeaders: [{name: x-probe, value: 'yes'}]}"),
    ("named", "{httpGet: {path: /anything, port: web}"),
    ("https", "{httpGet: {path: /anything, port: 8443, scheme: HTTPS}"),
    ("tcp", "{tcpSocket: {port: 9000}"),
    ("grpc", "{grpc: {port: 9001}"),
    ("exec", "{exec: {command: [bookstore, health, ask]}"),
];

fn patient() -> String {
    let containers: Vec<String> = PROBES
        .iter()
        .enumerate()
        .map(|(number, (name, probe))| {
            // The first runs `patient`. The others only have a probe each, of the ports of the first.
            let args =
                if number == 0 { "[patient]".to_owned() } else { format!("[store, --port=1410{number}]") };
            let ports = if *name == "named" { "[{name: web, containerPort: 8080}]" } else { "[]" };
            format!(
                "
        - name: {name}
          image: smidge.local/bookstore:dev
          imagePullPolicy: IfNotPresent
          args: {args}
          ports: {ports}
          readinessProbe: {probe}, periodSeconds: 1, failureThreshold: 2}}"
            )
        })
        .collect();
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: patient}}
spec:
  selector: {{matchLabels: {{app: patient}}}}
  template:
    metadata: {{labels: {{app: patient}}}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:{}
",
        containers.concat()
    )
}

/// Waits until every container is ready, or none is.
async fn all_are(namespace: &Namespace, pod: &Pod, ready: bool) -> anyhow::Result<()> {
    until(&format!("every container to be ready: {ready}"), NOTICED, async || {
        let status = namespace.pods().get(&pod.name).await?.status.unwrap_or_default();
        let seen: BTreeMap<String, bool> = status
            .container_statuses
            .into_iter()
            .flatten()
            .map(|container| (container.name, container.ready))
            .filter(|(name, _)| PROBES.iter().any(|(probe, _)| probe == name))
            .collect();
        let right = seen.len() == PROBES.len() && seen.values().all(|state| *state == ready);
        anyhow::ensure!(right, "{seen:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn probes_of_every_kind_tell_well_from_ill() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        namespace.apply(&patient()).await?;
        let pod = Pod::one(namespace, "patient").await?.container("http");
        all_are(namespace, &pod, true).await?;
        pod.run(&["bookstore", "health", "ill"]).await?;
        all_are(namespace, &pod, false).await?;
        pod.run(&["bookstore", "health", "well"]).await?;
        all_are(namespace, &pod, true).await
    })
    .await
}
