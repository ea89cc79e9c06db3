//! Acknowledgements of objects, for a small mesh written as users write it.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use smidge::{
    documents::{self, Source},
    finding::ObjectRef,
    lower::lower,
    objects::{KnownObjects, refresh},
    source::Scope,
    status::programmed::{AckCount, AckCounts, AckTracker},
};
use smidge_xds::{
    mesh::id::{ClusterId, ProxyId},
    resources::ResourceType,
    server::{AckState, NackMessages},
    snapshot::Snapshot,
};

fn scenario(path: &str, weight: u32) -> String {
    let mut text = String::new();
    for app in ["web", "canary", "buyer", "other"] {
        text += &deployment(app);
        writeln!(
            text,
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {app}, namespace: shop}}, spec: {{selector: \
             {{app: {app}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}}}"
        )
        .unwrap();
    }
    write!(
        text,
        r#"---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {{name: paths, namespace: shop}}
spec: {{matches: [{{name: all, pathRegex: "{path}", methods: ["*"]}}]}}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: TCPRoute
metadata: {{name: nobodys, namespace: shop}}
spec: {{matches: {{ports: [1]}}}}
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: web, namespace: shop}}
spec:
  destination: {{kind: ServiceAccount, name: web}}
  rules: [{{kind: HTTPRouteGroup, name: paths}}]
  sources: [{{kind: ServiceAccount, name: buyer}}]
---
apiVersion: access.smi-spec.io/v1alpha3
kind: TrafficTarget
metadata: {{name: future, namespace: shop}}
spec:
  destination: {{kind: ServiceAccount, name: future}}
  rules: [{{kind: HTTPRouteGroup, name: paths}}]
  sources: [{{kind: ServiceAccount, name: buyer}}]
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {{name: web, namespace: shop}}
spec: {{service: web, backends: [{{service: web, weight: {weight}}}, {{service: canary, weight: 1}}]}}
"#
    )
    .unwrap();
    text
}

fn deployment(app: &str) -> String {
    format!(
        "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: {app}, namespace: shop}}, spec: {{selector: \
         {{matchLabels: {{app: {app}}}}}, template: {{metadata: {{labels: {{app: {app}}}}}, spec: \
         {{serviceAccountName: {app}, containers: [{{name: app, image: app, ports: [{{containerPort: \
         8080}}]}}]}}}}}}}}\n"
    )
}

fn publish(text: String, before: Option<&Snapshot>) -> (KnownObjects, Arc<Snapshot>) {
    let offline = documents::assemble(&[Source { name: "in.yaml".to_owned(), text }]);
    assert!(offline.unreadable.is_empty(), "{:?}", offline.unreadable);
    let mut known = KnownObjects::default();
    for info in smidge_crds::KINDS {
        refresh(&mut known, &offline.inputs, &Scope::Kind(info.kind));
    }
    let (mesh, _) = lower(&BTreeMap::from([(ClusterId::default(), offline.inputs)]));
    (known, Arc::new(Snapshot::next(Arc::new(mesh), before)))
}

/// Answers of proxies that all have acknowledged their view of `snapshot`.
fn all_have(snapshot: &Snapshot) -> Answers {
    let answer = |proxy| AckState { acknowledged: snapshot.view(proxy), refused: NackMessages::default() };
    snapshot.mesh().workloads.keys().map(|proxy| (proxy.clone(), answer(proxy))).collect()
}

type Answers = BTreeMap<ProxyId, AckState>;

fn count(objects: &KnownObjects, snapshot: &Arc<Snapshot>, answers: &Answers) -> AckCounts {
    let mut concerns = AckTracker::default();
    concerns.publish(objects, snapshot);
    for (proxy, answer) in answers {
        concerns.answer(proxy.clone(), Some(answer.clone()));
    }
    concerns.counts().clone()
}

/// Returns the number of proxies that are concerned, that acknowledge, and that refuse.
fn of(counts: &AckCounts, kind: &str, name: &str) -> (usize, usize, usize) {
    let acks = &counts[&ObjectRef::new(kind, "shop", name)];
    (acks.concerned, acks.acknowledged, acks.refused)
}

#[test]
fn an_object_concerns_those_who_see_what_it_says() {
    let (objects, snapshot) = publish(scenario("/", 1), None);
    let counts = count(&objects, &snapshot, &all_have(&snapshot));
    assert_eq!(of(&counts, "TrafficTarget", "web"), (1, 1, 0), "who serves");
    assert_eq!(of(&counts, "HTTPRouteGroup", "paths"), (1, 1, 0), "who serves, by way of the target");
    assert_eq!(of(&counts, "TrafficSplit", "web"), (1, 1, 0), "who may call");
    assert_eq!(of(&counts, "TCPRoute", "nobodys"), (0, 0, 0));
    assert_eq!(of(&counts, "TrafficTarget", "future"), (0, 0, 0));
    let in_effect = |kind, name| counts[&ObjectRef::new(kind, "shop", name)].in_effect;
    assert!(in_effect("TrafficTarget", "future"), "the first pod will get it");
    assert!(!in_effect("TCPRoute", "nobodys"), "nobody uses it");
}

#[test]
fn what_was_acknowledged_before_a_change_does_not_count_for_what_changed() {
    let (_, before) = publish(scenario("/", 1), None);
    let answers = all_have(&before);
    let (objects, after) = publish(scenario("/books", 1), Some(&before));
    let counts = count(&objects, &after, &answers);
    assert_eq!(of(&counts, "HTTPRouteGroup", "paths"), (1, 0, 0));
    assert_eq!(of(&counts, "TrafficTarget", "web"), (1, 0, 0));
    assert_eq!(of(&counts, "TrafficSplit", "web"), (1, 1, 0), "the split did not change");
    let (objects, after) = publish(scenario("/", 7), Some(&before));
    let counts = count(&objects, &after, &answers);
    assert_eq!(of(&counts, "TrafficSplit", "web"), (1, 0, 0));
    assert_eq!(of(&counts, "TrafficTarget", "web"), (1, 1, 0));
}

#[test]
fn a_refusal_counts_on_what_was_refused_with_the_proxys_words() {
    let (objects, snapshot) = publish(scenario("/", 1), None);
    let mut answers = all_have(&snapshot);
    for (_, answer) in answers.iter_mut().filter(|(proxy, _)| proxy.instance.starts_with("web")) {
        let refused =
            [((ResourceType::Extension, Arc::from("inbound/8080/http")), Arc::from("no such thing"))];
        answer.refused = Arc::new(refused.into());
    }
    let counts = count(&objects, &snapshot, &answers);
    assert_eq!(of(&counts, "TrafficTarget", "web"), (1, 0, 1));
    assert_eq!(of(&counts, "HTTPRouteGroup", "paths"), (1, 0, 1));
    assert_eq!(of(&counts, "TrafficSplit", "web"), (1, 1, 0));
    let words = &counts[&ObjectRef::new("TrafficTarget", "shop", "web")].words;
    assert!(words[0].0.starts_with("shop/web") && words[0].1 == "no such thing", "{words:?}");
}

#[test]
fn who_is_not_connected_is_concerned_and_silent() {
    let (objects, snapshot) = publish(scenario("/", 1), None);
    let none = count(&objects, &snapshot, &Answers::new());
    assert_eq!(of(&none, "TrafficTarget", "web"), (1, 0, 0));
    let mut unanswered = all_have(&snapshot);
    for answer in unanswered.values_mut() {
        answer.acknowledged = None;
    }
    assert_eq!(of(&count(&objects, &snapshot, &unanswered), "TrafficTarget", "web"), (1, 0, 0));
}

#[test]
fn replicas_add_up_for_the_same_state_of_an_object_only() {
    let one = AckCount {
        uid: "u".into(),
        generation: Some(2),
        concerned: 3,
        acknowledged: 1,
        ..AckCount::default()
    };
    let other = AckCount {
        acknowledged: 1,
        refused: 1,
        words: vec![("a/b".to_owned(), "no".to_owned())],
        ..one.clone()
    };
    let mut sum = one.clone();
    sum.add(&other);
    assert_eq!((sum.acknowledged, sum.refused, sum.words.len()), (2, 1, 1));
    sum.add(&other);
    assert_eq!(
        (sum.acknowledged, sum.refused),
        (1, 2),
        "never more than there are, and refusals count first"
    );
    for stranger in [AckCount { generation: Some(1), ..other.clone() }, AckCount { uid: "v".into(), ..other }]
    {
        let mut sum = one.clone();
        sum.add(&stranger);
        assert_eq!(sum, one);
    }
}
