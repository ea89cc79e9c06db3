//! Conversion: what every object keeps on its way between versions. Examples by hand are in `conversion/examples.rs`.

// Helpers of tests may fail loudly as tests do; clippy sees tests in functions marked so only.

mod examples;
mod forged;
mod objects;
mod shapes;

use proptest::{
    prelude::*,
    test_runner::{Config, RngSeed},
};
use serde_json::{Value, json};
use smidge_crds::conversion::{self, NARROWED_BY, WRITTEN_AS, convert, to_hub};

use forged::{forged, forged_form};
use objects::{Oddity, VERSIONS, any_object};

/// Few by default, as there are many properties, and the same in every run; `PROPTEST_CASES` asks for more,
/// `SMIDGE_SEED` for others.
fn config() -> Config {
    let number = |variable: &str| std::env::var(variable).ok()?.parse().ok();
    let cases = number("PROPTEST_CASES").unwrap_or(300);
    let seed = RngSeed::Fixed(number("SMIDGE_SEED").unwrap_or(4).into());
    Config { cases, rng_seed: seed, failure_persistence: None, ..Config::default() }
}

fn oddity() -> impl Strategy<Value = Oddity> {
    prop::sample::select(vec![Oddity::Plain, Oddity::Mixed, Oddity::Wild])
}

fn version() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&VERSIONS[..])
}

/// The object at another version of its group.
fn at(object: &Value, version: &str) -> Value {
    let (group, _) = object["apiVersion"].as_str().unwrap().split_once('/').unwrap();
    convert(object, &format!("{group}/{version}")).unwrap()
}

/// The fields that have a meaning.
fn meaning(object: &Value) -> Value {
    let mut hub = to_hub(object).unwrap();
    hub.as_object_mut().unwrap().remove("metadata");
    hub
}

fn annotate(object: &mut Value, name: &str, text: &str) {
    object["metadata"]["annotations"][name] = text.into();
}

/// The content without anything that narrows.
fn without_pieces(mut hub: Value) -> Value {
    fn remove(value: &mut Value, names: &[&str]) {
        match value {
            Value::Array(list) => list.iter_mut().for_each(|value| remove(value, names)),
            Value::Object(map) => names.iter().for_each(|name| drop(map.remove(*name))),
            _ => {}
        }
    }
    let kind = hub["kind"].as_str().unwrap().to_owned();
    let Some(spec) = hub.get_mut("spec").filter(|spec| spec.is_object()) else { return hub };
    match kind.as_str() {
        "TrafficTarget" => {
            for (field, names) in [("destination", &["port", "group"][..]), ("sources", &["group"])] {
                spec.get_mut(field).into_iter().for_each(|subject| remove(subject, names));
            }
        }
        "HTTPRouteGroup" => {
            spec.get_mut("matches").into_iter().for_each(|matches| remove(matches, &["headers"]));
        }
        "TCPRoute" => remove(spec, &["matches"]),
        _ => {
            remove(spec, &["matches"]);
            spec.get_mut("backends").into_iter().for_each(|backends| remove(backends, &["matches"]));
        }
    }
    if spec.as_object().unwrap().is_empty() {
        hub.as_object_mut().unwrap().remove("spec");
    }
    hub
}

/// The values that narrow, with where they are.
fn pieces(hub: &Value) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let mut add = |at: String, value: Option<&Value>| {
        found.extend(value.filter(|value| !value.is_null()).map(|value| (at, value.clone())));
    };
    let of_list = |list: &str, field: &str| -> Vec<(String, Value)> {
        let list_at = hub.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
        let each = list_at.into_iter().flatten().enumerate();
        each.filter_map(|(index, element)| {
            Some((format!("{list} {index} {field}"), element.get(field)?.clone()))
        })
        .collect()
    };
    match hub["kind"].as_str().unwrap() {
        "TrafficTarget" => {
            for field in ["port", "group"] {
                add(field.to_owned(), hub.pointer(&format!("/spec/destination/{field}")));
            }
            found.extend(of_list("sources", "group"));
        }
        "HTTPRouteGroup" => found.extend(of_list("matches", "headers")),
        "TCPRoute" => {
            add("ports".into(), hub.pointer("/spec/matches/ports").filter(|ports| *ports != &json!([])));
            add("name".into(), hub.pointer("/spec/matches/name"));
        }
        _ => {
            add("matches".into(), hub.pointer("/spec/matches"));
            found.extend(of_list("backends", "matches"));
        }
    }
    found.retain(|(_, value)| !value.is_null());
    found
}

proptest! {
    #![proptest_config(config())]

    /// There and back again, by any way.
    #[test]
    fn an_object_comes_back_as_it_was(
        object in oddity().prop_flat_map(any_object),
        way in prop::collection::vec(version(), 1..4),
    ) {
        let home = object["apiVersion"].as_str().unwrap();
        let mut there = object.clone();
        for version in &way {
            there = at(&there, version);
            prop_assert_eq!(&there["status"], &object["status"]);
        }
        let back = convert(&there, home).unwrap();
        prop_assert_eq!(&back, &object, "by way of {}", there);
    }

    /// The meaning of an object does not depend on the sequence of conversions.
    #[test]
    fn an_object_means_the_same_at_every_version(
        object in oddity().prop_flat_map(any_object),
        way in prop::collection::vec(version(), 1..4),
    ) {
        let there = way.iter().fold(object.clone(), |object, version| at(&object, version));
        prop_assert_eq!(meaning(&there), meaning(&object), "by way of {}", there);
    }

    /// The rest of the metadata is not ours to change.
    #[test]
    fn metadata_keeps_everything_but_our_annotations(object in oddity().prop_flat_map(any_object), to in version()) {
        let mut there = at(&object, to)["metadata"].clone();
        if let Some(annotations) = there.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(NARROWED_BY);
            annotations.remove(WRITTEN_AS);
            if annotations.is_empty() {
                there.as_object_mut().unwrap().remove("annotations");
            }
        }
        prop_assert_eq!(&there, &object["metadata"]);
    }

    /// An object that no other version is needed for carries no annotation of ours.
    #[test]
    fn an_object_of_one_version_has_no_annotation_there(object in any_object(Oddity::Plain), to in version()) {
        let back = at(&at(&object, to), object["apiVersion"].as_str().unwrap().split_once('/').unwrap().1);
        prop_assert_eq!(back.pointer("/metadata/annotations"), object.pointer("/metadata/annotations"));
    }

    /// Whatever the annotations contain, the visible part keeps its meaning, and what narrows it remains.
    #[test]
    fn a_forged_annotation_can_only_narrow(
        object in oddity().prop_flat_map(any_object),
        narrowing in forged(),
        form in forged_form(),
    ) {
        let honest = meaning(&object);
        let mut lying = object.clone();
        annotate(&mut lying, NARROWED_BY, &narrowing);
        annotate(&mut lying, WRITTEN_AS, &form);
        let narrowed = meaning(&lying);
        prop_assert_eq!(without_pieces(narrowed.clone()), without_pieces(honest.clone()));
        let narrows = pieces(&narrowed);
        for piece in pieces(&honest) {
            prop_assert!(narrows.contains(&piece), "{:?} is lost", piece);
        }
    }

    /// A forged form may show an object otherwise, but never another object.
    #[test]
    fn a_forged_form_changes_no_meaning(
        object in oddity().prop_flat_map(any_object),
        form in forged_form(),
        way in prop::collection::vec(version(), 1..4),
    ) {
        let mut there = object.clone();
        for version in &way {
            annotate(&mut there, WRITTEN_AS, &form);
            there = at(&there, version);
            prop_assert_eq!(meaning(&there), meaning(&object), "by way of {}", there);
        }
    }

    /// Anything at all converts, or is refused with the field.
    #[test]
    fn anything_converts_or_is_refused(
        object in any_object(Oddity::Wild),
        field in prop::sample::select(vec!["apiVersion", "kind", "metadata", "status", "spec", "matches"]),
        value in objects::junk(),
        to in version(),
    ) {
        let mut object = object;
        object[field] = value;
        let home = object["apiVersion"].as_str().unwrap_or_default().to_owned();
        let group = home.split_once('/').map_or("", |(group, _)| group).to_owned();
        match convert(&object, &format!("{group}/{to}")) {
            Ok(there) => prop_assert_eq!(&convert(&there, &home).unwrap(), &object),
            Err(error) => prop_assert!(error.to_string().contains("cannot convert"), "{}", error),
        }
        let _ = to_hub(&object);
    }
}

/// One visible field, as the hub has it, and what somebody makes of it.
fn edit() -> impl Strategy<Value = (&'static str, Value)> {
    prop::sample::select(vec![
        ("/spec/destination/name", json!("edited")),
        ("/spec/destination/namespace", json!("edited")),
        ("/spec/sources/0/name", json!("edited")),
        ("/spec/sources/1/namespace", json!("edited")),
        ("/spec/sources/1/kind", json!("ServiceAccount")),
        ("/spec/rules/0/name", json!("edited")),
        ("/spec/rules/0/matches", json!(["edited"])),
        ("/spec/matches/0/pathRegex", json!("/edited")),
        ("/spec/matches/1/pathRegex", json!("/a")),
        ("/spec/matches/0/name", json!("edited")),
        ("/spec/matches/1/name", json!("o")),
        ("/spec/matches/2/methods", json!(["PUT"])),
        ("/spec/service", json!("edited")),
        ("/spec/backends/0/weight", json!(77)),
        ("/spec/backends/1/weight", json!(0)),
        ("/spec/backends/1/service", json!("edited")),
    ])
}

/// Path in a version of the field that the hub has at a path.
fn local(kind: &str, version: &str, path: &str) -> String {
    let (hub, own) = match (kind, version) {
        ("TrafficTarget", "v1alpha1") if path.starts_with("/spec/rules") => ("/spec/rules", "/specs"),
        ("TrafficTarget", "v1alpha1") | ("HTTPRouteGroup", "v1alpha1" | "v1alpha2") => ("/spec", ""),
        _ => ("", ""),
    };
    format!("{own}{}", path.strip_prefix(hub).unwrap())
}

/// A client whose types know the fields of its version only; what else there is gets lost.
fn typed(object: &Value, version: &str) -> Value {
    let mut object = object.clone();
    let kind = object["kind"].as_str().unwrap().to_owned();
    let mut forget = |path: &str, name: &str| match object.pointer_mut(&local(&kind, version, path)) {
        Some(Value::Object(map)) => drop(map.remove(name)),
        Some(Value::Array(list)) => {
            list.iter_mut().filter_map(Value::as_object_mut).for_each(|map| drop(map.remove(name)));
        }
        _ => {}
    };
    match kind.as_str() {
        "TrafficTarget" if version < "v1alpha4" => {
            forget("/spec/destination", "group");
            forget("/spec/sources", "group");
            if version == "v1alpha3" {
                forget("/spec/destination", "port");
            }
        }
        "HTTPRouteGroup" if version == "v1alpha1" => forget("/spec/matches", "headers"),
        "TCPRoute" if version == "v1alpha3" => forget("/spec", "matches"),
        "TCPRoute" if version < "v1alpha3" => drop(object.as_object_mut().unwrap().remove("spec")),
        "TrafficSplit" if version < "v1alpha3" => {
            forget("/spec", "matches");
            forget("/spec/backends", "matches");
        }
        _ => {}
    }
    object
}

proptest! {
    #![proptest_config(config())]

    /// A client of another version reads, changes one field and writes back; its types may know that version only.
    /// What it did not change is as it was, what it could not see included.
    #[test]
    fn an_edit_at_another_version_loses_nothing(
        object in any_object(Oddity::Plain),
        there in version(),
        (path, value) in edit(),
    ) {
        let mut expected = meaning(&object);
        let mut edited = typed(&at(&object, there), there);
        prop_assert_eq!(meaning(&edited), expected.clone(), "reading and writing back is enough to lose something");
        let kind = object["kind"].as_str().unwrap();
        let local = local(kind, there, path);
        // Beside quantities of another scale a number is another share than the same number of the hub.
        let shares = |object: &Value| object.pointer("/spec/backends").cloned();
        if path.ends_with("/weight") && shares(&edited) != shares(&expected) {
            return Ok(());
        }
        if let (Some(visible), Some(hub)) = (edited.pointer_mut(&local), expected.pointer_mut(path)) {
            prop_assert_eq!(&*visible, &*hub, "at {} it is another field", there);
            *visible = value.clone();
            *hub = value;
            prop_assert_eq!(meaning(&edited), expected, "{}", edited);
        }
    }
}

#[test]
fn what_is_served_is_served_in_the_order_of_age() {
    for (group, kind) in objects::KINDS {
        let mut versions = VERSIONS;
        versions.reverse();
        assert_eq!(conversion::served(group, kind), versions);
        assert_eq!(conversion::group(kind), Some(group));
    }
    assert_eq!(conversion::served("access.smi-spec.io", "IdentityBinding"), ["v1alpha4"]);
    assert_eq!(conversion::served("specs.smi-spec.io", "UDPRoute"), ["v1alpha4"]);
    assert_eq!(conversion::served("specs.smi-spec.io", "TrafficTarget"), [""; 0]);
    assert_eq!(conversion::group("Deployment"), None);
    for info in smidge_crds::KINDS {
        assert!(!conversion::served(info.group, info.kind).is_empty(), "{}", info.kind);
    }
}
