//! Turns TrafficSplits into the routes of their roots' ports.
//!
//! Finds each split's root and backends, lets one split win each root, and says per port who gets which share. A
//! split grants nothing; who may go where is `access`'s to say. A backend is never split again.

mod matches;
mod shares;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use smidge_crds::split::TrafficSplit;
use smidge_xds::mesh::{
    access::HttpMatch,
    id::ServiceId,
    route::{Route, RouteRule},
    service::Protocol,
};

use super::{route::Routes, service::Known};
use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::{Inputs, Key},
};

/// The Services of a cluster by name.
pub(super) type Services<'a> = BTreeMap<&'a ServiceId, &'a Known<'a>>;

/// A split that is in effect.
#[derive(Debug)]
pub(super) struct Split<'a> {
    object: ObjectRef,
    created: Option<&'a Time>,
    root: ServiceId,
    /// The backends, each once.
    shares: Vec<Share>,
    /// Whether any backend was written with a weight, be it one that does not exist.
    is_weighted: bool,
    /// The requests that are split, any of these; `None` is all traffic, and an empty list none.
    matches: Option<Vec<HttpMatch>>,
}

/// A backend and its weight.
#[derive(Debug)]
struct Share {
    /// Where it was named first.
    field: String,
    service: ServiceId,
    weight: u64,
}

/// The splits in effect, by root.
pub(super) fn read<'a>(
    inputs: &'a Inputs,
    routes: &Routes<'_>,
    services: &Services<'_>,
    findings: &mut Vec<Finding>,
) -> BTreeMap<ServiceId, Split<'a>> {
    let mut all: Vec<Split<'a>> = inputs
        .traffic_splits
        .iter()
        .filter_map(|(key, split)| read_one(key, split, inputs, routes, services, findings))
        .collect();
    // The map of inputs is sorted by name, and sorting keeps that order among equals.
    all.sort_by_key(|split| (split.matches.is_none(), split.created));
    let mut winners: BTreeMap<ServiceId, Split<'a>> = BTreeMap::new();
    for split in all {
        if let Some(winner) = winners.get(&split.root) {
            let why = if winner.matches.is_some() && split.matches.is_none() {
                "has matches"
            } else {
                "is older (or first by name)"
            };
            let message = format!(
                "{} of the same Service {} {why} and is in effect; this one is not",
                winner.object, split.root.name
            );
            findings.push(Finding::new(split.object, Reason::Conflicted, message).at("spec.service"));
        } else {
            winners.insert(split.root.clone(), split);
        }
    }
    let roots: BTreeSet<ServiceId> = winners.keys().cloned().collect();
    for split in winners.values_mut() {
        split.look_up(&roots, services, findings);
    }
    winners
}

fn read_one<'a>(
    key: &Key,
    split: &'a TrafficSplit,
    inputs: &Inputs,
    routes: &Routes<'_>,
    services: &Services<'_>,
    findings: &mut Vec<Finding>,
) -> Option<Split<'a>> {
    let object = ObjectRef::new("TrafficSplit", &key.0, &key.1);
    if split.spec.backends.is_empty() {
        let message = "no backend; the split has no effect";
        findings.push(Finding::new(object, Reason::Empty, message).at("spec.backends"));
        return None;
    }
    if split.spec.backends.iter().any(|backend| backend.matches.is_some()) {
        let message = "backends with matches of their own have no meaning unless all have the same; the split has no effect";
        findings.push(
            Finding::new(object, Reason::NotServed, message)
                .at("spec.backends[].matches")
                .hint("write spec.matches, in one TrafficSplit for each set of requests"),
        );
        return None;
    }
    // Everything is read before anything is given up, so that one look shows all that is wrong.
    let root = root(key, &split.spec.service, inputs, services, &object, findings);
    let shares = shares::read(key, &split.spec.backends, &inputs.cluster_domain, &object, findings);
    let matches =
        split.spec.matches.as_deref().map(|written| matches::read(key, written, routes, &object, findings));
    let created = split.metadata.creation_timestamp.as_ref();
    let is_weighted = shares.iter().any(|share| share.weight > 0);
    Some(Split { object, created, root: root?, shares, is_weighted, matches })
}

/// The Service that a split is about: by any of its names, else the one named like the split (a tool that writes host
/// names into the field names the split after the Service).
fn root(
    key: &Key,
    written: &str,
    inputs: &Inputs,
    services: &Services<'_>,
    object: &ObjectRef,
    findings: &mut Vec<Finding>,
) -> Option<ServiceId> {
    let by_name =
        local_name(written, &key.0, &inputs.cluster_domain).map(|name| ServiceId::new(&key.0, name));
    if let Some(root) = by_name.filter(|root| services.contains_key(root)) {
        return Some(root);
    }
    let like_split = ServiceId::new(&key.0, &key.1);
    let is_there = services.contains_key(&like_split);
    let (reason, then) = if is_there {
        (Reason::RootByName, format!("the Service named like the split, {}, is split", key.1))
    } else {
        (Reason::ServiceNotFound, "the split has no effect".to_owned())
    };
    let message = format!("{written:?} is no Service in namespace {}; {then}", key.0);
    findings.push(Finding::new(object.clone(), reason, message).at("spec.service"));
    is_there.then_some(like_split)
}

/// The bare name of a Service of `namespace`, if `written` is one of its names: alone, with the namespace, with
/// `svc`, with the cluster's domain, and with the final dot.
fn local_name<'w>(written: &'w str, namespace: &str, cluster_domain: &str) -> Option<&'w str> {
    let written = written.strip_suffix('.').unwrap_or(written);
    let (name, rest) = written.split_once('.').unwrap_or((written, namespace));
    let rest = rest.strip_suffix(cluster_domain).and_then(|rest| rest.strip_suffix(".svc.")).unwrap_or(rest);
    let rest = rest.strip_suffix(".svc").unwrap_or(rest);
    (rest == namespace && !name.is_empty()).then_some(name)
}

impl Split<'_> {
    fn finding(&self, reason: Reason, field: &str, message: String) -> Finding {
        Finding::new(self.object.clone(), reason, message).at(field)
    }

    /// Leaves out the backends that do not exist, and says which are roots themselves.
    fn look_up(&mut self, roots: &BTreeSet<ServiceId>, services: &Services<'_>, findings: &mut Vec<Finding>) {
        for share in &self.shares {
            let ServiceId { namespace, name } = &share.service;
            if !services.contains_key(&share.service) {
                let message =
                    format!("there is no Service {name:?} in namespace {namespace}; it gets nothing");
                findings.push(self.finding(Reason::BackendNotFound, &share.field, message));
            } else if share.service != self.root && roots.contains(&share.service) {
                let message = format!(
                    "{name} is the root of another split, which does not apply here: its own endpoints get the share"
                );
                findings.push(self.finding(Reason::NestedSplit, &share.field, message));
            }
        }
        self.shares.retain(|share| services.contains_key(&share.service));
    }

    /// The backends that exist.
    pub fn backends<'b>(&'b self, services: &'b Services<'_>) -> impl Iterator<Item = &'b Known<'b>> {
        self.shares.iter().filter_map(|share| services.get(&share.service).copied())
    }

    /// Says that nothing of the split is in the mesh.
    pub fn outside_mesh(&self) -> Finding {
        let message = format!(
            "no pod of {} or of a backend is in the mesh, so the mesh does not see the traffic; the split has no effect",
            self.root.name
        );
        self.finding(Reason::OutsideMesh, "spec.service", message)
            .hint("label the namespace smidge.mesh/inject=enabled and restart the pods")
    }

    /// Where the traffic to port `number` of the root goes.
    pub fn route(
        &self,
        number: u16,
        protocol: Protocol,
        services: &Services<'_>,
        findings: &mut Vec<Finding>,
    ) -> Route {
        let own = || RouteRule::own(self.root.clone());
        if self.matches.is_some() && protocol == Protocol::Tcp {
            findings.push(self.unmatchable(number));
            return Route { rules: vec![own()], split: None };
        }
        let mut rules = Vec::new();
        let backends = self.backends_of(number, protocol, services, findings);
        match self.matches.as_deref() {
            None => rules.push(RouteRule { matches: None, backends }),
            // Nothing matches, so nobody ever goes there.
            Some([]) => rules.push(own()),
            Some(matches) => {
                rules.push(RouteRule { matches: Some(matches.to_vec()), backends });
                rules.push(own());
            }
        }
        if self.matches.is_some() {
            self.see_rest_is_served(number, services, findings);
        }
        let ObjectRef { namespace, name, .. } = &self.object;
        Route { rules, split: Some(format!("{namespace}/{name}")) }
    }

    fn unmatchable(&self, number: u16) -> Finding {
        let message = format!(
            "port {number} of {} is TCP, where there are no requests to match: it is not split",
            self.root.name
        );
        self.finding(Reason::NoEffect, "spec.matches", message)
            .hint("if it is HTTP, say so in the Service's port: appProtocol: http")
    }

    /// Requests that match nothing need an endpoint as well.
    fn see_rest_is_served(&self, number: u16, services: &Services<'_>, findings: &mut Vec<Finding>) {
        let root = services.get(&self.root);
        let port = root.and_then(|root| Some((root, root.ports.get(&number)?)));
        if port.is_some_and(|(root, port)| !shares::is_ready(root, port)) {
            let message = format!(
                "{} has no ready endpoint of its own for port {number}; requests that match nothing are answered \
                 with 503",
                self.root.name
            );
            findings.push(self.finding(Reason::BackendNotReady, "spec.service", message));
        }
    }
}

/// The Services that must be in the mesh because a split sends to them.
pub(super) fn needed(
    splits: &BTreeMap<ServiceId, Split<'_>>,
    services: &Services<'_>,
) -> BTreeSet<ServiceId> {
    splits.values().flat_map(|split| split.backends(services).map(|backend| backend.id.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_goes_by_every_name_up_to_the_full_one() {
        for written in
            ["web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local", "web.shop.svc.cluster.local."]
        {
            assert_eq!(local_name(written, "shop", "cluster.local"), Some("web"), "{written}");
        }
        for written in [
            "",
            ".shop",
            "web.other",
            "web.shop.svc.example.org",
            "web.example.org",
            "web.shop.cluster.local",
        ] {
            assert_eq!(local_name(written, "shop", "cluster.local"), None, "{written}");
        }
    }
}
