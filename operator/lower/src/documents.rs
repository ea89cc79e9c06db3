//! Turns texts of Kubernetes YAML into the inputs that a cluster with these objects would give, for the offline tools.
//!
//! `parse` splits texts into documents; `cluster` builds the inputs from them. Reads no file: `smidge::source::files`
//! does. What cannot be read is reported with file, document and field, and affects only itself. Validates no object:
//! `lower` does.

mod cluster;
mod document;
mod unknown;
mod unversioned;
mod workload;
mod yaml;

use std::fmt;

pub use cluster::{Offline, Written, cluster, objects};
pub use document::{Document, parse};
pub use workload::pod_place;
pub use yaml::print;

/// Namespace of objects that name none, unless another one is set.
pub const DEFAULT_NAMESPACE: &str = "default";

/// A text with its name for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The path as the user gave it, or `-`.
    pub name: String,
    /// The text.
    pub text: String,
}

/// A part of the input that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Unreadable {
    /// The file.
    pub file: String,
    /// The document in the file, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<usize>,
    /// The field at fault, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Description of the problem.
    pub message: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, document, field, message } = self;
        write!(f, "{file}")?;
        if let Some(document) = document {
            write!(f, ", document {document}")?;
        }
        if let Some(field) = field {
            write!(f, ", {field}")?;
        }
        write!(f, ": {message}")
    }
}

/// Returns the objects of one text, and what of it could not be read, for a control plane without an API server. Objects
/// that name no namespace are in `namespace`.
pub fn objects_within(source: &Source, namespace: &str) -> Offline {
    let (mut documents, mut unreadable) = parse(source);
    for document in &mut documents {
        namespace.clone_into(&mut document.default_namespace);
    }
    let mut offline = objects(&documents);
    unreadable.append(&mut offline.unreadable);
    unreadable.sort_by_key(|it| it.document);
    offline.unreadable = unreadable;
    offline
}

/// Returns the cluster that the texts describe. Objects that name no namespace are in `default`.
pub fn assemble(sources: &[Source]) -> Offline {
    assemble_within(sources, DEFAULT_NAMESPACE)
}

/// Returns the cluster that the texts describe. Objects that name no namespace are in `namespace`.
pub fn assemble_within(sources: &[Source], namespace: &str) -> Offline {
    let mut documents = Vec::new();
    let mut unreadable = Vec::new();
    for source in sources {
        let (more, broken) = parse(source);
        documents.extend(more);
        unreadable.extend(broken);
    }
    for document in &mut documents {
        namespace.clone_into(&mut document.default_namespace);
    }
    let mut offline = cluster(&documents);
    unreadable.append(&mut offline.unreadable);
    let order = |it: &Unreadable| (sources.iter().position(|source| source.name == it.file), it.document);
    unreadable.sort_by_key(order);
    offline.unreadable = unreadable;
    offline
}
