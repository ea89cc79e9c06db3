//! Turns the objects of the clusters into one mesh, and into findings about what is wrong with them.
//!
//! Pure and total: any inputs yield a mesh. A defect in an object costs that object's own effect and yields a
//! finding; what cannot be read allows nothing. One file a Kubernetes or SMI noun; `publish` and the offline tools call
//! it. Does not know Envoy.
//!
//! Lowering is a graph (`graph`, docs/design/010) of nodes (`node`), each of which notes what it has read (`context`), so that a
//! change recomputes what it can touch and nothing else.

mod access;
mod budget;
mod cluster;
mod context;
mod cost;
mod endpoints;
mod findings;
mod graph;
mod mesh_service;
mod node;
pub mod regex;
mod route;
mod service;
mod settings;
mod shape;
mod split;
pub(crate) use self::{node::Node, settings::injects_strictly};
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

use self::{cluster::Cluster, context::Context, node::Value};
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

/// Counts of what was ever computed, and of what there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lowered {
    /// Services, each as often as it was lowered.
    pub services: u64,
    /// Workload instances.
    pub workloads: u64,
    /// Nodes of any kind: objects that were read, and all that was computed from them.
    pub nodes: u64,
    /// Nodes that there are now.
    pub kept: u64,
}

impl Lowering {
    /// The mesh of all clusters as they are now, and the findings about their objects, errors first. Where no node reports
    /// anything new, they are the same `Arc`.
    pub fn next(&mut self, clusters: &BTreeMap<ClusterId, Inputs>) -> (Mesh, Arc<Vec<Finding>>) {
        let known = self.clusters.len();
        self.clusters.retain(|cluster, _| clusters.contains_key(cluster));
        let mut has_changed = self.clusters.len() != known;
        self.lowered.kept = 0;
        for (id, inputs) in clusters {
            let cluster = self.clusters.entry(id.clone()).or_default();
            cluster.step(id, inputs);
            has_changed |= cluster.findings().take_changed();
            self.lowered.add(cluster.take_lowered());
        }
        if has_changed {
            let of_each = self.clusters.values_mut().map(|cluster| cluster.findings().all());
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
        self.nodes += more.nodes;
        self.kept += more.kept;
    }
}

/// Computes the value of a node.
fn compute(node: &Node, context: &mut Context<'_>) -> Option<Value> {
    Some(match node {
        Node::TrustDomain => Value::TrustDomain(context.setting(|inputs| inputs.trust_domain.clone())),
        Node::ClusterDomain => Value::Text(context.setting(|inputs| inputs.cluster_domain.as_str().into())),
        Node::SystemNamespace => {
            Value::Text(context.setting(|inputs| inputs.system_namespace.as_str().into()))
        }
        Node::MeshWide => Value::MeshWide(settings::mesh_wide(context)),
        Node::Modes(namespace) => {
            let (access, mtls) = settings::modes(namespace, context)?;
            Value::Modes(access, mtls)
        }
        Node::InjectsNamespace(namespace) => settings::injects(namespace, context).then_some(Value::Yes)?,
        Node::Absent(kind) => report_absent(kind, context)?,
        Node::Unreadable(kind, key) => report_unreadable(kind, key, context)?,
        Node::Group(key) => Value::Group(route::group(key, context)?.into()),
        Node::TcpRoute(key) => Value::Ports(route::tcp_route(key, context)?),
        Node::UdpRoute(key) => Value::Ports(route::udp_route(key, context)?),
        Node::Pod(key) => Value::Pod(workload::instance(key, context)?.into()),
        Node::Binding(key) => Value::Identities(access::binding(key, context)?.into()),
        Node::Target(key) => Value::TargetGrant(access::target(key, context)?.into()),
        Node::Slice(key) => Value::Slice(endpoints::slice(key, context)?),
        Node::KubeService(id) => Value::KubeService(service::known(id, context)?.into()),
        Node::ServiceExists(id) => context.kube_service(id).map(|_| Value::Yes)?,
        Node::HasMembers(id) => {
            context.kube_service(id).filter(|it| !it.members.is_empty()).map(|_| Value::Yes)?
        }
        Node::Endpoints(id) => Value::Endpoints(endpoints::endpoints(id, context)?.into()),
        Node::SplitSpec(key) => Value::SplitSpec(split::written(key, context)?.into()),
        Node::SplitsOverBudget(namespace) => {
            Value::SplitsOverBudget(budget::over_budget(namespace, context).into())
        }
        Node::Split(_) => Value::Split(split::in_effect(context)?.into()),
        Node::HasSplit(root) => context.split(root).map(|_| Value::Yes)?,
        Node::InboundPort(identity, _) => {
            budget::inbound(identity, context);
            Value::Yes
        }
        Node::ServiceLoad(id) => Value::Load(budget::load(id, context)?),
        Node::IdentityLoad(_) => Value::Load(budget::burden(context)),
        Node::TargetsOverBudget(namespace) => {
            Value::TargetsOverBudget(budget::losses(namespace, context).into())
        }
        Node::Grants(_) => Value::Grants(access::grants(context).into()),
        Node::IsGranted(identity) => context.grants(identity).map(|_| Value::Yes)?,
        Node::ClaimedAddresses(id) => Value::ClaimedAddresses(mesh_service::claims(id, context)?.into()),
        Node::AddressOwner(..) => Value::Owner(mesh_service::owner(context)?),
        Node::Service(id) => Value::Service(mesh_service::service(id, context)?.into()),
        Node::ServedPorts(pod) => Value::ServedPorts(service::served(pod, context).into()),
        Node::Workload(pod) => {
            let (workload, class) = workload::workload(pod, context)?;
            Value::Workload((workload.into(), class.into()))
        }
        Node::Class(_) => Value::Class(workload::class(context)?),
        // Sets stand for their contributors.
        Node::PodsWithLabel(..)
        | Node::PodsInNamespace(_)
        | Node::SlicesOfService(_)
        | Node::SplitsOfRoot(_)
        | Node::SplitsToService(_) => {
            return None;
        }
    })
}

fn report_absent(kind: &str, context: &mut Context<'_>) -> Option<Value> {
    context.is_absent(kind).then_some(())?;
    let object = ObjectRef::new("CustomResourceDefinition", "", kind);
    let message = "is not installed; the mesh goes on as if there were no object of it";
    context.report(
        Finding::new(object, Reason::CRDNotInstalled, message)
            .hint("install the definitions that `smidge crds` prints"),
    );
    Some(Value::Yes)
}

fn report_unreadable(kind: &str, key: &Key, context: &mut Context<'_>) -> Option<Value> {
    let error = context.unreadable(kind, key)?;
    let object = ObjectRef::new(kind, &key.0, &key.1);
    let message = format!("cannot be read and has no effect: {error}");
    context.report(Finding::new(object, Reason::Malformed, message));
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
