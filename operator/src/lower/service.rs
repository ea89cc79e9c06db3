//! Reads Kubernetes Services: which of their pods are in the mesh, under which addresses they are called, and what is
//! spoken on their ports.
//!
//! `Known` is a Service as read, in the mesh or not; `add` puts those that are into the mesh. Where traffic to a port
//! goes is `split`'s to say, and who serves it `endpoints`'s.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::{
    api::{
        core::v1::{self, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::{apis::meta::v1::Time, util::intstr::IntOrString},
};
use smidge_xds::mesh::{id::ServiceId, service::Protocol};

use super::{
    endpoints,
    workload::{Member, Pods, RESERVED_PORTS, ServedPorts, named_port},
};
use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::{Inputs, Key},
};

/// A Service as the cluster has it.
#[derive(Debug)]
pub(super) struct Known<'a> {
    pub id: ServiceId,
    pub object: ObjectRef,
    created: Option<&'a Time>,
    /// Its TCP ports by number.
    pub ports: BTreeMap<u16, Port<'a>>,
    /// Its own pods that are in the mesh, ready or not.
    pub members: Vec<&'a Member<'a>>,
    /// Its own pods that are not.
    pub outside: Vec<String>,
    pub slices: Vec<&'a EndpointSlice>,
    pub has_selector: bool,
    /// The addresses that the API server allocated; empty for a headless one.
    cluster_addresses: BTreeSet<IpAddr>,
    pub is_headless: bool,
}

/// A TCP port of a Service.
#[derive(Debug)]
pub(super) struct Port<'a> {
    pub field: String,
    pub number: u16,
    /// Empty for the only port without a name.
    pub name: &'a str,
    pub protocol: Protocol,
    target: Option<&'a IntOrString>,
}

impl Port<'_> {
    /// The pod's port behind this one.
    pub fn target(&self, member: &Member<'_>) -> Option<u16> {
        match self.target {
            // 0 is what an unset number looks like on the wire.
            None | Some(IntOrString::Int(0)) => Some(self.number),
            Some(IntOrString::Int(target)) => u16::try_from(*target).ok(),
            Some(IntOrString::String(name)) if name.is_empty() => Some(self.number),
            Some(IntOrString::String(name)) => named_port(member.pod, name),
        }
    }
}

impl Known<'_> {
    /// The addresses that callers dial.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        if self.is_headless {
            self.members.iter().flat_map(|member| member.addresses.iter().copied()).collect()
        } else {
            self.cluster_addresses.clone()
        }
    }

    /// Older objects win, as a newcomer must not take anything over.
    pub fn age(&self) -> (Option<&Time>, &ServiceId) {
        (self.created, &self.id)
    }
}

/// What is spoken on a port: by `appProtocol`, then by the prefix of the port's name, else bytes.
pub(super) fn protocol_of(app_protocol: Option<&str>, name: Option<&str>) -> Protocol {
    if let Some(app_protocol) = app_protocol {
        let is_http = matches!(
            app_protocol.to_ascii_lowercase().as_str(),
            "http"
                | "http1"
                | "http2"
                | "h2c"
                | "grpc"
                | "grpc-web"
                | "ws"
                | "kubernetes.io/h2c"
                | "kubernetes.io/ws"
        );
        return if is_http { Protocol::Http } else { Protocol::Tcp };
    }
    let prefix = name.and_then(|name| name.split('-').next()).unwrap_or_default();
    if matches!(prefix, "http" | "http1" | "http2" | "h2c" | "grpc" | "ws") {
        Protocol::Http
    } else {
        Protocol::Tcp
    }
}

/// Every Service of a cluster, the oldest first.
pub(super) fn read<'a>(
    inputs: &'a Inputs,
    pods: &'a Pods<'a>,
    findings: &mut Vec<Finding>,
) -> Vec<Known<'a>> {
    let slices = endpoints::by_service(inputs);
    let mut all: Vec<Known<'a>> = inputs
        .services
        .iter()
        .filter(|(_, service)| {
            service.spec.as_ref().is_none_or(|spec| spec.type_.as_deref() != Some("ExternalName"))
        })
        .map(|(key, service)| {
            known(key, service, slices.get(key).cloned().unwrap_or_default(), pods, findings)
        })
        .collect();
    all.sort_by(|one, other| one.age().cmp(&other.age()));
    all
}

fn known<'a>(
    key: &'a Key,
    service: &'a Service,
    slices: Vec<&'a EndpointSlice>,
    pods: &'a Pods<'a>,
    findings: &mut Vec<Finding>,
) -> Known<'a> {
    let object = ObjectRef::new("Service", &key.0, &key.1);
    let spec = service.spec.as_ref();
    let mut keys: BTreeSet<&Key> = spec
        .and_then(|spec| spec.selector.as_ref())
        .map(|selector| pods.selected(&key.0, selector).into_iter().collect())
        .unwrap_or_default();
    let mut outside = BTreeSet::new();
    for place in endpoints::places(&slices, &key.0, pods) {
        match place {
            endpoints::Place::Member(member) => {
                keys.extend(pods.members.get_key_value(&member).map(|(key, _)| *key));
            }
            endpoints::Place::Outside(name) => {
                outside.insert(name);
            }
        }
    }
    let members: Vec<&Member<'_>> = keys.iter().filter_map(|key| pods.members.get(*key)).collect();
    outside.extend(
        keys.iter().filter(|key| !pods.members.contains_key(**key)).map(|key| format!("pod {}", key.1)),
    );
    let addresses = spec.map(|spec| {
        spec.cluster_ips
            .iter()
            .flatten()
            .chain(&spec.cluster_ip)
            .filter_map(|text| text.parse().ok())
            .collect()
    });
    Known {
        id: ServiceId::new(&key.0, &key.1),
        created: service.metadata.creation_timestamp.as_ref(),
        ports: ports(spec, &object, findings),
        object,
        members,
        outside: outside.into_iter().collect(),
        slices,
        has_selector: spec.and_then(|spec| spec.selector.as_ref()).is_some_and(|all| !all.is_empty()),
        cluster_addresses: addresses.unwrap_or_default(),
        is_headless: spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None"),
    }
}

fn ports<'a>(
    spec: Option<&'a v1::ServiceSpec>,
    object: &ObjectRef,
    findings: &mut Vec<Finding>,
) -> BTreeMap<u16, Port<'a>> {
    let mut ports = BTreeMap::new();
    let written = spec.into_iter().flat_map(|spec| spec.ports.iter().flatten()).enumerate();
    for (index, port) in written {
        let is_tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
        let field = format!("spec.ports[{index}]");
        match u16::try_from(port.port).ok().filter(|number| *number != 0) {
            Some(number) if is_tcp => {
                let protocol = protocol_of(port.app_protocol.as_deref(), port.name.as_deref());
                let name = port.name.as_deref().unwrap_or_default();
                ports.entry(number).or_insert(Port {
                    field,
                    number,
                    name,
                    protocol,
                    target: port.target_port.as_ref(),
                });
            }
            Some(_) => {}
            None => findings.push(
                Finding::new(
                    object.clone(),
                    Reason::InvalidPort,
                    format!(
                        "{} is no port: expected a whole number from 1 to 65535; it is left out",
                        port.port
                    ),
                )
                .at(format!("{field}.port")),
            ),
        }
    }
    ports
}

/// The ports that the Services send to, by pod. Two Services may disagree on what is spoken there: the older is
/// believed.
pub(super) fn served_ports<'a>(services: &[Known<'a>], findings: &mut Vec<Finding>) -> ServedPorts<'a> {
    let mut owners: BTreeMap<(&Key, u16), (&Known<'_>, Protocol)> = BTreeMap::new();
    let mut served = ServedPorts::new();
    for service in services {
        for port in service.ports.values() {
            for (member, target) in endpoints::targets(service, port) {
                let key = member.key;
                if RESERVED_PORTS.contains(&target) {
                    findings.push(reserved(service, port, target));
                    continue;
                }
                let owner = owners.entry((key, target)).or_insert((service, port.protocol));
                if owner.1 != port.protocol {
                    findings.push(conflict(service, port, target, owner.0));
                }
                served.entry(key).or_default().insert(target, owner.1);
            }
        }
    }
    served
}

fn reserved(service: &Known<'_>, port: &Port<'_>, target: u16) -> Finding {
    let message =
        format!("sends to the pods' port {target}, which the proxy needs for itself; it is not served");
    Finding::new(service.object.clone(), Reason::ReservedPort, message)
        .at(format!("{}.targetPort", port.field))
        .hint("let the application listen on another port")
}

fn conflict(service: &Known<'_>, port: &Port<'_>, target: u16, older: &Known<'_>) -> Finding {
    let message = format!(
        "says {:?} for the pods' port {target}, and the older Service {} says otherwise; the older one is believed",
        port.protocol, older.id.name
    );
    Finding::new(service.object.clone(), Reason::ProtocolConflict, message)
        .at(port.field.clone())
        .hint("give both ports the same appProtocol")
}
