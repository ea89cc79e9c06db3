//! Counts that are updated step by step equal the counts that are made from nothing; and the cost of a step is what it
//! changes, by count.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, prelude::*};
use smidge::{
    finding::ObjectRef,
    objects::{Known, KnownObjects},
    status::programmed::{AckCount, AckTracker, Work},
};
use smidge_xds::{
    delta::changes::between,
    mesh::{
        Mesh,
        access::{Payload, Ports},
        id::ProxyId,
        service::Protocol,
        source::SourceRef,
    },
    resources::ResourceType,
    server::{AckState, NackMessages},
    snapshot::Snapshot,
    view::View,
};

use smidge_xds_testing::{meshes, properties};

use crate::status::scenario::{self, Step, instance, step};

/// State from which the counts are made, and the part of it that the tracker has received.
#[derive(Default)]
struct Harness {
    mesh: Mesh,
    objects: KnownObjects,
    latest: Arc<Snapshot>,
    published: (KnownObjects, Arc<Snapshot>),
    given: BTreeMap<ProxyId, Vec<Arc<View>>>,
    answers: BTreeMap<ProxyId, AckState>,
    concerns: AckTracker,
}

impl Harness {
    fn take(&mut self, step: &Step) {
        scenario::take(&mut self.mesh, &mut self.objects, step);
        match step {
            Step::Publish(published) => {
                self.latest = Arc::new(Snapshot::next(Arc::new(self.mesh.clone()), Some(&self.latest)));
                if *published {
                    self.published = (self.objects.clone(), Arc::clone(&self.latest));
                    self.concerns.publish(&self.published.0, &self.published.1);
                }
            }
            Step::AckState(it, number, back, refused) => {
                let proxy = instance(*it, *number);
                let given = self.given.entry(proxy.clone()).or_default();
                if let Some(view) = self.latest.view(&proxy)
                    && given.last().is_none_or(|last| !Arc::ptr_eq(last, &view))
                {
                    given.push(view);
                }
                let Some(view) = given.iter().rev().nth(*back) else { return };
                let answer = scenario::answer(view, refused);
                let before = self.answers.insert(proxy.clone(), answer.clone());
                // The server does not report an answer that differs in clusters and endpoints alone.
                if before.is_none_or(|before| is_news(&before, &answer)) {
                    self.concerns.answer(proxy, Some(answer));
                }
            }
            Step::Leave(it, number) => {
                let proxy = instance(*it, *number);
                self.answers.remove(&proxy);
                self.concerns.answer(proxy, None);
            }
            _ => {}
        }
    }
}

fn is_news(before: &AckState, now: &AckState) -> bool {
    let (old, new) = (before.acknowledged.as_ref().unwrap(), now.acknowledged.as_ref().unwrap());
    let quiet = |kind: &ResourceType| matches!(kind, ResourceType::Cluster | ResourceType::Endpoints);
    before.refused != now.refused || !between(old, new).iter().all(|(kind, _)| quiet(kind))
}

proptest! {
    #![proptest_config(properties::config(128))]
    #[test]
    fn counting_on_comes_to_the_same_as_counting_from_nothing(steps in vec(step(), 1..60)) {
        let mut harness = Harness { mesh: meshes::http(), ..Harness::default() };
        for it in 0..8 {
            harness.take(&Step::Object(it, 1, vec![4 + it % 2]));
        }
        for (it, step) in steps.iter().enumerate() {
            harness.take(step);
            // Not after each step, so that several are processed at once.
            if it % 3 == 0 || it + 1 == steps.len() {
                let (objects, snapshot) = &harness.published;
                let anew = scenario::count(objects, snapshot, &harness.answers);
                let counts = harness.concerns.counts().iter();
                let on: BTreeMap<_, AckCount> = counts.map(|(it, acks)| (it.clone(), AckCount::clone(acks))).collect();
                prop_assert_eq!(on, anew, "after {:?}", step);
            }
        }
    }
}

/// Makes a mesh where `callers` call `api`, whose traffic a split that uses a route group sends on; every proxy has its
/// view.
fn town_of(callers: usize) -> Harness {
    let mut harness = Harness { mesh: meshes::http_split(&[90, 10]), ..Harness::default() };
    let web = Arc::clone(&harness.mesh.workloads[&meshes::proxy("web")]);
    for number in 1..callers {
        let id = ProxyId { instance: format!("web-{number}"), ..meshes::proxy("web") };
        harness.mesh.workloads.insert(id, Arc::clone(&web));
    }
    for rule in &mut meshes::port(&mut harness.mesh, "api", 80).route.rules {
        rule.origin = Some(SourceRef::new("TrafficSplit", "shop", "api"));
    }
    for number in 0..100 {
        meshes::service(&mut harness.mesh, &format!("idle-{number}"), 80, Protocol::Http, &[]);
    }
    let uses = |name: &str| vec![ObjectRef::new("HTTPRouteGroup", "shop", name)];
    for (kind, name, uses) in [
        ("TrafficSplit", "api", uses("split")),
        ("TrafficTarget", "api-0", uses("target")),
        ("HTTPRouteGroup", "split", Vec::new()),
        ("HTTPRouteGroup", "target", Vec::new()),
    ] {
        let known = Known { uid: "u".to_owned(), generation: Some(1), status: None, uses };
        harness.objects.insert(ObjectRef::new(kind, "shop", name), Arc::new(known));
    }
    let settings = Known { uid: "u".to_owned(), generation: Some(1), ..Known::default() };
    harness.objects.insert(ObjectRef::new("MeshConfig", "", "default"), Arc::new(settings));
    harness.take(&Step::Publish(true));
    for proxy in harness.mesh.workloads.keys() {
        let acknowledged = harness.latest.view(proxy);
        harness
            .concerns
            .answer(proxy.clone(), Some(AckState { acknowledged, refused: NackMessages::default() }));
    }
    harness.concerns.counts();
    harness
}

/// Cost of publishing a change, and then of its acknowledgement by all proxies.
fn cost(harness: &mut Harness, change: impl Fn(&mut Harness)) -> [Work; 2] {
    change(harness);
    let mut before = harness.concerns.work();
    let mut since = |harness: &mut Harness| {
        harness.concerns.counts();
        let now = harness.concerns.work();
        let Work { objects, classes } = std::mem::replace(&mut before, now);
        Work { objects: now.objects - objects, classes: now.classes - classes }
    };
    harness.take(&Step::Publish(true));
    let published = since(harness);
    for proxy in harness.mesh.workloads.keys() {
        let acknowledged = harness.latest.view(proxy);
        harness
            .concerns
            .answer(proxy.clone(), Some(AckState { acknowledged, refused: NackMessages::default() }));
    }
    [published, since(harness)]
}

fn work(objects: u64, classes: u64) -> Work {
    Work { objects, classes }
}

#[test]
fn an_endpoint_change_counts_no_object_and_looks_at_no_class() {
    let mut harness = town_of(1000);
    let took =
        cost(&mut harness, |harness| meshes::port(&mut harness.mesh, "api", 80).endpoints[0].port = 8081);
    assert_eq!(took, [work(0, 0), work(0, 0)]);
}

#[test]
fn a_weight_counts_its_split_and_the_routes_that_this_uses() {
    let mut harness = town_of(1000);
    let took = cost(&mut harness, |harness| {
        meshes::port(&mut harness.mesh, "api", 80).route.rules[0].backends[0].weight = 80;
    });
    assert_eq!(took, [work(2, 1), work(2, 0)]);
    let acks = harness.concerns.counts()[&ObjectRef::new("TrafficSplit", "shop", "api")].clone();
    assert_eq!((acks.concerned, acks.acknowledged), (1000, 1000));
}

#[test]
fn a_grant_counts_its_target_and_what_concerns_who_serves() {
    let mut harness = town_of(10);
    let took = cost(&mut harness, |harness| {
        harness.mesh.grants.remove(&meshes::account("api"));
        meshes::grant(&mut harness.mesh, "api", &["web", "db"], Ports::All, Payload::Any);
    });
    // The settings are in the inbound side as well, and the split now concerns `db`.
    assert_eq!(took[0], work(5, 3));
    assert_eq!(took[1], work(5, 0));
}

#[test]
fn another_replica_counts_what_concerns_it() {
    let mut harness = town_of(10);
    let took = cost(&mut harness, |harness| {
        let web = Arc::clone(&harness.mesh.workloads[&meshes::proxy("web")]);
        let late = ProxyId { instance: "web-late".to_owned(), ..meshes::proxy("web") };
        harness.mesh.workloads.insert(late, web);
    });
    // The split, its routes, and the settings.
    assert_eq!(took, [work(3, 0), work(3, 0)]);
}

#[test]
fn a_view_that_all_left_before_taking_it_is_judged_when_somebody_comes_with_it() {
    let mut harness = town_of(1);
    let weigh = |harness: &mut Harness, weight| {
        meshes::port(&mut harness.mesh, "api", 80).route.rules[0].backends[0].weight = weight;
        harness.take(&Step::Publish(true));
    };
    let web = meshes::proxy("web");
    weigh(&mut harness, 80);
    let missed = harness.latest.view(&web);
    harness.concerns.answer(web.clone(), None);
    weigh(&mut harness, 70);
    let answer = |acknowledged| Some(AckState { acknowledged, refused: NackMessages::default() });
    harness.concerns.answer(web.clone(), answer(missed));
    let of = |harness: &mut Harness| {
        let acks = &harness.concerns.counts()[&ObjectRef::new("TrafficSplit", "shop", "api")];
        (acks.concerned, acks.acknowledged)
    };
    assert_eq!(of(&mut harness), (1, 0));
    let latest = harness.latest.view(&web);
    harness.concerns.answer(web, answer(latest));
    assert_eq!(of(&mut harness), (1, 1));
}
