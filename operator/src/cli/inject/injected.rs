//! Turns texts of manifests into the same manifests with the proxy, and messages for their author.
//!
//! Pure. Injects pods and the templates of the kinds that `documents` lists; every other object passes unchanged, with
//! a message if it looks as if it had a template of pods. Labels and annotations of a namespace count if it is in the
//! texts, or was read from a cluster.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use smidge_crds::labels::{INJECT, INJECT_ENABLED, INJECT_MANUAL};

use crate::{
    documents::{self, Document, Source, Unreadable},
    injector::{self, Decision, Settings},
};

/// Manifests with the proxy.
#[derive(Debug, Default)]
pub struct Injected {
    /// The manifests as YAML.
    pub text: String,
    /// Warnings and refusals, each with its object.
    pub messages: Vec<String>,
    /// Texts that could not be read.
    pub unreadable: Vec<Unreadable>,
    /// True if an object was refused.
    pub refused: bool,
}

/// Labels and annotations of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// The labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The annotations.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// Namespaces of the cluster that the manifests are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// No cluster was asked: those in the texts are all that is known, and every other counts as one of the mesh.
    Unasked,
    /// Namespaces as read from the cluster.
    Read(BTreeMap<String, Found>),
}

/// A namespace as read from the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It exists.
    Known(Metadata),
    /// It does not exist.
    Missing,
    /// The user may not read it.
    Forbidden,
}

/// Injects every pod in the texts; objects that name no namespace are in `namespace`.
pub fn injected(
    sources: &[Source],
    namespace: &str,
    settings: &Settings,
    namespaces: &Namespaces,
) -> Injected {
    let mut injected = Injected::default();
    let mut documents = Vec::new();
    for source in sources {
        let (more, broken) = documents::parse(source);
        documents.extend(more);
        injected.unreadable.extend(broken);
    }
    let written = documents.iter().filter_map(namespace_of).collect();
    for mut document in documents {
        injected.add(&mut document, namespace, (&written, namespaces), settings);
    }
    injected
}

/// Returns the namespaces of the pods in the texts; objects that name no namespace are in `namespace`.
pub fn namespaces(sources: &[Source], namespace: &str) -> BTreeSet<String> {
    let documents = sources.iter().flat_map(|source| documents::parse(source).0);
    let with_pods = documents.filter(|document| documents::pod_place(document).is_some());
    with_pods.map(|document| namespace_in(&document, namespace)).collect()
}

/// Returns the namespace that an object is in.
fn namespace_in(document: &Document, default: &str) -> String {
    let named = document.value.pointer("/metadata/namespace").and_then(Value::as_str);
    named.filter(|name| !name.is_empty()).unwrap_or(default).to_owned()
}

/// Returns a document's name and metadata if it is a namespace. Metadata that cannot be read is refused with its object.
fn namespace_of(document: &Document) -> Option<(String, Metadata)> {
    let metadata = document.value.get("metadata")?;
    let is_namespace = document.group.is_empty() && document.kind == "Namespace";
    let name = metadata.get("name").and_then(Value::as_str).filter(|_| is_namespace)?;
    Some((name.to_owned(), Metadata::deserialize(metadata).unwrap_or_default()))
}

impl Injected {
    fn add(
        &mut self,
        document: &mut Document,
        default: &str,
        (written, namespaces): (&BTreeMap<String, Metadata>, &Namespaces),
        settings: &Settings,
    ) {
        let namespace = namespace_in(document, default);
        let name = document.value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let title = format!("{} {namespace}/{name}", document.kind);
        let (found, problem) = namespaces.find(&namespace, written.get(&namespace));
        let of = injector::Namespace {
            name: &namespace,
            labels: found.labels.as_ref(),
            annotations: found.annotations.as_ref(),
        };
        let (messages, is_fine) = inject(document, of, settings, problem);
        self.refused |= !is_fine;
        self.messages.extend(messages.into_iter().map(|message| format!("{title}: {message}")));
        match documents::print(&document.value) {
            Ok(text) => self.text.extend(["---\n", text.trim_end(), "\n"]),
            Err(error) => {
                self.unreadable.push(document.unreadable("", format!("has no form in YAML: {error}")));
            }
        }
    }
}

/// Problem of a namespace for the pods that are injected in it.
enum Problem {
    /// They would run, as far as is known.
    Warn(String),
    /// They would not become ready.
    Refuse(String),
}

impl Namespaces {
    /// Returns the metadata of a namespace, of the cluster with what the texts add, and its problem.
    fn find(&self, name: &str, written: Option<&Metadata>) -> (Metadata, Option<Problem>) {
        let written = written.cloned().unwrap_or_default();
        let Self::Read(all) = self else { return (written, None) };
        let found = all.get(name);
        let read = if let Some(Found::Known(read)) = found { read.clone() } else { Metadata::default() };
        let both = |read: Option<BTreeMap<_, _>>, written: Option<BTreeMap<_, _>>| {
            let mut all = read.unwrap_or_default();
            all.extend(written.unwrap_or_default());
            Some(all)
        };
        let labels = both(read.labels, written.labels);
        let annotations = both(read.annotations, written.annotations);
        let word = labels.as_ref().and_then(|all| all.get(INJECT)).map(String::as_str);
        let hint = format!(
            "label it {INJECT}={INJECT_MANUAL}, or {INJECT}={INJECT_ENABLED}, with which the webhook injects every pod"
        );
        let problem = match (found, word) {
            (_, Some(INJECT_ENABLED | INJECT_MANUAL)) => None,
            (Some(Found::Forbidden), _) => Some(Problem::Warn(format!(
                "smidge: namespace {name} may not be read by this user: its annotations have no effect, and whether it is in \
                 the mesh is not known; hint: if it is not, {hint}"
            ))),
            (Some(Found::Missing) | None, _) => Some(Problem::Refuse(format!(
                "smidge: namespace {name} does not exist: pods get a certificate in a namespace of the mesh alone; hint: \
                 create it first, or put it in the files, and {hint}"
            ))),
            (Some(Found::Known(_)), _) => Some(Problem::Refuse(format!(
                "smidge: namespace {name} is not in the mesh: its pods would get no certificate and would not become \
                 ready; hint: {hint}"
            ))),
        };
        (Metadata { labels, annotations }, problem)
    }
}

/// Injects the pod in an object, in place; returns messages, and false if the object was refused.
fn inject(
    document: &mut Document,
    namespace: injector::Namespace<'_>,
    settings: &Settings,
    problem: Option<Problem>,
) -> (Vec<String>, bool) {
    if let Some(message) = injector::refuse_metadata(&document.value) {
        return (vec![message], false);
    }
    let Some(place) = documents::pod_place(document) else {
        return (passed_over(document).into_iter().collect(), true);
    };
    let Some(pod) = document.value.pointer_mut(place).filter(|pod| pod.is_object()) else {
        let without =
            format!("smidge: not injected: it has no template of pods at {}", place.replace('/', "."));
        return (vec![without], true);
    };
    match injector::inject(pod, namespace, None, settings) {
        Decision::Inject { pod: injected, mut warnings } => {
            match problem {
                Some(Problem::Refuse(message)) => return (vec![message], false),
                Some(Problem::Warn(message)) => warnings.push(message),
                None => {}
            }
            *pod = injected;
            (warnings, true)
        }
        Decision::Skip { warnings } => (warnings, true),
        Decision::Deny { message } => (vec![message], false),
    }
}

/// Returns the warning about an object with pods of a kind that is not known.
fn passed_over(document: &Document) -> Option<String> {
    document.value.pointer("/spec/template/spec/containers").filter(|containers| containers.is_array())?;
    Some(format!(
        "smidge: not injected: {} in {} is not known to have pods; hint: the webhook injects those in namespaces of the mesh",
        document.kind,
        if document.group.is_empty() { "the core group" } else { &document.group }
    ))
}
