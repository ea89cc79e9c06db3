//! Builds the inputs that a cluster with some objects would give: pods from workloads, endpoints from selectors,
//! addresses from 198.18.0.0/15, which is not routed (RFC 2544). `objects` adds none of these, for a control plane that
//! serves the objects as they are.
//!
//! In a cluster, every workload has one pod, whatever its replicas: replicas are alike. Every namespace with pods counts as labelled
//! for injection unless it is labelled `smidge.mesh/inject=disabled`, and every pod of it as injected unless the pod
//! has this label itself, or a UID: one that an API server has created counts as it is. Kinds that nothing here reads are
//! ignored.

mod definition;
mod foreign;
mod network;
mod smi;
mod written;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Namespace, Pod, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use smidge_crds::{
    KindInfo, conversion,
    labels::{self, INIT_CONTAINER, INJECTED, KUBE_SYSTEM, PROXY_CONTAINER},
    object::{Kind, Object},
    redirected::InboundRedirection,
};

pub use self::written::Written;
use super::{Document, Unreadable, unknown, workload};
use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::{Inputs, Key, Objects, change_each},
    kinds::{self, References, Row, Visitor, Watched},
    kubernetes::metadata::{self, Place},
};

/// A cluster made of files.
#[derive(Debug, Default)]
pub struct Offline {
    /// Inputs for `lower`.
    pub inputs: Inputs,
    /// Number of objects, of any kind.
    pub objects: usize,
    /// Findings about objects to which this version gives no meaning.
    pub findings: Vec<Finding>,
    /// Objects that do not have the shape of their kind.
    pub unreadable: Vec<Unreadable>,
    /// Versions in which the objects were written.
    pub written: Written,
}

/// Returns the cluster that has these objects. A later object replaces an earlier one of the same kind and name.
pub fn cluster(documents: &[Document]) -> Offline {
    let mut offline = read(documents, Templates::BecomePods);
    offline.inject();
    network::complete(&mut offline.inputs);
    offline
}

/// Returns the objects as an API server would hold them, for a control plane that has none: nothing runs the pods of
/// templates, and of what the cluster's network adds, only addresses of Services are added.
pub fn objects(documents: &[Document]) -> Offline {
    let mut offline = read(documents, Templates::HaveNoEffect);
    network::address(&mut offline.inputs);
    offline
}

/// Meaning of a template of pods.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Templates {
    /// One pod for each.
    BecomePods,
    /// A finding: nothing would run them.
    HaveNoEffect,
}

fn read(documents: &[Document], templates: Templates) -> Offline {
    let mut offline = Offline { objects: documents.len(), ..Offline::default() };
    let mut foreign = foreign::Kinds::default();
    for document in documents {
        foreign.add(document);
        if let Err(unreadable) = offline.add(document, templates) {
            offline.unreadable.push(unreadable);
        }
    }
    offline.findings.extend(foreign.findings());
    offline
}

impl Offline {
    fn add(&mut self, document: &Document, templates: Templates) -> Result<(), Unreadable> {
        match (document.group.as_str(), document.kind.as_str()) {
            ("apiextensions.k8s.io", "CustomResourceDefinition") => {
                self.findings.extend(definition::foreign(document));
                Ok(())
            }
            // One that a Deployment owns adds nothing to the Deployment; one without a template refers to another object.
            ("apps", "ReplicaSet") if has(document, "/metadata/ownerReferences/0") => Ok(()),
            ("argoproj.io", "Rollout") if !has(document, "/spec/template") => Ok(()),
            (group, kind) if group == "smidge.mesh" || smi::is_meant(group, kind) => {
                self.add_custom(document)
            }
            _ => match workload::template(document) {
                Some(template) if templates == Templates::BecomePods => self.add_pod(document, template?),
                Some(_) => {
                    self.findings.push(runs_nothing(document)?);
                    Ok(())
                }
                None => self.insert(document),
            },
        }
    }

    /// Adds an object to the list of its kind; an object of any other kind is ignored, and `foreign` names it if it is
    /// of another mesh.
    fn insert(&mut self, document: &Document) -> Result<(), Unreadable> {
        let mut insert = Insert { document, inputs: &mut self.inputs, result: Ok(()) };
        kinds::visit(&mut insert);
        insert.result
    }

    fn add_custom(&mut self, document: &Document) -> Result<(), Unreadable> {
        let Document { group, version, kind, .. } = document;
        let is_namespaced = KindInfo::find(group, kind).is_none_or(KindInfo::has_namespace);
        let key = key(document, is_namespaced, document.value.get("metadata"))?;
        let object = ObjectRef::new(kind, key.0, key.1);
        if !conversion::served(group, kind).contains(&version.as_str()) {
            self.findings.push(smi::not_served(document, object));
            return Ok(());
        }
        self.findings.extend(unknown::fields(document, &object));
        self.written.add(object, version);
        self.insert(document)
    }

    fn add_pod(&mut self, document: &Document, template: PodTemplateSpec) -> Result<(), Unreadable> {
        let key = key(document, true, document.value.get("metadata"))?;
        let own = document.value.get("metadata").cloned().unwrap_or_default();
        if let Ok(own) = serde_json::from_value::<ObjectMeta>(own) {
            let object = ObjectRef::new(&document.kind, &key.0, &key.1);
            metadata::report(&object, (Place::Workload, true), &own, &mut self.findings);
        }
        let mut metadata = template.metadata.unwrap_or_default();
        let name = format!("{}-0", key.1);
        metadata.name = Some(name.clone());
        metadata.namespace = Some(key.0.clone());
        metadata.owner_references = Some(vec![OwnerReference {
            kind: document.kind.clone(),
            name: key.1,
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        let pod = Pod { metadata, spec: template.spec, status: None };
        self.inputs.pods.insert((key.0, name), pod.into());
        Ok(())
    }

    /// Marks the pods that the webhook would have injected.
    fn inject(&mut self) {
        let Inputs { pods, namespaces, system_namespace, .. } = &mut self.inputs;
        change_each(pods, |(namespace, _), pod| {
            if let Some(spec) = &mut pod.spec {
                // The API server fills one from the other.
                let is_set = spec.service_account_name.as_ref().is_some_and(|name| !name.is_empty());
                spec.service_account_name =
                    if is_set { spec.service_account_name.take() } else { spec.service_account.clone() };
            }
            let is_disabled = |labels: &Option<BTreeMap<String, String>>| {
                labels
                    .as_ref()
                    .and_then(|labels| labels.get(labels::INJECT))
                    .is_some_and(|word| word == labels::INJECT_DISABLED)
            };
            let key = (String::new(), namespace.clone());
            let mut of_namespace = namespaces.get(&key).map(|of| Namespace::clone(of)).unwrap_or_default();
            let word = of_namespace.metadata.labels.as_ref().and_then(|labels| labels.get(labels::INJECT));
            if is_disabled(&pod.metadata.labels)
                // One that an API server has created is what it is.
                || pod.metadata.uid.is_some()
                || word.is_some_and(|word| word != labels::INJECT_ENABLED)
                || namespace == KUBE_SYSTEM
                || namespace == system_namespace
            {
                return;
            }
            let of = of_namespace.metadata.labels.get_or_insert_default();
            if of.insert(labels::INJECT.to_owned(), labels::INJECT_ENABLED.to_owned()).as_deref()
                != Some(labels::INJECT_ENABLED)
            {
                of_namespace.metadata.name = Some(namespace.clone());
                namespaces.insert(key, of_namespace.into());
            }
            pod.metadata.annotations.get_or_insert_default().insert(INJECTED.to_owned(), "true".to_owned());
            let redirected = InboundRedirection::of(pod).to_args();
            let containers = pod.spec.get_or_insert_default().init_containers.get_or_insert_default();
            if !containers.iter().any(|container| container.name == INIT_CONTAINER) {
                let args = Some(redirected);
                containers.push(Container { name: INIT_CONTAINER.to_owned(), args, ..Container::default() });
            }
            if !containers.iter().any(|container| container.name == PROXY_CONTAINER) {
                containers.push(Container { name: PROXY_CONTAINER.to_owned(), ..Container::default() });
            }
        });
    }
}

/// Adds a document to the objects of its kind.
struct Insert<'a> {
    document: &'a Document,
    inputs: &'a mut Inputs,
    result: Result<(), Unreadable>,
}

impl Insert<'_> {
    fn is_of<K: Watched>(&self) -> bool {
        self.document.group == K::group(&()) && self.document.kind == K::kind(&())
    }
}

impl Visitor for Insert<'_> {
    fn kind<K: Watched>(&mut self, row: &Row<K>) {
        if self.is_of::<K>() {
            self.result = insert(self.document, (row.objects_mut)(self.inputs));
        }
    }

    fn custom<Spec: Kind>(&mut self, row: &Row<Object<Spec>>, _: References<Spec>) {
        if self.is_of::<Object<Spec>>() {
            self.result = smi::insert(self.document, (row.objects_mut)(self.inputs));
        }
    }
}

/// Returns the finding about a workload in a folder that no cluster reads.
fn runs_nothing(document: &Document) -> Result<Finding, Unreadable> {
    let (namespace, name) = key(document, true, document.value.get("metadata"))?;
    let message = "nothing runs the pods of this template here: it has no effect";
    Ok(Finding::new(ObjectRef::new(&document.kind, namespace, name), Reason::NoEffect, message)
        .hint("write an ExternalWorkload for each instance that runs"))
}

fn has(document: &Document, pointer: &str) -> bool {
    document.value.pointer(pointer).is_some_and(|value| !value.is_null())
}

/// Returns the namespace and name of a document, from its metadata.
fn key(
    document: &Document,
    is_namespaced: bool,
    metadata: Option<&serde_json::Value>,
) -> Result<Key, Unreadable> {
    let text =
        |field: &str| metadata.and_then(|metadata| metadata.get(field)).and_then(|value| value.as_str());
    let name = text("name").or_else(|| text("generateName").map(|name| name.trim_end_matches('-')));
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Err(document
            .unreadable("metadata.name", format!("is missing: expected the name of the {}", document.kind)));
    };
    let namespace = match text("namespace").filter(|namespace| !namespace.is_empty()) {
        _ if !is_namespaced => "",
        Some(namespace) => namespace,
        None => &document.default_namespace,
    };
    Ok((namespace.to_owned(), name.to_owned()))
}

fn insert<K: Watched>(document: &Document, objects: &mut Objects<K>) -> Result<(), Unreadable> {
    let is_namespaced = smidge_crds::object::is_namespaced::<K>();
    let key = key(document, is_namespaced, document.value.get("metadata"))?;
    let mut object: K = document.decode()?;
    object.meta_mut().name = Some(key.1.clone());
    object.meta_mut().namespace = is_namespaced.then(|| key.0.clone());
    objects.insert(key, object.into());
    Ok(())
}
