//! Changes that tools and users make to objects that they read at a version: one change each, written back whole or as
//! a patch.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edit {
    /// Flagger: a typed copy of the split with new weights, written back whole.
    Flagger,
    /// Argo Rollouts: a merge patch of the spec with new weights.
    Argo,
    /// Any client: a label.
    Label,
    /// Any client: an annotation.
    Annotation,
    /// Another source at the end.
    SourceAdded,
    /// The first source is gone.
    SourceRemoved,
    /// Another destination.
    Destination,
    /// Another rule at the beginning.
    RuleAdded,
    /// Another match at the beginning.
    MatchAdded,
    /// The first match is gone.
    MatchRemoved,
    /// The first match has another path.
    Path,
    /// The matches in another order.
    MatchesTurned,
}

/// Any of the changes.
pub fn any_edit() -> impl Strategy<Value = Edit> {
    prop::sample::select(&Edit::ALL[..])
}

impl Edit {
    /// Every change.
    pub const ALL: [Self; 12] = [
        Self::Flagger,
        Self::Argo,
        Self::Label,
        Self::Annotation,
        Self::SourceAdded,
        Self::SourceRemoved,
        Self::Destination,
        Self::RuleAdded,
        Self::MatchAdded,
        Self::MatchRemoved,
        Self::Path,
        Self::MatchesTurned,
    ];

    /// Changes the object at `version`; returns false if it has nothing that can be changed in this way.
    pub fn make(self, object: &mut Value, version: &str) -> bool {
        let is_flat = version == "v1alpha1";
        let kind = object["kind"].as_str().unwrap().to_owned();
        let target = |field: &str| {
            (kind == "TrafficTarget")
                .then(|| if is_flat { format!("/{field}") } else { format!("/spec/{field}") })
        };
        let matches = || {
            let is_at_root = is_flat || version == "v1alpha2";
            (kind == "HTTPRouteGroup").then_some(if is_at_root { "/matches" } else { "/spec/matches" })
        };
        match self {
            Self::Flagger | Self::Argo if kind != "TrafficSplit" => false,
            Self::Flagger => flagger(object, version),
            Self::Argo => argo(object, version),
            Self::Label => put(object, "labels", "team", "b"),
            Self::Annotation => put(object, "annotations", "example.org/note", "changed"),
            Self::SourceAdded => list(object, target("sources"), |list| {
                list.push(json!({"kind": "ServiceAccount", "name": "beta", "namespace": "shop"}));
            }),
            Self::SourceRemoved => list(object, target("sources"), |list| drop(list.remove(0))),
            Self::Destination => {
                match target("destination/name").and_then(|path| object.pointer_mut(&path)) {
                    None => false,
                    Some(name) => {
                        *name = json!("beta");
                        true
                    }
                }
            }
            Self::RuleAdded => list(object, target(if is_flat { "specs" } else { "rules" }), |list| {
                list.insert(0, json!({"kind": "TCPRoute", "name": "r"}));
            }),
            Self::MatchAdded => list(object, matches(), |list| {
                list.insert(0, json!({"name": "added", "pathRegex": "/added"}));
            }),
            Self::MatchRemoved => list(object, matches(), |list| drop(list.remove(0))),
            Self::Path => list(object, matches(), |list| list[0]["pathRegex"] = json!("/b")),
            Self::MatchesTurned => list(object, matches(), |list| list.reverse()),
        }
    }
}

/// Changes a list that is not empty.
fn list(object: &mut Value, path: Option<impl AsRef<str>>, change: impl FnOnce(&mut Vec<Value>)) -> bool {
    let list = path.and_then(|path| object.pointer_mut(path.as_ref())).and_then(Value::as_array_mut);
    list.filter(|list| !list.is_empty()).map(change).is_some()
}

fn put(object: &mut Value, of: &str, name: &str, value: &str) -> bool {
    object["metadata"][of][name] = value.into();
    true
}

/// Returns the backends with other weights, as typed clients write them: a quantity is text.
fn shifted(object: &Value, version: &str) -> Vec<Value> {
    let backends = object["spec"]["backends"].as_array().unwrap();
    let weights = [90, 10, 0];
    let pairs = backends.iter().zip(weights);
    pairs
        .map(|(backend, weight)| {
            let weight = if version == "v1alpha1" { json!(weight.to_string()) } else { json!(weight) };
            json!({"service": backend["service"], "weight": weight})
        })
        .collect()
}

fn flagger(object: &mut Value, version: &str) -> bool {
    let mut spec = Map::new();
    spec.insert("service".into(), object["spec"]["service"].clone());
    spec.insert("backends".into(), shifted(object, version).into());
    // Its types for v1alpha1 and v1alpha2 have no matches.
    let has_matches = version == "v1alpha3" || version == "v1alpha4";
    let matches = object["spec"].get("matches").filter(|_| has_matches);
    spec.extend(matches.map(|matches| ("matches".to_owned(), matches.clone())));
    object["spec"] = spec.into();
    true
}

fn argo(object: &mut Value, version: &str) -> bool {
    let patch = json!({"spec": {"service": object["spec"]["service"], "backends": shifted(object, version)}});
    json_patch::merge(object, &patch);
    true
}
