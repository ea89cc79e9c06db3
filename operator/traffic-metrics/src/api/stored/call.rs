//! A request for objects that can be written, as it was read.
//!
//! Pure. Made by `stored`, used by the other modules of it and the server.

use crate::api::{Version, access::Access, query::Parameters, resource::STORED};

/// Maximum size of a body, in bytes: two sets of annotations, and the rest.
pub const MAX_BODY: usize = 640 << 10;
/// A request for objects that can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Version of the body and the answer.
    pub version: Version,
    /// The namespace of the objects; `None`: all.
    pub namespace: Option<String>,
    /// The name in the path; `None`: a list, or an object that is created.
    pub name: Option<String>,
    /// The action.
    pub action: Action,
    /// The parameters of a read.
    pub parameters: Parameters,
    /// The parameters of a write.
    pub options: Options,
}

/// Action of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// One object, or a list.
    Read,
    /// A new object.
    Create,
    /// Another content of an object.
    Update,
    /// A change of an object, or a part of one that is applied.
    Patch,
    /// The end of an object.
    Delete,
}

/// Parameters of a write.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// True if nothing is to be kept (`dryRun=All`).
    pub dry_run: bool,
    /// Name of the author of fields (`fieldManager`); empty: chosen by the API server.
    pub manager: String,
    /// True if an applied patch takes fields of other authors (`force`).
    pub force: bool,
    /// Treatment of fields that are not known (`fieldValidation`).
    pub validation: Validation,
}

/// Treatment of fields that are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Validation {
    /// They are ignored.
    Ignore,
    /// They are named in a warning.
    #[default]
    Warn,
    /// They are refused.
    Strict,
}

impl Stored {
    /// Returns what the user must have a right for.
    pub fn access(&self) -> Access<'_> {
        let verb = match (self.action, &self.name) {
            (Action::Read, Some(_)) => "get",
            (Action::Read, None) => "list",
            (Action::Create, _) => "create",
            (Action::Update, _) => "update",
            (Action::Patch, _) => "patch",
            (Action::Delete, _) => "delete",
        };
        Access {
            version: self.version,
            plural: STORED,
            subresource: "",
            verb,
            namespace: self.namespace.as_deref(),
            name: self.name.as_deref().or(self.parameters.name.as_deref()),
        }
    }

    /// Returns what the user must have a right for where a patch creates the object.
    pub fn access_to_create(&self) -> Access<'_> {
        Access { verb: "create", name: None, ..self.access() }
    }
}
