//! A snapshot that is built from the one before equals the snapshot that is built from nothing; and the cost of a step
//! is what it changes, by count.

use smidge_xds_testing::{meshes, properties};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::{collection::vec, prelude::*};
use smidge_xds::{
    mesh::{
        Mesh,
        access::{AccessMode, MtlsMode, Payload, Ports},
        id::{ProxyId, TrustDomain},
        proxy::TrafficStats,
        route::{Backend, Route, RouteRule},
        service::Protocol,
        source::SourceRef,
        trust::Bundle,
    },
    resources::{Built, ResourceType},
    snapshot::{Recipients, Snapshot},
    view::View,
};

/// Names of workloads and Services; a Service's port is `PORTS` at the same index, one number for all, as a backend
/// serves at its root's number.
const NAMES: [&str; 4] = ["api", "db", "web", "cron"];
const PORTS: [(u16, Protocol); 4] =
    [(80, Protocol::Http), (80, Protocol::Tcp), (80, Protocol::Http), (80, Protocol::Detect)];

/// An event in a mesh. Numbers select among the names.
#[derive(Debug, Clone)]
enum Step {
    Workload(usize, bool),
    Replica(usize, u8, bool),
    Service(usize, Vec<usize>),
    NoService(usize),
    Endpoints(usize, u8),
    Split(usize, Vec<(usize, u32)>),
    Grant(usize, usize, bool),
    NoGrants(usize),
    Access(usize, u8),
    Mtls(usize, bool),
    /// The proxies of a workload are of a version that counts other statistics.
    Traffic(usize, usize),
    Root(bool),
    Settings(bool),
    /// A proxy reads its view.
    ReadView(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    prop_oneof![
        2 => (name(), any::<bool>()).prop_map(|(it, here)| Step::Workload(it, here)),
        1 => (name(), 0..3_u8, any::<bool>()).prop_map(|(it, number, here)| Step::Replica(it, number, here)),
        3 => (name(), vec(name(), 0..3)).prop_map(|(it, by)| Step::Service(it, by)),
        1 => name().prop_map(Step::NoService),
        4 => (name(), 1..5_u8).prop_map(|(it, number)| Step::Endpoints(it, number)),
        3 => (name(), vec((name(), 0..3_u32), 0..3)).prop_map(|(it, to)| Step::Split(it, to)),
        4 => (name(), name(), any::<bool>()).prop_map(|(to, from, all)| Step::Grant(to, from, all)),
        1 => name().prop_map(Step::NoGrants),
        2 => (name(), 0..3_u8).prop_map(|(it, mode)| Step::Access(it, mode)),
        1 => (name(), any::<bool>()).prop_map(|(it, strict)| Step::Mtls(it, strict)),
        2 => (name(), 0..TrafficStats::ALL.len()).prop_map(|(it, kind)| Step::Traffic(it, kind)),
        1 => any::<bool>().prop_map(Step::Root),
        1 => any::<bool>().prop_map(Step::Settings),
        4 => name().prop_map(Step::ReadView),
    ]
}

fn port(mesh: &mut Mesh, it: usize) -> Option<&mut smidge_xds::mesh::service::ServicePort> {
    let service = mesh.services.get_mut(&meshes::id(NAMES[it]))?;
    Arc::make_mut(service).ports.get_mut(&PORTS[it].0)
}

fn class<'a>(mesh: &'a mut Mesh, name: &str) -> Option<&'a mut smidge_xds::mesh::workload::Class> {
    let id = mesh.workloads.get(&meshes::proxy(name))?.class.clone();
    mesh.classes.get_mut(&id).map(Arc::make_mut)
}

fn take(mesh: &mut Mesh, step: &Step) {
    match step {
        Step::Workload(it, true) => {
            meshes::workload(mesh, NAMES[*it], u8::try_from(*it).unwrap() + 1, &[(PORTS[*it])]);
        }
        Step::Workload(it, false) => {
            let gone: Vec<ProxyId> = mesh
                .workloads
                .iter()
                .filter(|(_, it_)| it_.name == NAMES[*it])
                .map(|(id, _)| id.clone())
                .collect();
            for id in gone {
                let workload = mesh.workloads.remove(&id).unwrap();
                mesh.classes.remove(&workload.class);
            }
        }
        Step::Replica(it, number, here) => {
            let id = ProxyId { instance: format!("{}-{number}", NAMES[*it]), ..meshes::proxy(NAMES[*it]) };
            match mesh.workloads.get(&meshes::proxy(NAMES[*it])).cloned() {
                Some(workload) if *here => drop(mesh.workloads.insert(id, workload)),
                _ => drop(mesh.workloads.remove(&id)),
            }
        }
        Step::Service(it, by) => {
            let servers: Vec<(&str, u16)> = by
                .iter()
                .filter(|by| mesh.workloads.contains_key(&meshes::proxy(NAMES[**by])))
                .map(|by| (NAMES[*by], PORTS[*by].0))
                .collect();
            let (number, protocol) = PORTS[*it];
            meshes::service(mesh, NAMES[*it], number, protocol, &servers);
        }
        Step::NoService(it) => drop(mesh.services.remove(&meshes::id(NAMES[*it]))),
        Step::Endpoints(it, number) => {
            if let Some(port) = port(mesh, *it)
                && let Some(endpoint) = port.endpoints.first_mut()
            {
                endpoint.address = format!("10.1.1.{number}").parse().unwrap();
            }
        }
        Step::Split(it, to) => {
            let backend = |(to, weight): &(usize, u32)| Backend {
                service: meshes::id(NAMES[*to]),
                port: None,
                weight: *weight,
            };
            let origin = Some(SourceRef::new("TrafficSplit", "shop", "split"));
            let backends = to.iter().map(backend).collect();
            let rules = vec![RouteRule { matches: None, backends, origin }];
            if let Some(port) = port(mesh, *it) {
                port.route = Route { rules };
            }
        }
        policy => decide(mesh, policy),
    }
}

fn decide(mesh: &mut Mesh, step: &Step) {
    match step {
        Step::Grant(to, from, all) => {
            let ports = if *all { Ports::All } else { Ports::Only(BTreeSet::from([PORTS[*to].0])) };
            meshes::grant(mesh, NAMES[*to], &[NAMES[*from]], ports, Payload::Any);
        }
        Step::NoGrants(it) => drop(mesh.grants.remove(&meshes::account(NAMES[*it]))),
        Step::Access(it, mode) => {
            if let Some(class) = class(mesh, NAMES[*it]) {
                class.access =
                    [AccessMode::Enforce, AccessMode::Audit, AccessMode::Permissive][usize::from(*mode)];
            }
        }
        Step::Traffic(it, kind) => {
            if let Some(class) = class(mesh, NAMES[*it]) {
                class.traffic = TrafficStats::ALL[*kind];
            }
        }
        Step::Mtls(it, strict) => {
            if let Some(class) = class(mesh, NAMES[*it]) {
                class.mtls = if *strict { MtlsMode::Strict } else { MtlsMode::Permissive };
            }
        }
        Step::Root(here) => {
            let roots = BTreeSet::from(["another root\n".to_owned()]);
            let bundles = &mut Arc::make_mut(&mut mesh.trust).bundles;
            let partner = TrustDomain("partner.example".to_owned());
            if *here {
                bundles.insert(partner, Bundle { roots });
            } else {
                bundles.remove(&partner);
            }
        }
        Step::Settings(large) => mesh.settings.max_headers = if *large { 5_000 } else { 1_000 },
        _ => {}
    }
}

/// Returns the content of a view, without the drain marks: they depend on the past, and mean nothing to a proxy that
/// connects anew.
fn content(view: &View) -> BTreeMap<(ResourceType, String), String> {
    let of = |((kind, name), it): (&(ResourceType, Arc<str>), &Arc<smidge_xds::resources::Resource>)| {
        let (base, _) = it.version.as_str().split_once('+').unwrap_or((it.version.as_str(), ""));
        ((*kind, name.to_string()), base.to_owned())
    };
    view.resources.iter().map(of).collect()
}

proptest! {
    #![proptest_config(properties::config(128))]
    #[test]
    fn step_by_step_comes_to_the_same_as_at_once(steps in vec(step(), 1..40)) {
        let mut mesh = meshes::http();
        let mut now = Snapshot::next(Arc::new(mesh.clone()), None);
        let mut seen: BTreeMap<ProxyId, Arc<View>> = BTreeMap::new();
        for step in &steps {
            take(&mut mesh, step);
            let next = Snapshot::next(Arc::new(mesh.clone()), Some(&now));
            let concerned: BTreeSet<&ProxyId> = next.concerned().collect();
            // For any number of waiting streams.
            for waiting in [0, usize::MAX] {
                prop_assert_eq!(&notified(&next, waiting), &concerned, "woken by {:?}", step);
            }
            seen.retain(|proxy, _| !concerned.contains(proxy));
            // A proxy that is not concerned has the very same view as before, whenever it read it.
            for (proxy, view) in &seen {
                let same = next.view(proxy);
                prop_assert!(same.is_none_or(|same| Arc::ptr_eq(&same, view)), "{proxy} was not woken by {step:?}");
            }
            if let Step::ReadView(it) = step {
                let proxy = meshes::proxy(NAMES[*it]);
                seen.extend(next.view(&proxy).map(|view| (proxy, view)));
            }
            now = next;
        }
        let anew = Snapshot::next(Arc::new(mesh.clone()), None);
        for proxy in mesh.workloads.keys() {
            let (here, there) = (now.view(proxy).unwrap(), anew.view(proxy).unwrap());
            prop_assert_eq!(content(&here), content(&there), "{}", proxy);
        }
    }
}

/// Returns the proxies whose streams a snapshot wakes while `waiting` streams wait.
fn notified(snapshot: &Snapshot, waiting: usize) -> BTreeSet<&ProxyId> {
    let all = snapshot.mesh().workloads.keys();
    match snapshot.recipients(waiting) {
        Recipients::All => all.collect(),
        Recipients::These(proxies) => proxies.collect(),
        Recipients::Where(is_meant) => all.filter(|proxy| is_meant(proxy)).collect(),
    }
}

/// Returns the cost of a change of a mesh, and the proxies that it concerns.
fn cost(before: &Mesh, change: impl Fn(&mut Mesh)) -> (Built, Vec<String>) {
    let first = Snapshot::next(Arc::new(before.clone()), None);
    let mut after = before.clone();
    change(&mut after);
    let next = Snapshot::next(Arc::new(after), Some(&first));
    let concerned = next.concerned().map(|proxy| proxy.instance.clone()).collect();
    (next.resources().built(), concerned)
}

fn built(services: u64, classes: u64, encoded: u64) -> Built {
    Built { services, classes, encoded }
}

#[test]
fn no_change_costs_nothing() {
    for (case, mesh) in meshes::all() {
        assert_eq!(cost(&mesh, |_| {}), (Built::default(), Vec::new()), "{case}");
    }
}

#[test]
fn an_endpoint_costs_one_assignment_and_wakes_its_callers() {
    let (took, notified) =
        cost(&meshes::http(), |mesh| meshes::port(mesh, "api", 80).endpoints[0].port = 8081);
    assert_eq!(took, built(1, 0, 1));
    assert_eq!(notified, ["web"]);
}

#[test]
fn a_weight_costs_one_route_and_wakes_its_callers() {
    let change = |mesh: &mut Mesh| meshes::split(mesh, "api", 80, None, &[1, 2, 3]);
    let (took, notified) = cost(&meshes::http_split(&[90, 10, 0]), change);
    assert_eq!(took, built(1, 0, 1));
    assert_eq!(notified, ["web"]);
}

#[test]
fn a_grant_costs_its_destination_and_wakes_it_and_whom_it_is_for() {
    let change = |mesh: &mut Mesh| meshes::grant(mesh, "db", &["web"], Ports::All, Payload::Any);
    let (took, notified) = cost(&meshes::http(), change);
    // The rules, the accepted clients, and the listener with its drain mark and without.
    assert_eq!(took, built(0, 1, 4));
    assert_eq!(notified, ["db", "web"]);
}

#[test]
fn a_thousand_replicas_have_one_inbound_side() {
    let mut mesh = meshes::http();
    let workload = mesh.workloads.get(&meshes::proxy("api")).unwrap().clone();
    for number in 0..1000 {
        let id = ProxyId { instance: format!("api-{number}"), ..meshes::proxy("api") };
        mesh.workloads.insert(id, Arc::clone(&workload));
    }
    let all = Snapshot::next(Arc::new(mesh.clone()), None).resources().built();
    let few = Snapshot::next(Arc::new(meshes::http()), None).resources().built();
    assert_eq!(all, few);
    let late = ProxyId { instance: "api-late".to_owned(), ..meshes::proxy("api") };
    let change = |mesh: &mut Mesh| drop(mesh.workloads.insert(late.clone(), Arc::clone(&workload)));
    assert_eq!(cost(&mesh, change), (Built::default(), vec!["api-late".to_owned()]));
}
