//! Mesh model: Services, workloads, classes, grants and trust of a mesh, independent of Envoy.
//!
//! Pure. Built by `operator::lower` from the objects of one or more clusters; read by `resources` and `view`.
//! Depends on neither Kubernetes nor Envoy, contains no secret, no clock and nothing that differs between two processes
//! that read the same objects. Every collection is ordered, so equal meshes print and encode alike.

pub mod access;
pub mod change;
pub mod id;
pub mod matches;
pub mod proxy;
pub mod route;
pub mod service;
pub mod settings;
pub mod source;
pub mod text;
pub mod trust;
pub mod workload;

use std::{collections::BTreeSet, sync::Arc};

use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use access::{Grant, Payload};
use id::{ClassId, ProxyId, ServiceId, SpiffeId};
use matches::{Listed, Matches};
use service::Service;
use settings::Settings;
use trust::Trust;
use workload::{Class, Workload};

/// Map whose copies share what they have in common. A mesh that differs from another one in one value takes only the
/// memory of that value, and is compared with the other one at the cost of that value (`change`).
pub type Map<K, V> = imbl::OrdMap<K, Arc<V>>;

/// State of one mesh at one moment, read only as a whole. A copy is free.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mesh {
    /// The trust domain of the mesh, and the root certificates that it trusts.
    pub trust: Arc<Trust>,
    /// The settings that every proxy has.
    pub settings: Settings,
    /// Every Service in the mesh: at least one of its own endpoints, or of the endpoints of its split, is in the mesh.
    pub services: Map<ServiceId, Service>,
    /// Every workload instance that runs a proxy.
    pub workloads: Map<ProxyId, Workload>,
    /// The inbound side that workload instances with the same identity, ports and settings share.
    pub classes: Map<ClassId, Class>,
    /// The grants of each destination identity; an identity without an entry allows nothing. Destinations of one
    /// grant share it.
    pub grants: Map<SpiffeId, Vec<Arc<Grant>>>,
}

impl Mesh {
    /// Returns the grants of `destination`; none if it has no entry.
    pub fn grants_of(&self, destination: &SpiffeId) -> &[Arc<Grant>] {
        self.grants.get(destination).map_or(&[], |grants| grants.as_slice())
    }
}

impl Mesh {
    /// Returns all matches to which grants, routes and classes refer, each once.
    fn matches(&self) -> BTreeSet<&Matches> {
        let grants = self.grants.values().flat_map(|grants| grants.iter());
        let granted = grants.filter_map(|grant| match &grant.payload {
            Payload::Http(matches) => Some(matches),
            Payload::Any => None,
        });
        let ports = self.services.values().flat_map(|service| service.ports.values());
        let rules = ports.flat_map(|port| &port.route.rules);
        let routed = rules.filter_map(|rule| rule.matches.as_ref());
        let measured =
            self.classes.values().flat_map(|class| &class.routes).flat_map(|routes| &routes.matches);
        granted.chain(routed).flatten().chain(measured).collect()
    }
}

/// Prints grants and routes with the names of their matches, and lists the matches beside them: a group that many
/// grants use is printed once. Settings are printed if one of them differs from its default.
impl Serialize for Mesh {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { trust, settings, services, workloads, classes, grants } = self;
        let matches: Vec<Listed<'_>> = self.matches().into_iter().map(Listed).collect();
        let is_set = *settings != Settings::default();
        let fields = 5 + usize::from(is_set) + usize::from(!matches.is_empty());
        let mut mesh = serializer.serialize_struct("Mesh", fields)?;
        mesh.serialize_field("trust", trust)?;
        if is_set {
            mesh.serialize_field("settings", settings)?;
        }
        mesh.serialize_field("services", services)?;
        mesh.serialize_field("workloads", workloads)?;
        mesh.serialize_field("classes", classes)?;
        mesh.serialize_field("grants", grants)?;
        if !matches.is_empty() {
            mesh.serialize_field("matches", &matches)?;
        }
        mesh.end()
    }
}
