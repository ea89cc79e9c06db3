//! Tests a Prometheus that is itself in the mesh: it scrapes the operator's pods through its own proxy, and has the calls
//! of the mesh.
//!
//! The program is that of the tests on this machine, mounted into a pod, so the cluster must be one of `e2e/cluster`. It
//! has the pods' addresses, as Debian's build cannot ask the API server for them.

use std::{path::Path, time::Duration};

use anyhow::Context as _;
use serde_json::{Value, json};
use smidge_e2e::{
    Pod,
    bookstore::{EVERYTHING, HTTP, caller, everything, shop, target},
    operator::Operator,
    until, with_temp_ns,
};

/// Time limit for calls to be counted and scraped: a few pushes, on a machine with other load.
const COUNTED: Duration = Duration::from_mins(1);
/// Time limit for a caller to see the effect of an edit.
const EFFECT: Duration = Duration::from_secs(20);
/// Folder of the program within the pod.
const FOLDER: &str = "/opt/prometheus";
/// Port of the operator's metrics.
const METRICS: u16 = 15014;
const CALLS: u64 = 60;

/// Builds the pod, whose program is in `folder` of the node and scrapes `targets`.
fn prometheus(folder: &str, targets: &[String]) -> String {
    let config = json!({
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [{"job_name": "smidge", "static_configs": [{"targets": targets}]}],
    });
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "prometheus"},
        "data": {"prometheus.yml": config.to_string()},
    });
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "prometheus", "labels": {"app": "prometheus"}},
        "spec": {
            "terminationGracePeriodSeconds": 2,
            "containers": [{
                "name": "prometheus",
                "image": "smidge.local/base:dev",
                "imagePullPolicy": "IfNotPresent",
                "command": [
                    format!("{FOLDER}/prometheus"), "--config.file=/etc/prometheus/prometheus.yml",
                    "--storage.tsdb.path=/data",
                ],
                "readinessProbe": {"httpGet": {"path": "/-/ready", "port": 9090}, "periodSeconds": 1},
                "volumeMounts": [
                    {"name": "program", "mountPath": FOLDER, "readOnly": true},
                    {"name": "config", "mountPath": "/etc/prometheus"},
                    {"name": "data", "mountPath": "/data"},
                ],
            }],
            "volumes": [
                {"name": "program", "hostPath": {"path": folder}},
                {"name": "config", "configMap": {"name": "prometheus"}},
                {"name": "data", "emptyDir": {}},
            ],
        },
    });
    [config, pod].map(|object| object.to_string()).join("\n---\n")
}

/// Returns the value of a query that has one sample.
async fn query(prometheus: &Pod, query: &str) -> anyhow::Result<f64> {
    let promtool = format!("{FOLDER}/promtool");
    let command = [&promtool, "query", "instant", "--format=json", "http://127.0.0.1:9090", query];
    let text = prometheus.run(&command).await?;
    let answer: Value = serde_json::from_str(&text).with_context(|| format!("{query}: {text}"))?;
    let value = answer.pointer("/0/value/1").and_then(Value::as_str).and_then(|value| value.parse().ok());
    value.with_context(|| format!("{query} has no value: {answer}"))
}

#[tokio::test]
async fn a_prometheus_in_the_mesh_has_its_calls() -> anyhow::Result<()> {
    if std::env::var_os("SMIDGE_CLUSTER_TOOL").is_none() {
        let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        anyhow::ensure!(!ci, "SMIDGE_CLUSTER_TOOL is not set, and with CI=true nothing is skipped");
        eprintln!("skipped: the cluster is not ours, so its nodes lack the program");
        return Ok(());
    }
    let program = std::env::var("PROMETHEUS").context("PROMETHEUS names no program: see `e2e/mesh env`")?;
    let folder = Path::new(&program).parent().and_then(Path::to_str).context("a program without a folder")?;
    // The chart's NetworkPolicy lets namespaces with this label read metrics, as the suite installs it.
    with_temp_ns(&[("smidge-e2e/metrics", "read")], async |namespace| {
        let policy = everything() + &target("shop", "shop", &["buyer"], EVERYTHING);
        namespace.apply(&(shop("shop", "shop", "v1") + &caller("buyer") + &policy)).await?;
        let operators = Operator::of(&namespace.cluster).replicas().await?;
        let targets: Vec<String> = operators.iter().map(|pod| pod.at(METRICS)).collect();
        namespace.apply(&prometheus(folder, &targets)).await?;
        let prometheus = Pod::one(namespace, "prometheus").await?;
        let spec = prometheus.object().await?.spec.context("a pod without a spec")?;
        let is_in_mesh = spec.init_containers.iter().flatten().any(|it| it.name == "smidge-proxy");
        anyhow::ensure!(is_in_mesh, "the pod has no proxy: {spec:?}");
        Pod::one(namespace, "shop").await?;
        let buyer = Pod::one(namespace, "buyer").await?;
        let url = format!("http://shop:{HTTP}/books");
        let mut made = 0;
        until("the buyer to be allowed", EFFECT, async || {
            let calls = buyer.call(&url, &[]).await?;
            made += calls.status.get(&200).copied().unwrap_or_default();
            calls.must_all_be(200)
        })
        .await?;
        buyer.call(&url, &[&format!("--count={CALLS}")]).await?.must_all_be(200)?;
        let total = format!(
            r#"sum(smidge_requests_total{{reporter="destination", destination_namespace="{}", outcome="success"}})"#,
            namespace.name
        );
        let expected = f64::from(u32::try_from(made + CALLS)?);
        until("every call to be counted and scraped", COUNTED, async || {
            let up = query(&prometheus, "min(up)").await?;
            let counted = query(&prometheus, &total).await?;
            anyhow::ensure!(
                (up - 1.0).abs() < 0.1 && (counted - expected).abs() < 0.1,
                "up {up}, {counted} calls, expected {expected}"
            );
            Ok(())
        })
        .await?;
        println!("a Prometheus with a proxy of its own has {expected} calls");
        Ok(())
    })
    .await
}
