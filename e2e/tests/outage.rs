//! Tests conversion and admission while no operator runs, and the operator's start when storage has old versions only.
//!
//! These tests stop the operator, so `make test` runs them one at a time, after all others.

use std::time::Duration;

use anyhow::Context as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use smidge_e2e::{
    Cluster, Namespace, Pod,
    bookstore::{EVERYTHING, HTTP, caller, everything, service, shop, split, target, tcp_route},
    exclusive,
    operator::Operator,
    raw::Write,
    until, with_temp_ns,
};

const EFFECT: Duration = Duration::from_secs(20);
/// Time limit for the operator to stop or to become ready.
const BACK: Duration = Duration::from_secs(90);
const BOOKS: &str = "http://shop:14001/books";
const SPLIT: &str = "split.smi-spec.io";

async fn stop(operator: &Operator) -> anyhow::Result<()> {
    operator.scale(0).await?;
    until("the operator to be gone", BACK, async || {
        let left = operator.replicas().await?;
        anyhow::ensure!(left.is_empty(), "{} left", left.len());
        Ok(())
    })
    .await
}

/// Runs `test` without an operator, and restores the operator regardless of the outcome.
async fn without_operator(
    operator: &Operator,
    test: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let before = operator.replicas().await?.len();
    stop(operator).await?;
    let outcome = test().await;
    operator.scale(u32::try_from(before)?).await?;
    outcome?;
    let back = until("the operator to be back", BACK, async || operator.replicas().await).await?;
    anyhow::ensure!(back.len() == before, "{} replicas are back", back.len());
    Ok(())
}

/// Creates two shops and a buyer; the split sends all traffic to v2.
async fn two_shops(namespace: &Namespace) -> anyhow::Result<Pod> {
    let root = service("shop", "shop-v1", HTTP);
    namespace.apply(&(shop("shop-v1", "shop", "v1") + &shop("shop-v2", "shop", "v2") + &root)).await?;
    let policy = everything() + &target("shop", "shop", &["buyer"], EVERYTHING);
    namespace.apply(&(caller("buyer") + &caller("thief") + &policy)).await?;
    for app in ["shop-v1", "shop-v2", "thief"] {
        Pod::one(namespace, app).await?;
    }
    let buyer = Pod::one(namespace, "buyer").await?;
    namespace.apply(&split("v1alpha2", "shop", &[("shop-v1", 0), ("shop-v2", 1)])).await?;
    all_from(&buyer, "v2").await?;
    Ok(buyer)
}

async fn all_from(buyer: &Pod, version: &str) -> anyhow::Result<()> {
    until(&format!("everything to come from {version}"), EFFECT, async || {
        let calls = buyer.call(BOOKS, &["--count=20"]).await?;
        calls.must_all_be(200)?;
        anyhow::ensure!(calls.served_by.keys().all(|found| found == version), "{calls:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_an_operator_the_stored_version_works_and_the_mesh_keeps_its_meaning() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        let operator = Operator::of(cluster);
        exclusive(cluster, name).await?;
        let buyer = two_shops(namespace).await?;
        let thief = Pod::one(namespace, "thief").await?;
        let (stored, old) = (format!("{SPLIT}/v1alpha4"), format!("{SPLIT}/v1alpha2"));
        without_operator(&operator, async || {
            // Reads and writes at the stored version need no conversion.
            cluster.read(&stored, "TrafficSplit", name, "shop").await?.ok()?;
            let label = json!({
                "apiVersion": stored, "kind": "TrafficSplit",
                "metadata": {"name": "shop", "labels": {"changed": "while-nobody-looked"}},
            });
            cluster.write(Write::Merge, name, &label).await?.ok()?;
            let fields = json!({
                "apiVersion": stored, "kind": "TrafficSplit", "metadata": {"name": "another"},
                "spec": {"service": "another", "backends": [{"service": "another-v1", "weight": 1}]},
            });
            for write in [Write::Create, Write::Apply] {
                cluster.write(write, name, &fields).await?.ok()?;
            }
            let wrong = json!({
                "apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup", "metadata": {"name": "wrong"},
                "spec": {"matches": [{"name": "a", "pathRegex": "("}]},
            });
            // No webhook can judge it, and the failure policy admits it.
            cluster.write(Write::Create, name, &wrong).await?.ok()?;
            cluster.write(Write::Create, name, &deep()).await?.ok()?;

            let answer = cluster.read(&old, "TrafficSplit", name, "shop").await?;
            let words = answer.refusal()?;
            println!("at {old}: {words}");
            for part in ["conversion webhook", "TrafficSplit", "smidge-webhook"] {
                anyhow::ensure!(words.contains(part), "{part:?} is not in: {words}");
            }

            let calls = buyer.call(BOOKS, &["--count=100"]).await?;
            calls.must_all_be(200)?;
            anyhow::ensure!(calls.served_by.keys().all(|found| found == "v2"), "{calls:?}");
            thief.call(BOOKS, &["--count=20"]).await?.must_all_be(403)
        })
        .await?;

        all_is_judged_again(cluster, name, &operator).await?;
        namespace.apply(&split("v1alpha1", "shop", &[("shop-v1", 1), ("shop-v2", 0)])).await?;
        all_from(&buyer, "v1").await
    })
    .await
}

/// Checks that versions convert again, and that invalid objects admitted in between are named, and may be changed and
/// removed but not made worse.
async fn all_is_judged_again(cluster: &Cluster, name: &str, operator: &Operator) -> anyhow::Result<()> {
    let old = format!("{SPLIT}/v1alpha2");
    until("the old version to be read again", BACK, async || {
        cluster.read(&old, "TrafficSplit", name, "shop").await?.ok().map(drop)
    })
    .await?;
    // An object that no parser accepts costs only itself, and is named.
    let replica = operator.replicas().await?.pop().context("no operator")?;
    until("a finding that names what cannot be read", BACK, async || {
        let findings = replica.page("/debug/findings").await?;
        anyhow::ensure!(findings.contains("\"deep\"") && findings.contains("recursion"), "{findings}");
        Ok(())
    })
    .await?;
    // An invalid object may be changed and removed like any other, but not made worse.
    let label = json!({
        "apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup",
        "metadata": {"name": "wrong", "labels": {"a": "b"}},
    });
    cluster.write(Write::Merge, name, &label).await?.ok()?;
    let worse = json!({
        "apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup", "metadata": {"name": "wrong"},
        "spec": {"matches": [{"name": "a", "pathRegex": "["}]},
    });
    until("admission to be back", BACK, async || {
        cluster.write(Write::Merge, name, &worse).await?.refusal().map(drop)
    })
    .await
}

/// Builds a header that is nested more deeply than JSON parsers accept.
fn deep() -> Value {
    let header = (0..200).fold(json!("x"), |inner, _| json!({"a": inner}));
    json!({
        "apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup", "metadata": {"name": "deep"},
        "spec": {"matches": [{"name": "a", "headers": header}]},
    })
}

/// Stored objects where no client has ever written the newest version: kind, group, and an old version of it.
const OLD: [(&str, &str, &str); 4] = [
    ("TrafficSplit", SPLIT, "v1alpha2"),
    ("TrafficTarget", "access.smi-spec.io", "v1alpha2"),
    ("HTTPRouteGroup", "specs.smi-spec.io", "v1alpha2"),
    ("TCPRoute", "specs.smi-spec.io", "v1alpha3"),
];
const NEWEST: &str = "v1alpha4";

/// Returns the hash by which the API server shows the storage version of a kind: it changes when the version does.
async fn stored_as(cluster: &Cluster, group: &str, plural: &str) -> anyhow::Result<String> {
    let known = cluster.client().list_api_group_resources(&format!("{group}/{NEWEST}")).await?;
    let found = known.resources.into_iter().find(|resource| resource.name == plural);
    found
        .and_then(|resource| resource.storage_version_hash)
        .with_context(|| format!("{plural} are not stored"))
}

/// Sets the storage version of a kind to `version`.
async fn store_at(cluster: &Cluster, kind: &str, group: &str, version: &str) -> anyhow::Result<()> {
    let definitions = cluster.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", "")?;
    let plural = kind.to_lowercase() + "s";
    let name = format!("{plural}.{group}");
    let mut definition = definitions.get(&name).await?.data;
    let versions = definition.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
    let versions = versions.context("a definition without versions")?;
    let before = versions.clone();
    for found in versions.iter_mut() {
        let is_it = found.get("name").and_then(Value::as_str) == Some(version);
        found.as_object_mut().context("a version")?.insert("storage".to_owned(), json!(is_it));
    }
    if *versions == before {
        return Ok(());
    }
    let hash = stored_as(cluster, group, &plural).await?;
    let patch = json!({"spec": {"versions": versions}});
    definitions.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    until(&format!("{kind}s to be stored at {version}"), EFFECT, async || {
        anyhow::ensure!(stored_as(cluster, group, &plural).await? != hash, "they are stored as before");
        Ok(())
    })
    .await
}

async fn store_newest(cluster: &Cluster) -> anyhow::Result<()> {
    for (kind, group, _) in OLD {
        store_at(cluster, kind, group, NEWEST).await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_operator_that_finds_old_versions_only_comes_up_by_itself() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let (cluster, name) = (&namespace.cluster, &namespace.name);
        let operator = Operator::of(cluster);
        exclusive(cluster, name).await?;
        let outcome = async {
            for (kind, group, version) in OLD {
                store_at(cluster, kind, group, version).await?;
            }
            let buyer = two_shops(namespace).await?;
            namespace.apply(&tcp_route("shop", &format!("[{HTTP}]"))).await?;
            without_operator(&operator, async || {
                store_newest(cluster).await?;
                // The newest version needs a conversion now, and no webhook answers.
                for ((kind, group, _), object) in OLD.iter().zip(["shop", "shop", "everything", "shop"]) {
                    let newest = format!("{group}/{NEWEST}");
                    until(&format!("{kind} {object} to need a conversion"), EFFECT, async || {
                        let answer = cluster.read(&newest, kind, name, object).await?;
                        let words = answer.refusal()?;
                        anyhow::ensure!(words.contains("conversion webhook"), "{words}");
                        Ok(())
                    })
                    .await?;
                }
                Ok(())
            })
            .await?;
            anyhow::Ok(buyer)
        }
        .await;
        store_newest(cluster).await?;
        let buyer = outcome?;

        // The operator is ready and has read everything: the mesh is unchanged, and a change takes effect.
        let thief = Pod::one(namespace, "thief").await?;
        let calls = buyer.call(BOOKS, &["--count=20"]).await?;
        calls.must_all_be(200)?;
        anyhow::ensure!(calls.served_by.keys().all(|found| found == "v2"), "{calls:?}");
        thief.call(BOOKS, &["--count=20"]).await?.must_all_be(403)?;
        let old = format!("{SPLIT}/v1alpha2");
        let read = cluster.read(&old, "TrafficSplit", name, "shop").await?.ok()?;
        anyhow::ensure!(read.pointer("/spec/backends/1/weight") == Some(&json!(1)), "{read}");
        namespace.apply(&split("v1alpha2", "shop", &[("shop-v1", 1), ("shop-v2", 0)])).await?;
        all_from(&buyer, "v1").await
    })
    .await
}
