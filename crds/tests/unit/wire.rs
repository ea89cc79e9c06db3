//! Objects as users write them, read into the hub types.

// Helpers of tests may fail loudly as tests do; clippy sees tests in functions marked so only.

use kube_core::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use smidge_crds::{
    Kind, Number, Object, Setting,
    access::{IdentityBinding, IdentityBindingSpec, TrafficTarget, TrafficTargetSpec},
    config::{AccessMode, MeshConfig, MtlsMode, PathRegexEnd},
    specs::{HttpRouteGroup, TcpRoute, UdpRoute},
    split::{Backend, TrafficSplit, TrafficSplitSpec},
};

fn yaml<T: DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).unwrap()
}

/// Written and read again, an object is the same, and has its own version.
fn survives<Spec: Kind>(object: &Object<Spec>) -> Value {
    let mut object = object.clone();
    // What is written is no longer mixed.
    object.metadata.annotations = None;
    let object = &object;
    let written = serde_json::to_value(object).unwrap();
    assert_eq!(written["apiVersion"], format!("{}/{}", Spec::GROUP, Spec::VERSION));
    assert_eq!(written["kind"], Spec::KIND);
    let read: Object<Spec> = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(&read, object);
    written
}

#[test]
fn a_traffic_target() {
    let target: TrafficTarget = yaml(
        "
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {name: pantry, namespace: kitchen}
spec:
  destination: {kind: ServiceAccount, name: pantry}
  rules:
  - {kind: HTTPRouteGroup, name: shelves, matches: [take]}
  - {kind: TCPRoute, name: scales}
  - {kind: Telepathy, name: wishes, matches: []}
  sources:
  - {kind: ServiceAccount, name: cook, namespace: restaurant, mood: hungry}
",
    );
    assert_eq!(target.spec.destination.namespace, None);
    let matches: Vec<_> = target.spec.rules.iter().map(|rule| rule.matches.as_ref().map(Vec::len)).collect();
    assert_eq!(matches, [Some(1), None, Some(0)], "absent and empty are told apart");
    assert_eq!(target.spec.rules[2].kind, "Telepathy");
    assert_eq!(target.spec.sources[0].namespace.as_deref(), Some("restaurant"));
    survives(&target);
    assert_eq!(TrafficTarget::api_version(&()), "access.smi-spec.io/v1alpha4");
}

#[test]
fn a_destination_with_a_port_and_subjects_with_a_group() {
    let target: TrafficTarget = yaml(
        "
metadata: {name: pantry}
spec:
  destination: {kind: ServiceAccount, name: pantry, port: \"8080\"}
  sources:
  - {kind: IdentityBinding, group: access.smi-spec.io, name: cook}
",
    );
    let port = target.spec.destination.port.as_ref().unwrap();
    assert_eq!((port.as_i64(), port.as_text_or_i64()), (None, Some(8080)));
    assert_eq!(target.spec.sources[0].group.as_deref(), Some("access.smi-spec.io"));
    survives(&target);
}

#[test]
fn an_identity_binding() {
    let binding: IdentityBinding = yaml(
        "
metadata: {name: cook}
spec:
  schemes:
    podLabelSelector: {matchLabels: {app: cook}}
    spiffeIdentities: [cluster.local/ns/kitchen/sa/cook]
    serviceAccount: cook
",
    );
    let schemes = &binding.spec.schemes;
    assert_eq!(schemes.pod_label_selector.as_ref().unwrap().match_labels["app"], "cook");
    assert_eq!(schemes.spiffe_identities.as_ref().unwrap().len(), 1);
    assert_eq!(schemes.service_account.as_deref(), Some("cook"));
    survives(&binding);
}

#[test]
fn a_route_group_with_headers_in_either_shape() {
    let group: HttpRouteGroup = yaml(
        "
metadata: {name: shelves}
spec:
  matches:
  - name: take
    pathRegex: /shelf/[0-9]+
    methods: [GET]
    headers:
    - x-cook: \"true\"
    - host: pantry.*
  - name: give
    headers: {x-cook: true, host: pantry.*}
  - name: any
",
    );
    let [take, give, any] = group.spec.matches.as_slice() else { panic!("three matches") };
    let mut entries = take.headers.entries().unwrap();
    entries.sort();
    assert_eq!(entries, give.headers.entries().unwrap());
    assert_eq!((any.headers.is_absent(), &any.methods, &any.path_regex), (true, &None, &None));
    survives(&group);
}

#[test]
fn matches_beside_metadata_are_the_groups_unless_it_has_a_spec() {
    let group: HttpRouteGroup = yaml("metadata: {name: shelves}\nmatches: [{name: take}, {name: give}]");
    assert_eq!(group.spec.matches.len(), 2);
    assert!(survives(&group).get("matches").is_none());

    let group: HttpRouteGroup = yaml("metadata: {name: a}\nspec: {matches: []}\nmatches: [{name: take}]");
    assert_eq!(group.spec.matches, [], "the older place never adds to what the spec says");
}

#[test]
fn ports_that_are_none_are_seen_rather_than_refused() {
    let route: TcpRoute =
        yaml("metadata: {name: a}\nspec: {matches: {name: x, ports: [0, 70000, -1, 8080.0, 1.5]}}");
    let ports: Vec<_> = route.spec.matches.ports.iter().map(Number::as_i64).collect();
    assert_eq!(ports, [Some(0), Some(70000), Some(-1), Some(8080), None]);
    survives(&route);
    let route: UdpRoute = yaml("metadata: {name: a}\nspec: {matches: {ports: [53]}}");
    assert_eq!(route.spec.matches.ports, [Number::from(53)]);
    survives(&route);
}

#[test]
fn a_split_of_either_version_reads_the_same() {
    let read = |version: &str| -> TrafficSplit {
        yaml(&format!(
            "
apiVersion: split.smi-spec.io/{version}
kind: TrafficSplit
metadata: {{name: oven}}
spec:
  service: oven.kitchen.svc.cluster.local
  matches: [{{kind: HTTPRouteGroup, name: shelves, apiGroup: specs.smi-spec.io}}]
  backends:
  - {{service: oven-old, weight: 90}}
  - {{service: oven-new, weight: -10}}
  - {{service: oven-odd, weight: 0.5}}
  - {{service: oven-text, weight: 500m}}
  - {{service: oven-none}}
"
        ))
    };
    let split = read("v1alpha4");
    assert_eq!(split, read("v1alpha2"));
    let weights: Vec<_> = split.spec.backends.iter().map(|b| b.weight.as_ref().map(Number::as_i64)).collect();
    assert_eq!(
        weights,
        [Some(Some(90_000)), Some(Some(-10)), Some(Some(500)), Some(Some(500)), None],
        "quantities bring the others to their scale"
    );
    assert_eq!(split.spec.matches.as_ref().unwrap()[0].api_group.as_deref(), Some("specs.smi-spec.io"));
    survives(&split);
}

#[test]
fn mesh_settings() {
    let config: MeshConfig = yaml(
        "
metadata: {name: default}
spec: {access: {mode: permissive}, mtls: {mode: strict}, pathRegexEnd: closed}
",
    );
    assert_eq!(config.spec.access.mode, Some(AccessMode::Permissive.into()));
    assert_eq!(config.spec.mtls.mode, Some(MtlsMode::Strict.into()));
    assert_eq!(config.spec.path_regex_end, Some(PathRegexEnd::Closed.into()));
    survives(&config);

    let config: MeshConfig = yaml("metadata: {name: default}\nspec: {access: {mode: observe}}");
    assert_eq!(config.spec.access.mode, Some(Setting::Unknown("observe".into())));
    assert_eq!(config.spec.access.mode.as_ref().unwrap().known(), None);
    survives(&config);
}

#[test]
fn modes_are_read_from_labels_as_from_settings() {
    for mode in [AccessMode::Enforce, AccessMode::Audit, AccessMode::Permissive] {
        assert_eq!(mode.to_string().parse(), Ok(mode));
        assert_eq!(json!(mode), mode.to_string());
    }
    for mode in [MtlsMode::Strict, MtlsMode::Permissive] {
        assert_eq!(mode.to_string().parse(), Ok(mode));
        assert_eq!(json!(mode), mode.to_string());
    }
    assert_eq!(
        "Enforce".parse::<AccessMode>().unwrap_err().to_string(),
        "expected enforce, audit or permissive, found \"Enforce\""
    );
}

/// Without a spec, or with the nothing that a bare key leaves in YAML, every kind reads, and means nothing.
#[test]
fn an_object_without_content_reads() {
    fn check<Spec: Kind>() {
        for text in [
            "metadata: {name: a}",
            "metadata: {name: a}\nspec:",
            "metadata: {name: a}\nspec: {}",
            "metadata: {name: a}\nspec: {}\nstatus: Pending",
        ] {
            let object: Object<Spec> = yaml(text);
            assert_eq!(object, Object::new("a", Spec::default()), "{} {text}", Spec::KIND);
            survives(&object);
        }
    }
    check::<TrafficTargetSpec>();
    check::<IdentityBindingSpec>();
    check::<smidge_crds::specs::HttpRouteGroupSpec>();
    check::<smidge_crds::specs::TcpRouteSpec>();
    check::<smidge_crds::specs::UdpRouteSpec>();
    check::<TrafficSplitSpec>();
    check::<smidge_crds::config::MeshConfigSpec>();
    check::<smidge_crds::config::ExternalWorkloadSpec>();

    let target: TrafficTarget = yaml("metadata: {name: a}\nspec: {destination: , rules: , sources: }");
    assert_eq!(target, TrafficTarget::new("a", TrafficTargetSpec::default()));
}

#[test]
fn a_status_reads_back() {
    let mut split = TrafficSplit::new(
        "oven",
        TrafficSplitSpec {
            service: "oven".into(),
            backends: vec![Backend { service: "oven".into(), weight: Some(1.into()), matches: None }],
            matches: None,
        },
    )
    .within("kitchen");
    split.status = serde_json::from_value(json!({
        "observedGeneration": 3,
        "conditions": [{
            "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
            "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 3,
        }],
    }))
    .unwrap();
    let written = survives(&split);
    assert_eq!(written["status"]["conditions"][0]["type"], "Accepted");
    assert_eq!(written["metadata"], json!({"name": "oven", "namespace": "kitchen"}));
}

#[test]
fn what_is_no_object_is_refused_with_the_field() {
    let error =
        serde_saphyr::from_str::<TrafficSplit>("metadata: {name: a}\nspec:\n  service: [a]\n").unwrap_err();
    assert!(error.to_string().contains("spec.service: is a list: expected text"), "{error}");
}
