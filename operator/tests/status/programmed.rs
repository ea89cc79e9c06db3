//! Who has acknowledged what, for a small town written as users write it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use smidge::{
    documents::{self, Source},
    finding::ObjectRef,
    lower::lower,
    status::{
        object::{KINDS, KnownObjects, refresh},
        programmed::{Concerns, Tallies, Tally},
    },
};
use smidge_xds::{
    mesh::id::{ClusterId, ProxyId},
    resources::Kind,
    server::{Answer, Words},
    snapshot::Snapshot,
};

fn town(path: &str, weight: u32) -> String {
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

fn publish(text: String, before: Option<&Snapshot>) -> (KnownObjects, Snapshot) {
    let offline = documents::assemble(&[Source { name: "in.yaml".to_owned(), text }]);
    assert!(offline.unreadable.is_empty(), "{:?}", offline.unreadable);
    let mut known = Arc::default();
    for kind in KINDS {
        refresh(&mut known, &offline.inputs, kind, None);
    }
    let (mesh, _) = lower(&BTreeMap::from([(ClusterId::default(), offline.inputs)]));
    (Arc::unwrap_or_clone(known), Snapshot::next(Arc::new(mesh), before))
}

/// Every proxy has what `snapshot` gives it.
fn all_have(snapshot: &Snapshot) -> Vec<Answer> {
    let proxies: Vec<ProxyId> = snapshot.mesh().workloads.keys().cloned().collect();
    let answer =
        |proxy: ProxyId| Answer { acknowledged: snapshot.view(&proxy), proxy, refused: Words::default() };
    proxies.into_iter().map(answer).collect()
}

fn is_of(answer: &Answer, app: &str) -> bool {
    answer.proxy.instance.starts_with(app)
}

/// Concerned, acknowledged, refused.
fn of(tallies: &Tallies, kind: &str, name: &str) -> (usize, usize, usize) {
    let Tally { concerned, acknowledged, refused, .. } = tallies[&ObjectRef::new(kind, "shop", name)];
    (concerned, acknowledged, refused)
}

#[test]
fn an_object_concerns_those_who_see_what_it_says() {
    let (objects, snapshot) = publish(town("/", 1), None);
    let tallies = Concerns::new(&objects, &snapshot).tally(&all_have(&snapshot));
    assert_eq!(of(&tallies, "TrafficTarget", "web"), (1, 1, 0), "who serves");
    assert_eq!(of(&tallies, "HTTPRouteGroup", "paths"), (1, 1, 0), "who serves, by way of the target");
    assert_eq!(of(&tallies, "TrafficSplit", "web"), (1, 1, 0), "who may call");
    assert_eq!(of(&tallies, "TCPRoute", "nobodys"), (0, 0, 0));
    assert_eq!(of(&tallies, "TrafficTarget", "future"), (0, 0, 0));
    let in_effect = |kind, name| tallies[&ObjectRef::new(kind, "shop", name)].in_effect;
    assert!(in_effect("TrafficTarget", "future"), "the first pod will get it");
    assert!(!in_effect("TCPRoute", "nobodys"), "nobody uses it");
}

#[test]
fn what_was_acknowledged_before_a_change_does_not_count_for_what_changed() {
    let (_, before) = publish(town("/", 1), None);
    let answers = all_have(&before);
    let (objects, after) = publish(town("/books", 1), Some(&before));
    let tallies = Concerns::new(&objects, &after).tally(&answers);
    assert_eq!(of(&tallies, "HTTPRouteGroup", "paths"), (1, 0, 0));
    assert_eq!(of(&tallies, "TrafficTarget", "web"), (1, 0, 0));
    assert_eq!(of(&tallies, "TrafficSplit", "web"), (1, 1, 0), "the split did not change");
    let (objects, after) = publish(town("/", 7), Some(&before));
    let tallies = Concerns::new(&objects, &after).tally(&answers);
    assert_eq!(of(&tallies, "TrafficSplit", "web"), (1, 0, 0));
    assert_eq!(of(&tallies, "TrafficTarget", "web"), (1, 1, 0));
}

#[test]
fn a_refusal_counts_on_what_was_refused_with_the_proxys_words() {
    let (objects, snapshot) = publish(town("/", 1), None);
    let mut answers = all_have(&snapshot);
    for answer in answers.iter_mut().filter(|answer| is_of(answer, "web")) {
        let refused = [((Kind::Extension, Arc::from("inbound/8080/http")), Arc::from("no such thing"))];
        answer.refused = Arc::new(refused.into());
    }
    let tallies = Concerns::new(&objects, &snapshot).tally(&answers);
    assert_eq!(of(&tallies, "TrafficTarget", "web"), (1, 0, 1));
    assert_eq!(of(&tallies, "HTTPRouteGroup", "paths"), (1, 0, 1));
    assert_eq!(of(&tallies, "TrafficSplit", "web"), (1, 1, 0));
    let words = &tallies[&ObjectRef::new("TrafficTarget", "shop", "web")].words;
    assert!(words[0].0.starts_with("shop/web") && words[0].1 == "no such thing", "{words:?}");
}

#[test]
fn who_is_not_connected_is_concerned_and_silent() {
    let (objects, snapshot) = publish(town("/", 1), None);
    let concerns = Concerns::new(&objects, &snapshot);
    assert_eq!(of(&concerns.tally(&[]), "TrafficTarget", "web"), (1, 0, 0));
    let unanswered: Vec<Answer> =
        all_have(&snapshot).into_iter().map(|answer| Answer { acknowledged: None, ..answer }).collect();
    assert_eq!(of(&concerns.tally(&unanswered), "TrafficTarget", "web"), (1, 0, 0));
}

#[test]
fn replicas_add_up_for_the_same_state_of_an_object_only() {
    let one =
        Tally { uid: "u".into(), generation: Some(2), concerned: 3, acknowledged: 1, ..Tally::default() };
    let other = Tally {
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
    for stranger in [Tally { generation: Some(1), ..other.clone() }, Tally { uid: "v".into(), ..other }] {
        let mut sum = one.clone();
        sum.add(&stranger);
        assert_eq!(sum, one);
    }
}

/// The bound is loose, as this is a debug build on a busy machine; what it rules out is work for each object and proxy.
#[test]
fn a_thousand_objects_and_a_thousand_proxies_are_counted_quickly() {
    let mut text = town("/", 1);
    for number in 0..1000 {
        write!(
            text,
            "---\n{{apiVersion: access.smi-spec.io/v1alpha3, kind: TrafficTarget, metadata: {{name: t{number}, \
             namespace: shop}}, spec: {{destination: {{kind: ServiceAccount, name: web}}, rules: [{{kind: \
             HTTPRouteGroup, name: paths}}], sources: [{{kind: ServiceAccount, name: buyer}}]}}}}\n"
        )
        .unwrap();
    }
    let offline = documents::assemble(&[Source { name: "in.yaml".to_owned(), text }]);
    let mut known = Arc::default();
    for kind in KINDS {
        refresh(&mut known, &offline.inputs, kind, None);
    }
    let (mut mesh, _) = lower(&BTreeMap::from([(ClusterId::default(), offline.inputs)]));
    let (proxy, web) = mesh.workloads.iter().find(|(proxy, _)| proxy.instance.starts_with("web")).unwrap();
    let (proxy, web) = (proxy.clone(), web.clone());
    for number in 0..999 {
        mesh.workloads.insert(ProxyId { instance: format!("web-x{number}"), ..proxy.clone() }, web.clone());
    }
    let snapshot = Snapshot::next(Arc::new(mesh), None);
    let answers = all_have(&snapshot);
    let started = Instant::now();
    let concerns = Concerns::new(&known, &snapshot);
    let made = started.elapsed();
    let tallies = concerns.tally(&answers);
    let took = started.elapsed();
    println!("1000 targets, 1000 proxies: {took:?} in all, {made:?} of it once for what was published");
    assert_eq!(of(&tallies, "TrafficTarget", "t999"), (1000, 1000, 0));
    assert!(took < Duration::from_secs(2), "it took {took:?}");
}
