//! Reads EndpointSlices: where a Service's ports are served by pods of the mesh.
//!
//! An address counts only if it belongs to a pod of the Service's own namespace, by the pod's own status: a slice is
//! a thing that tenants may write, and must not draw traffic to addresses that are not theirs.

use std::collections::BTreeMap;

use k8s_openapi::api::discovery::v1::{self, EndpointSlice};
use smidge_xds::mesh::service::Endpoint;

use super::{
    service::{Known, Port},
    workload::{Member, Pods, RESERVED_PORTS},
};
use crate::inputs::{Inputs, Key};

/// The label by which a slice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The slices of every Service.
pub(super) fn by_service(inputs: &Inputs) -> BTreeMap<Key, Vec<&EndpointSlice>> {
    let mut slices: BTreeMap<Key, Vec<&EndpointSlice>> = BTreeMap::new();
    for ((namespace, _), slice) in &inputs.slices {
        let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
        if let Some(service) = service.filter(|_| slice.address_type != "FQDN") {
            slices.entry((namespace.clone(), service.clone())).or_default().push(slice);
        }
    }
    slices
}

/// What a slice points to.
pub(super) enum Place {
    /// A pod of the mesh.
    Member(Key),
    /// Anything else, in words.
    Outside(String),
}

/// What the slices of a Service in `namespace` point to.
pub(super) fn places(slices: &[&EndpointSlice], namespace: &str, pods: &Pods<'_>) -> Vec<Place> {
    let mut places = Vec::new();
    for endpoint in slices.iter().flat_map(|slice| &slice.endpoints) {
        let key = pod_of(endpoint, namespace);
        let member = key.as_ref().and_then(|key| pods.members.get(key));
        let is_its_own = |at: &String| {
            member.zip(at.parse().ok()).is_some_and(|(member, at)| member.position(at).is_some())
        };
        match key {
            Some(key) if endpoint.addresses.iter().any(is_its_own) => places.push(Place::Member(key)),
            Some(key) if member.is_none() => places.push(Place::Outside(format!("pod {}", key.1))),
            _ => places.extend(endpoint.addresses.iter().map(|at| Place::Outside(format!("address {at}")))),
        }
    }
    places
}

fn pod_of(endpoint: &v1::Endpoint, namespace: &str) -> Option<Key> {
    let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"))?;
    let is_own = target.namespace.as_deref().is_none_or(|of| of == namespace);
    is_own.then(|| (namespace.to_owned(), target.name.clone().unwrap_or_default()))
}

/// The members behind a port of a Service, with their own port: by selector and target port, so that a pod's inbound
/// side is there before the pod is ready, and by the slices where there is no selector.
pub(super) fn targets<'a>(service: &Known<'a>, port: &Port<'_>) -> Vec<(&'a Member<'a>, u16)> {
    let mut targets: BTreeMap<(&Key, u16), &'a Member<'a>> = BTreeMap::new();
    for member in service.members.iter().filter(|_| service.has_selector) {
        targets.extend(port.target(member).map(|target| ((member.key, target), *member)));
    }
    for served in served(service, port) {
        targets.insert((served.member.key, served.port), served.member);
    }
    targets.into_iter().map(|((_, port), member)| (member, port)).collect()
}

/// A pod of the mesh that a slice names for a port.
struct Served<'a> {
    member: &'a Member<'a>,
    address: usize,
    port: u16,
    zone: &'a str,
    is_ready: bool,
    is_last_resort: bool,
}

fn served<'a>(service: &Known<'a>, port: &Port<'_>) -> Vec<Served<'a>> {
    let members: BTreeMap<&Key, &'a Member<'a>> =
        service.members.iter().map(|member| (member.key, *member)).collect();
    let mut all = Vec::new();
    for slice in &service.slices {
        let number = slice.ports.iter().flatten().find(|candidate| {
            candidate.name.as_deref().unwrap_or_default() == port.name
                && candidate.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
        });
        let number = number.and_then(|found| found.port).and_then(|number| u16::try_from(number).ok());
        let Some(number) = number.filter(|number| !RESERVED_PORTS.contains(number)) else { continue };
        for endpoint in &slice.endpoints {
            let key = pod_of(endpoint, &service.id.namespace);
            let Some(member) = key.and_then(|key| members.get(&key).copied()) else { continue };
            let conditions = endpoint.conditions.as_ref();
            let is_serving = conditions.and_then(|conditions| conditions.serving) != Some(false);
            let is_terminating = conditions.and_then(|conditions| conditions.terminating) == Some(true);
            for text in &endpoint.addresses {
                let Some(address) = text.parse().ok().and_then(|at| member.position(at)) else { continue };
                all.push(Served {
                    member,
                    address,
                    port: number,
                    zone: endpoint.zone.as_deref().unwrap_or_default(),
                    is_ready: conditions.and_then(|conditions| conditions.ready) != Some(false),
                    is_last_resort: is_serving && is_terminating,
                });
            }
        }
    }
    all
}

/// The endpoints of a port: the ready ones; without any, those that still serve while they end, as Kubernetes has it.
pub(super) fn of_port(service: &Known<'_>, port: &Port<'_>) -> Vec<Endpoint> {
    let served = served(service, port);
    let is_any_ready = served.iter().any(|served| served.is_ready);
    // A pod with addresses of both families is in two slices, and is one endpoint: at the first of its addresses.
    let mut best: BTreeMap<(&Key, u16), &Served<'_>> = BTreeMap::new();
    let counts = |served: &&Served<'_>| if is_any_ready { served.is_ready } else { served.is_last_resort };
    for served in served.iter().filter(counts) {
        let entry = best.entry((served.member.key, served.port)).or_insert(served);
        if served.address < entry.address {
            *entry = served;
        }
    }
    let mut endpoints: Vec<Endpoint> = best.values().filter_map(|served| endpoint(served)).collect();
    endpoints.sort();
    endpoints
}

fn endpoint(served: &Served<'_>) -> Option<Endpoint> {
    Some(Endpoint {
        proxy: served.member.id.clone(),
        address: *served.member.addresses.get(served.address)?,
        port: served.port,
        network: String::new(),
        // Slices name the zone; the region is a label of the node, which nobody reads yet.
        locality: if served.zone.is_empty() { String::new() } else { format!("/{}", served.zone) },
    })
}
