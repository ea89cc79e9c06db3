//! Turns manifests into the plan of a sandbox: its workloads with identities, ports and addresses, the manifests that
//! its control plane serves, and the names of Services.
//!
//! Pure. A workload is what the mesh makes of a pod or of a machine; each becomes a machine of the sandbox. Everything
//! else is served as written. Starts nothing, and judges no policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use k8s_openapi::api::core::v1::ContainerPort;
use serde_json::{Value, json};
use smidge_crds::{config::ExternalWorkloadSpec, object::Kind as _};
use smidge_mesh::{
    Mesh,
    id::{ClusterId, ProxyId},
};

use crate::{
    documents::{self, DEFAULT_NAMESPACE, Document},
    inputs::{Inputs, Key},
    lower::{external_workload, lower},
};

/// The network of the sandbox, of a block that no network routes (RFC 2544). The first address is the control plane's.
const NETWORK: u32 = Ipv4Addr::new(198, 19, 128, 0).to_bits();
/// Number in the network of the first workload.
const FIRST: u32 = 11;
/// Maximum number of workloads of any sandbox: a network of 256 addresses has room for them.
pub const MOST_WORKLOADS: u32 = 200;

/// Address of the control plane.
pub const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::from_bits(NETWORK + 1);

/// A workload of the sandbox: one instance, whatever its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// Namespace.
    pub namespace: String,
    /// Name, that of the Deployment for example.
    pub name: String,
    /// The ServiceAccount whose identity it has.
    pub account: String,
    /// Labels, by which Services select it.
    pub labels: BTreeMap<String, String>,
    /// Ports that it declares.
    pub declared: Vec<Value>,
    /// Ports on which it answers: those that it declares, and those that Services send to.
    pub listens: BTreeSet<u16>,
    /// Address in the sandbox.
    pub address: Ipv4Addr,
}

impl Workload {
    /// Returns its full name.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Returns its number, which names its network.
    pub fn number(&self) -> u32 {
        self.address.to_bits() - NETWORK
    }
}

/// The plan of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Its workloads, by name.
    pub workloads: Vec<Workload>,
    /// The manifests to serve.
    pub manifests: String,
    /// Addresses of Services.
    pub services: BTreeMap<Key, Vec<IpAddr>>,
    /// Notes for the user about what the sandbox does not have.
    pub notes: Vec<String>,
}

/// Reason for which there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing would run.
    #[error(
        "the manifests have no workload in the mesh: expected a Deployment, a Pod or another object with pods (hint: \
         pods of kube-system and those labelled smidge.mesh/inject=disabled are not in the mesh)"
    )]
    Empty,
    /// More workloads than were asked for.
    #[error(
        "the manifests have {found} workloads, at most {most} are run: each takes an Envoy (hint: pass fewer \
         manifests, or --max-workloads)"
    )]
    TooMany {
        /// Workloads in the manifests.
        found: usize,
        /// Maximum.
        most: u32,
    },
    /// The text of an object cannot be printed.
    #[error("failed to print an object of {file}: {problem}")]
    Print {
        /// File of the object.
        file: String,
        /// Description of the problem.
        problem: String,
    },
}

/// Returns the plan for these objects, with at most `most` workloads.
pub fn plan(documents: &[Document], most: u32) -> Result<Plan, PlanError> {
    let most = most.min(MOST_WORKLOADS);
    let (found, outside) = workloads(documents);
    if found.is_empty() {
        return Err(PlanError::Empty);
    }
    if found.len() > usize::try_from(most).unwrap_or(usize::MAX) {
        return Err(PlanError::TooMany { found: found.len(), most });
    }
    let mut workloads = found;
    for (number, workload) in (FIRST..).zip(&mut workloads) {
        workload.address = Ipv4Addr::from_bits(NETWORK + number);
    }
    let mut plan = serve(documents, workloads)?;
    plan.notes.splice(0..0, outside);
    Ok(plan)
}

impl Plan {
    /// Returns the plan for changed objects in the same sandbox: its workloads keep their addresses, and none is added.
    pub fn next(&self, documents: &[Document]) -> Result<Self, PlanError> {
        let (found, outside) = workloads(documents);
        let mut kept = Vec::new();
        let mut notes = outside;
        for mut workload in found {
            match self.find(&workload.namespace, &workload.name) {
                Some(running) => {
                    workload.address = running.address;
                    if !workload.listens.is_subset(&running.listens) {
                        let name = workload.full_name();
                        notes
                            .push(format!("{name} has new ports, on which nothing answers before a restart"));
                    }
                    workload.listens.clone_from(&running.listens);
                    kept.push(workload);
                }
                None => notes.push(format!("{} is new: it runs after a restart", workload.full_name())),
            }
        }
        let mut plan = serve(documents, kept)?;
        plan.notes.splice(0..0, notes);
        Ok(plan)
    }

    fn find(&self, namespace: &str, name: &str) -> Option<&Workload> {
        self.workloads.iter().find(|it| it.namespace == namespace && it.name == name)
    }
}

/// Finds the workloads in the mesh, without their addresses, and notes about those outside of it.
fn workloads(documents: &[Document]) -> (Vec<Workload>, Vec<String>) {
    let clusters = BTreeMap::from([(ClusterId::default(), documents::cluster(documents).inputs)]);
    let (mesh, _) = lower(&clusters);
    let Some(inputs) = clusters.values().next() else { return (Vec::new(), Vec::new()) };
    let mut found: BTreeMap<Key, Workload> = BTreeMap::new();
    for (id, member) in &mesh.workloads {
        let name = (id.namespace.clone(), member.name.clone());
        // Of two of one name, the second has the name of its instance, as `explain` has it.
        let is_taken = found.contains_key(&name);
        let name = if is_taken { (name.0, id.instance.replace(':', "-")) } else { name };
        let Some(workload) = workload(&name, id, &mesh, inputs) else { continue };
        found.insert(name, workload);
    }
    let is_member = |key: &Key| mesh.workloads.keys().any(|id| id.namespace == key.0 && id.instance == key.1);
    let outside = inputs.pods.keys().filter(|key| !is_member(key)).map(|(namespace, name)| {
        format!("pod {namespace}/{name} is not in the mesh: it is not run, and does not answer")
    });
    (found.into_values().collect(), outside.collect())
}

fn workload(name: &Key, id: &ProxyId, mesh: &Mesh, inputs: &Inputs) -> Option<Workload> {
    let member = mesh.workloads.get(id)?;
    let key = (id.namespace.clone(), id.instance.clone());
    let (labels, declared) = if let Some(pod) = inputs.pods.get(&key) {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let ports = containers.flat_map(|container| container.ports.iter().flatten());
        (pod.metadata.labels.clone(), ports.filter_map(declared).collect())
    } else {
        let machine = inputs
            .external_workloads
            .iter()
            .find(|((namespace, name), _)| {
                *namespace == id.namespace && external_workload::instance(name) == id.instance
            })
            .map(|(_, machine)| machine)?;
        let ports = serde_json::to_value(&machine.spec.ports).ok()?;
        (machine.metadata.labels.clone(), ports.as_array().cloned().unwrap_or_default())
    };
    Some(Workload {
        namespace: name.0.clone(),
        name: name.1.clone(),
        account: member.identity.service_account.clone(),
        labels: labels.unwrap_or_default(),
        declared,
        listens: mesh.classes.get(&member.class).map(|it| it.ports.keys().copied().collect())?,
        address: Ipv4Addr::UNSPECIFIED,
    })
}

fn declared(port: &ContainerPort) -> Option<Value> {
    let is_tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
    let mut declared = json!({"port": port.container_port});
    if let (Some(name), Some(fields)) = (&port.name, declared.as_object_mut()) {
        fields.insert("name".to_owned(), name.as_str().into());
    }
    is_tcp.then_some(declared)
}

/// Returns the plan that serves the objects with these workloads.
fn serve(documents: &[Document], workloads: Vec<Workload>) -> Result<Plan, PlanError> {
    let mut notes = Vec::new();
    let mut served: Vec<Document> = documents.iter().filter_map(|it| served(it, &mut notes)).collect();
    served.extend(workloads.iter().map(machine));
    let mut manifests = String::new();
    for document in &served {
        let text = documents::print(&document.value)
            .map_err(|error| PlanError::Print { file: document.file.clone(), problem: error.to_string() })?;
        manifests.push_str("---\n");
        manifests.push_str(&text);
        if !manifests.ends_with('\n') {
            manifests.push('\n');
        }
    }
    let services = documents::objects(&served).inputs.services;
    let services = services.iter().map(|(key, service)| {
        let spec = service.spec.as_ref();
        let several = spec.and_then(|spec| spec.cluster_ips.clone()).filter(|all| !all.is_empty());
        let all = several.or_else(|| Some(vec![spec?.cluster_ip.clone()?])).unwrap_or_default();
        (key.clone(), all.iter().filter_map(|text| text.parse().ok()).collect())
    });
    Ok(Plan { workloads, manifests, services: services.collect(), notes })
}

/// Returns the objects as they are in the sandbox: headless Services have an address.
pub fn adapted(documents: &[Document]) -> Vec<Document> {
    let mut documents = documents.to_vec();
    for document in &mut documents {
        give_address(document);
    }
    documents
}

/// Returns an object as it is served; `None` for those that become machines, and for those that no mesh is made of.
fn served(document: &Document, notes: &mut Vec<String>) -> Option<Document> {
    let is_machine = (document.group.as_str(), document.kind.as_str())
        == (ExternalWorkloadSpec::GROUP, ExternalWorkloadSpec::KIND);
    let is_private = document.group.is_empty() && ["Secret", "ConfigMap"].contains(&document.kind.as_str());
    let is_slice = document.kind == "EndpointSlice" || document.kind == "Endpoints";
    if is_machine || is_private || is_slice || documents::pod_place(document).is_some() {
        return None;
    }
    let mut document = document.clone();
    let metadata = document.value.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(metadata) = metadata.filter(|_| document.default_namespace != DEFAULT_NAMESPACE) {
        let namespace = document.default_namespace.clone();
        metadata.entry("namespace").or_insert_with(|| namespace.into());
    }
    if let Some(name) = give_address(&mut document) {
        notes.push(format!("Service {name} is headless: in the sandbox it has an address"));
    }
    Some(document)
}

/// Gives a headless Service an address, as nothing here is a DNS that would return those of its pods. Returns its name if
/// it is one.
fn give_address(document: &mut Document) -> Option<String> {
    let text = |at: &str| document.value.pointer(at).and_then(Value::as_str);
    let is_headless = document.group.is_empty() && document.kind == "Service";
    if !is_headless || text("/spec/clusterIP") != Some("None") {
        return None;
    }
    let namespace = text("/metadata/namespace").unwrap_or(&document.default_namespace);
    let name = format!("{namespace}/{}", text("/metadata/name").unwrap_or_default());
    let spec = document.value.get_mut("spec").and_then(Value::as_object_mut)?;
    spec.remove("clusterIP");
    spec.remove("clusterIPs");
    Some(name)
}

/// Returns the machine that a workload becomes.
fn machine(workload: &Workload) -> Document {
    let Workload { namespace, name, account, labels, declared, listens: _, address } = workload;
    let (group, version) = (ExternalWorkloadSpec::GROUP, ExternalWorkloadSpec::VERSION);
    Document {
        file: "the sandbox".to_owned(),
        number: 1,
        place: String::new(),
        group: group.to_owned(),
        version: version.to_owned(),
        kind: ExternalWorkloadSpec::KIND.to_owned(),
        default_namespace: DEFAULT_NAMESPACE.to_owned(),
        value: json!({
            "apiVersion": format!("{group}/{version}"),
            "kind": ExternalWorkloadSpec::KIND,
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"serviceAccount": account, "addresses": [address.to_string()], "ports": declared},
        }),
    }
}

/// Returns the hosts file for workloads of a namespace, which may use the short names of its Services.
pub fn hosts(plan: &Plan, own: &str, cluster_domain: &str) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    for ((namespace, name), addresses) in &plan.services {
        let short = format!("{name}.{namespace}");
        let alone = if namespace == own { format!(" {name}") } else { String::new() };
        let names = format!(" {short}.svc.{cluster_domain} {short}.svc {short}{alone}\n");
        for address in addresses {
            text.extend([address.to_string(), names.clone()]);
        }
    }
    text
}
