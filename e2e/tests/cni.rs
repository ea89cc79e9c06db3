//! Tests the CNI plugin: the example works in a namespace that enforces Pod Security `restricted`; pods of the mesh wait for
//! the agent, and are refused where the plugin was removed, while pods outside of the mesh start in every case.
//!
//! The test moves and removes the DaemonSet of the mesh, so `make test` runs it after the others.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api,
    api::{ListParams, LogParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use smidge_e2e::{
    Cluster, Namespace, Pod,
    bookstore::{caller, outsider},
    example::{self, as_described, callers},
    operator::NAMESPACE,
    pod::is_ready,
    until, with_temp_ns,
};
use tokio::sync::Mutex;

/// Time limit for the DaemonSet and for pods, on a machine with other load.
const EFFECT: Duration = Duration::from_mins(2);
const DAEMON_SET: &str = "smidge-cni";
const TAINT: &str = "smidge.mesh/cni-not-ready";
/// Held by each test: one of them moves the DaemonSet that the others need.
static DAEMON_SET_IN_USE: Mutex<()> = Mutex::const_new(());
/// Labels of a namespace whose pods the plugin redirects.
const LABELS: [(&str, &str); 2] =
    [("smidge.mesh/redirection", "cni"), ("pod-security.kubernetes.io/enforce", "restricted")];

/// Adds what Pod Security `restricted` requires of an application to a Deployment.
fn restricted(object: &mut Value) {
    let Some(spec) = object.pointer_mut("/spec/template/spec") else { return };
    spec["securityContext"] = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    for container in spec["containers"].as_array_mut().into_iter().flatten() {
        container["securityContext"] =
            json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    }
}

/// Applies documents with what `restricted` requires.
async fn apply(namespace: &Namespace, yaml: &str) -> anyhow::Result<()> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml)?;
    for mut document in documents.into_iter().filter(|document| !document.is_null()) {
        restricted(&mut document);
        namespace.apply(&document.to_string()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn the_example_works_under_pod_security_restricted() -> anyhow::Result<()> {
    let _held = DAEMON_SET_IN_USE.lock().await;
    with_temp_ns(&LABELS, async |namespace| {
        for object in example::objects(&namespace.name)? {
            apply(namespace, &object.to_string()).await?;
        }
        let callers = callers(namespace).await?;
        for pod in namespace.pods().list(&ListParams::default()).await?.items {
            let spec = pod.spec.context("a pod without a spec")?;
            let init = spec.init_containers.iter().flatten().find(|it| it.name == "smidge-init");
            let args = init.and_then(|it| it.args.as_ref()).context("no smidge-init")?;
            anyhow::ensure!(args.iter().any(|arg| arg == "--verify"), "{args:?}");
        }
        as_described(&callers).await
    })
    .await
}

/// A namespace without the label keeps its init container, on the same node.
#[tokio::test]
async fn other_namespaces_keep_their_init_container() -> anyhow::Result<()> {
    let _held = DAEMON_SET_IN_USE.lock().await;
    with_temp_ns(&[], async |namespace| {
        namespace.apply(&caller("buyer")).await?;
        let pod = Pod::one(namespace, "buyer").await?.object().await?;
        let spec = pod.spec.context("a pod without a spec")?;
        let init = spec.init_containers.iter().flatten().find(|it| it.name == "smidge-init");
        let context = init.and_then(|it| it.security_context.as_ref()).context("no smidge-init")?;
        anyhow::ensure!(context.run_as_user == Some(0), "{context:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn pods_start_and_are_refused_as_the_plugin_comes_and_goes() -> anyhow::Result<()> {
    let _held = DAEMON_SET_IN_USE.lock().await;
    with_temp_ns(&LABELS, async |namespace| {
        let saved = saved(&namespace.cluster).await?;
        let outcome = async {
            without_agent(namespace).await?;
            removed(namespace).await
        }
        .await;
        namespace.cluster.apply(NAMESPACE, &saved.to_string()).await?;
        ready(&namespace.cluster).await?;
        outcome?;
        // The controller makes a new pod of the one that was refused.
        for pod in pods(namespace, "late").await? {
            namespace.kubectl(&format!("delete pod {}", name(&pod))).await?;
        }
        Pod::one(namespace, "late").await.map(drop)
    })
    .await
}

/// The DaemonSet is there, and has no pod on the node: the plugin stays.
async fn without_agent(namespace: &Namespace) -> anyhow::Result<()> {
    let cluster = &namespace.cluster;
    select(cluster, json!({"smidge-e2e/nowhere": "true"})).await?;
    gone(cluster).await?;
    apply(namespace, &(outsider("outside") + &caller("waiting"))).await?;
    Pod::one(namespace, "outside").await?;
    until("the pod to wait for the agent, with an Event that names it", EFFECT, async || {
        let events = namespace.kubectl("get events --output=jsonpath={.items[*].message}").await?;
        anyhow::ensure!(events.contains("DaemonSet smidge-cni ready on this node"), "{events}");
        Ok(())
    })
    .await?;
    select(cluster, json!({"smidge-e2e/nowhere": null})).await?;
    // By itself: the kubelet tries again.
    Pod::one(namespace, "waiting").await.map(drop)
}

/// The DaemonSet is deleted: the plugin leaves the node.
async fn removed(namespace: &Namespace) -> anyhow::Result<()> {
    let cluster = &namespace.cluster;
    ready(cluster).await?;
    cluster
        .api("apps/v1", "DaemonSet", NAMESPACE)?
        .delete(DAEMON_SET, &kube::api::DeleteParams::default())
        .await?;
    gone(cluster).await?;
    apply(namespace, &(outsider("after") + &caller("late"))).await?;
    Pod::one(namespace, "after").await?;
    until("the pod to be refused for its traffic is not redirected", EFFECT, async || {
        let pods = pods(namespace, "late").await?;
        let pod = pods.first().context("no pod")?;
        anyhow::ensure!(!is_ready(pod), "it runs");
        let params = LogParams { container: Some("smidge-init".to_owned()), ..LogParams::default() };
        let log = namespace.pods().logs(&name(pod), &params).await?;
        anyhow::ensure!(log.contains("is not redirected") && log.contains("delete the pod"), "{log}");
        Ok(())
    })
    .await
}

/// A node that joins has the taint until the plugin is ready on it. There is one node, so it is as one that joins once it has
/// the taint and the DaemonSet's pod is a new one.
#[tokio::test]
async fn a_node_that_joins_gets_no_pod_before_the_plugin() -> anyhow::Result<()> {
    let _held = DAEMON_SET_IN_USE.lock().await;
    with_temp_ns(&LABELS, async |namespace| {
        ready(&namespace.cluster).await?;
        let nodes: Api<core::Node> = Api::all(namespace.cluster.client());
        select(&namespace.cluster, json!({"smidge-e2e/nowhere": "true"})).await?;
        let waited = tainted(namespace, &nodes).await;
        select(&namespace.cluster, json!({"smidge-e2e/nowhere": null})).await?;
        ready(&namespace.cluster).await?;
        let removed = until("the operator to remove the taint, and leave the other", EFFECT, async || {
            let taints = namespace.kubectl("get nodes -o jsonpath={.items[*].spec.taints[*].key}").await?;
            anyhow::ensure!(taints == OTHER_TAINT, "{taints:?}");
            Ok(())
        })
        .await;
        for taint in [TAINT, OTHER_TAINT] {
            // One that is not there is an error.
            let _ = namespace.kubectl(&format!("taint nodes --all {taint}-")).await;
        }
        waited?;
        removed?;
        Pod::one(namespace, "early").await.map(drop)
    })
    .await
}

/// A taint that is not the plugin's.
const OTHER_TAINT: &str = "smidge-e2e/other";

async fn tainted(namespace: &Namespace, nodes: &Api<core::Node>) -> anyhow::Result<()> {
    gone(&namespace.cluster).await?;
    for taint in [format!("{TAINT}=true:NoSchedule"), format!("{OTHER_TAINT}=true:PreferNoSchedule")] {
        namespace.kubectl(&format!("taint nodes --all {taint}")).await?;
    }
    anyhow::ensure!(
        nodes.list(&ListParams::default()).await?.items.len() == 1,
        "the cluster has several nodes"
    );
    apply(namespace, &caller("early")).await?;
    until("the pod to wait for a node", EFFECT, async || {
        let events = namespace.kubectl("get events --output=jsonpath={.items[*].message}").await?;
        anyhow::ensure!(events.contains("untolerated taint"), "{events}");
        Ok(())
    })
    .await
}

/// Returns the DaemonSet as it can be applied again.
async fn saved(cluster: &Cluster) -> anyhow::Result<Value> {
    ready(cluster).await?;
    let mut object = json!(cluster.get("apps/v1", "DaemonSet", NAMESPACE, DAEMON_SET).await?);
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|field, _| ["name", "namespace", "labels", "annotations"].contains(&field.as_str()));
    }
    Ok(object)
}

async fn select(cluster: &Cluster, selector: Value) -> anyhow::Result<()> {
    let patch = json!({"spec": {"template": {"spec": {"nodeSelector": selector}}}});
    let api = cluster.api("apps/v1", "DaemonSet", NAMESPACE)?;
    api.patch(DAEMON_SET, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop).map_err(Into::into)
}

async fn pods_of_daemon_set(cluster: &Cluster) -> anyhow::Result<Vec<core::Pod>> {
    let api: Api<core::Pod> = Api::namespaced(cluster.client(), NAMESPACE);
    let selector = format!("app.kubernetes.io/name={DAEMON_SET}");
    Ok(api.list(&ListParams::default().labels(&selector)).await?.items)
}

async fn ready(cluster: &Cluster) -> anyhow::Result<()> {
    until("a ready pod of the DaemonSet", EFFECT, async || {
        let pods = pods_of_daemon_set(cluster).await?;
        anyhow::ensure!(pods.iter().any(is_ready), "{} pods, none ready", pods.len());
        Ok(())
    })
    .await
}

async fn gone(cluster: &Cluster) -> anyhow::Result<()> {
    until("no pod of the DaemonSet", EFFECT, async || {
        let pods = pods_of_daemon_set(cluster).await?;
        anyhow::ensure!(pods.is_empty(), "{} pods", pods.len());
        Ok(())
    })
    .await
}

async fn pods(namespace: &Namespace, app: &str) -> anyhow::Result<Vec<core::Pod>> {
    Ok(namespace.pods().list(&ListParams::default().labels(&format!("app={app}"))).await?.items)
}

fn name(pod: &core::Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}
