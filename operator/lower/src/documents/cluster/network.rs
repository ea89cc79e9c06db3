//! Adds to the pods and Services of an offline cluster what the network of the cluster would: addresses and
//! EndpointSlices.
//!
//! Stand-in addresses are assigned in the order of names, so that equal files give equal output. Values in the files
//! themselves are kept.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, PodIP, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use sha2::{Digest as _, Sha256};

use crate::{
    inputs::{Inputs, Key, Shared, change_each},
    kubernetes::{endpoints, workload::named_port},
};

/// Lower half of 198.18.0.0/15, for Services; the upper half is for pods.
const SERVICES: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const PODS: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 0);

/// Adds addresses and slices.
pub(super) fn complete(inputs: &mut Inputs) {
    let mut addresses = stand_ins(PODS);
    change_each(&mut inputs.pods, |_, pod| {
        let address = addresses.next();
        let has_address = pod.status.as_ref().is_some_and(|status| status.pod_ips.is_some());
        if let Some(ip) = address.filter(|_| !has_address) {
            let status = pod.status.get_or_insert_default();
            status.pod_ip = Some(ip.to_string());
            status.pod_ips = Some(vec![PodIP { ip: ip.to_string() }]);
        }
    });
    let mut addresses = stand_ins(SERVICES);
    change_each(&mut inputs.services, |_, service| {
        let address = addresses.next();
        if let Some(ip) = address.filter(|_| lacks_address(service)) {
            let spec = service.spec.get_or_insert_default();
            spec.cluster_ip = Some(ip.to_string());
            spec.cluster_ips = Some(vec![ip.to_string()]);
        }
    });
    let slices: Vec<_> =
        inputs.services.iter().flat_map(|(key, service)| slices(key, service, inputs)).collect();
    inputs.slices.extend(slices);
}

/// Adds an address to each Service that has none: a hash of its name, so that it is the same in every process, and no
/// other Service changes it. `lower` reports two Services with the same address, and the older one keeps it.
pub(super) fn address(inputs: &mut Inputs) {
    change_each(&mut inputs.services, |key, service| {
        if lacks_address(service) {
            let ip = hashed(key).to_string();
            let spec = service.spec.get_or_insert_default();
            spec.cluster_ip = Some(ip.clone());
            spec.cluster_ips = Some(vec![ip]);
        }
    });
}

fn lacks_address(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let is_external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    let has_address = spec.is_some_and(|spec| spec.cluster_ip.is_some() || spec.cluster_ips.is_some());
    !is_external && !has_address
}

/// Returns an address of 240.0.0.0/4, which nobody uses (RFC 1112, 4), without its last block, which has the broadcast
/// address.
fn hashed((namespace, name): &Key) -> Ipv4Addr {
    const FIRST: u32 = 240 << 24;
    const NUMBER: u32 = 15 << 24;
    let digest = Sha256::digest(format!("{namespace}/{name}"));
    let number = digest.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    Ipv4Addr::from(FIRST + number % NUMBER)
}

/// Returns the addresses of a half, as many as it has.
fn stand_ins(half: Ipv4Addr) -> impl Iterator<Item = IpAddr> {
    (1..=u16::MAX).map(move |offset| IpAddr::V4(Ipv4Addr::from(u32::from(half) + u32::from(offset))))
}

/// Returns one slice for every pod that a Service selects.
fn slices(key: &Key, service: &Service, inputs: &Inputs) -> Vec<(Key, Shared<EndpointSlice>)> {
    let Some(selector) =
        service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).filter(|all| !all.is_empty())
    else {
        return Vec::new();
    };
    let is_selected = |labels: &BTreeMap<String, String>| {
        selector.iter().all(|(name, value)| labels.get(name) == Some(value))
    };
    inputs
        .pods
        .iter()
        .filter(|((namespace, _), _)| *namespace == key.0)
        .filter(|(_, pod)| pod.metadata.labels.as_ref().is_some_and(is_selected))
        .map(|(pod_key, pod)| slice(key, service, &pod_key.1, pod))
        .collect()
}

fn slice(key: &Key, service: &Service, pod_name: &str, pod: &Pod) -> (Key, Shared<EndpointSlice>) {
    let name = format!("{}-{pod_name}", key.1);
    let status = pod.status.as_ref();
    let addresses: Vec<String> = status
        .iter()
        .flat_map(|status| status.pod_ips.iter().flatten())
        .map(|ip| ip.ip.clone())
        .take(1)
        .collect();
    let is_unready = status.and_then(|status| status.conditions.as_ref()).is_some_and(|all| {
        all.iter().any(|condition| condition.type_ == "Ready" && condition.status != "True")
    });
    let endpoint = Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(!is_unready),
            serving: Some(!is_unready),
            terminating: Some(false),
        }),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: Some(key.0.clone()),
            name: Some(pod_name.to_owned()),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    };
    let labels = BTreeMap::from([
        (endpoints::SERVICE_NAME.to_owned(), key.1.clone()),
        (endpoints::MANAGED_BY.to_owned(), endpoints::OF_PODS.to_owned()),
    ]);
    let slice = EndpointSlice {
        address_type: "IPv4".to_owned(),
        endpoints: vec![endpoint],
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(key.0.clone()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        ports: Some(ports(service, pod)),
    };
    ((key.0.clone(), name), slice.into())
}

/// Returns the Service's ports as this pod has them; a named port that the pod lacks is left out.
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let written = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let resolved = written.filter_map(|port| {
        let number = match &port.target_port {
            None | Some(IntOrString::Int(0)) => port.port,
            Some(IntOrString::Int(number)) => *number,
            Some(IntOrString::String(name)) => i32::from(named_port(pod, name)?),
        };
        Some(EndpointPort {
            name: port.name.clone(),
            port: Some(number),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
    });
    resolved.collect()
}
