//! Tests the API server's response to a user who applies an object: refused with field and reason, or admitted with
//! warnings, in any order.

use std::time::Duration;

use serde_json::{Value, json};
use smidge_e2e::{
    Namespace, Pod,
    bookstore::{HTTP, caller, everything, service, shop, split, target},
    operator::Operator,
    raw::{Answer, Write},
    until, with_temp_ns,
};

/// Time limit for a caller to see the effect of an edit, on a machine with other load.
const EFFECT: Duration = Duration::from_secs(20);
/// Time limit for the API server to trust the webhooks of a mesh that was just installed.
const TRUST: Duration = Duration::from_secs(30);

fn object(version: &str, kind: &str, name: &str, fields: &Value) -> Value {
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
    if let (Some(object), Some(fields)) = (object.as_object_mut(), fields.as_object()) {
        object.extend(fields.clone());
    }
    object
}

async fn create(namespace: &Namespace, object: &Value) -> anyhow::Result<Answer> {
    namespace.cluster.write(Write::Create, &namespace.name, object).await
}

/// Waits until the webhook judges objects: the first call after an installation may come before the API server has the
/// new CA bundle.
async fn is_judged(namespace: &Namespace) -> anyhow::Result<()> {
    Operator::of(&namespace.cluster).replicas().await?;
    let matches = json!([{"name": "a", "pathRegex": "("}]);
    let wrong = object(
        "specs.smi-spec.io/v1alpha4",
        "HTTPRouteGroup",
        "probe",
        &json!({"spec": {"matches": matches}}),
    );
    until("objects to be judged", TRUST, async || {
        namespace.cluster.write(Write::Rehearse, &namespace.name, &wrong).await?.refusal().map(drop)
    })
    .await
}

#[tokio::test]
async fn what_is_wrong_is_refused_with_field_and_reason_in_every_version() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        is_judged(namespace).await?;
        let matches = json!([{"name": "a", "pathRegex": "/books("}]);
        let table = [
            ("specs.smi-spec.io/v1alpha4", "HTTPRouteGroup", json!({"spec": {"matches": matches}}), "spec.matches[0].pathRegex"),
            ("specs.smi-spec.io/v1alpha3", "HTTPRouteGroup", json!({"spec": {"matches": matches}}), "spec.matches[0].pathRegex"),
            ("specs.smi-spec.io/v1alpha2", "HTTPRouteGroup", json!({"matches": matches}), " matches[0].pathRegex"),
            ("specs.smi-spec.io/v1alpha1", "HTTPRouteGroup", json!({"matches": matches}), " matches[0].pathRegex"),
        ];
        for (version, kind, fields, field) in table {
            let answer = create(namespace, &object(version, kind, "wrong", &fields)).await?;
            let words = answer.refusal()?;
            for part in [field, "/books(", "InvalidRegex", "validate.smidge.mesh", "HTTPRouteGroup"] {
                anyhow::ensure!(words.contains(part), "{version}: {part:?} is not in: {words}");
            }
        }
        let elsewhere = json!({"spec": {
            "destination": {"kind": "ServiceAccount", "name": "shop", "namespace": "kube-system"},
            "rules": [{"kind": "TCPRoute", "name": "any"}], "sources": [{"kind": "ServiceAccount", "name": "me"}],
        }});
        let answer = create(namespace, &object("access.smi-spec.io/v1alpha3", "TrafficTarget", "wrong", &elsewhere)).await?;
        let words = answer.refusal()?;
        anyhow::ensure!(words.contains("spec.destination.namespace") && words.contains("kube-system"), "{words}");
        let mode = json!({"metadata": {"name": "default"}, "spec": {"pathRegexEnd": "ajar"}});
        let answer = namespace.cluster.write(Write::Apply, "", &object("smidge.mesh/v1alpha1", "MeshConfig", "default", &mode)).await?;
        answer.refusal()?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_not_there_yet_is_a_warning_and_any_order_of_apply_works() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        is_judged(namespace).await?;
        let weights = json!({"spec": {"service": "shop", "backends": [{"service": "shop-v1", "weight": 1}]}});
        let answer =
            create(namespace, &object("split.smi-spec.io/v1alpha2", "TrafficSplit", "shop", &weights))
                .await?;
        let warnings = answer.warnings.join("\n");
        anyhow::ensure!(
            warnings.contains("ServiceNotFound") && warnings.contains("spec.service"),
            "{answer:?}"
        );
        answer.ok()?;
        let rules = json!({"spec": {
            "destination": {"kind": "ServiceAccount", "name": "shop"},
            "rules": [{"kind": "HTTPRouteGroup", "name": "everything"}],
            "sources": [{"kind": "ServiceAccount", "name": "buyer"}],
        }});
        let target_object = object("access.smi-spec.io/v1alpha3", "TrafficTarget", "shop", &rules);
        let answer = create(namespace, &target_object).await?;
        let warnings = answer.warnings.join("\n");
        anyhow::ensure!(
            warnings.contains("RouteNotFound") && warnings.contains("spec.rules[0].name"),
            "{answer:?}"
        );
        answer.ok()?;

        // The other objects come in the wrong order, and in the end all of it works.
        namespace.apply(&everything()).await?;
        let again = namespace.cluster.write(Write::Apply, &namespace.name, &target_object).await?;
        anyhow::ensure!(!again.warnings.join("\n").contains("RouteNotFound"), "{again:?}");
        namespace
            .apply(&(caller("buyer") + &shop("shop-v1", "shop", "v1") + &shop("shop-v2", "shop", "v2")))
            .await?;
        namespace.apply(&service("shop", "shop-v1", HTTP)).await?;
        namespace.apply(&split("v1alpha4", "shop", &[("shop-v1", 0), ("shop-v2", 1)])).await?;
        namespace
            .apply(&target("shop", "shop", &["buyer"], "[{kind: HTTPRouteGroup, name: everything}]"))
            .await?;
        for app in ["shop-v1", "shop-v2"] {
            Pod::one(namespace, app).await?;
        }
        let buyer = Pod::one(namespace, "buyer").await?;
        until("everything to go to v2", EFFECT, async || {
            let calls = buyer.call("http://shop:14001/books", &["--count=20"]).await?;
            calls.must_all_be(200)?;
            anyhow::ensure!(calls.served_by.keys().all(|version| version == "v2"), "{calls:?}");
            Ok(())
        })
        .await
    })
    .await
}

#[tokio::test]
async fn what_was_wrong_before_stands_in_nobodys_way() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        is_judged(namespace).await?;
        // A weight that became invalid cannot be made here, as no invalid object is admitted; a finding that is only a
        // warning can.
        let fields = json!({"metadata": {"name": "shop"}, "spec": {"service": "shop", "backends": []}});
        let mut split = object("split.smi-spec.io/v1alpha4", "TrafficSplit", "shop", &fields);
        let answer = create(namespace, &split).await?;
        anyhow::ensure!(answer.warnings.join("\n").contains("[Empty]"), "{answer:?}");
        answer.ok()?;
        // A change of labels does not repeat the warning.
        if let Some(metadata) = split.get_mut("metadata") {
            *metadata = json!({"name": "shop", "labels": {"a": "b"}});
        }
        let answer = namespace.cluster.write(Write::Merge, &namespace.name, &split).await?;
        anyhow::ensure!(answer.warnings.is_empty(), "{answer:?}");
        answer.ok().map(drop)
    })
    .await
}
