//! Generates SMI objects as people write them: every field in every place that some version has it in, values of the
//! wrong type now and then, and now and then two versions at once.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// The kinds with more than one version: group, kind.
pub const KINDS: [(&str, &str); 4] = [
    ("access.smi-spec.io", "TrafficTarget"),
    ("specs.smi-spec.io", "HTTPRouteGroup"),
    ("specs.smi-spec.io", "TCPRoute"),
    ("split.smi-spec.io", "TrafficSplit"),
];

/// The versions of each.
pub const VERSIONS: [&str; 4] = ["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"];

/// Degree to which generated objects deviate from their schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Oddity {
    /// As the version has it.
    Plain,
    /// Places of other versions as well.
    Mixed,
    /// Anything.
    Wild,
}

type Fields = Vec<(String, Value)>;

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = Value> + Clone {
    prop::sample::select(words).prop_map(Value::from)
}

/// A value of the wrong type.
pub fn junk() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!("x")),
        Just(json!(-1)),
        Just(json!(0.5)),
        Just(json!(true)),
        Just(json!([null, 1, "a", {"name": "a"}, []])),
        Just(json!({"name": "a", "ports": "all", "matches": {"ports": 1}, "destination": [1]})),
    ]
}

fn maybe_junk(oddity: Oddity, strategy: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    match oddity {
        Oddity::Wild => prop_oneof![9 => strategy, 1 => junk()].boxed(),
        _ => strategy.boxed(),
    }
}

/// A map of fields, each there or not.
fn map(fields: Vec<(&'static str, f64, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, often, value)| {
            // 0 and 1 are no probabilities to proptest.
            let value = match often {
                0.0 => Just(None).boxed(),
                1.0 => value.prop_map(Some).boxed(),
                _ => prop::option::weighted(often, value).boxed(),
            };
            value.prop_map(move |value| Some((name.to_owned(), value?)))
        })
        .collect();
    fields.prop_map(|fields| Value::Object(fields.into_iter().flatten().collect())).boxed()
}

fn list(of: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    prop::collection::vec(of, 0..4).prop_map(Value::Array).boxed()
}

fn subject(oddity: Oddity, version: &str, is_source: bool) -> BoxedStrategy<Value> {
    let group = if oddity != Oddity::Plain || version == "v1alpha4" { 0.3 } else { 0.0 };
    let port = if oddity == Oddity::Wild || (!is_source && (oddity != Oddity::Plain || version < "v1alpha3"))
    {
        0.4
    } else {
        0.0
    };
    let port_value = prop_oneof![Just(json!(8080)), Just(json!("8080")), Just(json!(9090))];
    map(vec![
        ("kind", 0.95, maybe_junk(oddity, one_of(&["ServiceAccount", "ServiceAccount", "IdentityBinding"]))),
        ("name", 0.95, maybe_junk(oddity, one_of(&["a", "b", "c"]))),
        ("namespace", 0.5, maybe_junk(oddity, one_of(&["shop", "till"]))),
        ("group", group, maybe_junk(oddity, one_of(&["access.smi-spec.io", "", "foreign.example"]))),
        ("port", port, maybe_junk(oddity, port_value)),
    ])
}

fn rule(oddity: Oddity) -> BoxedStrategy<Value> {
    let names = list(one_of(&["m", "n", "o"]).boxed());
    map(vec![
        ("kind", 1.0, maybe_junk(oddity, one_of(&["HTTPRouteGroup", "TCPRoute", "UDPRoute"]))),
        ("name", 1.0, maybe_junk(oddity, one_of(&["g", "h", "t"]))),
        ("matches", 0.4, maybe_junk(oddity, names)),
    ])
}

fn http_match(oddity: Oddity, version: &str) -> BoxedStrategy<Value> {
    let often = if oddity != Oddity::Plain || version != "v1alpha1" { 0.5 } else { 0.0 };
    let headers = prop_oneof![
        Just(json!([{"x-a": "1.*"}])),
        Just(json!({"x-a": "1.*"})),
        Just(json!({"x-b": "2", "host": "h"})),
        Just(json!([{"x-b": "2"}, {"x-c": "3"}])),
    ];
    map(vec![
        ("name", 0.95, maybe_junk(oddity, one_of(&["m", "n", "o"]))),
        ("pathRegex", 0.7, maybe_junk(oddity, one_of(&["/a", "/b", "/b/.*"]))),
        ("methods", 0.5, maybe_junk(oddity, list(one_of(&["GET", "PUT", "*"]).boxed()))),
        ("headers", often, maybe_junk(oddity, headers)),
    ])
}

fn reference(oddity: Oddity) -> BoxedStrategy<Value> {
    map(vec![
        ("kind", 1.0, maybe_junk(oddity, Just(json!("HTTPRouteGroup")))),
        ("name", 1.0, maybe_junk(oddity, one_of(&["g", "h"]))),
        ("apiGroup", 0.2, maybe_junk(oddity, Just(json!("specs.smi-spec.io")))),
    ])
}

/// A weight as the version has it, or in any form.
pub fn weight(oddity: Oddity, version: &str) -> BoxedStrategy<Value> {
    let whole = prop_oneof![Just(json!(0)), Just(json!(1)), (0_i64..1000).prop_map(Value::from)];
    let text = prop_oneof![
        one_of(&[
            "0", "1", "100", "500m", "1500m", "2", "1k", "1Ki", "1e3", "0.25", "3u", "7n", "9E", "+5", "05"
        ]),
        (0_u64..2000).prop_map(|number| json!(format!("{number}m"))),
        Just(json!(0.5)),
        Just(json!(2.0)),
    ];
    let odd =
        prop_oneof![Just(json!(-5)), one_of(&["half", "", "-1"]), Just(json!(u64::MAX)), Just(json!(1e300))];
    match (oddity, version) {
        (Oddity::Plain, "v1alpha1") => prop_oneof![whole, text].boxed(),
        (Oddity::Plain, _) => whole.boxed(),
        (Oddity::Mixed, _) => prop_oneof![3 => whole, 2 => text].boxed(),
        (Oddity::Wild, _) => prop_oneof![3 => whole, 2 => text, 1 => odd, 1 => junk()].boxed(),
    }
}

fn backend(oddity: Oddity, version: &str, matches: f64) -> BoxedStrategy<Value> {
    map(vec![
        ("service", 0.95, maybe_junk(oddity, one_of(&["one", "two", "three"]))),
        ("weight", 0.9, weight(oddity, version)),
        ("matches", matches, maybe_junk(oddity, list(reference(oddity)))),
    ])
}

/// A field in one of its places, the version's own being the first; now and then in two, now and then nowhere.
fn placed(oddity: Oddity, places: &[&'static str], value: BoxedStrategy<Value>) -> BoxedStrategy<Fields> {
    let places: Vec<&'static str> = places.to_vec();
    let native = places[0];
    let native = (prop::option::weighted(0.9, value.clone()))
        .prop_map(move |value| value.map(|value| (native.to_owned(), value)).into_iter().collect::<Fields>());
    let one = (prop::sample::select(places.clone()), value.clone())
        .prop_map(|(place, value)| vec![(place.to_owned(), value)]);
    let two = prop::collection::vec((prop::sample::select(places), value), 2)
        .prop_map(|all| all.into_iter().map(|(place, value)| (place.to_owned(), value)).collect());
    match oddity {
        Oddity::Plain => native.boxed(),
        Oddity::Mixed => prop_oneof![2 => native, 2 => one].boxed(),
        Oddity::Wild => prop_oneof![2 => native, 2 => one, 1 => two].boxed(),
    }
}

/// A field at its place, if it is there.
fn at_place(
    place: &'static str,
    value: impl Strategy<Value = Option<Value>> + 'static,
) -> BoxedStrategy<Fields> {
    value
        .prop_map(move |value| value.map(|value| (place.to_owned(), value)).into_iter().collect::<Fields>())
        .boxed()
}

fn fields(oddity: Oddity, kind: &str, version: &'static str) -> BoxedStrategy<Vec<Fields>> {
    let all = match kind {
        "TrafficTarget" => target(oddity, version),
        "HTTPRouteGroup" => {
            let matches = maybe_junk(oddity, list(http_match(oddity, version)));
            let places: &[&str] = if version < "v1alpha3" {
                &["matches", "spec.matches", "spec.routes"]
            } else {
                &["spec.matches", "matches", "spec.routes"]
            };
            vec![placed(oddity, places, matches)]
        }
        "TCPRoute" => tcp_route(oddity, version),
        _ => split(oddity, version),
    };
    all.boxed()
}

fn target(oddity: Oddity, version: &'static str) -> Vec<BoxedStrategy<Fields>> {
    let places = |flat: &'static str, nested: &'static str, others: &[&'static str]| {
        let (native, other) = if version == "v1alpha1" { (flat, nested) } else { (nested, flat) };
        [&[native, other], others].concat()
    };
    let beside = if oddity == Oddity::Plain {
        Just(Fields::new()).boxed()
    } else {
        let port = placed(oddity, &["port", "spec.port"], Just(json!(7070)).boxed());
        prop::option::weighted(0.3, port).prop_map(Option::unwrap_or_default).boxed()
    };
    let destination = maybe_junk(oddity, subject(oddity, version, false));
    let rules = maybe_junk(oddity, list(rule(oddity)));
    let sources = maybe_junk(oddity, list(subject(oddity, version, true)));
    vec![
        placed(oddity, &places("destination", "spec.destination", &[]), destination),
        placed(oddity, &places("specs", "spec.rules", &["rules", "spec.specs"]), rules),
        placed(oddity, &places("sources", "spec.sources", &[]), sources),
        beside,
    ]
}

fn tcp_route(oddity: Oddity, version: &str) -> Vec<BoxedStrategy<Fields>> {
    let ports = list(prop_oneof![Just(json!(80)), Just(json!(443))].boxed());
    let matches =
        map(vec![("ports", 0.8, maybe_junk(oddity, ports.clone())), ("name", 0.2, Just(json!("n")).boxed())]);
    match (oddity, version) {
        (Oddity::Plain, "v1alpha4") => vec![at_place("spec.matches", matches.prop_map(Some))],
        (Oddity::Plain, "v1alpha3") => vec![at_place("spec", Just(Some(json!({}))))],
        (Oddity::Plain, _) => Vec::new(),
        _ => vec![
            at_place("spec", prop::option::of(prop_oneof![Just(json!({})), Just(Value::Null)])),
            at_place("spec.matches", prop::option::of(maybe_junk(oddity, matches))),
            at_place("spec.ports", prop::option::weighted(0.3, ports)),
        ],
    }
}

fn split(oddity: Oddity, version: &'static str) -> Vec<BoxedStrategy<Fields>> {
    let has_matches = oddity != Oddity::Plain || version >= "v1alpha3";
    let matches = prop::option::of(maybe_junk(oddity, list(reference(oddity))));
    let of_backends = if oddity == Oddity::Plain { 0.0 } else { 0.2 };
    let backends = maybe_junk(oddity, list(backend(oddity, version, of_backends)));
    // sdk-go v0.3.0: the same matches in each backend.
    let alike = (backends.clone(), list(reference(oddity))).prop_map(|(mut backends, matches)| {
        for backend in backends.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            backend.insert("matches".into(), matches.clone());
        }
        backends
    });
    let backends =
        if oddity == Oddity::Plain { backends } else { prop_oneof![4 => backends, 1 => alike].boxed() };
    vec![
        placed(oddity, &["spec.service"], maybe_junk(oddity, one_of(&["root", "other"]))),
        placed(oddity, &["spec.backends"], backends),
        at_place("spec.matches", matches.prop_map(move |value| value.filter(|_| has_matches))),
    ]
}

fn put(object: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            object.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = object.entry(first).or_insert_with(|| json!({}));
            if !inner.is_object() {
                *inner = json!({});
            }
            put(inner.as_object_mut().unwrap(), rest, value);
        }
    }
}

/// An object of a kind and version.
pub fn object(
    oddity: Oddity,
    group: &'static str,
    kind: &'static str,
    version: &'static str,
) -> BoxedStrategy<Value> {
    let others = match oddity {
        Oddity::Wild => prop::option::weighted(
            0.2,
            (one_of(&["spec.mood", "mood", "spec"]), junk())
                .prop_map(|(place, value)| (place.as_str().unwrap().to_owned(), value)),
        )
        .boxed(),
        _ => Just(None).boxed(),
    };
    (fields(oddity, kind, version), others, any::<bool>(), any::<bool>())
        .prop_map(move |(fields, other, has_annotations, has_status)| {
            let mut object = Map::new();
            object.insert("apiVersion".into(), format!("{group}/{version}").into());
            object.insert("kind".into(), kind.into());
            let mut metadata = json!({"name": "it", "namespace": "shop", "uid": "u", "labels": {"app.kubernetes.io/name": "it"}});
            if has_annotations {
                metadata["annotations"] = json!({"example.org/note": "{\"a\": 1}", "flagger.app/x": ""});
            }
            object.insert("metadata".into(), metadata);
            if has_status {
                object.insert("status".into(), json!({"conditions": [{"type": "Ready", "status": "True"}]}));
            }
            for (place, value) in other.into_iter().chain(fields.into_iter().flatten()) {
                put(&mut object, &place, value);
            }
            Value::Object(object)
        })
        .boxed()
}

/// An object of any kind and version.
pub fn any_object(oddity: Oddity) -> impl Strategy<Value = Value> {
    (prop::sample::select(&KINDS[..]), prop::sample::select(&VERSIONS[..]))
        .prop_flat_map(move |((group, kind), version)| object(oddity, group, kind, version))
}
