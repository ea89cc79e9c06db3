//! Turns a mesh into the pool of Envoy resources that all proxies share, each built and encoded once.
//!
//! Called by `snapshot` for every new mesh; feeds `view` and, through it, `delta::Session`.
//! Holds no secret: leaf keys travel on their own stream only (`server`).

mod class;
mod drain;
mod service;

use std::{collections::BTreeMap, fmt, sync::Arc};

use prost::{Message, Name};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    envoy::{cluster, listener::outbound, names, tls},
    mesh::{
        Mesh,
        id::{ClassId, ServiceId},
        trust::Trust,
    },
};
use class::ClassPart;
use drain::Drains;
pub(crate) use service::ServicePart;

/// The types of resources that are served, in the order in which additions are sent
/// (xDS protocol, "Eventual consistency considerations"). Removals go in reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Kind {
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

impl Kind {
    /// Every kind, in the order of additions.
    pub const ALL: [Self; 6] =
        [Self::Cluster, Self::Endpoints, Self::Secret, Self::Listener, Self::Extension, Self::Route];

    /// The type URL on the wire.
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

    /// The kind with this type URL, if it is one that is served.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// Whether a client gets all names of its view without naming them (CDS and LDS).
    pub fn is_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

/// The version of a resource: a digest of its content, the same on every replica and after every restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Arc<str>);

impl Version {
    /// A version from its text, as a client sends it back.
    pub fn new(text: &str) -> Self {
        Self(Arc::from(text))
    }

    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a proxy that says it holds `held` needs nothing sent to have `self`.
    ///
    /// A version may end in `+<drain>`: a mark in a listener that is changed only to end connections which the policy
    /// no longer allows. It means nothing to a proxy that connects anew, as whoever renewed it was sent it then.
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
    pub kind: Kind,
    /// Its name on the wire. Two resources of the pool may share it (the inbound side of two classes); no view has both.
    pub name: Arc<str>,
    /// The digest of `body`.
    pub version: Version,
    /// The encoded message, the value of the `Any`. Cheap to clone.
    pub body: prost::bytes::Bytes,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the body: a secret has this type as well.
        f.debug_struct("Resource")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Resource {
    fn key(self: &Arc<Self>) -> (Kind, &str) {
        (self.kind, &self.name)
    }

    /// Encodes a message. The same message has the same bytes in every process, as no builder makes a protobuf map
    /// with more than one entry.
    fn new<M: Message + Name>(kind: Kind, name: &str, message: &M) -> Self {
        let body = prost::bytes::Bytes::from(message.encode_to_vec());
        Self { kind, name: Arc::from(name), version: Version::new(&digest(&body)), body }
    }
}

/// The start of a SHA-256 in hexadecimal: 128 bits, so that no two contents ever share a version.
fn digest(bytes: &[u8]) -> String {
    let start = Sha256::digest(bytes).into_iter().take(16);
    format!("{:032x}", start.fold(0_u128, |number, byte| number << 8 | u128::from(byte)))
}

/// The pool: everything that any proxy of the mesh may be told, in the parts that it is made of.
#[derive(Clone, Default)]
pub struct Resources {
    trust: Arc<Trust>,
    shared: Vec<Arc<Resource>>,
    services: BTreeMap<ServiceId, Arc<ServicePart>>,
    classes: BTreeMap<ClassId, Arc<ClassPart>>,
    drains: Drains,
}

/// Builds the pool of a mesh.
///
/// What the previous pool made of the same input is taken over as it is, and so is every resource whose bytes come
/// out the same; drain marks are the one thing in the pool that depends on what was before.
pub fn resources(mesh: &Mesh, previous: Option<&Resources>) -> Resources {
    let trust = match previous {
        Some(previous) if *previous.trust == mesh.trust => Arc::clone(&previous.trust),
        _ => Arc::new(mesh.trust.clone()),
    };
    let drains = Drains::next(mesh, previous.map(|previous| &previous.drains));
    let services = mesh.services.iter().map(|(id, service)| {
        let earlier = previous.and_then(|previous| previous.services.get(id));
        (id.clone(), ServicePart::next(service, &trust, earlier))
    });
    let classes = mesh.classes.iter().map(|(id, class)| {
        let earlier = previous.and_then(|previous| previous.classes.get(id));
        let grants = mesh.grants.get(&class.identity).map_or(&[][..], Vec::as_slice);
        (id.clone(), ClassPart::next(class, grants, drains.marks(class), &trust, earlier))
    });
    let (services, classes) = (services.collect(), classes.collect());
    let kept = Kept::new(previous.into_iter().flat_map(|previous| &previous.shared));
    let shared = shared(mesh).into_iter().map(|resource| kept.or_new(resource)).collect();
    Resources { trust, shared, services, classes, drains }
}

/// What every proxy sees.
fn shared(mesh: &Mesh) -> Vec<Resource> {
    let mut addresses = outbound::Addresses::new();
    for service in mesh.services.values() {
        for (number, port) in &service.ports {
            addresses.entry((*number, port.protocol)).or_default().extend(&port.addresses);
        }
    }
    addresses.retain(|_, ips| !ips.is_empty());
    let clusters = [cluster::passthrough(), cluster::inbound(), cluster::blackhole()];
    let mut shared: Vec<Resource> =
        clusters.iter().map(|cluster| Resource::new(Kind::Cluster, &cluster.name, cluster)).collect();
    let listener = outbound::virtual_listener(&addresses);
    shared.push(Resource::new(Kind::Listener, &listener.name, &listener));
    shared.extend(tls::trust(&mesh.trust).map(|secret| Resource::new(Kind::Secret, names::TRUST, &secret)));
    shared
}

impl Resources {
    /// Every resource, with the class that it belongs to if it is of the inbound side.
    pub fn iter(&self) -> impl Iterator<Item = (Option<&ClassId>, &Arc<Resource>)> {
        let shared = self.shared.iter().chain(self.services.values().flat_map(|part| part.iter()));
        let classes =
            self.classes.iter().flat_map(|(id, part)| part.iter().map(move |resource| (Some(id), resource)));
        shared.map(|resource| (None, resource)).chain(classes)
    }

    /// What is another resource than in `before`, if only Services have such, and no name came or went.
    pub(crate) fn replaced(&self, before: &Self) -> Option<Replaced> {
        let is_same = |(now, before): (&Arc<Resource>, &Arc<Resource>)| Arc::ptr_eq(now, before);
        let is_shared_alike =
            self.shared.len() == before.shared.len() && self.shared.iter().zip(&before.shared).all(is_same);
        if !is_shared_alike || differing(&self.classes, &before.classes)?.next().is_some() {
            return None;
        }
        let mut replaced = Replaced::default();
        for (id, now, before) in differing(&self.services, &before.services)? {
            if !now.iter().map(Resource::key).eq(before.iter().map(Resource::key)) {
                return None;
            }
            replaced.services.push(id.clone());
            let changed = now.iter().zip(before.iter()).filter(|pair| !is_same(*pair));
            replaced.resources.extend(changed.map(|(now, _)| Arc::clone(now)));
        }
        Some(replaced)
    }

    /// What every proxy sees.
    pub(crate) fn shared(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.shared.iter()
    }

    /// What a Service became.
    pub(crate) fn service(&self, id: &ServiceId) -> Option<&ServicePart> {
        self.services.get(id).map(AsRef::as_ref)
    }

    /// The inbound side of a class.
    pub(crate) fn class(&self, id: &ClassId) -> impl Iterator<Item = &Arc<Resource>> {
        self.classes.get(id).into_iter().flat_map(|part| part.iter())
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What changed from one pool to the next.
#[derive(Debug, Default)]
pub(crate) struct Replaced {
    /// The Services that it was made of.
    pub services: Vec<ServiceId>,
    /// The resources as they are now.
    pub resources: Vec<Arc<Resource>>,
}

/// The entries whose value is not the very same in both; nothing if the keys are not the same.
fn differing<'a, K: Ord, V>(
    now: &'a BTreeMap<K, Arc<V>>,
    before: &'a BTreeMap<K, Arc<V>>,
) -> Option<impl Iterator<Item = (&'a K, &'a V, &'a V)>> {
    let both = now.iter().zip(before.values());
    let differing = both.filter(|((_, now), before)| !Arc::ptr_eq(now, before));
    now.keys().eq(before.keys()).then(|| differing.map(|((key, now), before)| (key, &**now, &**before)))
}

/// The resources that a part had before, for it to go on with those that did not change.
struct Kept<'a>(BTreeMap<(Kind, &'a str), &'a Arc<Resource>>);

impl<'a> Kept<'a> {
    fn new(resources: impl IntoIterator<Item = &'a Arc<Resource>>) -> Self {
        Self(resources.into_iter().map(|resource| ((resource.kind, &*resource.name), resource)).collect())
    }

    /// The earlier one if it is equal, so that whoever compares snapshots need compare pointers only.
    fn or_new(&self, resource: Resource) -> Arc<Resource> {
        match self.0.get(&(resource.kind, &*resource.name)) {
            Some(earlier) if ***earlier == resource => Arc::clone(earlier),
            _ => Arc::new(resource),
        }
    }
}
