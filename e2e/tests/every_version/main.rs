//! Tests every published kind in every version: an object applied in one version is read back in every other, and
//! returns unchanged. Clients that know an old version only do not lose the fields of a newer one.

mod published;

use std::time::Duration;

use anyhow::Context as _;
use published::{is_shaped, published};
use serde_json::{Value, json};
use smidge_crds::conversion::served;
use smidge_e2e::{Cluster, Namespace, operator::Operator, raw::Write, until, with_temp_ns};

/// Time limit for the API server to trust the webhooks of a mesh that was just installed.
const TRUST: Duration = Duration::from_secs(30);

const ACCESS: &str = "access.smi-spec.io";
const SPECS: &str = "specs.smi-spec.io";
const SPLIT: &str = "split.smi-spec.io";

/// Returns the fields of an object beside its metadata and status.
fn content(object: &Value) -> Value {
    let mut fields = object.as_object().cloned().unwrap_or_default();
    for field in ["apiVersion", "kind", "metadata", "status"] {
        fields.remove(field);
    }
    Value::Object(fields)
}

fn labelled(version: &str, kind: &str, name: &str, fields: &Value) -> Value {
    let mut object = json!({
        "apiVersion": version, "kind": kind,
        "metadata": {"name": name, "labels": {"team": "a"}, "annotations": {"example.org/note": "kept"}},
    });
    if let (Some(object), Some(fields)) = (object.as_object_mut(), fields.as_object()) {
        object.extend(fields.clone());
    }
    object
}

/// Waits until conversion works for each kind: a new mesh gives the API server its CA bundle one kind after the other.
async fn is_converted(namespace: &Namespace) -> anyhow::Result<()> {
    Operator::of(&namespace.cluster).replicas().await?;
    for (group, kind, fields) in [
        (SPLIT, "TrafficSplit", json!({"spec": {"service": "a", "backends": []}})),
        (SPECS, "HTTPRouteGroup", json!({"matches": []})),
        (SPECS, "TCPRoute", json!({})),
        (
            ACCESS,
            "TrafficTarget",
            json!({"destination": {"kind": "ServiceAccount", "name": "a"}, "specs": [], "sources": []}),
        ),
    ] {
        let probe = labelled(&format!("{group}/v1alpha1"), kind, "probe", &fields);
        until(&format!("conversions of {kind} to work"), TRUST, async || {
            namespace.cluster.write(Write::Apply, &namespace.name, &probe).await?.ok().map(drop)
        })
        .await?;
    }
    Ok(())
}

async fn read(
    cluster: &Cluster,
    version: &str,
    kind: &str,
    namespace: &str,
    name: &str,
) -> anyhow::Result<Value> {
    let answer = cluster.read(version, kind, namespace, name).await?;
    answer.ok().with_context(|| format!("failed to read {kind} {name} at {version}"))
}

#[tokio::test]
async fn every_kind_of_every_version_comes_back_as_it_was_through_every_other() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        is_converted(namespace).await?;
        let (cluster, place) = (&namespace.cluster, &namespace.name);
        let mut trips = 0;
        for (index, (group, version, kind, fields)) in published().into_iter().enumerate() {
            let own = format!("{group}/{version}");
            let name = format!("{}-{version}-{index}", kind.to_lowercase());
            let what = format!("{kind} {name}");
            let written = labelled(&own, kind, &name, &fields);
            let answer = cluster.write(Write::Create, place, &written).await?;
            answer.ok().with_context(|| format!("failed to create {what}"))?;
            let first = read(cluster, &own, kind, place, &name).await?;
            anyhow::ensure!(
                content(&first) == fields,
                "{what} is read as {}, written as {fields}",
                content(&first)
            );
            let versions = served(group, kind);
            anyhow::ensure!(versions.contains(&version), "{version} of {kind} is not served");
            for other in versions {
                let (version, other) = (other, format!("{group}/{other}"));
                let seen = read(cluster, &other, kind, place, &name).await?;
                anyhow::ensure!(
                    is_shaped(kind, version, &seen),
                    "{what} at {other} has another's shape: {seen}"
                );
                for (pointer, value) in
                    [("/metadata/labels/team", "a"), ("/metadata/annotations/example.org~1note", "kept")]
                {
                    anyhow::ensure!(
                        seen.pointer(pointer) == Some(&json!(value)),
                        "{what} at {other}: {pointer}: {seen}"
                    );
                }
                // Written back as it was read: nothing changes, at any version.
                let stored = rewritten(namespace, &other, kind, &name, |_| ()).await?;
                let generation = |object: &Value| object.pointer("/metadata/generation").cloned();
                anyhow::ensure!(
                    generation(&stored) == generation(&first),
                    "{what} at {other} changed when written back: {first} → {stored}"
                );
                let back = read(cluster, &own, kind, place, &name).await?;
                anyhow::ensure!(
                    content(&back) == fields,
                    "{what} by way of {other} is {}, was {fields}",
                    content(&back)
                );
                trips += 1;
            }
        }
        println!("{} objects, {trips} round trips", published().len());
        Ok(())
    })
    .await
}

/// Reads an object at `version`, changes it and writes it back; repeats that on a conflict with another write (its
/// status).
async fn rewritten(
    namespace: &Namespace,
    version: &str,
    kind: &str,
    name: &str,
    edit: impl Fn(&mut Value),
) -> anyhow::Result<Value> {
    let (cluster, place) = (&namespace.cluster, &namespace.name);
    let answer = until("nobody to come between reading and writing", TRUST, async || {
        let mut object = read(cluster, version, kind, place, name).await?;
        edit(&mut object);
        let answer = cluster.write(Write::Replace, place, &object).await?;
        anyhow::ensure!(answer.status != 409, "{answer:?}");
        Ok(answer)
    })
    .await?;
    answer.ok().with_context(|| format!("failed to write {kind} {name} back at {version}"))
}

/// Changes an object as a client that knows `version` only, by each kind of write; `edit` makes the change.
async fn edited(
    namespace: &Namespace,
    version: &str,
    object: &Value,
    edit: impl Fn(&mut Value),
    merge: &Value,
    check: impl Fn(&Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (cluster, place) = (&namespace.cluster, &namespace.name);
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (hub, kind) = (text("/apiVersion"), text("/kind"));
    for write in [Write::Replace, Write::Merge, Write::Apply] {
        let name = format!("{}-{}-{write:?}", text("/metadata/name"), version.replace(['/', '.'], "-"))
            .to_lowercase();
        let mut object = object.clone();
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut).context("metadata")?;
        metadata.insert("name".to_owned(), json!(name));
        cluster.write(Write::Create, place, &object).await?.ok()?;
        if write == Write::Replace {
            rewritten(namespace, version, kind, &name, &edit).await?;
        } else {
            let mut partial = merge.clone();
            let fields = partial.as_object_mut().context("a patch")?;
            fields.insert("apiVersion".to_owned(), json!(version));
            fields.insert("kind".to_owned(), json!(kind));
            fields.insert("metadata".to_owned(), json!({"name": name}));
            let answer = cluster.write(write, place, &partial).await?;
            answer.ok().with_context(|| format!("failed to {write:?} {kind} {name} at {version}"))?;
        }
        let stored = read(cluster, hub, kind, place, &name).await?;
        check(&stored).with_context(|| format!("{write:?} of {kind} at {version} made {stored}"))?;
        anyhow::ensure!(
            stored.pointer("/metadata/annotations/example.org~1note") == Some(&json!("kept")),
            "{write:?} at {version} lost an annotation: {stored}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_client_of_an_old_version_moves_weights_and_loses_no_matches() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        is_converted(namespace).await?;
        let matches = json!([{"kind": "HTTPRouteGroup", "name": "beta"}]);
        let spec = json!({"spec": {
            "service": "web", "matches": matches,
            "backends": [{"service": "v1", "weight": 100}, {"service": "v2", "weight": 0}],
        }});
        let split = labelled(&format!("{SPLIT}/v1alpha4"), "TrafficSplit", "web", &spec);
        // v1alpha1 has quantities: Flagger and Argo Rollouts write them as numbers or as text.
        for (version, one, two) in [
            ("v1alpha1", json!("90"), json!("10")),
            ("v1alpha1", json!(90), json!(10)),
            ("v1alpha2", json!(90), json!(10)),
            ("v1alpha3", json!(90), json!(10)),
        ] {
            let backends = json!([{"service": "v1", "weight": one}, {"service": "v2", "weight": two}]);
            let mut split = split.clone();
            if let Some(name) = split.pointer_mut("/metadata/name") {
                *name = json!(if one.is_string() { "text" } else { "number" });
            }
            let edit = |object: &mut Value| {
                if let Some(found) = object.pointer_mut("/spec/backends") {
                    found.clone_from(&backends);
                }
            };
            let merge = json!({"spec": {"service": "web", "backends": backends}});
            let check = |stored: &Value| {
                let weights: Vec<_> = ["/spec/backends/0/weight", "/spec/backends/1/weight"]
                    .iter()
                    .map(|at| stored.pointer(at).cloned())
                    .collect();
                anyhow::ensure!(weights == [Some(json!(90)), Some(json!(10))], "weights {weights:?}");
                anyhow::ensure!(stored.pointer("/spec/matches") == Some(&matches), "the matches are gone");
                Ok(())
            };
            edited(namespace, &format!("{SPLIT}/{version}"), &split, edit, &merge, check).await?;
        }
        Ok(())
    })
    .await
}

/// Uses the real program: each kind of write that kubectl has, by a user who writes an old version.
#[tokio::test]
async fn kubectl_writes_an_old_version_and_loses_no_matches() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        is_converted(namespace).await?;
        let matches = json!([{"kind": "HTTPRouteGroup", "name": "beta"}]);
        let hub = format!("{SPLIT}/v1alpha4");
        let spec = json!({"spec": {
            "service": "web", "matches": matches,
            "backends": [{"service": "v1", "weight": 100}, {"service": "v2", "weight": 5}],
        }});
        for version in ["v1alpha1", "v1alpha2", "v1alpha3"] {
            for way in ["apply", "apply --server-side --force-conflicts", "edit"] {
                let name = format!("{version}-{}", way.replace([' ', '-'], ""));
                let new = labelled(&hub, "TrafficSplit", &name, &spec);
                namespace.kubectl_with("create --filename=-", &new.to_string(), "false").await?;
                if way == "edit" {
                    let line = format!("edit trafficsplits.{version}.{SPLIT} {name}");
                    namespace.kubectl_with(&line, "", "sed -i /weight:/s/100/90/").await?;
                } else {
                    // The first version has quantities.
                    let weight = if version == "v1alpha1" { json!("90") } else { json!(90) };
                    let old = json!({
                        "apiVersion": format!("{SPLIT}/{version}"), "kind": "TrafficSplit",
                        "metadata": {"name": name},
                        "spec": {"service": "web", "backends": [
                            {"service": "v1", "weight": weight}, {"service": "v2", "weight": 5},
                        ]},
                    });
                    let line = format!("{way} --filename=-");
                    namespace.kubectl_with(&line, &old.to_string(), "false").await?;
                }
                let stored = read(&namespace.cluster, &hub, "TrafficSplit", &namespace.name, &name).await?;
                let mut wanted = spec.clone();
                if let Some(weight) = wanted.pointer_mut("/spec/backends/0/weight") {
                    *weight = json!(90);
                }
                anyhow::ensure!(content(&stored) == wanted, "kubectl {way} at {version} made {stored}");
                println!("kubectl {way} at {version}: the weight is new, the matches are there");
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_client_that_cannot_see_ports_changes_a_label_and_opens_none() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        is_converted(namespace).await?;
        let spec = json!({"spec": {"matches": {"ports": [80, 443]}}});
        let route = labelled(&format!("{SPECS}/v1alpha4"), "TCPRoute", "ports", &spec);
        let edit = |object: &mut Value| {
            if let Some(labels) = object.pointer_mut("/metadata/labels") {
                *labels = json!({"team": "b"});
            }
        };
        let ports = |stored: &Value| {
            anyhow::ensure!(stored.pointer("/spec/matches/ports") == Some(&json!([80, 443])), "no ports");
            Ok(())
        };
        for version in ["v1alpha1", "v1alpha2", "v1alpha3"] {
            edited(namespace, &format!("{SPECS}/{version}"), &route, edit, &json!({}), ports).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_client_that_cannot_see_headers_adds_a_method_and_they_stay() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        is_converted(namespace).await?;
        let matches = json!([{"name": "a", "pathRegex": "/a", "methods": ["GET"], "headers": [{"x": "1"}]}]);
        let spec = json!({"spec": {"matches": matches}});
        let group = labelled(&format!("{SPECS}/v1alpha4"), "HTTPRouteGroup", "headers", &spec);
        let edit = |object: &mut Value| {
            if let Some(methods) = object.pointer_mut("/matches/0/methods") {
                *methods = json!(["GET", "POST"]);
            }
        };
        let merge = json!({"matches": [{"name": "a", "pathRegex": "/a", "methods": ["GET", "POST"]}]});
        let check = |stored: &Value| {
            let found = stored.pointer("/spec/matches/0").context("no match")?;
            anyhow::ensure!(found.get("methods") == Some(&json!(["GET", "POST"])), "the edit is gone");
            anyhow::ensure!(found.get("headers") == Some(&json!([{"x": "1"}])), "the headers are gone");
            Ok(())
        };
        edited(namespace, &format!("{SPECS}/v1alpha1"), &group, edit, &merge, check).await
    })
    .await
}

#[tokio::test]
async fn a_client_that_cannot_see_the_port_adds_a_source_and_it_stays() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        is_converted(namespace).await?;
        let account = |name: &str| json!({"kind": "ServiceAccount", "name": name});
        let rules = json!([{"kind": "TCPRoute", "name": "any"}]);
        let mut destination = account("shop");
        if let Some(fields) = destination.as_object_mut() {
            fields.insert("port".to_owned(), json!(8080));
        }
        let spec = json!({"spec": {"destination": destination, "rules": rules, "sources": [account("one")]}});
        let target = labelled(&format!("{ACCESS}/v1alpha2"), "TrafficTarget", "port", &spec);
        let both = json!([account("one"), account("two")]);
        let edit = |object: &mut Value| {
            if let Some(sources) = object.pointer_mut("/spec/sources") {
                sources.clone_from(&both);
            }
        };
        let merge = json!({"spec": {"destination": account("shop"), "rules": rules, "sources": both}});
        let check = |stored: &Value| {
            anyhow::ensure!(
                stored.pointer("/spec/destination/port") == Some(&json!(8080)),
                "the port is gone"
            );
            anyhow::ensure!(stored.pointer("/spec/sources") == Some(&both), "the edit is gone");
            Ok(())
        };
        edited(namespace, &format!("{ACCESS}/v1alpha3"), &target, edit, &merge, check).await
    })
    .await
}

#[tokio::test]
async fn fields_of_another_version_are_kept_and_said_to_be_so() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        is_converted(namespace).await?;
        let (cluster, place) = (&namespace.cluster, &namespace.name);
        let matches = json!([{"name": "a", "pathRegex": "/a"}]);
        let account = json!({"kind": "ServiceAccount", "name": "a"});
        let port = json!({"kind": "ServiceAccount", "name": "a", "port": "9091"});
        let rules = json!([{"kind": "TCPRoute", "name": "any"}]);
        let split = json!({"service": "web", "backends": [{"service": "v1", "weight": 1}], "matches": [{"kind": "HTTPRouteGroup", "name": "g"}]});
        let table = [
            (SPECS, "v1alpha4", "HTTPRouteGroup", json!({"matches": matches}), "/a"),
            (SPECS, "v1alpha1", "HTTPRouteGroup", json!({"spec": {"matches": matches}}), "/a"),
            (ACCESS, "v1alpha3", "TrafficTarget", json!({"spec": {"destination": port, "rules": rules, "sources": [account]}}), "9091"),
            (ACCESS, "v1alpha2", "TrafficTarget", json!({"destination": account, "specs": rules, "sources": [account]}), "any"),
            (SPLIT, "v1alpha1", "TrafficSplit", json!({"spec": split}), "\"g\""),
        ];
        for (index, (group, version, kind, fields, mark)) in table.into_iter().enumerate() {
            let name = format!("mixed-{index}");
            let object = labelled(&format!("{group}/{version}"), kind, &name, &fields);
            let answer = cluster.write(Write::Create, place, &object).await?;
            let warned = answer.warnings.join("\n");
            answer.ok().with_context(|| format!("{kind} of mixed shape at {version}"))?;
            anyhow::ensure!(warned.contains("FieldFromOtherVersion"), "{kind} at {version}: no warning of its shape: {warned:?}");
            let hub = format!("{group}/v1alpha4");
            let stored = read(cluster, &hub, kind, place, &name).await?;
            anyhow::ensure!(content(&stored).to_string().contains(mark), "{kind} at {version} lost {mark}: {stored}");
        }
        Ok(())
    })
    .await
}
