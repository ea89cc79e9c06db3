//! Manifests of a command: the files that it reads, and the namespace of objects that name none.
//!
//! Shared by the offline commands. `source::files` reads the files.

use std::path::PathBuf;

use crate::{
    documents::{DEFAULT_NAMESPACE, Offline},
    source::files,
};

/// Arguments of a command that reads manifests.
#[derive(Debug, Clone, clap::Args)]
pub struct Manifests {
    /// A file, a folder (every *.yaml, *.yml and *.json below it) or - for standard input; may be repeated.
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    pub filename: Vec<PathBuf>,
    /// Namespace of objects that name none, as of kubectl apply.
    #[arg(short, long, value_name = "NAMESPACE", default_value = DEFAULT_NAMESPACE)]
    pub namespace: String,
}

impl Manifests {
    /// Returns the manifests in these files, with objects that name no namespace in the default one.
    pub fn of(filename: Vec<PathBuf>) -> Self {
        Self { filename, namespace: DEFAULT_NAMESPACE.to_owned() }
    }

    /// Reads the manifests as one cluster.
    pub fn load(&self) -> Offline {
        files::load(&self.filename, &self.namespace)
    }
}
