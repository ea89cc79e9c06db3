//! Turns a mesh into the pool of Envoy resources that all proxies share, each built and encoded once.
//!
//! Pure. Called by `snapshot` for every new mesh; feeds `view` and, through it, `delta::Session`.
//! Holds no secret: leaf keys are sent on their own stream only (`server`).

mod class;
mod drain;
mod previous;
mod service;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use imbl::OrdMap;

use prost::{Message, Name};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    envoy::{
        cluster,
        filter::{self, Options},
        listener::outbound::{self, Closed},
        names, tls, tracing,
    },
    index::Index,
    mesh::{
        Mesh,
        change::{Changes, changes},
        id::{ClassId, ServiceId},
        proxy::ProxyKind,
        service::{Protocol, Service},
    },
    reach,
};
use class::ClassPart;
use drain::Drains;
pub use previous::Built;
use previous::{Beside, Previous};
pub(crate) use service::{PortPart, ServicePart};

/// The types of resources that are served, in the order in which additions are sent
/// (xDS protocol, "Eventual consistency considerations"). Removals go in reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum ResourceType {
    /// `envoy.config.cluster.v3.Cluster`
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`
    Endpoints,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`
    Secret,
    /// `envoy.config.listener.v3.Listener`
    Listener,
    /// `envoy.config.core.v3.TypedExtensionConfig`
    Extension,
    /// `envoy.config.route.v3.RouteConfiguration`
    Route,
}

impl ResourceType {
    /// Every kind, in the order of additions.
    pub const ALL: [Self; 6] =
        [Self::Cluster, Self::Endpoints, Self::Secret, Self::Listener, Self::Extension, Self::Route];

    /// Returns the type URL on the wire.
    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// Returns the kind with this type URL, if it is served.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// Returns true if a resource of this kind can carry the content of a user's object: no object states where a
    /// Service's endpoints are (`provenance`).
    pub(crate) fn is_stated(self) -> bool {
        !matches!(self, Self::Cluster | Self::Endpoints)
    }

    /// Returns true if a client receives all names of its view without naming them (CDS and LDS).
    pub fn is_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

/// The version of a resource: a digest of its content, the same on every replica and after every restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Arc<str>);

impl Version {
    /// Creates a version from its text, as a client sends it back.
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// Returns the text on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if a proxy that reports `held` needs nothing sent to have `self`.
    ///
    /// A version may end in `+<drain>`: a mark in a listener that is changed only to end connections which the policy
    /// no longer allows. It means nothing to a proxy that connects anew: proxies that were connected when it changed
    /// were sent it then.
    pub fn is_held_as(&self, held: &Self) -> bool {
        self.base() == held.base()
    }

    fn base(&self) -> &str {
        self.0.split_once('+').map_or(&self.0, |(base, _)| base)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One resource, encoded.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its type.
    pub kind: ResourceType,
    /// Its name on the wire. Two resources of the pool may share it (the inbound side of two classes), but no view has
    /// both.
    pub name: Arc<str>,
    /// Digest of `body`; of its base and its drain marks for a listener that has marks (`Version::is_held_as`).
    pub version: Version,
    /// The encoded message, the value of the `Any`. Cheap to clone.
    pub body: prost::bytes::Bytes,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body is never printed: a secret has this type as well.
        f.debug_struct("Resource")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Resource {
    /// Encodes a message. The same message has the same bytes in every process, as no builder makes a protobuf map
    /// with more than one entry.
    fn new<M: Message + Name>(kind: ResourceType, name: &str, message: &M) -> Self {
        let body = prost::bytes::Bytes::from(message.encode_to_vec());
        Self { kind, name: Arc::from(name), version: Version::new(&digest(&body)), body }
    }
}

/// Returns the start of a SHA-256 in hexadecimal: 128 bits, so that no two contents ever share a version.
fn digest(bytes: &[u8]) -> String {
    let start = Sha256::digest(bytes).into_iter().take(16);
    format!("{:032x}", start.fold(0_u128, |number, byte| number << 8 | u128::from(byte)))
}

/// The pool: all resources that any proxy of the mesh may be sent, in the parts that it is made of. Cheap to clone.
#[derive(Clone, Default)]
pub struct Resources {
    mesh: Mesh,
    index: Index,
    shared: Arc<Vec<Arc<Resource>>>,
    /// The virtual outbound listener and the router of requests, for each kind of proxy that a class has.
    by_kind: BTreeMap<ProxyKind, [Arc<Resource>; 2]>,
    services: OrdMap<ServiceId, Arc<ServicePart>>,
    classes: OrdMap<ClassId, Arc<ClassPart>>,
    drains: Drains,
    built: Built,
}

/// Builds the pool of a mesh.
///
/// Parts that the previous pool built from the same input are taken over unchanged, at no cost, and so is every
/// resource whose bytes are the same; drain marks are the only part of the pool that depends on the previous one.
pub fn resources(mesh: &Mesh, previous: Option<&Resources>) -> Resources {
    let nothing = Resources::default();
    let previous = previous.unwrap_or(&nothing);
    previous.next(mesh, &Changes::between(&previous.mesh, mesh))
}

impl Resources {
    /// Returns the pool after `changes`, which lead from this pool's mesh to `mesh`.
    pub(crate) fn next(&self, mesh: &Mesh, changes: &Changes<'_>) -> Self {
        let mut pool = Self {
            mesh: mesh.clone(),
            index: self.index.next(changes),
            built: Built::default(),
            ..self.clone()
        };
        pool.build_services(changes, self);
        pool.build_classes(changes, self);
        pool.build_shared(changes, self);
        pool
    }

    fn build_services(&mut self, changes: &Changes<'_>, previous: &Self) {
        for gone in changes.services.iter().filter(|change| change.new.is_none()) {
            self.services.remove(gone.key);
        }
        if changes.mesh_wide {
            for (id, service) in &self.mesh.services.clone() {
                let kept = Previous::new(previous.services.get(id).into_iter().flat_map(|part| part.iter()));
                self.put_service(id, ServicePart::new(service, &self.mesh, &kept), &kept);
            }
            return;
        }
        for change in &changes.services {
            let Some(service) = change.new else { continue };
            let earlier = previous.services.get(change.key);
            let kept = Previous::new(earlier.into_iter().flat_map(|part| part.iter()));
            let part = match change.old.zip(earlier) {
                Some(old) => ServicePart::next(service, &self.mesh, &kept, old),
                None => ServicePart::new(service, &self.mesh, &kept),
            };
            self.put_service(change.key, part, &kept);
        }
    }

    fn put_service(&mut self, id: &ServiceId, part: ServicePart, kept: &Previous<'_>) {
        self.built.services += 1;
        self.built.encoded += kept.encoded();
        self.services.insert(id.clone(), Arc::new(part));
    }

    fn build_classes(&mut self, changes: &Changes<'_>, previous: &Self) {
        for gone in changes.classes.iter().filter(|change| change.new.is_none()) {
            self.classes.remove(gone.key);
        }
        let mesh = self.mesh.clone();
        for identity in changes.identities(&mesh) {
            self.drains.renew(&mesh, &self.index, identity);
            let ids: Vec<ClassId> = self.index.classes(identity).cloned().collect();
            // Pods of a ServiceAccount that differ in one port have classes of their own, and equal rules at all
            // others.
            let mut beside = Beside::new();
            for id in ids {
                let Some(class) = mesh.classes.get(&id) else { continue };
                let kept = Previous::new(previous.class(&id)).beside(&beside);
                let grants = mesh.grants_of(identity);
                let part = ClassPart::new(class, grants, &self.drains.marks(class), &mesh, &kept);
                self.built.classes += 1;
                self.built.encoded += kept.encoded();
                for resource in part.iter() {
                    let key = (resource.kind, Arc::clone(&resource.name));
                    beside.entry(key).or_insert_with(|| Arc::clone(resource));
                }
                self.classes.insert(id, Arc::new(part));
            }
        }
    }

    /// Builds the resources that every proxy sees.
    fn build_shared(&mut self, changes: &Changes<'_>, previous: &Self) {
        let is_entered_alike = changes.services.iter().all(|change| {
            let (old, new) = (change.old.into_iter(), change.new.into_iter());
            old.flat_map(|service| listener_addresses(service))
                .eq(new.flat_map(|service| listener_addresses(service)))
        });
        let mut proxies: BTreeSet<ProxyKind> = if changes.classes.is_empty() && !previous.by_kind.is_empty() {
            previous.by_kind.keys().copied().collect()
        } else {
            self.mesh.classes.values().map(|class| class.proxy_kind()).collect()
        };
        // A mesh without classes has one as well, so that its configuration can be shown.
        if proxies.is_empty() {
            proxies.insert(ProxyKind::default());
        }
        let has_all = proxies.iter().eq(previous.by_kind.keys());
        if is_entered_alike && !changes.mesh_wide && !previous.shared.is_empty() && has_all {
            return;
        }
        let mut addresses = outbound::Addresses::new();
        for (port, ips) in self.mesh.services.values().flat_map(|service| listener_addresses(service)) {
            addresses.entry(port).or_default().extend(ips);
        }
        addresses.retain(|_, ips| !ips.is_empty());
        self.by_kind = proxies
            .into_iter()
            .map(|kind| {
                let kept = Previous::new(previous.of_kind(kind));
                let (traffic, families) = kind;
                let options = Options { settings: &self.mesh.settings, traffic };
                let listener = outbound::virtual_listener(&addresses, options, families);
                let router = filter::outbound_router(options);
                let made = [
                    kept.make(ResourceType::Listener, &listener.name, &listener),
                    kept.make(ResourceType::Extension, &router.name, &router),
                ];
                self.built.encoded += kept.encoded();
                (kind, made)
            })
            .collect();
        let kept = Previous::new(previous.shared());
        let settings = &self.mesh.settings;
        let clusters = [cluster::passthrough(), cluster::inbound(settings), cluster::blackhole()];
        let collector = settings.tracing.as_ref().map(tracing::cluster);
        let clusters = clusters
            .iter()
            .chain(&collector)
            .map(|cluster| kept.make(ResourceType::Cluster, &cluster.name, cluster));
        let mut shared: Vec<Arc<Resource>> = clusters.collect();
        let trust = tls::trust(&self.mesh.trust);
        shared.extend(trust.map(|secret| kept.make(ResourceType::Secret, names::TRUST, &secret)));
        self.shared = Arc::new(shared);
        self.built.encoded += kept.encoded();
    }

    /// Returns every resource, with its class if it is of the inbound side.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&ClassId>, &Arc<Resource>)> {
        let shared = self.shared.iter().chain(self.by_kind.values().flatten());
        let shared = shared.chain(self.services.values().flat_map(|part| part.iter()));
        let classes =
            self.classes.iter().flat_map(|(id, part)| part.iter().map(move |resource| (Some(id), resource)));
        shared.map(|resource| (None, resource)).chain(classes)
    }

    /// Returns the cost of building it, without what was taken over.
    pub fn built(&self) -> Built {
        self.built
    }

    /// Returns the index of the mesh from which it was built.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Returns the resources that every proxy sees.
    pub(crate) fn shared(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.shared.iter()
    }

    /// Returns the resources that every proxy of this kind sees.
    pub(crate) fn of_kind(&self, kind: ProxyKind) -> impl Iterator<Item = &Arc<Resource>> {
        self.by_kind.get(&kind).into_iter().flatten()
    }

    /// Returns the kinds of proxies that there are.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = ProxyKind> {
        self.by_kind.keys().copied()
    }

    /// Returns the resources of a Service.
    pub(crate) fn service(&self, id: &ServiceId) -> Option<&Arc<ServicePart>> {
        self.services.get(id)
    }

    /// Returns the classes whose inbound side differs from that in an `earlier` pool.
    pub(crate) fn other_classes<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = &'a ClassId> {
        changes(&earlier.classes, &self.classes).map(|change| change.key)
    }

    /// Returns the inbound side of a class.
    pub(crate) fn class(&self, id: &ClassId) -> impl Iterator<Item = &Arc<Resource>> {
        self.classes.get(id).into_iter().flat_map(|part| part.iter())
    }
}

/// Returns the addresses at which a Service is called, by port, for the answers of proxies without its listeners. A Service
/// that joins the mesh has none: a listener takes some milliseconds to get its route, and calls would be refused until then.
fn listener_addresses(
    service: &Service,
) -> impl Iterator<Item = ((u16, Protocol, Closed), &BTreeSet<IpAddr>)> {
    let ports = service.ports.iter().filter(|_| !service.is_joining);
    ports.map(|(number, port)| {
        let mut others = reach::backends(port).filter(|backend| backend.service != service.id);
        let is_served = !port.servers.is_empty() || others.next().is_some();
        let closed = if is_served { Closed::ByPolicy } else { Closed::ForWantOfServers };
        ((*number, port.protocol, closed), &port.addresses)
    })
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
