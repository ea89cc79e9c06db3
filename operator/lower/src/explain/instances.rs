//! Finds the pods behind a Service or a workload, each with its addresses and the class that it has in the mesh.
//!
//! A caller may dial a pod's own address, so an answer about a headless Service or a workload depends on the pods.
//! Decides nothing about the call.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use smidge_mesh::{
    Mesh,
    id::{ClassId, ProxyId, ServiceId},
    workload::Class,
};

use crate::{
    external_workload,
    inputs::{Inputs, Key},
    workload::{addresses, has_ended},
};

/// A pod or an ExternalWorkload that can be dialled.
#[derive(Debug, Clone)]
pub(super) struct Instance<'a> {
    /// The addresses that a Service can own: those of a pod. No Service owns that of an ExternalWorkload.
    pub addresses: BTreeSet<IpAddr>,
    /// `None` for a pod outside the mesh.
    pub class: Option<(&'a ClassId, &'a Class)>,
}

/// A Service of a question.
#[derive(Debug)]
pub(super) struct Called<'a> {
    pub id: ServiceId,
    /// The Service as the mesh has it; `None` if the mesh does not have it.
    pub service: Option<&'a smidge_mesh::service::Service>,
    /// TCP ports that it lists.
    pub ports: BTreeSet<u16>,
    pub is_headless: bool,
    /// True if it is only an alias of a name outside the cluster.
    pub is_alias: bool,
    /// True if its endpoints are not those of a selector, so that they may be unknown.
    pub is_unselective: bool,
    pub instances: Vec<Instance<'a>>,
    /// Names of the ExternalWorkloads that it selects, in the mesh or not.
    pub machines: Vec<String>,
}

/// Returns the Service of that name, if there is one.
pub(super) fn called<'a>(mesh: &'a Mesh, inputs: &Inputs, key: &Key) -> Option<Called<'a>> {
    let written = inputs.services.get(key)?;
    let id = ServiceId::new(&key.0, &key.1);
    let service = mesh.services.get(&id).map(Arc::as_ref);
    let spec = written.spec.as_ref();
    let is_tcp = |protocol: Option<&str>| protocol.is_none_or(|protocol| protocol == "TCP");
    let ports = spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let ports = ports.filter(|port| is_tcp(port.protocol.as_deref()));
    let selector = selector(written);
    let machines = selector.into_iter().flat_map(|labels| machines(inputs, &key.0, labels));
    Some(Called {
        machines: machines.map(str::to_owned).collect(),
        id,
        service,
        ports: ports.filter_map(|port| u16::try_from(port.port).ok()).filter(|port| *port != 0).collect(),
        is_headless: spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None"),
        is_alias: is_alias(written),
        is_unselective: selector.is_none(),
        instances: match selector {
            Some(labels) => selected(mesh, inputs, &key.0, labels),
            None => listed(mesh, inputs, key),
        },
    })
}

/// Returns the Service of the cluster of which another one is an alias.
pub(super) fn aliased(inputs: &Inputs, key: &Key) -> Option<Key> {
    let service = inputs.services.get(key).filter(|service| is_alias(service))?;
    let name = service.spec.as_ref()?.external_name.as_deref()?;
    let mut labels = name.split('.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    let target = (namespace.to_owned(), name.to_owned());
    (labels.next() == Some("svc") && inputs.services.contains_key(&target)).then_some(target)
}

fn is_alias(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref().filter(|_| !is_alias(service))?;
    spec.selector.as_ref().filter(|labels| !labels.is_empty())
}

/// Returns the pods and the ExternalWorkloads of a namespace that have these labels.
fn selected<'a>(
    mesh: &'a Mesh,
    inputs: &Inputs,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Vec<Instance<'a>> {
    let members = members(mesh, namespace);
    let pods = inputs
        .pods
        .iter()
        .filter(|((of, _), pod)| of == namespace && has_all(&pod.metadata, labels) && !has_ended(pod));
    let pods = pods.map(|((_, name), pod)| instance(&members, name, pod));
    // One that is not in the mesh is nowhere.
    let machines = machines(inputs, namespace, labels).filter_map(|name| {
        let class = members.get(external_workload::instance(name).as_str()).copied()?;
        Some(Instance { addresses: BTreeSet::new(), class: Some(class) })
    });
    pods.chain(machines).collect()
}

/// Returns the names of the ExternalWorkloads of a namespace that have these labels.
fn machines<'i>(
    inputs: &'i Inputs,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> impl Iterator<Item = &'i str> {
    let all = inputs.external_workloads.iter();
    let those = all.filter(move |((of, _), it)| of == namespace && has_all(&it.metadata, labels));
    those.map(|((_, name), _)| name.as_str())
}

fn has_all(metadata: &ObjectMeta, labels: &BTreeMap<String, String>) -> bool {
    let own = metadata.labels.as_ref();
    labels.iter().all(|(name, value)| own.and_then(|own| own.get(name)) == Some(value))
}

/// Returns what the slices of a Service without a selector list.
fn listed<'a>(mesh: &'a Mesh, inputs: &Inputs, key: &Key) -> Vec<Instance<'a>> {
    let is_its = |labels: &BTreeMap<String, String>| {
        labels.get("kubernetes.io/service-name").is_some_and(|name| *name == key.1)
    };
    let of_it = inputs.slices.iter().filter(|((namespace, _), slice)| {
        *namespace == key.0 && slice.metadata.labels.as_ref().is_some_and(is_its)
    });
    let members = members(mesh, &key.0);
    of_it
        .flat_map(|(_, slice)| &slice.endpoints)
        .map(|endpoint| {
            let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
            let name = target.and_then(|target| target.name.clone());
            let pod_key = name.map(|name| (key.0.clone(), name));
            let pod = pod_key.and_then(|key| Some(instance(&members, &key.1, inputs.pods.get(&key)?)));
            let addresses = endpoint.addresses.iter().filter_map(|text| text.parse().ok()).collect();
            pod.unwrap_or(Instance { addresses, class: None })
        })
        .collect()
}

/// Classes of the pods of a namespace that are in the mesh, by name.
type Classes<'a> = BTreeMap<&'a str, (&'a ClassId, &'a Class)>;

fn members<'a>(mesh: &'a Mesh, namespace: &str) -> Classes<'a> {
    let of_namespace = mesh.workloads.iter().filter(|(id, _)| id.namespace == namespace);
    let class = |id| Some((id, mesh.classes.get(id)?.as_ref()));
    of_namespace.filter_map(|(id, it)| Some((id.instance.as_str(), class(&it.class)?))).collect()
}

fn instance<'a>(members: &Classes<'a>, name: &str, pod: &Pod) -> Instance<'a> {
    Instance { addresses: addresses(pod).into_iter().collect(), class: members.get(name).copied() }
}

/// Returns one of the instances of a workload that is in the mesh.
pub(super) fn of_proxy<'a>(mesh: &'a Mesh, inputs: &Inputs, id: &ProxyId) -> Option<Instance<'a>> {
    let workload = mesh.workloads.get(id)?;
    let pod = inputs.pods.get(&(id.namespace.clone(), id.instance.clone()));
    let class = mesh.classes.get(&workload.class)?;
    let addresses = pod.into_iter().flat_map(|pod| addresses(pod)).collect();
    Some(Instance { addresses, class: Some((&workload.class, class)) })
}
