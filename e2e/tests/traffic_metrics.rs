//! Tests the API of TrafficMetrics as users see it, through a real API server: paths, kubectl's tables, discovery,
//! explanations, rights and watches. The figures themselves are tested elsewhere.
//!
//! Needs a cluster whose API server aggregates, as that of `e2e/cluster` does.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use smidge_e2e::{Namespace, until, with_temp_ns};

const BASE: &str = "/apis/metrics.smi-spec.io/v1alpha2";
/// Time limit for the API server to find the API, on a machine with other load.
const FOUND: Duration = Duration::from_mins(1);
/// Time limit for the API server to know a right.
const KNOWN: Duration = Duration::from_secs(30);

/// Objects of each kind whose figures are read, without pods.
const OBJECTS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: 'smidge.local/base:dev'}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, appProtocol: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: web-v2}
spec: {selector: {app: web}, ports: [{port: 80, appProtocol: http}]}
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: canary}
spec: {service: web, backends: [{service: web, weight: 90}, {service: web-v2, weight: 10}]}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: viewer}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: other}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: viewer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: viewer}]
";

/// Waits until the API server serves both versions of the API.
async fn found(namespace: &Namespace) -> anyhow::Result<()> {
    for version in ["v1alpha1", "v1alpha2"] {
        let service = format!("apiservice/{version}.metrics.smi-spec.io");
        until("the API to be available", FOUND, async || {
            namespace
                .kubectl(&format!("wait --for=condition=Available --timeout=5s {service}"))
                .await
                .map(drop)
        })
        .await?;
    }
    Ok(())
}

async fn raw(namespace: &Namespace, path: &str) -> anyhow::Result<Value> {
    let text = namespace.kubectl(&format!("get --raw {path}")).await?;
    serde_json::from_str(&text).with_context(|| format!("{path} is not JSON: {text}"))
}

#[tokio::test]
async fn every_path_answers_through_the_api_server() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        found(namespace).await?;
        namespace.apply(OBJECTS).await?;
        let name = &namespace.name;
        for version in ["v1alpha1", "v1alpha2"] {
            let base = format!("/apis/metrics.smi-spec.io/{version}");
            let list = raw(namespace, &format!("{base}/namespaces/{name}/deployments?window=5m30s")).await?;
            let item = list.pointer("/items/0").context("no item")?;
            anyhow::ensure!(item["metadata"]["name"] == "web" && item["window"] == "5m30s", "{list}");
            anyhow::ensure!(item["apiVersion"] == format!("metrics.smi-spec.io/{version}"), "{list}");
            let metrics = item["metrics"].as_array().context("no metrics")?;
            anyhow::ensure!(metrics.len() == 6 && metrics.iter().all(|it| it["value"] == "0"), "{list}");
        }
        let one = raw(namespace, &format!("{BASE}/namespaces/{name}/deployments/web")).await?;
        anyhow::ensure!(one["kind"] == "TrafficMetrics", "{one}");
        for path in [
            format!("namespaces/{name}/deployments/web/edges"),
            format!("namespaces/{name}/edges"),
            format!("namespaces/{name}/trafficsplits/canary"),
            "nodes".to_owned(),
            "namespaces".to_owned(),
            "pods?limit=1".to_owned(),
        ] {
            let list = raw(namespace, &format!("{BASE}/{path}")).await?;
            anyhow::ensure!(list["kind"] == "TrafficMetricsList", "{path}: {list}");
        }
        let split = raw(namespace, &format!("{BASE}/namespaces/{name}/trafficsplits/canary")).await?;
        anyhow::ensure!(split["items"][1]["backend"]["weight"] == 10, "{split}");
        let missing = raw(namespace, &format!("{BASE}/namespaces/{name}/deployments/none")).await;
        anyhow::ensure!(format!("{missing:?}").contains("NotFound"), "{missing:?}");
        let long = raw(namespace, &format!("{BASE}/pods?window=2h")).await;
        anyhow::ensure!(format!("{long:?}").contains("from 10s to 1h0m0s"), "{long:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn kubectl_prints_tables_and_knows_the_resources() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        found(namespace).await?;
        namespace.apply(OBJECTS).await?;
        let all = namespace.kubectl("get deployments.metrics.smi-spec.io -A").await?;
        let head = all.lines().next().unwrap_or_default();
        for column in ["NAMESPACE", "NAME", "SUCCESS RATE", "RPS", "P99"] {
            anyhow::ensure!(head.contains(column), "no {column} in\n{all}");
        }
        anyhow::ensure!(
            all.lines().any(|line| line.starts_with(&namespace.name) && line.contains("web")),
            "{all}"
        );
        // The last line of a split would also have a `web`.
        for resource in ["deployments", "services", "trafficsplits"] {
            let names = namespace.kubectl(&format!("get {resource}.metrics.smi-spec.io -o name")).await?;
            let expected = match resource {
                "deployments" => 1,
                _ => 2,
            };
            anyhow::ensure!(names.lines().count() == expected, "{resource}: {names}");
        }
        let wide = namespace.kubectl("get trafficsplit.metrics.smi-spec.io canary -o wide").await?;
        anyhow::ensure!(wide.contains("web-v2") && wide.contains("REFUSED"), "{wide}");
        let selected = namespace.kubectl("get deployments.metrics.smi-spec.io -l app=other -o name").await?;
        anyhow::ensure!(selected.is_empty(), "{selected}");
        // The names of Kubernetes' own resources still mean these.
        let own = namespace.kubectl("get deployments web -o name").await?;
        anyhow::ensure!(own == "deployment.apps/web", "{own}");
        let watched =
            namespace.kubectl("get deployments.metrics.smi-spec.io --watch-only --request-timeout=5s").await;
        anyhow::ensure!(format!("{watched:?}").contains("web"), "{watched:?}");

        let resources =
            namespace.kubectl("api-resources --api-group=metrics.smi-spec.io --categories=smi").await?;
        for resource in ["deployments", "namespaces", "nodes", "pods", "trafficsplits"] {
            anyhow::ensure!(resources.lines().any(|line| line.starts_with(resource)), "{resources}");
        }
        until("the API server to have the OpenAPI document", FOUND, async || {
            let explained = namespace.kubectl("explain deployments.metrics.smi-spec.io").await?;
            anyhow::ensure!(
                explained.contains("KIND:") && explained.contains("TrafficMetrics"),
                "{explained}"
            );
            anyhow::ensure!(explained.contains("window"), "{explained}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn rights_are_those_of_rbac() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        found(namespace).await?;
        namespace.apply(OBJECTS).await?;
        let name = &namespace.name;
        let get = async |account: &str, path: &str| {
            let user = format!("system:serviceaccount:{name}:{account}");
            namespace.kubectl(&format!("get --raw {BASE}/{path} --as={user}")).await
        };
        let own = [
            format!("namespaces/{name}/deployments"),
            format!("namespaces/{name}/deployments/web/edges"),
            format!("namespaces/{name}"),
            format!("namespaces/{name}/edges"),
        ];
        let others = ["deployments", "nodes", "namespaces", "namespaces/default/deployments"];
        for path in &own {
            until("a viewer of the namespace to read", KNOWN, async || get("viewer", path).await).await?;
            let refused = get("other", path).await;
            anyhow::ensure!(format!("{refused:?}").contains("Forbidden"), "{path}: {refused:?}");
        }
        for path in others {
            let refused = get("viewer", path).await;
            anyhow::ensure!(format!("{refused:?}").contains("Forbidden"), "{path}: {refused:?}");
        }
        Ok(())
    })
    .await
}
