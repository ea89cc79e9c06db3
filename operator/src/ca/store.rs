//! Gets, creates and replaces the Secrets that hold the authorities, and logs nothing of their content.
//!
//! Used by `root`. They are in a namespace of an API server (`api_server`) or, without Kubernetes, in a folder
//! (`folder`); both promise the same: of several writers one wins, and the others read what it wrote. Does not know the
//! format of a Secret.

mod api_server;
mod folder;

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use zeroize::Zeroizing;

use api_server::Namespace;
use folder::Folder;

/// Error of reading or writing a Secret.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The request to the API server failed.
    #[error("failed to {verb} Secret {name}")]
    Api {
        /// `get`, `create` or `replace`.
        verb: &'static str,
        /// The Secret's name.
        name: String,
        /// Error of the client.
        #[source]
        source: Box<kube::Error>,
    },
    /// The answer of the API server is no Secret.
    #[error("failed to {verb} Secret {name}: the answer is no Secret")]
    Answer {
        /// `get`, `create` or `replace`.
        verb: &'static str,
        /// The Secret's name.
        name: String,
    },
    /// A file or the folder could not be read or written.
    #[error("failed to {verb} {}", path.display())]
    File {
        /// `open`, `read`, `create` or `replace`, for example.
        verb: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The path of the folder, or of one of its files, is something else.
    #[error("{} is not a {expected}", path.display())]
    WrongType {
        /// The path.
        path: PathBuf,
        /// `folder` or `file`.
        expected: &'static str,
    },
    /// Other users have access to a file or to the folder.
    #[error(
        "refused to use {}, which holds private keys: mode {found:04o}, expected {expected:04o} (hint: chmod \
         {expected:04o} {}, and replace the keys if another user may have read them)",
        path.display(), path.display()
    )]
    Mode {
        /// Path of the file or folder.
        path: PathBuf,
        /// Its mode.
        found: u32,
        /// The mode that it is created with.
        expected: u32,
    },
    /// Another user owns a file or the folder.
    #[error(
        "refused to use {}, which holds private keys: owned by user {found}, expected {expected}, the user of this \
         process (hint: chown {expected} {})",
        path.display(), path.display()
    )]
    Owner {
        /// Path of the file or folder.
        path: PathBuf,
        /// Its owner.
        found: u32,
        /// The user of this process.
        expected: u32,
    },
    /// A file does not hold the Secret of its name. Nothing of its content is quoted.
    #[error(
        "{} is not the manifest of Secret {name} (hint: restore it from a backup; a new one ends the trust of everything \
         issued under the old one)",
        path.display()
    )]
    NotSecret {
        /// Path of the file.
        path: PathBuf,
        /// The Secret's name.
        name: String,
    },
}

/// Result of a write.
pub enum Written {
    /// The write succeeded; this is the Secret as stored.
    Ours(Box<Secret>),
    /// Another client wrote first.
    Conflict,
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours(_) => "Ours([redacted])",
            Self::Conflict => "Conflict",
        })
    }
}

/// The Secrets of one namespace or folder.
#[derive(Clone, Debug)]
pub struct Secrets(Place);

#[derive(Clone, Debug)]
enum Place {
    Namespace(Namespace),
    Folder(Folder),
}

impl Secrets {
    /// Creates a client of the Secrets of `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self(Place::Namespace(Namespace::new(client, namespace)))
    }

    /// Opens a folder of Secrets, which is created if there is none. Its errors are permanent: the caller should end
    /// with them, as retries would not help before a person does.
    pub async fn folder(path: &Path) -> Result<Self, StoreError> {
        Folder::open(path, true).await.map(|folder| Self(Place::Folder(folder)))
    }

    /// Opens a folder of Secrets that exists.
    pub async fn existing_folder(path: &Path) -> Result<Self, StoreError> {
        Folder::open(path, false).await.map(|folder| Self(Place::Folder(folder)))
    }

    /// Returns the Secret `name`, if there is one.
    pub async fn get(&self, name: &str) -> Result<Option<Secret>, StoreError> {
        match &self.0 {
            Place::Namespace(namespace) => namespace.get(name).await,
            Place::Folder(folder) => folder.get(name).await,
        }
    }

    /// Returns the Secret `name`, which another client has just written.
    pub async fn require(&self, name: &str) -> Result<Secret, StoreError> {
        match &self.0 {
            Place::Namespace(namespace) => namespace.require(name).await,
            Place::Folder(folder) => folder.require(name).await,
        }
    }

    /// Creates `secret`, unless it exists.
    pub async fn create(&self, name: &str, secret: &Secret) -> Result<Written, StoreError> {
        match &self.0 {
            Place::Namespace(namespace) => namespace.create(name, secret).await,
            Place::Folder(folder) => folder.create(name, secret).await,
        }
    }

    /// Replaces the Secret `name`, if it still has the version that `secret` names.
    pub async fn replace(&self, name: &str, secret: &Secret) -> Result<Written, StoreError> {
        match &self.0 {
            Place::Namespace(namespace) => namespace.replace(name, secret).await,
            Place::Folder(folder) => folder.replace(name, secret).await,
        }
    }
}

/// Serialises a Secret to JSON, which is wiped when it is dropped. (The copies that serde makes of values are not.)
fn serialise(secret: &Secret) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
    let mut length = Length(0);
    serde_json::to_writer_pretty(&mut length, secret)?;
    // Reserved in full, because a buffer that grows leaves its old allocation behind unwiped.
    let mut text = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer_pretty(&mut *text, secret)?;
    Ok(text)
}

/// Counts the bytes that are written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
