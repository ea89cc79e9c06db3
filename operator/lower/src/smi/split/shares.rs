//! Reads the backends of a TrafficSplit, and computes the share of a port that each gets.
//!
//! A backend that is named twice has the sum of the weights. A backend that cannot take part is left out with a
//! finding, and the others share; one that takes part and is not ready keeps its share, as handing it on would hide a
//! dead canary.

use std::collections::BTreeMap;

use smidge_crds::{Number, split};
use smidge_mesh::{
    id::ServiceId,
    route::{Backend, scale_weights},
    service::Protocol,
};

use super::{is_ready, local_name};
use crate::{
    context::Context,
    finding::{Finding, ObjectRef, Reason},
    inputs::Key,
    value::{Share, Split},
};

/// Returns the backends as written, each once, in the order in which they are named first. Does not check that they
/// exist.
pub(super) fn read(
    key: &Key,
    written: &[split::Backend],
    cluster_domain: &str,
    object: &ObjectRef,
    findings: &mut Vec<Finding>,
) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    let mut places: BTreeMap<ServiceId, usize> = BTreeMap::new();
    for (index, backend) in written.iter().enumerate() {
        let field = format!("spec.backends[{index}]");
        let weight = backend.weight.as_ref().and_then(|weight| u64::try_from(weight.as_i64()?).ok());
        if weight.is_none() {
            findings.push(invalid_weight(object, &field, backend.weight.as_ref()));
        }
        let weight = weight.unwrap_or(0);
        let name = local_name(&backend.service, &key.0, cluster_domain).unwrap_or(&backend.service);
        let service = ServiceId::new(&key.0, name);
        if let Some(share) = places.get(&service).and_then(|place| shares.get_mut(*place)) {
            share.weight = share.weight.saturating_add(weight);
        } else {
            places.insert(service.clone(), shares.len());
            shares.push(Share { field: format!("{field}.service"), service, weight });
        }
    }
    shares
}

impl Split {
    /// Returns the share of port `number` that each backend gets.
    pub(super) fn backends_of(
        &self,
        number: u16,
        protocol: Protocol,
        context: &mut Context<'_>,
    ) -> Vec<Backend> {
        let served = |share: &&Share| self.is_served(share, number, protocol, context);
        let shares: Vec<&Share> = self.shares.iter().filter(served).collect();
        if shares.iter().all(|share| share.weight == 0) {
            let whose =
                if self.is_weighted { "no backend that is left has a weight" } else { "all weights are 0" };
            let does = match protocol {
                Protocol::Tcp => "closes every connection",
                Protocol::Http if self.matches.is_some() => "answers 503 to what matches",
                Protocol::Http | Protocol::Detect => "answers 503 to everything",
            };
            let message = format!("{whose}: port {number} of {} {does}", self.root.name);
            context.report(self.finding(Reason::AllWeightsZero, "spec.backends", message));
        }
        backends(&shares)
    }

    /// Returns true if a share takes part on a port; reports if it does not, or if it cannot serve now.
    fn is_served(&self, share: &Share, number: u16, protocol: Protocol, context: &mut Context<'_>) -> bool {
        let name = &share.service.name;
        let Some(backend) = context.kube_service(&share.service) else { return false };
        let Some(port) = backend.ports.get(&number) else {
            let message = format!(
                "{name} has no TCP port {number}, which {} has; it gets nothing there",
                self.root.name
            );
            context.report(self.finding(Reason::BackendPortNotFound, &share.field, message));
            return false;
        };
        // Where the root's port is detected, either declaration of a backend takes its share.
        let differs = |declared: &Protocol| protocol != Protocol::Detect && *declared != protocol;
        if let Some(declared) = port.declared.filter(differs) {
            let message = format!(
                "port {number} is {} for {} and {} for {name}",
                protocol.name(),
                self.root.name,
                declared.name()
            );
            let finding = self.finding(Reason::ProtocolConflict, &share.field, message);
            context.report(finding.hint("give both ports the same appProtocol"));
        }
        if share.weight > 0
            && !backend.has_selector
            && backend.members.is_empty()
            && !is_ready(&share.service, number, context)
        {
            let becomes = lost_share(protocol);
            let message = format!(
                "{name} has no selector, and its endpoints are outside the mesh; its share is {becomes}"
            );
            context.report(self.finding(Reason::UnsupportedService, &share.field, message));
        } else if share.weight > 0 && !is_ready(&share.service, number, context) {
            let why = if backend.members.is_empty() && backend.has_outside() {
                "no pod in the mesh"
            } else {
                "no ready endpoint"
            };
            let becomes = lost_share(protocol);
            let message = format!("{name} has {why} for port {number}; its share is {becomes}");
            context.report(self.finding(Reason::BackendNotReady, &share.field, message));
        }
        true
    }
}

fn invalid_weight(object: &ObjectRef, field: &str, weight: Option<&Number>) -> Finding {
    let found = weight.map_or("is missing".to_owned(), |weight| format!("{weight} is no weight"));
    let message = format!("{found}: expected a whole number from 0 on; the backend gets nothing");
    let finding = Finding::new(object.clone(), Reason::InvalidWeight, message).at(format!("{field}.weight"));
    if weight.is_some() { finding } else { finding.hint("write weight: 0 if it is to get nothing") }
}

/// Returns the effect on the calls of a share that no endpoint can serve.
fn lost_share(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http | Protocol::Detect => "answered with 503",
        Protocol::Tcp => "closed",
    }
}

/// Returns the shares as the model has them.
fn backends(shares: &[&Share]) -> Vec<Backend> {
    let weights = scale_weights(shares.iter().map(|share| share.weight));
    let backend =
        |(share, weight): (&&Share, u32)| Backend { service: share.service.clone(), port: None, weight };
    shares.iter().zip(weights).map(backend).collect()
}
