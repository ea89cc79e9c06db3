//! Turns texts of manifests into the same manifests with the proxy, and messages for their author.
//!
//! Pure. Injects pods and the templates of the kinds that `documents` lists; every other object passes unchanged, with
//! a message if it looks as if it had a template of pods. Annotations of a namespace count if it is in the texts.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

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
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

/// Injects every pod in the texts; objects that name no namespace are in `namespace`.
pub fn injected(sources: &[Source], namespace: &str, settings: &Settings) -> Injected {
    let mut injected = Injected::default();
    let mut documents = Vec::new();
    for source in sources {
        let (more, broken) = documents::parse(source);
        documents.extend(more);
        injected.unreadable.extend(broken);
    }
    let namespaces = documents.iter().filter_map(namespace_of).collect();
    for mut document in documents {
        injected.add(&mut document, namespace, &namespaces, settings);
    }
    injected
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
        namespace: &str,
        namespaces: &BTreeMap<String, Metadata>,
        settings: &Settings,
    ) {
        let named = |field: &str| document.value.get("metadata")?.get(field)?.as_str().map(str::to_owned);
        let namespace =
            named("namespace").filter(|name| !name.is_empty()).unwrap_or_else(|| namespace.to_owned());
        let title = format!("{} {namespace}/{}", document.kind, named("name").unwrap_or_default());
        let found = namespaces.get(&namespace);
        let of = injector::Namespace {
            name: &namespace,
            labels: found.and_then(|it| it.labels.as_ref()),
            annotations: found.and_then(|it| it.annotations.as_ref()),
        };
        let (messages, is_fine) = inject(document, of, settings);
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

/// Injects the pod in an object, in place; returns messages, and false if the object was refused.
fn inject(
    document: &mut Document,
    namespace: injector::Namespace<'_>,
    settings: &Settings,
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
        Decision::Inject { pod: injected, warnings } => {
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
