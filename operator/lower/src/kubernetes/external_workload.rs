//! Reads ExternalWorkloads: members of the mesh on machines that no Kubernetes manages.
//!
//! The object itself is the membership: no label and no sidecar's container is needed. A member is in the sets of pods
//! of its namespace, so that Services and SMI objects treat it as a pod. Its addresses are only what the namespace
//! writes; that of a pod, or of an older ExternalWorkload, is never given to it. `endpoints` makes it an endpoint.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use smidge_crds::{
    config::{ExternalPort, ExternalWorkloadSpec},
    redirected::RedirectedPorts,
};
use smidge_mesh::{
    proxy::{self, TrafficStats},
    service::Protocol,
};

use super::{
    machine::{KIND, Machine},
    metadata::{self, Place},
    workload,
};
use crate::{
    context::Context,
    external_workload,
    finding::{Finding, ObjectRef, Reason},
    inputs::Key,
    node::Node,
    value::{DeclaredPort, ExternalClaims, KubePod, MeshPod},
};

/// Maximum number of addresses that are read.
const ADDRESSES: usize = 16;
/// Maximum number of ports, each of which has a copy of the workload's rules.
const PORTS: usize = 64;

/// Returns the addresses that the ExternalWorkload of that name claims.
pub(crate) fn claims(key: &Key, context: &mut Context<'_>) -> Option<ExternalClaims> {
    let workload = context.object(|inputs| &inputs.external_workloads)?;
    let read = Reader::read(key, &workload.spec);
    let addresses: Vec<IpAddr> =
        read.is_valid().then_some(read.addresses)?.into_iter().filter(is_exclusive).collect();
    for address in &addresses {
        context.contribute_to(Node::AddressHolder(*address));
    }
    Some(ExternalClaims { created: workload.metadata.creation_timestamp.clone(), addresses })
}

/// Returns true if an address belongs to one machine. That of the loopback is the machine's own wherever it is used: all
/// workloads of one machine may have it.
fn is_exclusive(address: &IpAddr) -> bool {
    !address.is_loopback()
}

/// Returns the ExternalWorkload that holds an address: the oldest of those that claim it.
pub(crate) fn holder(context: &mut Context<'_>) -> Option<Key> {
    let claimants = context.contributors().into_iter().filter_map(|contributor| {
        let created = context.claims(&contributor)?.created.clone();
        Some((created, contributor.key()?))
    });
    claimants.min().map(|(_, key)| key)
}

/// Returns the ExternalWorkload of that name as a member of the mesh, if it has an identity and an address.
pub(crate) fn external_workload(key: &Key, context: &mut Context<'_>) -> Option<KubePod> {
    let workload = context.object(|inputs| &inputs.external_workloads)?;
    let mut read = Reader::read(key, &workload.spec);
    context.findings().append(&mut read.findings);
    metadata::report(&read.object, (Place::ExternalWorkload, true), &workload.metadata, context.findings());
    if !read.is_valid() {
        return None;
    }
    let addresses = own(key, &read, context);
    if addresses.is_empty() && !read.is_elsewhere {
        return None;
    }
    let Reader { identity, ports, .. } = read;
    let account = identity?.service_account;
    let instance = (key.0.clone(), external_workload::instance(&key.1));
    let member = MeshPod {
        id: context.proxy_id(&instance),
        key: instance.clone(),
        identity: context.identity(&key.0, &account),
        addresses,
        owner: (KIND.to_owned(), key.1.clone()),
        traffic: TrafficStats::None,
        is_planned: false,
        is_ending: false,
        ports,
        inbound: RedirectedPorts::default(),
    };
    workload::give_to_sets(&key.0, &workload.metadata, &account, context);
    workload::give(&member, context);
    let labels = workload.metadata.labels.clone().unwrap_or_default();
    Some(KubePod {
        key: instance,
        labels,
        account,
        member: Some(Arc::new(member)),
        outside: Vec::new(),
        is_in_node_network: false,
    })
}

/// Returns the addresses that no pod and no older ExternalWorkload has.
fn own(key: &Key, read: &Reader, context: &mut Context<'_>) -> Vec<IpAddr> {
    let mut own = Vec::new();
    for address in &read.addresses {
        let taken = if !is_exclusive(address) {
            None
        } else if context.has_pod_at(*address) {
            Some("a pod".to_owned())
        } else {
            let holder = context.address_holder(*address).filter(|holder| holder != key);
            holder.map(|(namespace, name)| format!("the older ExternalWorkload {namespace}/{name}"))
        };
        let Some(taken) = taken else {
            own.push(*address);
            continue;
        };
        let message = format!("{taken} has {address}; nothing is sent to it for this ExternalWorkload");
        context.report_at(&read.object, Reason::AddressConflict, "spec.addresses", message);
    }
    own
}

/// An ExternalWorkload as read by itself.
struct Reader {
    object: ObjectRef,
    /// Identity, if it can have a certificate: of a ServiceAccount, and for a key that can exist.
    identity: Option<Machine>,
    /// Addresses in the network of the pods, at most one of each family.
    addresses: Vec<IpAddr>,
    /// True if it is in another network.
    is_elsewhere: bool,
    ports: Vec<DeclaredPort>,
    findings: Vec<Finding>,
}

impl Reader {
    fn read(key: &Key, spec: &ExternalWorkloadSpec) -> Self {
        let mut reader = Self {
            object: ObjectRef::new(KIND, &key.0, &key.1),
            identity: None,
            addresses: Vec::new(),
            is_elsewhere: false,
            ports: Vec::new(),
            findings: Vec::new(),
        };
        reader.read_identity(spec);
        reader.read_addresses(&spec.addresses);
        reader.read_network(spec.network.as_deref().unwrap_or_default());
        reader.read_ports(&spec.ports);
        reader
    }

    /// Returns true if it has an identity, and somewhere to be reached.
    fn is_valid(&self) -> bool {
        self.identity.is_some() && (self.is_elsewhere || !self.addresses.is_empty())
    }

    fn report(&mut self, reason: Reason, field: impl Into<String>, message: impl Into<String>) {
        self.findings.push(Finding::new(self.object.clone(), reason, message).at(field));
    }

    fn read_identity(&mut self, spec: &ExternalWorkloadSpec) {
        match Machine::examine(spec) {
            Ok(machine) => self.identity = Some(machine),
            Err(defects) => defects.into_iter().for_each(|it| self.report(it.reason, it.field, it.message)),
        }
    }

    fn read_addresses(&mut self, written: &[String]) {
        if written.is_empty() {
            let message = "no address, so the workload is not in the mesh";
            self.report(Reason::Empty, "spec.addresses", message);
        }
        if written.len() > ADDRESSES {
            let message = format!(
                "lists {} addresses: expected at most {ADDRESSES}; the others are not read",
                written.len()
            );
            self.report(Reason::BudgetExceeded, "spec.addresses", message);
        }
        for (index, text) in written.iter().take(ADDRESSES).enumerate() {
            let field = format!("spec.addresses[{index}]");
            let address = match address(text) {
                Ok(address) => address,
                Err(defect) => {
                    let message = format!("{text:?} {defect}; nothing is sent to it");
                    self.report(Reason::InvalidAddress, field, message);
                    continue;
                }
            };
            if self.addresses.iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
                let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
                let message = format!("a further {family} address: only the first of a family is used");
                self.report(Reason::NoEffect, field, message);
            } else {
                self.addresses.push(address);
            }
        }
    }

    /// Reads the network. Addresses in another network say nothing about those of the pods.
    fn read_network(&mut self, network: &str) {
        if network.is_empty() {
            return;
        }
        let message = format!(
            "no gateway reaches other networks such as {network:?} yet: the workload has its identity and may call, and \
             nothing is sent to it"
        );
        self.report(Reason::NotServed, "spec.network", message);
        self.is_elsewhere = true;
        self.addresses.clear();
    }

    fn read_ports(&mut self, written: &[ExternalPort]) {
        if written.len() > PORTS {
            let message =
                format!("lists {} ports: expected at most {PORTS}; the others are left out", written.len());
            self.report(Reason::BudgetExceeded, "spec.ports", message);
        }
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let mut numbers = BTreeSet::new();
        for (index, port) in written.iter().take(PORTS).enumerate() {
            let field = format!("spec.ports[{index}]");
            let Some(number) = self.read_number(&field, port) else { continue };
            if !numbers.insert(number) {
                let message = format!("port {number} is listed before; this entry has no effect");
                self.report(Reason::NoEffect, format!("{field}.port"), message);
                continue;
            }
            let name = port.name.as_deref().filter(|name| !name.is_empty());
            let earlier = name.and_then(|name| names.insert(name, index).map(|first| (name, first)));
            if let Some((name, first)) = earlier {
                names.insert(name, first);
                let message = format!("spec.ports[{first}] has the name {name:?}, which leads to that port");
                self.report(Reason::NoEffect, format!("{field}.name"), message);
            }
            self.ports.push(DeclaredPort {
                name: name.filter(|_| earlier.is_none()).map(str::to_owned),
                number: i32::from(number),
                protocol: Protocol::declared(port.app_protocol.as_deref(), name),
            });
        }
    }

    fn read_number(&mut self, field: &str, port: &ExternalPort) -> Option<u16> {
        if let Some(protocol) = port.protocol.as_deref().filter(|word| !["", "TCP"].contains(word)) {
            let message = format!("{protocol:?} is not proxied: expected TCP; the port is left out");
            self.report(Reason::NotServed, format!("{field}.protocol"), message);
            return None;
        }
        let written = port.port.as_ref();
        let number =
            written.and_then(smidge_crds::Number::as_i64).and_then(|number| u16::try_from(number).ok());
        let field = format!("{field}.port");
        match number.filter(|number| *number != 0) {
            Some(number) if proxy::PORTS.contains(&number) => {
                let message = format!("the proxy needs port {number} for itself; it is not served");
                self.report(Reason::ReservedPort, field, message);
                None
            }
            Some(number) => Some(number),
            None => {
                let found = written.map_or_else(|| "no number".to_owned(), |it| format!("{it} is no port"));
                let message = format!("{found}: expected a whole number from 1 to 65535; it is left out");
                self.report(Reason::InvalidPort, field, message);
                None
            }
        }
    }
}

/// Returns the address that a text has, unless no workload can be reached at it.
pub(crate) fn address(text: &str) -> Result<IpAddr, &'static str> {
    let address: IpAddr =
        text.parse().map_err(|_| "is no IP address: expected one such as 10.9.0.7 or fd00::7")?;
    // An IPv4 address in the form of IPv6 is the same address.
    let address = address.to_canonical();
    let is_link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if address.is_unspecified() || address.is_multicast() || is_link_local {
        return Err("is the address of no single machine: expected one to which other machines can connect");
    }
    Ok(address)
}
