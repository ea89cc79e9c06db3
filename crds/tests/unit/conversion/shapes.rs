//! Objects in the shape of another version than their own, by hand: what they mean, and what is said about them.

use serde_json::{Value, json};
use smidge_crds::{
    Kind, Object,
    access::TrafficTargetSpec,
    conversion::{Mixed, WRITTEN_AS, mixed, to_hub},
    specs::{HttpRouteGroupSpec, TcpRouteSpec, UdpRouteSpec},
    split::TrafficSplitSpec,
};

use super::{
    at,
    examples::{routes, split, target, tcp},
};

/// Objects as read, and the findings about them.
fn understood<Spec: Kind>(object: &Value) -> (Value, Vec<(&'static str, Mixed)>) {
    let hub: Object<Spec> = Object::read(to_hub(object).unwrap()).unwrap();
    (serde_json::to_value(&hub.spec).unwrap(), mixed(Spec::GROUP, Spec::KIND, &hub.metadata))
}

fn moved(place: &'static str, expected: &'static str) -> Mixed {
    Mixed::Moved { place, expected }
}

#[test]
fn targets_in_the_shape_of_another_version_are_understood() {
    let flat = "destination: {kind: ServiceAccount, name: web}, specs: [{kind: TCPRoute, name: r}], sources: [{kind: ServiceAccount, name: a}]";
    let nested = "spec: {destination: {kind: ServiceAccount, name: web}, rules: [{kind: TCPRoute, name: r}], sources: [{kind: ServiceAccount, name: a}]}";
    let expected = understood::<TrafficTargetSpec>(&target("v1alpha4", nested)).0;
    for version in ["v1alpha2", "v1alpha3", "v1alpha4"] {
        let (spec, mixed) = understood::<TrafficTargetSpec>(&target(version, flat));
        assert_eq!(spec, expected, "{version}");
        assert_eq!(
            mixed,
            [
                (version, moved("destination", "spec.destination")),
                (version, moved("sources", "spec.sources")),
                (version, moved("specs", "spec.rules")),
            ]
            .map(|(version, mixed)| (
                super::VERSIONS.into_iter().find(|known| *known == version).unwrap(),
                mixed
            ))
        );
    }
    let (spec, mixed) = understood::<TrafficTargetSpec>(&target("v1alpha1", nested));
    assert_eq!((spec, mixed.len()), (expected.clone(), 3));
    let (spec, mixed) = understood::<TrafficTargetSpec>(&target("v1alpha1", &flat.replace("specs", "rules")));
    assert_eq!((spec, mixed), (expected.clone(), vec![("v1alpha1", moved("rules", "specs"))]));

    let port = Mixed::Newer { place: "spec.destination.port" };
    let with_port = nested.replace("name: web", "name: web, port: '80'");
    let (spec, mixed) = understood::<TrafficTargetSpec>(&target("v1alpha3", &with_port));
    assert_eq!((&spec["destination"]["port"], mixed), (&json!("80"), vec![("v1alpha3", port)]));
    let (spec, mixed) = understood::<TrafficTargetSpec>(&target("v1alpha1", &format!("{flat}, port: 80")));
    assert_eq!(
        (&spec["destination"]["port"], mixed),
        (&json!(80), vec![("v1alpha1", moved("port", "destination.port"))])
    );

    // The version's own place counts.
    let (spec, mixed) = understood::<TrafficTargetSpec>(&target(
        "v1alpha3",
        &format!("{nested}, sources: [{{kind: ServiceAccount, name: evil}}]"),
    ));
    assert_eq!(
        (spec, mixed),
        (expected, vec![("v1alpha3", Mixed::Ignored { place: "sources", expected: "spec.sources" })])
    );
}

#[test]
fn routes_in_the_shape_of_another_version_are_understood() {
    let list = "[{name: a, headers: {x: '1'}}]";
    let expected = json!({"matches": [{"name": "a", "headers": {"x": "1"}}]});
    for (version, rest, said) in [
        ("v1alpha4", "matches: ", vec![moved("matches", "spec.matches")]),
        ("v1alpha3", "matches: ", vec![moved("matches", "spec.matches")]),
        ("v1alpha2", "matches: ", vec![]),
        ("v1alpha2", "spec: {matches: ", vec![moved("spec.matches", "matches")]),
        ("v1alpha4", "spec: {routes: ", vec![moved("spec.routes", "spec.matches")]),
        ("v1alpha1", "matches: ", vec![Mixed::Newer { place: "spec.matches[].headers" }]),
    ] {
        let end = if rest.starts_with("spec") { "}" } else { "" };
        let (spec, mixed) = understood::<HttpRouteGroupSpec>(&routes(version, &format!("{rest}{list}{end}")));
        assert_eq!(spec, expected, "{version} {rest}");
        assert_eq!(mixed.into_iter().map(|(_, mixed)| mixed).collect::<Vec<_>>(), said, "{version} {rest}");
    }
    let ports = json!({"matches": {"ports": [80]}});
    let newer = Mixed::Newer { place: "spec.matches.ports" };
    for (version, rest, said) in [
        ("v1alpha4", ", spec: {ports: [80]}", vec![moved("spec.ports", "spec.matches.ports")]),
        ("v1alpha1", ", spec: {matches: {ports: [80]}}", vec![newer]),
        ("v1alpha3", ", spec: {ports: [80]}", vec![moved("spec.ports", "spec.matches.ports"), newer]),
    ] {
        let (spec, mixed) = understood::<TcpRouteSpec>(&tcp(version, rest));
        assert_eq!(spec, ports, "{version} {rest}");
        assert_eq!(mixed.into_iter().map(|(_, mixed)| mixed).collect::<Vec<_>>(), said, "{version} {rest}");
    }
    let mut udp = tcp("v1alpha4", ", spec: {ports: [53]}");
    udp["kind"] = json!("UDPRoute");
    assert_eq!(understood::<UdpRouteSpec>(&udp).0, json!({"matches": {"ports": [53]}}));
}

#[test]
fn splits_in_the_shape_of_another_version_are_understood() {
    let beta = "matches: [{kind: HTTPRouteGroup, name: beta}]";
    let (spec, said) = understood::<TrafficSplitSpec>(&split(
        "v1alpha1",
        &format!("spec: {{service: web, {beta}, backends: [{{service: a, weight: 500m}}]}}"),
    ));
    assert_eq!(
        spec,
        json!({"service": "web", "matches": [{"kind": "HTTPRouteGroup", "name": "beta"}], "backends": [{"service": "a", "weight": 500}]})
    );
    assert_eq!(said, [("v1alpha1", Mixed::Newer { place: "spec.matches" })], "a quantity is v1alpha1's own");
    let (spec, said) = understood::<TrafficSplitSpec>(&split(
        "v1alpha4",
        "spec: {service: web, backends: [{service: a, weight: 500m}, {service: b, weight: '1'}]}",
    ));
    assert_eq!(spec["backends"], json!([{"service": "a", "weight": 500}, {"service": "b", "weight": 1000}]));
    assert_eq!(said, [("v1alpha4", Mixed::Weights)]);

    // sdk-go v0.3.0.
    let each = format!(
        "spec: {{service: web, backends: [{{service: a, weight: 1, {beta}}}, {{service: b, weight: 2, {beta}}}]}}"
    );
    let (spec, said) = understood::<TrafficSplitSpec>(&split("v1alpha3", &each));
    assert_eq!(
        (&spec["matches"][0]["name"], &spec["backends"][0]),
        (&json!("beta"), &json!({"service": "a", "weight": 1}))
    );
    assert_eq!(said, [("v1alpha3", moved("spec.backends[].matches", "spec.matches"))]);
    let one = format!(
        "spec: {{service: web, backends: [{{service: a, weight: 1, {beta}}}, {{service: b, weight: 2}}]}}"
    );
    let object = split("v1alpha3", &one);
    assert_eq!(
        understood::<TrafficSplitSpec>(&object).0["backends"],
        object["spec"]["backends"],
        "has no meaning that v1alpha4 has"
    );
    let mut old = at(&object, "v1alpha2");
    assert_eq!(
        old["spec"]["backends"],
        json!([{"service": "a", "weight": 1}, {"service": "b", "weight": 2}])
    );
    old["spec"]["backends"][0]["weight"] = json!(5);
    assert_eq!(
        at(&old, "v1alpha3")["spec"]["backends"][0]["matches"],
        object["spec"]["backends"][0]["matches"]
    );
}

#[test]
fn a_mixed_shape_stays_when_another_version_edits_the_object() {
    let object = routes("v1alpha4", "matches: [{name: a, pathRegex: /a}]");
    let mut old = at(&object, "v1alpha2");
    assert_eq!(old["matches"], object["matches"]);
    assert!(old["metadata"]["annotations"][WRITTEN_AS].as_str().unwrap().contains("places"));
    old["matches"][0]["pathRegex"] = json!("/b");
    let edited = at(&old, "v1alpha4");
    assert_eq!(edited["matches"], json!([{"name": "a", "pathRegex": "/b"}]));
    assert_eq!((edited.get("spec"), edited["metadata"].get("annotations")), (None, None));
}
