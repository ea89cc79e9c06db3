//! Turns the objects of the clusters into one mesh, and into findings about what is wrong with them.
//!
//! Pure and total: any inputs yield a mesh. A defect in an object costs that object's own effect and yields a
//! finding; what cannot be read allows nothing. One file a Kubernetes or SMI noun; `publish` and the offline tools call
//! it. Does not know Envoy.
//!
//! What is made of the objects is made in units (`unit`), each of which notes what it has looked at (`look`), so that a
//! change makes again what it can touch and nothing else (`graph`, docs/design/010).

mod access;
mod budget;
mod cluster;
mod cost;
mod endpoints;
mod found;
mod graph;
mod look;
mod mesh_service;
pub mod regex;
mod route;
mod service;
mod settings;
mod shape;
mod split;
mod unit;
pub(crate) use self::{settings::injects_strictly, unit::Unit};
pub mod workload;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use smidge_xds::mesh::{
    Map, Mesh,
    id::{ClusterId, ServiceId, SpiffeId},
    service::Service,
};

use self::{cluster::Cluster, look::Look, unit::Value};
use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::{Inputs, Key},
};

/// The mesh of all clusters, and what is wrong with their objects, errors first.
pub fn lower(clusters: &BTreeMap<ClusterId, Inputs>) -> (Mesh, Vec<Finding>) {
    let (mesh, findings) = Lowering::default().next(clusters);
    (mesh, Arc::unwrap_or_clone(findings))
}

/// The identities that each IdentityBinding stands for.
pub(crate) type Bindings = BTreeMap<Key, Arc<BTreeSet<Arc<SpiffeId>>>>;

/// The identities that each IdentityBinding of a cluster stands for.
pub(crate) fn bindings(inputs: &Inputs) -> Bindings {
    // Nothing else is read for them.
    let inputs = Inputs {
        pods: inputs.pods.clone(),
        identity_bindings: inputs.identity_bindings.clone(),
        trust_domain: inputs.trust_domain.clone(),
        ..Inputs::default()
    };
    let mut cluster = Cluster::default();
    cluster.step(&ClusterId::default(), &inputs);
    cluster.bindings()
}

/// What was made of the clusters so far, so that the next mesh costs what has changed. Comes to what `lower` comes to.
/// Beside the first cluster, the others cost what they are at each step: their meshes are put together anew.
#[derive(Debug, Default)]
pub struct Lowering {
    clusters: BTreeMap<ClusterId, Cluster>,
    findings: Arc<Vec<Finding>>,
    lowered: Lowered,
}

/// How much was ever made, and how much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lowered {
    /// Services, each as often as it was lowered.
    pub services: u64,
    /// Workload instances.
    pub workloads: u64,
    /// Units of any kind: objects that were read, and all that was made of them.
    pub units: u64,
    /// Units that are there now.
    pub kept: u64,
}

impl Lowering {
    /// The mesh of all clusters as they are now, and what is wrong with their objects, errors first. Where no unit says
    /// anything else than before, that is the same `Arc`.
    pub fn next(&mut self, clusters: &BTreeMap<ClusterId, Inputs>) -> (Mesh, Arc<Vec<Finding>>) {
        let known = self.clusters.len();
        self.clusters.retain(|cluster, _| clusters.contains_key(cluster));
        let mut has_news = self.clusters.len() != known;
        self.lowered.kept = 0;
        for (id, inputs) in clusters {
            let cluster = self.clusters.entry(id.clone()).or_default();
            cluster.step(id, inputs);
            has_news |= cluster.found().take_news();
            self.lowered.add(cluster.take_lowered());
        }
        if has_news {
            let of_each = self.clusters.values_mut().map(|cluster| cluster.found().all());
            let mut all: Vec<Finding> = of_each.flatten().cloned().collect();
            if self.clusters.len() > 1 {
                all.sort();
                all.dedup();
            }
            self.findings = Arc::new(all);
        }
        let mut meshes = self.clusters.values().map(Cluster::mesh);
        let mut mesh = meshes.next().cloned().unwrap_or_default();
        meshes.for_each(|other| add(&mut mesh, other));
        (mesh, Arc::clone(&self.findings))
    }

    /// How much was made so far.
    pub fn lowered(&self) -> Lowered {
        self.lowered
    }
}

impl Lowered {
    fn add(&mut self, more: Self) {
        self.services += more.services;
        self.workloads += more.workloads;
        self.units += more.units;
        self.kept += more.kept;
    }
}

/// Makes one unit.
fn make(unit: &Unit, look: &mut Look<'_>) -> Option<Value> {
    Some(match unit {
        Unit::TrustDomain => Value::TrustDomain(look.setting(|inputs| inputs.trust_domain.clone())),
        Unit::ClusterDomain => Value::Text(look.setting(|inputs| inputs.cluster_domain.as_str().into())),
        Unit::SystemNamespace => Value::Text(look.setting(|inputs| inputs.system_namespace.as_str().into())),
        Unit::MeshWide => Value::MeshWide(settings::mesh_wide(look)),
        Unit::Modes(namespace) => {
            let (access, mtls) = settings::modes(namespace, look)?;
            Value::Modes(access, mtls)
        }
        Unit::Injects(namespace) => settings::injects(namespace, look).then_some(Value::Yes)?,
        Unit::Absent(kind) => report_absent(kind, look)?,
        Unit::Unreadable(kind, key) => report_unreadable(kind, key, look)?,
        Unit::Group(key) => Value::Group(route::group(key, look)?.into()),
        Unit::TcpRoute(key) => Value::Ports(route::tcp_route(key, look)?),
        Unit::UdpRoute(key) => Value::Ports(route::udp_route(key, look)?),
        Unit::Pod(key) => Value::Instance(workload::instance(key, look)?.into()),
        Unit::Binding(key) => Value::Identities(access::binding(key, look)?.into()),
        Unit::Target(key) => Value::Allowed(access::target(key, look)?.into()),
        Unit::Slice(key) => Value::Slice(endpoints::slice(key, look)?),
        Unit::Known(id) => Value::Known(service::known(id, look)?.into()),
        Unit::IsService(id) => look.known(id).map(|_| Value::Yes)?,
        Unit::HasMembers(id) => look.known(id).filter(|it| !it.members.is_empty()).map(|_| Value::Yes)?,
        Unit::Endpoints(id) => Value::Endpoints(endpoints::endpoints(id, look)?.into()),
        Unit::Written(key) => Value::Written(split::written(key, look)?.into()),
        Unit::BudgetExceeded(namespace) => Value::BudgetExceeded(budget::over_budget(namespace, look).into()),
        Unit::Split(_) => Value::Split(split::in_effect(look)?.into()),
        Unit::HasSplit(root) => look.split(root).map(|_| Value::Yes)?,
        Unit::Inbound(identity, _) => {
            budget::inbound(identity, look);
            Value::Yes
        }
        Unit::Load(id) => Value::Load(budget::load(id, look)?),
        Unit::Burden(_) => Value::Load(budget::burden(look)),
        Unit::Losses(namespace) => Value::Losses(budget::losses(namespace, look).into()),
        Unit::Grants(_) => Value::Grants(access::grants(look).into()),
        Unit::IsGranted(identity) => look.grants(identity).map(|_| Value::Yes)?,
        Unit::Claims(id) => Value::Claims(mesh_service::claims(id, look)?.into()),
        Unit::Address(..) => Value::Owner(mesh_service::owner(look)?),
        Unit::Service(id) => Value::Service(mesh_service::service(id, look)?.into()),
        Unit::Served(pod) => Value::Served(service::served(pod, look).into()),
        Unit::Workload(pod) => {
            let (workload, class) = workload::workload(pod, look)?;
            Value::Workload((workload.into(), class.into()))
        }
        Unit::Class(_) => Value::Class(workload::class(look)?),
        // Sets are those who give to them.
        Unit::Labelled(..) | Unit::PodsOf(_) | Unit::Slices(_) | Unit::Splits(_) | Unit::Senders(_) => {
            return None;
        }
    })
}

fn report_absent(kind: &str, look: &mut Look<'_>) -> Option<Value> {
    look.is_absent(kind).then_some(())?;
    let object = ObjectRef::new("CustomResourceDefinition", "", kind);
    let message = "is not installed; the mesh goes on as if there were no object of it";
    look.found(
        Finding::new(object, Reason::CRDNotInstalled, message)
            .hint("install the definitions that `smidge crds` prints"),
    );
    Some(Value::Yes)
}

fn report_unreadable(kind: &str, key: &Key, look: &mut Look<'_>) -> Option<Value> {
    let error = look.unreadable(kind, key)?;
    let object = ObjectRef::new(kind, &key.0, &key.1);
    let message = format!("cannot be read and has no effect: {error}");
    look.found(Finding::new(object, Reason::Malformed, message));
    Some(Value::Yes)
}

/// Adds the mesh of another cluster.
fn add(mesh: &mut Mesh, other: &Mesh) {
    let trust = Arc::make_mut(&mut mesh.trust);
    trust.domain = other.trust.domain.clone();
    for (domain, bundle) in &other.trust.bundles {
        trust.bundles.entry(domain.clone()).or_default().roots.extend(bundle.roots.iter().cloned());
    }
    for service in other.services.values() {
        merge(&mut mesh.services, service);
    }
    mesh.workloads.extend(other.workloads.iter().map(|(id, it)| (id.clone(), Arc::clone(it))));
    mesh.classes.extend(other.classes.iter().map(|(id, it)| (id.clone(), Arc::clone(it))));
    for (destination, more) in &other.grants {
        let grants = Arc::make_mut(mesh.grants.entry(destination.clone()).or_default());
        grants.extend(more.iter().cloned());
        grants.sort();
    }
}

/// A Service that several clusters have is one Service: the first cluster says what its ports are, all of them serve.
fn merge(services: &mut Map<ServiceId, Service>, service: &Arc<Service>) {
    let Some(present) = services.get_mut(&service.id).map(Arc::make_mut) else {
        services.insert(service.id.clone(), Arc::clone(service));
        return;
    };
    present.identities.extend(service.identities.iter().cloned());
    for (number, port) in &service.ports {
        if let Some(present) = present.ports.get_mut(number) {
            present.addresses.extend(&port.addresses);
            present.servers.extend(port.servers.iter().cloned());
            present.endpoints.extend(port.endpoints.iter().cloned());
            present.endpoints.sort();
        } else {
            present.ports.insert(*number, port.clone());
        }
    }
}
