//! Tests which pods reach the operator's ports under the chart's NetworkPolicy.
//!
//! Opens connections only: the responses of a port are tested elsewhere. Needs a cluster whose network enforces
//! NetworkPolicies, as that of `e2e/cluster` does, and the values that e2e/mesh gives the chart.

use std::time::Duration;

use anyhow::Context as _;
use kube::api::DeleteParams;
use smidge_e2e::{
    Cluster, Namespace, Pod,
    bookstore::{TCP, workload},
    operator::{NAMESPACE, Operator},
    pod::{START, is_ready},
    until, with_temp_ns,
};

/// Time limit for the network to apply its rules to a pod that has just received its address.
const KNOWN: Duration = Duration::from_secs(20);

const WEBHOOK: u16 = 9443;
const TRAFFIC_API: u16 = 9444;
const XDS: u16 = 15012;
const PEER: u16 = 15013;
const ADMIN: u16 = 15014;

/// Builds a pod outside of the mesh, from which connections are tried.
fn outsider(name: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}, smidge.mesh/inject: disabled}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - {{name: {name}, image: 'smidge.local/base:dev', imagePullPolicy: IfNotPresent, command: [sleep, infinity]}}
"
    )
}

/// Runs a bash script with arguments in `pod`. A connection whose packets are dropped would take minutes to fail.
async fn bash(pod: &Pod, script: &str, address: &str, port: u16) -> anyhow::Result<String> {
    let port = port.to_string();
    let command = ["timeout", "5", "bash", "-c", script, "bash", address, &port];
    pod.run(&command).await.with_context(|| format!("from {} to {address}:{port}", pod.name))
}

/// Opens a connection, and closes it again.
async fn knock(pod: &Pod, address: &str, port: u16) -> anyhow::Result<()> {
    bash(pod, "exec 3<>/dev/tcp/$1/$2", address, port).await.map(drop)
}

/// Checks that `pod` reaches those of the operator's ports that are in `open`, and no other one.
async fn reaches(pod: &Pod, operator: &Pod, open: &[u16]) -> anyhow::Result<()> {
    for port in open {
        let what = format!("{} to reach {port} of the operator", pod.name);
        until(&what, KNOWN, async || knock(pod, &operator.address, *port).await).await?;
    }
    for port in [WEBHOOK, TRAFFIC_API, XDS, PEER, ADMIN].into_iter().filter(|port| !open.contains(port)) {
        let knocked = knock(pod, &operator.address, port).await;
        anyhow::ensure!(knocked.is_err(), "{} reaches {port} of the operator", pod.name);
    }
    Ok(())
}

/// Returns the operator once it listens on every port: a port that is closed below is closed by policy.
async fn operator(cluster: &Cluster) -> anyhow::Result<Pod> {
    let operator = Operator::of(cluster).replicas().await?.pop().context("an operator without a pod")?;
    for port in [WEBHOOK, TRAFFIC_API, XDS, PEER, ADMIN] {
        knock(&operator, "127.0.0.1", port).await?;
    }
    Ok(operator)
}

/// Runs `test` with a second namespace, and deletes that namespace regardless of the outcome.
async fn with_second_ns(
    first: &Namespace,
    labels: &[(&str, &str)],
    test: impl AsyncFnOnce(&Namespace) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let second = Namespace::create(&first.cluster, labels).await?;
    let outcome = test(&second).await;
    second.delete().await?;
    outcome
}

#[tokio::test]
async fn strangers_reach_no_port_and_pods_of_the_mesh_reach_xds() -> anyhow::Result<()> {
    // The address of a Service leads to the same ports.
    let names = ["smidge", "smidge-webhook", "smidge-traffic-api"]
        .map(|service| format!("{service}.{NAMESPACE}.svc.cluster.local"));
    let [service, webhook, traffic_api] = &names;
    with_temp_ns(&[], async |mesh| {
        let operator = operator(&mesh.cluster).await?;
        mesh.apply(&outsider("beside")).await?;
        let beside = Pod::one(mesh, "beside").await?;
        reaches(&beside, &operator, &[XDS]).await?;
        knock(&beside, service, XDS).await?;

        with_second_ns(mesh, &[], async |elsewhere| {
            elsewhere.apply(&outsider("stranger")).await?;
            let stranger = Pod::one(elsewhere, "stranger").await?;
            reaches(&stranger, &operator, &[]).await?;
            for (name, port) in [(service, XDS), (service, ADMIN), (webhook, 443), (traffic_api, 443)] {
                let knocked = knock(&stranger, name, port).await;
                anyhow::ensure!(knocked.is_err(), "a stranger reaches {name}:{port}");
            }
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn chosen_namespaces_read_metrics_and_nothing_else() -> anyhow::Result<()> {
    const ASK: &str = r"exec 3<>/dev/tcp/$1/$2; printf 'GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >&3; cat <&3";
    with_temp_ns(&[], async |mesh| {
        let operator = operator(&mesh.cluster).await?;
        with_second_ns(mesh, &[("smidge-e2e/metrics", "read")], async |monitoring| {
            monitoring.apply(&outsider("prometheus")).await?;
            let prometheus = Pod::one(monitoring, "prometheus").await?;
            reaches(&prometheus, &operator, &[ADMIN]).await?;
            let metrics = bash(&prometheus, ASK, &operator.address, ADMIN).await?;
            anyhow::ensure!(metrics.contains("# TYPE "), "{metrics}");
            Ok(())
        })
        .await
    })
    .await
}

/// Such a pod may read metrics, as the operator's own namespace is trusted with that; but it is no replica.
#[tokio::test]
async fn a_neighbour_of_the_operator_is_no_replica() -> anyhow::Result<()> {
    with_temp_ns(&[], async |mesh| {
        let name = format!("neighbour-{}", mesh.name);
        mesh.cluster.apply(NAMESPACE, &outsider(&name)).await?;
        let pods = Operator::of(&mesh.cluster).pods();
        let outcome = async {
            let neighbour = until("the neighbour to be ready", START, async || {
                let pod = pods.get(&name).await?;
                anyhow::ensure!(is_ready(&pod), "{:?}", pod.status);
                Pod::of(pods.clone(), &pod, &name)
            })
            .await?;
            reaches(&neighbour, &operator(&mesh.cluster).await?, &[ADMIN]).await
        }
        .await;
        pods.delete(&name, &DeleteParams::default()).await?;
        outcome
    })
    .await
}

/// The API server calls webhooks, the kubelet probes, and proxies are served.
#[tokio::test]
async fn the_mesh_works_behind_its_doors() -> anyhow::Result<()> {
    with_temp_ns(&[], async |mesh| {
        // Ready by a probe of port 15014.
        operator(&mesh.cluster).await?;
        mesh.apply(&workload("shop", "shop", &["store", "--port=14003"], TCP)).await?;
        // Injected by a webhook, and ready because its proxy has its configuration.
        let shop = Pod::one(mesh, "shop").await?;
        let spec = shop.object().await?.spec.context("a pod without a spec")?;
        let mut names = spec.init_containers.into_iter().flatten().map(|container| container.name);
        anyhow::ensure!(names.any(|name| name == "smidge-proxy"), "the pod has no proxy");
        Ok(())
    })
    .await
}
