//! Builds the inbound side of one class of workloads in the pool: its listener, and the rules of each port.
//!
//! A change of grants changes rules, never the listener; removed callers change the listener's drain marks (`drain`).

use std::{collections::BTreeSet, sync::Arc};

use super::{Previous, Resource, ResourceType, Version, digest};
use crate::{
    envoy::{
        filter::{self, Options},
        listener::inbound::{self, Marks},
        names,
        rbac::{self, Rules},
        tls, wire,
    },
    mesh::{
        Mesh,
        access::{AccessMode, Grant, MtlsMode, Payload},
        proxy,
        settings::Settings,
        trust::Trust,
        workload::Class,
    },
};

/// The resources of one class.
#[derive(PartialEq, Eq)]
pub(super) struct ClassPart(Vec<Arc<Resource>>);

impl ClassPart {
    pub(super) fn new(
        class: &Class,
        grants: &[Arc<Grant>],
        marks: &Marks,
        mesh: &Mesh,
        kept: &Previous<'_>,
    ) -> Self {
        let ports = || class.ports.iter().filter(|(port, _)| !proxy::PORTS.contains(port));
        let tcp = || ports().filter(|(_, protocol)| protocol.has_tcp()).map(|(port, _)| *port);
        let http = ports().filter(|(_, protocol)| protocol.has_http()).map(|(port, _)| *port);
        let mut built = vec![listener(class, marks, &mesh.settings, kept)];
        if !class.traffic.is_none() && http.clone().next().is_some() {
            built.push(routes(class, kept));
        }
        built.extend(http.map(|port| requests(class, grants, port, kept)));
        built.extend(tcp().map(|port| connections(class, grants, port, kept)));
        built.extend(tcp().filter_map(|port| clients(class, grants, port, &mesh.trust, kept)));
        if class.mtls == MtlsMode::Permissive {
            // No grant applies to ports that are not named.
            built.push(connections(class, &[], names::OTHER_PORTS, kept));
            built.extend(
                tcp().chain([names::OTHER_PORTS]).map(|port| plain(class, port, &mesh.settings, kept)),
            );
        }
        Self(built)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.0.iter()
    }
}

/// Builds the rules by which a port authorises requests.
fn requests(class: &Class, grants: &[Arc<Grant>], port: u16, kept: &Previous<'_>) -> Arc<Resource> {
    let name = names::inbound_http(port);
    let filter = wire::extension(&name, rbac::http(rules(class, grants, port)));
    kept.make(ResourceType::Extension, &name, &filter)
}

/// Builds what names the route of a request, for statistics.
fn routes(class: &Class, kept: &Previous<'_>) -> Arc<Resource> {
    let matches = class.routes.iter().flat_map(|routes| &routes.matches);
    let filter = wire::extension(names::INBOUND_ROUTES, rbac::routes(matches));
    kept.make(ResourceType::Extension, names::INBOUND_ROUTES, &filter)
}

/// Builds the rules by which a port authorises connections.
fn connections(class: &Class, grants: &[Arc<Grant>], port: u16, kept: &Previous<'_>) -> Arc<Resource> {
    let name = names::inbound_tcp(port);
    let filter = wire::extension(&name, rbac::network(rules(class, grants, port)));
    kept.make(ResourceType::Extension, &name, &filter)
}

fn rules<'a>(class: &Class, grants: &'a [Arc<Grant>], port: u16) -> Rules<'a> {
    match class.access {
        AccessMode::Permissive => Rules::AllowAll,
        AccessMode::Audit => Rules::Audit(grants, port),
        AccessMode::Enforce => Rules::Only(grants, port),
    }
}

/// Builds the filter that lets plaintext callers in at a TCP port, or not: enforcement refuses them, as they have no
/// identity.
fn plain(class: &Class, port: u16, settings: &Settings, kept: &Previous<'_>) -> Arc<Resource> {
    let options = Options { settings, traffic: class.traffic };
    let filter = filter::plain(port, !class.access.is_enforced(), options);
    kept.make(ResourceType::Extension, &names::plain_filter(port), &filter)
}

/// Builds the validation context of the clients that may connect to a TCP port at all.
fn clients(
    class: &Class,
    grants: &[Arc<Grant>],
    port: u16,
    trust: &Trust,
    kept: &Previous<'_>,
) -> Option<Arc<Resource>> {
    let granted = || {
        let any = grants.iter().filter(|grant| grant.ports.contains(port) && grant.payload == Payload::Any);
        any.flat_map(|grant| grant.sources.iter().map(|source| &**source)).collect::<BTreeSet<_>>()
    };
    let secret = tls::clients(port, class.access.is_enforced().then(granted), trust)?;
    Some(kept.make(ResourceType::Secret, &secret.name, &secret))
}

/// Builds the listener, with a version that separates its marks from the rest (`Version::is_held_as`).
fn listener(class: &Class, marks: &Marks, settings: &Settings, kept: &Previous<'_>) -> Arc<Resource> {
    let build = |marks| {
        kept.encode(ResourceType::Listener, names::INBOUND, &inbound::inbound(class, marks, settings))
    };
    let marked = build(marks);
    if marks.is_empty() {
        return kept.or_new(marked);
    }
    let bare = build(&Marks::new());
    let text: Vec<String> = marks.iter().map(|(port, mark)| format!("{port}={mark}")).collect();
    let version = format!("{}+{}", bare.version, digest(text.join("\n").as_bytes()));
    kept.or_new(Resource { version: Version::new(&version), ..marked })
}
