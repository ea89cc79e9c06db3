//! Random changes of clusters: objects that are added, replaced by others of their name, changed a little, and removed.

use k8s_openapi::{
    api::{
        core::v1::{Namespace, Pod, PodCondition, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube_core::Resource;
use proptest::{prelude::*, sample::Index};
use smidge_crds::{
    Number,
    access::{IdentityBinding, TrafficTarget},
    config::{ExternalPort, ExternalWorkload, MeshConfig},
    specs::HttpRouteGroup,
    split::TrafficSplit,
};
use smidge_lower::{
    inputs::Clusters,
    inputs::{Inputs, Key, Objects},
};
use smidge_mesh::id::{ClusterId, TrustDomain};

/// One change.
#[derive(Debug, Clone)]
pub enum Step {
    /// All objects of a case are added at once, over those that exist.
    Case(Index),
    /// An object of a case is added, or replaces the one of its name.
    Put(usize, Index),
    /// An existing object is removed.
    Remove(usize, Index),
    /// An existing object changes a little.
    Change(usize, Index, usize),
    /// An object can no longer be read.
    Spoil(usize, Index),
    /// A definition is absent, or present again.
    Absent(bool),
    /// The roots change.
    Roots(usize),
    /// Identities are under another trust domain, or under the first one again.
    TrustDomain(bool),
    /// Services are under another domain of the cluster, or under the first one again.
    ClusterDomain(bool),
    /// The second cluster has the objects of a case, some with the same names as those of the first; or is gone.
    Second(Option<Index>),
}

/// Number of kinds of which there are objects.
const KINDS: usize = 12;
/// Number of ways in which an object changes a little.
const WAYS: usize = 7;

pub fn step() -> impl Strategy<Value = Step> {
    let one = || (0..KINDS, any::<Index>());
    prop_oneof![
        2 => any::<Index>().prop_map(Step::Case),
        4 => one().prop_map(|(kind, which)| Step::Put(kind, which)),
        4 => one().prop_map(|(kind, which)| Step::Remove(kind, which)),
        8 => (one(), 0..WAYS).prop_map(|((kind, which), way)| Step::Change(kind, which, way)),
        1 => one().prop_map(|(kind, which)| Step::Spoil(kind, which)),
        1 => any::<bool>().prop_map(Step::Absent),
        1 => (0..3_usize).prop_map(Step::Roots),
        1 => any::<bool>().prop_map(Step::TrustDomain),
        1 => any::<bool>().prop_map(Step::ClusterDomain),
        2 => any::<Option<Index>>().prop_map(Step::Second),
    ]
}

/// Inputs from which objects are taken.
pub struct Pool(Vec<Inputs>);

impl Pool {
    pub fn new(cases: Vec<Inputs>) -> Self {
        Self(cases)
    }

    pub fn cases(&self) -> &[Inputs] {
        &self.0
    }

    /// Takes a step, and returns its description.
    pub fn take(&self, step: &Step, clusters: &mut Clusters) -> String {
        let second = ClusterId("second".to_owned());
        let inputs = clusters.entry(ClusterId::default()).or_default();
        match step {
            Step::Case(which) => add(inputs, which.get(&self.0)),
            Step::Absent(is_absent) => {
                inputs.absent_kinds.clear();
                inputs.absent_kinds.extend(is_absent.then(|| "tcproutes.specs.smi-spec.io".to_owned()));
            }
            Step::Roots(count) => {
                inputs.roots = (0..*count).map(|number| format!("root {number}")).collect();
            }
            Step::TrustDomain(is_other) => inputs.trust_domain = TrustDomain(domain(*is_other)),
            Step::ClusterDomain(is_other) => inputs.cluster_domain = domain(*is_other),
            Step::Second(Some(case)) => drop(clusters.insert(second, case.get(&self.0).clone())),
            Step::Second(None) => drop(clusters.remove(&second)),
            Step::Put(kind, _) | Step::Remove(kind, _) | Step::Change(kind, ..) | Step::Spoil(kind, _) => {
                let object = self.one(*kind, step, inputs);
                return format!("{step:?}: {object:?}");
            }
        }
        format!("{step:?}")
    }

    /// Takes a step with one object of the kind of that number, and returns its kind and name.
    fn one(&self, kind: usize, step: &Step, inputs: &mut Inputs) -> Option<(&'static str, Key)> {
        macro_rules! kinds {
            ($($number:literal => $name:literal, $field:ident, $change:expr;)*) => {
                match kind {
                    $($number => {
                        let pool: Vec<&Objects<_>> = self.0.iter().map(|case| &case.$field).collect();
                        ($name, one(&mut inputs.$field, &pool, step, $change)?)
                    })*
                    _ => unreachable!(),
                }
            };
        }
        let (name, key) = kinds! {
            0 => "Pod", pods, pod;
            1 => "Service", services, service;
            2 => "EndpointSlice", slices, slice;
            3 => "Namespace", namespaces, namespace;
            4 => "TrafficTarget", traffic_targets, target;
            5 => "IdentityBinding", identity_bindings, binding;
            6 => "HTTPRouteGroup", http_route_groups, group;
            7 => "TCPRoute", tcp_routes, |route, way| ports(&mut route.spec.matches.ports, way);
            8 => "UDPRoute", udp_routes, |route, way| ports(&mut route.spec.matches.ports, way);
            9 => "TrafficSplit", traffic_splits, split;
            10 => "MeshConfig", mesh_configs, config;
            11 => "ExternalWorkload", external_workloads, machine;
        };
        let object = (name.to_owned(), key.clone());
        if matches!(step, Step::Spoil(..)) {
            inputs.unreadable.insert(object, "spoilt".to_owned());
        } else {
            inputs.unreadable.remove(&object);
        }
        Some((name, key))
    }
}

fn domain(is_other: bool) -> String {
    if is_other { "example.org" } else { "cluster.local" }.to_owned()
}

fn add(inputs: &mut Inputs, case: &Inputs) {
    macro_rules! add {
        ($($field:ident)*) => {$(
            for (key, object) in &case.$field {
                inputs.$field.insert(key.clone(), object.clone());
            }
        )*};
    }
    add! { pods services slices namespaces traffic_targets identity_bindings http_route_groups tcp_routes udp_routes
    traffic_splits mesh_configs external_workloads }
}

/// Takes a step with one object of a kind, and returns its name.
fn one<K: Clone + Resource<DynamicType = ()>>(
    objects: &mut Objects<K>,
    pool: &[&Objects<K>],
    step: &Step,
    change: fn(&mut K, usize),
) -> Option<Key> {
    let (which, keys): (&Index, Vec<_>) = match step {
        Step::Put(_, which) => (which, pool.iter().flat_map(|objects| objects.keys().cloned()).collect()),
        Step::Remove(_, which) | Step::Change(_, which, _) | Step::Spoil(_, which) => {
            (which, objects.keys().cloned().collect())
        }
        _ => unreachable!(),
    };
    let number = (!keys.is_empty()).then(|| which.index(keys.len()))?;
    let key = keys[number].clone();
    match step {
        Step::Put(..) => {
            let object = pool.iter().flat_map(|objects| objects.values()).nth(number).unwrap();
            objects.insert(key.clone(), object.clone());
        }
        Step::Change(_, _, way) => {
            let mut object = K::clone(&objects[&key]);
            // Age decides which object wins, and every kind has it.
            let second = i64::try_from(number % 3).unwrap();
            let time = Time(Timestamp::from_second(1_700_000_000 + second).unwrap());
            if *way == 0 {
                object.meta_mut().creation_timestamp = Some(time);
            } else {
                change(&mut object, *way);
            }
            objects.insert(key.clone(), object.into());
        }
        _ => drop(objects.remove(&key)),
    }
    Some(key)
}

fn condition(kind: &str, status: &str) -> PodCondition {
    PodCondition { type_: kind.to_owned(), status: status.to_owned(), ..PodCondition::default() }
}

fn pod(pod: &mut Pod, way: usize) {
    match way {
        1 => pod.status.get_or_insert_default().phase = Some("Succeeded".to_owned()),
        2 => pod.status.get_or_insert_default().pod_ips = None,
        3 => drop(pod.metadata.labels.get_or_insert_default().insert("app".to_owned(), "api".to_owned())),
        4 => pod.metadata.annotations = None,
        5 => pod.status.get_or_insert_default().conditions = Some(vec![condition("ContainersReady", "True")]),
        _ => pod.spec.get_or_insert_default().service_account_name = Some("api".to_owned()),
    }
}

fn service(service: &mut Service, way: usize) {
    let spec = service.spec.get_or_insert_default();
    match way {
        1 => spec.cluster_ip = Some("None".to_owned()),
        2 => spec.type_ = Some("ExternalName".to_owned()),
        3 => drop(spec.selector.get_or_insert_default().insert("app".to_owned(), "api".to_owned())),
        4 => spec.cluster_ips = Some(vec!["240.0.0.1".to_owned()]),
        _ => spec.ports.iter_mut().flatten().for_each(|port| port.app_protocol = Some("http".to_owned())),
    }
}

fn slice(slice: &mut EndpointSlice, way: usize) {
    let ready = |slice: &mut EndpointSlice, ready: bool, terminating: bool| {
        for endpoint in &mut slice.endpoints {
            let conditions = endpoint.conditions.get_or_insert_default();
            (conditions.ready, conditions.terminating) = (Some(ready), Some(terminating));
        }
    };
    match way {
        1 => ready(slice, false, true),
        2 => ready(slice, true, false),
        5 => ready(slice, false, false),
        3 => drop(slice.endpoints.pop()),
        4 => {
            let labels = slice.metadata.labels.get_or_insert_default();
            labels.insert("kubernetes.io/service-name".to_owned(), "api".to_owned());
        }
        _ => slice.ports.iter_mut().flatten().for_each(|port| port.port = Some(9999)),
    }
}

fn namespace(namespace: &mut Namespace, way: usize) {
    let labels = namespace.metadata.labels.get_or_insert_default();
    if way.is_multiple_of(3) {
        let word = if way.is_multiple_of(2) { "enabled" } else { "disabled" };
        labels.insert("smidge.mesh/inject".to_owned(), word.to_owned());
        return;
    }
    let words = ["enforce", "audit", "permissive", "nonsense"];
    let label = if way.is_multiple_of(2) { "smidge.mesh/mtls" } else { "smidge.mesh/access" };
    labels.insert(label.to_owned(), words[way % words.len()].to_owned());
}

fn target(target: &mut TrafficTarget, way: usize) {
    let spec = &mut target.spec;
    match way {
        1 => drop(spec.sources.pop()),
        2 => drop(spec.rules.pop()),
        3 => spec.destination.name = "api".to_owned(),
        4 => spec.rules.iter_mut().for_each(|rule| rule.matches = None),
        _ => spec.destination.kind = "IdentityBinding".to_owned(),
    }
}

fn binding(binding: &mut IdentityBinding, way: usize) {
    let schemes = &mut binding.spec.schemes;
    match way {
        1 => schemes.pod_label_selector = None,
        2 => schemes.spiffe_identities = None,
        3 => schemes.service_account = None,
        _ => schemes.service_account = Some("api".to_owned()),
    }
}

fn ports(ports: &mut Vec<Number>, way: usize) {
    match way {
        1 => ports.clear(),
        2 => drop(ports.pop()),
        _ => ports.push(Number::from(9999)),
    }
}

fn group(group: &mut HttpRouteGroup, way: usize) {
    let matches = &mut group.spec.matches;
    match way {
        1 => drop(matches.pop()),
        2 => matches.iter_mut().for_each(|it| it.path_regex = Some("/changed".to_owned())),
        3 => matches.iter_mut().for_each(|it| it.path_regex = Some("(".to_owned())),
        _ => matches.iter_mut().for_each(|it| it.name = "renamed".to_owned()),
    }
}

fn split(split: &mut TrafficSplit, way: usize) {
    let spec = &mut split.spec;
    match way {
        1 => drop(spec.backends.pop()),
        2 => spec.backends.reverse(),
        3 => spec.service = "api".to_owned(),
        4 => spec.matches = None,
        _ => spec.backends.iter_mut().for_each(|backend| backend.weight = None),
    }
}

fn config(config: &mut MeshConfig, way: usize) {
    let spec = &mut config.spec;
    match way {
        1 => spec.access.mode = None,
        2 => spec.mtls.mode = None,
        _ => spec.path_regex_end = None,
    }
}

fn machine(machine: &mut ExternalWorkload, way: usize) {
    let spec = &mut machine.spec;
    let one = "10.9.0.7".to_owned();
    match way {
        // Addresses that other ExternalWorkloads and pods of the cases have.
        1 if spec.addresses.first() == Some(&one) => spec.addresses = vec!["198.19.0.1".to_owned()],
        1 => spec.addresses = vec![one],
        2 => spec.service_account = Some(if spec.service_account.is_none() { "-" } else { "api" }.to_owned()),
        3 => drop(machine.metadata.labels.get_or_insert_default().insert("app".to_owned(), "api".to_owned())),
        4 => spec.network = spec.network.is_none().then(|| "dc1".to_owned()),
        _ => spec.ports.push(ExternalPort { port: Some(8080.into()), ..ExternalPort::default() }),
    }
}
