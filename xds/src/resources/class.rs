//! What the inbound side of one class of workloads becomes in the pool: its listener, and the rules of each port.
//!
//! A change of grants changes rules, never the listener; a shrinking one changes the listener's drain marks (`drain`).

use std::{collections::BTreeSet, sync::Arc};

use super::{Kept, Kind, Resource, Version, digest};
use crate::{
    envoy::{
        filter,
        listener::inbound::{self, Marks},
        names,
        rbac::{self, Rules},
        tls, wire,
    },
    mesh::{
        access::{AccessMode, Grant, MtlsMode, Payload},
        service::Protocol,
        trust::Trust,
        workload::Class,
    },
};

/// The resources of one class, and what they were made from.
pub(super) struct ClassPart {
    class: Class,
    grants: Vec<Arc<Grant>>,
    marks: Marks,
    trust: Arc<Trust>,
    resources: Vec<Arc<Resource>>,
}

impl ClassPart {
    pub(super) fn next(
        class: &Class,
        grants: &[Arc<Grant>],
        marks: Marks,
        trust: &Arc<Trust>,
        previous: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        let same = |previous: &Self| {
            previous.class == *class
                && previous.grants == *grants
                && previous.marks == marks
                && previous.trust == *trust
        };
        match previous {
            Some(previous) if same(previous) => Arc::clone(previous),
            _ => {
                let kept = Kept::new(previous.into_iter().flat_map(|previous| previous.iter()));
                Arc::new(Self {
                    resources: build(class, grants, &marks, trust)
                        .into_iter()
                        .map(|it| kept.or_new(it))
                        .collect(),
                    trust: Arc::clone(trust),
                    class: class.clone(),
                    grants: grants.to_vec(),
                    marks,
                })
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.iter()
    }
}

fn build(class: &Class, grants: &[Arc<Grant>], marks: &Marks, trust: &Trust) -> Vec<Resource> {
    let ports = || class.ports.iter().filter(|(port, _)| !names::OWN_PORTS.contains(port));
    let rules = ports().map(|(port, protocol)| rules(class, grants, *port, *protocol));
    let tcp = || ports().filter(|(_, protocol)| **protocol == Protocol::Tcp).map(|(port, _)| *port);
    let clients = tcp().filter_map(|port| clients(class, grants, port, trust));
    let mut built: Vec<Resource> =
        std::iter::once(listener(class, marks)).chain(rules).chain(clients).collect();
    if class.mtls == MtlsMode::Permissive {
        // No grant is about a port that nobody named.
        built.push(self::rules(class, &[], names::OTHER_PORTS, Protocol::Tcp));
        built.extend(tcp().chain([names::OTHER_PORTS]).map(|port| plain(class, port)));
    }
    built
}

/// What a port asks its callers for.
fn rules(class: &Class, grants: &[Arc<Grant>], port: u16, protocol: Protocol) -> Resource {
    let rules = match class.access {
        AccessMode::Permissive => Rules::AllowAll,
        AccessMode::Audit => Rules::Audit(grants, port),
        AccessMode::Enforce => Rules::Only(grants, port),
    };
    let name = names::inbound_filter(port, protocol);
    let filter = match protocol {
        Protocol::Http => wire::extension(&name, rbac::http(rules)),
        Protocol::Tcp => wire::extension(&name, rbac::network(rules)),
    };
    Resource::new(Kind::Extension, &name, &filter)
}

/// Whether a TCP port lets plaintext callers in. They have no name, so enforcement never does.
fn plain(class: &Class, port: u16) -> Resource {
    let filter = filter::plain(port, !class.access.is_enforced());
    Resource::new(Kind::Extension, &names::plain_filter(port), &filter)
}

/// Who may connect to a TCP port at all.
fn clients(class: &Class, grants: &[Arc<Grant>], port: u16, trust: &Trust) -> Option<Resource> {
    let granted = || {
        let any = grants.iter().filter(|grant| grant.ports.contains(port) && grant.payload == Payload::Any);
        any.flat_map(|grant| &grant.sources).collect::<BTreeSet<_>>()
    };
    let secret = tls::clients(port, class.access.is_enforced().then(granted), trust)?;
    Some(Resource::new(Kind::Secret, &secret.name, &secret))
}

/// The listener, with a version that tells its marks from the rest (`Version::is_held_as`).
fn listener(class: &Class, marks: &Marks) -> Resource {
    let marked = Resource::new(Kind::Listener, names::INBOUND, &inbound::inbound(class, marks));
    if marks.is_empty() {
        return marked;
    }
    let bare = Resource::new(Kind::Listener, names::INBOUND, &inbound::inbound(class, &Marks::new()));
    let text: Vec<String> = marks.iter().map(|(port, mark)| format!("{port}={mark}")).collect();
    let version = format!("{}+{}", bare.version, digest(text.join("\n").as_bytes()));
    Resource { version: Version::new(&version), ..marked }
}
