//! Tests TrafficMetrics that are written, with the real kubectl through a real API server: applying one makes a
//! MetricsPolicy of the same name, its figures are read like any object, and deleting it ends the policy.
//!
//! Needs a cluster whose API server aggregates, as that of `e2e/cluster` does. What a policy measures is tested elsewhere.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use smidge_e2e::{Namespace, until, with_temp_ns};

/// Time limit for the API server to find the API or know a right, on a machine with other load.
const KNOWN: Duration = Duration::from_mins(1);

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
kind: ServiceAccount
metadata: {name: editor}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: viewer}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: editor}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}
subjects: [{kind: ServiceAccount, name: editor}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: viewer}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: viewer}]
";

/// Returns a TrafficMetrics of an object in this namespace.
fn manifest(version: &str, namespace: &Namespace, (kind, name): (&str, &str)) -> String {
    json!({
        "apiVersion": format!("metrics.smi-spec.io/{version}"), "kind": "TrafficMetrics",
        "metadata": {"name": "web", "namespace": namespace.name},
        "resource": {"kind": kind, "namespace": namespace.name, "name": name},
    })
    .to_string()
}

/// Runs kubectl with a manifest as its input.
async fn with(namespace: &Namespace, line: &str, manifest: &str) -> anyhow::Result<String> {
    namespace.kubectl_with(line, manifest, "false").await
}

async fn read(namespace: &Namespace, resource: &str) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&namespace.kubectl(&format!("get {resource} web -o json")).await?)?)
}

/// Applies the objects, and waits until the API server finds the API.
async fn prepare(namespace: &Namespace) -> anyhow::Result<()> {
    namespace.apply(OBJECTS).await?;
    until("the API to have the resource", KNOWN, async || {
        let resources = namespace.kubectl("api-resources --api-group=metrics.smi-spec.io -o name").await?;
        anyhow::ensure!(resources.contains("trafficmetrics.metrics.smi-spec.io"), "{resources}");
        Ok(())
    })
    .await
}

/// Returns the output of a command that must fail.
async fn refused(namespace: &Namespace, line: &str, manifest: &str) -> anyhow::Result<String> {
    match with(namespace, line, manifest).await {
        Ok(output) => anyhow::bail!("{line} was not refused: {output}"),
        Err(error) => Ok(format!("{error:?}")),
    }
}

/// Replaces an object. kubectl reads its version first, and is refused if the operator writes the status before it writes,
/// as with any object that has a status.
async fn replace(namespace: &Namespace, manifest: &str) -> anyhow::Result<()> {
    until("the status not to be written between kubectl's two requests", KNOWN, async || {
        match with(namespace, "replace -f -", manifest).await {
            Err(error) if !format!("{error:?}").contains("(Conflict)") => Ok(Err(error)),
            done => done.map(Ok),
        }
    })
    .await?
    .map(drop)
}

#[tokio::test]
async fn applying_one_measures_and_deleting_it_ends_that() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        prepare(namespace).await?;
        for (version, apply) in
            [("v1alpha2", "apply -f -"), ("v1alpha1", "apply -f -"), ("v1alpha2", "apply --server-side -f -")]
        {
            let text = manifest(version, namespace, ("Deployment", "web"));
            let done = with(namespace, apply, &text).await?;
            anyhow::ensure!(done.starts_with("trafficmetrics.metrics.smi-spec.io/web "), "{done}");
            let policy = read(namespace, "metricspolicies").await?;
            anyhow::ensure!(
                policy["spec"]["target"] == json!({"kind": "Deployment", "name": "web"}),
                "{policy}"
            );
            let first = policy["metadata"].clone();
            let again = with(namespace, apply, &text).await?;
            let unchanged = ["unchanged", "serverside-applied"];
            anyhow::ensure!(unchanged.iter().any(|word| again.ends_with(word)), "{again}");
            let policy = read(namespace, "metricspolicies").await?;
            // Its version changes with its status.
            for field in ["generation", "annotations", "uid"] {
                anyhow::ensure!(policy["metadata"][field] == first[field], "written twice: {policy}");
            }
            let figures = read(namespace, "trafficmetrics").await?;
            anyhow::ensure!(figures["metrics"].as_array().is_some_and(|it| it.len() == 6), "{figures}");
            anyhow::ensure!(figures["metadata"]["uid"] == policy["metadata"]["uid"], "{figures}");
            let table = with(namespace, "get -f -", &text).await?;
            anyhow::ensure!(table.contains("SUCCESS RATE") && table.contains("Deployment/web"), "{table}");
            let gone = with(namespace, "delete -f -", &text).await?;
            anyhow::ensure!(gone.contains("\"web\" deleted"), "{gone}");
            let missing = refused(namespace, "get metricspolicies web", "").await?;
            anyhow::ensure!(missing.contains("NotFound"), "{missing}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn every_way_of_changing_one_changes_the_policy_and_keeps_its_rules() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        prepare(namespace).await?;
        let policy = "{apiVersion: smidge.mesh/v1alpha1, kind: MetricsPolicy, metadata: {name: web}, spec: {target: {kind: \
                      Deployment, name: web}, rules: [{kind: HTTPRouteGroup, name: books}]}}";
        namespace.apply(policy).await?;
        let expect = async |kind: &str, name: &str| {
            let policy = read(namespace, "metricspolicies").await?;
            anyhow::ensure!(policy["spec"]["target"] == json!({"kind": kind, "name": name}), "{policy}");
            anyhow::ensure!(policy["spec"]["rules"][0]["name"] == "books", "{policy}");
            Ok(policy)
        };
        let merge = "patch trafficmetrics web --type=merge --patch";
        namespace.kubectl(&format!("{merge} {{\"resource\":{{\"name\":\"a\"}}}}")).await?;
        expect("Deployment", "a").await?;
        let operations = "[{\"op\":\"replace\",\"path\":\"/resource/kind\",\"value\":\"DaemonSet\"}]";
        namespace.kubectl(&format!("patch trafficmetrics web --type=json --patch {operations}")).await?;
        expect("DaemonSet", "a").await?;
        replace(namespace, &manifest("v1alpha2", namespace, ("Job", "b"))).await?;
        expect("Job", "b").await?;
        namespace.kubectl("label trafficmetrics web team=shop").await?;
        namespace.kubectl("annotate trafficmetrics web note=kept").await?;
        let policy = expect("Job", "b").await?;
        anyhow::ensure!(policy["metadata"]["labels"]["team"] == "shop", "{policy}");
        let selected = namespace.kubectl("get trafficmetrics -l team=shop -o name").await?;
        anyhow::ensure!(selected == "trafficmetrics.metrics.smi-spec.io/web", "{selected}");
        namespace.kubectl_with("edit trafficmetrics web", "", "sed -i s/name:.b$/name:\\ c/").await?;
        expect("Job", "c").await?;
        let dry = format!("{merge} {{\"resource\":{{\"name\":\"d\"}}}} --dry-run=server");
        namespace.kubectl(&dry).await?;
        expect("Job", "c").await?;
        let applied = manifest("v1alpha2", namespace, ("Deployment", "web"));
        let conflict = refused(namespace, "apply --server-side --field-manager=ci -f -", &applied).await?;
        anyhow::ensure!(conflict.contains("conflict") && conflict.contains("resource.name"), "{conflict}");
        with(namespace, "apply --server-side --force-conflicts --field-manager=ci -f -", &applied).await?;
        expect("Deployment", "web").await?;
        let strategic =
            refused(namespace, "patch trafficmetrics web --patch {\"resource\":{\"name\":\"a\"}}", "").await?;
        anyhow::ensure!(strategic.contains("merge"), "{strategic}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_reason() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        prepare(namespace).await?;
        let own = manifest("v1alpha2", namespace, ("Deployment", "web"));
        let other = own.replacen(
            &format!("\"name\":\"web\",\"namespace\":\"{}\"}}}}", namespace.name),
            "\"name\":\"web\",\"namespace\":\"other\"}}",
            1,
        );
        for apply in ["apply -f -", "apply --server-side -f -", "apply --dry-run=server -f -"] {
            if other != own {
                let error = refused(namespace, apply, &other).await?;
                anyhow::ensure!(error.contains("resource.namespace") && error.contains("hint"), "{error}");
            }
            let node = manifest("v1alpha2", namespace, ("Node", "one"));
            let error = refused(namespace, apply, &node).await?;
            anyhow::ensure!(error.contains("resource.kind") && error.contains("Deployment"), "{error}");
            let unknown = own.replacen("\"resource\"", "\"resorce\"", 1);
            let error = refused(namespace, apply, &unknown).await?;
            anyhow::ensure!(error.contains("resorce") || error.contains("resource"), "{error}");
        }
        anyhow::ensure!(other != own, "the manifest has another form: {own}");
        let base = format!("/apis/metrics.smi-spec.io/v1alpha2/namespaces/{}", namespace.name);
        let read_only = refused(namespace, &format!("create --raw {base}/deployments -f -"), &own).await?;
        anyhow::ensure!(read_only.contains("does not allow this method"), "{read_only}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn rights_to_write_are_those_of_rbac() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        prepare(namespace).await?;
        let text = manifest("v1alpha2", namespace, ("Deployment", "web"));
        let user = |name: &str| format!("--as=system:serviceaccount:{}:{name}", namespace.name);
        let (editor, viewer) = (user("editor"), user("viewer"));
        until("an editor of the namespace to write", KNOWN, async || {
            with(namespace, &format!("apply {editor} -f -"), &text).await.map(drop)
        })
        .await?;
        let seen = namespace.kubectl(&format!("get trafficmetrics {viewer} -o name")).await?;
        anyhow::ensure!(seen.contains("web"), "{seen}");
        let patch = "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}";
        for line in [
            format!("apply --server-side {viewer} -f -"),
            format!("delete trafficmetrics web {viewer}"),
            format!("patch trafficmetrics web --type=merge --patch {patch} {viewer}"),
            format!("create {viewer} -f -"),
        ] {
            let error = refused(namespace, &line, &text).await?;
            anyhow::ensure!(error.contains("Forbidden") || error.contains("forbidden"), "{line}: {error}");
        }
        // The policy itself stays out of the editor's reach.
        let direct = refused(namespace, &format!("delete metricspolicies web {editor}"), "").await?;
        anyhow::ensure!(direct.contains("orbidden"), "{direct}");
        let gone = namespace.kubectl(&format!("delete trafficmetrics web {editor}")).await?;
        anyhow::ensure!(gone.contains("deleted"), "{gone}");
        Ok(())
    })
    .await
    .context("rights")
}
