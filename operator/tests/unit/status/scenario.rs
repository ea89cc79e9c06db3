//! A small mesh to which any event may happen, with the objects that it is made of and proxies that answer; and its
//! counts from nothing, by the names that resources have on the wire.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use proptest::{collection::vec, prelude::*};
use smidge::{
    finding::ObjectRef,
    objects::{Known, KnownObjects},
    status::programmed::AckCount,
};
use smidge_xds::{
    mesh::{
        Mesh,
        access::{AccessMode, Grant, MtlsMode, Payload, Ports},
        id::ProxyId,
        route::{Backend, Route, RouteRule},
        service::Protocol,
        source::SourceRef,
        workload::Class,
    },
    resources::ResourceType,
    server::{AckState, NackMessages},
    snapshot::Snapshot,
    view::View,
};

use smidge_xds_testing::meshes;

/// Names of workloads and Services.
pub const NAMES: [&str; 4] = ["api", "db", "web", "cron"];
const PORTS: [(u16, Protocol); 4] =
    [(80, Protocol::Http), (80, Protocol::Tcp), (80, Protocol::Http), (80, Protocol::Detect)];
/// The objects that come and go. Grants and splits of the mesh have the names of the first four.
const OBJECTS: [(&str, &str); 8] = [
    ("TrafficTarget", "one"),
    ("TrafficTarget", "two"),
    ("TrafficSplit", "one"),
    ("TrafficSplit", "two"),
    ("HTTPRouteGroup", "reads"),
    ("HTTPRouteGroup", "writes"),
    ("TCPRoute", "ports"),
    ("MeshConfig", "default"),
];

/// An event. Numbers select among the names.
#[derive(Debug, Clone)]
pub enum Step {
    Workload(usize, u8),
    NoWorkload(usize),
    Replica(usize, u8, bool),
    Service(usize, Vec<usize>),
    NoService(usize),
    Endpoints(usize, u8),
    Split(usize, Option<usize>, Vec<(usize, u32)>),
    Grant(usize, usize, usize, bool),
    NoGrants(usize),
    Access(usize, u8),
    Mtls(usize, bool),
    Object(usize, i64, Vec<usize>),
    NoObject(usize),
    /// The current mesh and objects are published; if false, the tracker misses this snapshot.
    Publish(bool),
    /// A proxy acknowledges one of the views that it was given, and refuses these names of it.
    AckState(usize, u8, usize, Vec<usize>),
    Leave(usize, u8),
}

pub fn step() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    prop_oneof![
        2 => (name(), 1..3_u8).prop_map(|(it, kind)| Step::Workload(it, kind)),
        1 => name().prop_map(Step::NoWorkload),
        2 => (name(), 1..3_u8, any::<bool>()).prop_map(|(it, number, here)| Step::Replica(it, number, here)),
        3 => (name(), vec(name(), 0..3)).prop_map(|(it, by)| Step::Service(it, by)),
        1 => name().prop_map(Step::NoService),
        2 => (name(), 1..5_u8).prop_map(|(it, number)| Step::Endpoints(it, number)),
        4 => (name(), proptest::option::weighted(0.8, 0..2_usize), vec((name(), 0..3_u32), 0..3))
            .prop_map(|(it, split, to)| Step::Split(it, split, to)),
        4 => (0..2_usize, name(), name(), any::<bool>())
            .prop_map(|(grant, to, from, all)| Step::Grant(grant, to, from, all)),
        1 => name().prop_map(Step::NoGrants),
        2 => (name(), 0..3_u8).prop_map(|(it, mode)| Step::Access(it, mode)),
        1 => (name(), any::<bool>()).prop_map(|(it, strict)| Step::Mtls(it, strict)),
        4 => (0..OBJECTS.len(), 1..4_i64, vec(0..OBJECTS.len(), 0..3))
            .prop_map(|(it, generation, uses)| Step::Object(it, generation, uses)),
        1 => (0..OBJECTS.len()).prop_map(Step::NoObject),
        8 => any::<bool>().prop_map(Step::Publish),
        14 => (name(), 0..3_u8, 0..3_usize, prop_oneof![Just(Vec::new()), vec(0..12_usize, 1..4)])
            .prop_map(|(it, number, back, refused)| Step::AckState(it, number, back, refused)),
        1 => (name(), 0..3_u8).prop_map(|(it, number)| Step::Leave(it, number)),
    ]
}

pub fn object(it: usize) -> ObjectRef {
    let (kind, name) = OBJECTS[it];
    ObjectRef::new(kind, if kind == "MeshConfig" { "" } else { meshes::NAMESPACE }, name)
}

pub fn instance(it: usize, number: u8) -> ProxyId {
    let main = meshes::proxy(NAMES[it]);
    if number == 0 { main } else { ProxyId { instance: format!("{}-{number}", main.instance), ..main } }
}

/// Applies a step to the objects and the mesh.
pub fn take(mesh: &mut Mesh, objects: &mut KnownObjects, step: &Step) {
    match step {
        // Another kind is another class of the same identity.
        Step::Workload(it, kind) => meshes::workload(mesh, NAMES[*it], *kind, &[PORTS[*it]]),
        Step::NoWorkload(it) => {
            (0..3).for_each(|number| drop(mesh.workloads.remove(&instance(*it, number))));
            let all = mesh.classes.iter().filter(|(_, class)| class.identity == meshes::account(NAMES[*it]));
            let all: Vec<_> = all.map(|(id, _)| id.clone()).collect();
            for class in all {
                mesh.classes.remove(&class);
            }
        }
        Step::Replica(it, number, here) => match mesh.workloads.get(&instance(*it, 0)).cloned() {
            Some(workload) if *here => drop(mesh.workloads.insert(instance(*it, *number), workload)),
            _ => drop(mesh.workloads.remove(&instance(*it, *number))),
        },
        Step::Service(it, by) => {
            let here = by.iter().filter(|by| mesh.workloads.contains_key(&instance(**by, 0)));
            let servers: Vec<_> = here.map(|by| (NAMES[*by], PORTS[*by].0)).collect();
            let (number, protocol) = PORTS[*it];
            meshes::service(mesh, NAMES[*it], number, protocol, &servers);
        }
        Step::NoService(it) => drop(mesh.services.remove(&meshes::id(NAMES[*it]))),
        Step::Endpoints(..) | Step::Split(..) => change_port(mesh, step),
        Step::Grant(grant, to, from, all) => {
            let ports = if *all { Ports::All } else { Ports::Only(BTreeSet::from([PORTS[*to].0])) };
            let grants = Arc::make_mut(mesh.grants.entry(meshes::account(NAMES[*to])).or_default());
            let origin = SourceRef::new("TrafficTarget", meshes::NAMESPACE, OBJECTS[*grant].1);
            // One object may grant several things, and may be edited.
            grants.retain(|grant| !all || grant.origin != origin);
            grants.push(Arc::new(Grant {
                origin,
                sources: BTreeSet::from([Arc::new(meshes::account(NAMES[*from]))]),
                ports,
                payload: Payload::Any,
            }));
        }
        Step::NoGrants(it) => drop(mesh.grants.remove(&meshes::account(NAMES[*it]))),
        Step::Access(it, mode) => change_classes(mesh, *it, |class| {
            class.access =
                [AccessMode::Enforce, AccessMode::Audit, AccessMode::Permissive][usize::from(*mode)];
        }),
        Step::Mtls(it, strict) => change_classes(mesh, *it, |class| {
            class.mtls = if *strict { MtlsMode::Strict } else { MtlsMode::Permissive };
        }),
        Step::Object(it, generation, uses) => {
            // Targets and splits refer to others, and nothing else does.
            let uses = uses.iter().filter(|_| *it < 4).map(|it| object(*it)).collect();
            let known = Known { uid: "u".to_owned(), generation: Some(*generation), uses, status: None };
            objects.insert(object(*it), Arc::new(known));
        }
        Step::NoObject(it) => drop(objects.remove(&object(*it))),
        Step::Publish(_) | Step::AckState(..) | Step::Leave(..) => {}
    }
}

fn change_classes(mesh: &mut Mesh, it: usize, change: impl Fn(&mut Class)) {
    for (id, class) in mesh.classes.clone() {
        if class.identity == meshes::account(NAMES[it]) {
            mesh.classes.get_mut(&id).map(Arc::make_mut).into_iter().for_each(&change);
        }
    }
}

fn change_port(mesh: &mut Mesh, step: &Step) {
    let (Step::Endpoints(it, _) | Step::Split(it, ..)) = step else { return };
    let service = mesh.services.get_mut(&meshes::id(NAMES[*it])).map(Arc::make_mut);
    let Some(port) = service.and_then(|service| service.ports.get_mut(&PORTS[*it].0)) else { return };
    match step {
        Step::Endpoints(_, number) => {
            if let Some(endpoint) = port.endpoints.first_mut() {
                endpoint.address = format!("10.1.1.{number}").parse().unwrap();
            }
        }
        Step::Split(_, split, to) => {
            let backend = |(to, weight): &(usize, u32)| Backend {
                service: meshes::id(NAMES[*to]),
                port: None,
                weight: *weight,
            };
            let origin = |it: usize| SourceRef::new("TrafficSplit", meshes::NAMESPACE, OBJECTS[it].1);
            let backends = to.iter().map(backend).collect();
            let rules = vec![RouteRule { matches: None, backends, origin: split.map(origin) }];
            port.route = Route { rules };
        }
        _ => {}
    }
}

/// Makes an answer that refuses the names of `view` that these numbers select, among those that an object can be about.
pub fn answer(view: &Arc<View>, refused: &[usize]) -> AckState {
    let keys = view
        .resources
        .keys()
        .filter(|(kind, _)| !matches!(kind, ResourceType::Cluster | ResourceType::Endpoints));
    let keys: Vec<_> = keys.cloned().collect();
    let named = refused.iter().filter_map(|it| keys.get(it % keys.len().max(1)).cloned());
    let words: BTreeMap<_, Arc<str>> = named.map(|key| (key, Arc::from(format!("no {refused:?}")))).collect();
    AckState { acknowledged: Some(Arc::clone(view)), refused: NackMessages::from(Arc::new(words)) }
}

/// Makes the counts from nothing.
pub fn count(
    objects: &KnownObjects,
    snapshot: &Snapshot,
    answers: &BTreeMap<ProxyId, AckState>,
) -> BTreeMap<ObjectRef, AckCount> {
    let count = |(object, known): (&ObjectRef, &Arc<Known>)| {
        let mut acks =
            AckCount { uid: known.uid.clone(), generation: known.generation, ..AckCount::default() };
        let users = objects.iter().filter(|(_, user)| user.uses.contains(object)).map(|(user, _)| user);
        let referrers: Vec<&ObjectRef> = users.chain([object]).collect();
        acks.in_effect = referrers.iter().any(|referrer| is_in_effect(referrer, snapshot.mesh()));
        for proxy in snapshot.mesh().workloads.keys() {
            let Some(view) = snapshot.view(proxy) else { continue };
            let relevant: BTreeSet<(ResourceType, String)> =
                referrers.iter().flat_map(|referrer| carriers(referrer, snapshot.mesh(), proxy)).collect();
            let relevant: Vec<_> = relevant.iter().filter_map(|(kind, name)| view.get(*kind, name)).collect();
            if relevant.is_empty() {
                continue;
            }
            acks.concerned += 1;
            let Some(AckState { acknowledged: Some(taken), refused }) = answers.get(proxy) else { continue };
            let has = |version, held: Option<&Arc<smidge_xds::resources::Resource>>| {
                held.is_some_and(|held| held.version == version)
            };
            if !relevant.iter().all(|it| has(it.version.clone(), taken.get(it.kind, &it.name))) {
                continue;
            }
            let words =
                |it: &&Arc<smidge_xds::resources::Resource>| refused.get(&(it.kind, Arc::clone(&it.name)));
            match relevant.iter().filter_map(words).next_back() {
                None => acks.acknowledged += 1,
                Some(words) => {
                    acks.refused += 1;
                    if acks.words.len() < 3 {
                        acks.words
                            .push((format!("{}/{}", proxy.namespace, proxy.instance), words.to_string()));
                    }
                }
            }
        }
        (object.clone(), acks)
    };
    objects.iter().map(count).collect()
}

fn is_in_effect(object: &ObjectRef, mesh: &Mesh) -> bool {
    let origin = SourceRef::new(&object.kind, &object.namespace, &object.name);
    let mut ports = mesh.services.values().flat_map(|service| service.ports.values());
    match object.kind.as_str() {
        "TrafficTarget" => {
            mesh.grants.values().flat_map(|grants| grants.iter()).any(|it| it.origin == origin)
        }
        "TrafficSplit" => ports.any(|port| port.route.origins().contains(&origin)),
        kind => kind == "MeshConfig",
    }
}

/// Names on the wire of the resources that carry an object to a proxy, whether its view has them or not.
fn carriers(object: &ObjectRef, mesh: &Mesh, proxy: &ProxyId) -> Vec<(ResourceType, String)> {
    let origin = SourceRef::new(&object.kind, &object.namespace, &object.name);
    let class = &mesh.classes[&mesh.workloads[proxy].class];
    let rules = |port: u16, protocol: Protocol| {
        let http = protocol.has_http().then(|| (ResourceType::Extension, format!("inbound/{port}/http")));
        let tcp = protocol.has_tcp().then(|| {
            [
                (ResourceType::Extension, format!("inbound/{port}/tcp")),
                (ResourceType::Secret, format!("clients/{port}")),
            ]
        });
        http.into_iter().chain(tcp.into_iter().flatten()).collect::<Vec<_>>()
    };
    match object.kind.as_str() {
        "TrafficTarget" if class.access != AccessMode::Permissive => {
            let grants = mesh.grants_of(&class.identity).iter().filter(|grant| grant.origin == origin);
            let ports =
                grants.flat_map(|grant| class.ports.iter().filter(|(port, _)| grant.ports.contains(**port)));
            ports.flat_map(|(port, protocol)| rules(*port, *protocol)).collect()
        }
        "TrafficSplit" => {
            let ports =
                mesh.services.values().flat_map(|service| service.ports.iter().map(move |it| (service, it)));
            let ports = ports.filter(|(_, (_, port))| port.route.origins().contains(&origin));
            let way = |(service, (number, port)): (&Arc<smidge_xds::mesh::service::Service>, (&u16, &_))| {
                let port: &smidge_xds::mesh::service::ServicePort = port;
                let name = format!("{}/{}/{number}", service.id.namespace, service.id.name);
                let tcp =
                    port.protocol.has_tcp().then(|| (ResourceType::Extension, format!("outbound/{name}")));
                port.protocol.has_http().then_some((ResourceType::Route, name)).into_iter().chain(tcp)
            };
            ports.flat_map(way).collect()
        }
        "MeshConfig" => {
            let plain = |port: u16| (ResourceType::Extension, format!("inbound/{port}/plain"));
            let other = |port: u16| [(ResourceType::Extension, format!("inbound/{port}/tcp")), plain(port)];
            let ports = class.ports.iter().flat_map(|(port, protocol)| {
                rules(*port, *protocol).into_iter().chain([plain(*port)]).collect::<Vec<_>>()
            });
            ports.chain(other(0)).chain([(ResourceType::Listener, "inbound".to_owned())]).collect()
        }
        _ => Vec::new(),
    }
}
