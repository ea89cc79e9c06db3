//! Gets, creates and replaces Secrets in a folder: each is a file with the manifest, as an API server would hold it.
//!
//! Used by `store` where there is no Kubernetes. Any number of processes may use one folder, over any file system with
//! links and locks: a file is written under another name and then linked to its own, which succeeds for one of them; it
//! is replaced only while it still is what was read. A folder or file to which other users have access is refused,
//! because it holds the keys that a mesh trusts. Does not know the format of a Secret beyond its name.

use std::{
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::{StoreError, Written, serialise};

/// Mode of the folder.
const FOLDER_MODE: u32 = 0o700;
/// Mode of its files.
const FILE_MODE: u32 = 0o600;
/// Bits of a mode that give other users access.
const OTHERS: u32 = 0o077;
/// Maximum size of a file, in bytes: that of a Secret at an API server.
const MAX_SIZE: u64 = 1 << 20;
/// File that writers lock.
const LOCK: &str = ".lock";
/// End of the names of files that are being written.
const UNFINISHED: &str = ".unfinished";

/// Folder of Secrets.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Opens the folder at `path`. Creates it and those above it if it does not exist and `is_created` is true.
    pub(super) async fn open(path: &Path, is_created: bool) -> Result<Self, StoreError> {
        let folder = Self(path.to_owned());
        folder
            .run("open", move |folder| {
                if is_created {
                    let made = DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&folder.0);
                    made.map_err(|source| file_error("create", &folder.0, source))?;
                }
                folder.check()?;
                folder.clean()?;
                Ok(folder)
            })
            .await
    }

    /// Returns the Secret `name`, if there is one.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Secret>, StoreError> {
        let name = name.to_owned();
        self.run("read", move |folder| {
            let Some(text) = folder.read(&name)? else { return Ok(None) };
            folder.parse(&name, &text).map(Some)
        })
        .await
    }

    /// Returns the Secret `name`, which another process has just written.
    pub(super) async fn require(&self, name: &str) -> Result<Secret, StoreError> {
        let missing = || file_error("read", &self.path(name), ErrorKind::NotFound.into());
        self.get(name).await?.ok_or_else(missing)
    }

    /// Creates `secret`, unless it exists.
    pub(super) async fn create(&self, name: &str, secret: &Secret) -> Result<Written, StoreError> {
        let (name, text) = (name.to_owned(), self.text(name, secret)?);
        self.run("create", move |folder| {
            let _lock = folder.lock()?;
            let unfinished = folder.write(&name, &text)?;
            let path = folder.path(&name);
            match fs::hard_link(&unfinished.0, &path) {
                Ok(()) => folder.finish(&name, &text),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Written::Conflict),
                Err(source) => Err(file_error("create", &path, source)),
            }
        })
        .await
    }

    /// Replaces the Secret `name`, if it still has the version that `secret` names.
    pub(super) async fn replace(&self, name: &str, secret: &Secret) -> Result<Written, StoreError> {
        let read = secret.metadata.resource_version.clone();
        let (name, text) = (name.to_owned(), self.text(name, secret)?);
        self.run("replace", move |folder| {
            // Two writers that compare at the same time would both replace.
            let _lock = folder.lock()?;
            let current = folder.read(&name)?.map(|text| version(&text));
            if current.is_none() || current != read {
                return Ok(Written::Conflict);
            }
            let unfinished = folder.write(&name, &text)?;
            let path = folder.path(&name);
            fs::rename(&unfinished.0, &path).map_err(|source| file_error("replace", &path, source))?;
            folder.finish(&name, &text)
        })
        .await
    }

    /// Runs blocking operations where they delay no other task.
    async fn run<T: Send + 'static>(
        &self,
        verb: &'static str,
        operations: impl FnOnce(Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let folder = self.clone();
        let result = spawn_blocking(move || operations(folder)).await;
        result.unwrap_or_else(|error| Err(file_error(verb, &self.0, io::Error::other(error))))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.yaml"))
    }

    /// Serialises a Secret as it is stored: without a version, which is a digest of the content.
    fn text(&self, name: &str, secret: &Secret) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let metadata = ObjectMeta { resource_version: None, ..secret.metadata.clone() };
        // A copy of the data is wiped with it.
        let mut stored = Secret { metadata, ..secret.clone() };
        let text = serialise(&stored);
        crate::ca::secret::wipe(&mut stored);
        text.map_err(|_| StoreError::NotSecret { path: self.path(name), name: name.to_owned() })
    }

    fn check(&self) -> Result<(), StoreError> {
        let metadata = fs::metadata(&self.0).map_err(|source| file_error("open", &self.0, source))?;
        if !metadata.is_dir() {
            return Err(StoreError::WrongType { path: self.0.clone(), expected: "folder" });
        }
        check_access(&self.0, &metadata, FOLDER_MODE)
    }

    /// Removes what a process that was killed has left.
    fn clean(&self) -> Result<(), StoreError> {
        let entries = fs::read_dir(&self.0).map_err(|source| file_error("read", &self.0, source))?;
        let is_unfinished = |path: &PathBuf| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with('.') && name.ends_with(UNFINISHED))
        };
        let left: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_unfinished).collect();
        if left.is_empty() {
            return Ok(());
        }
        // Whoever still writes one holds the lock.
        let _lock = self.lock()?;
        for path in left {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(file_error("remove", &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until no other process writes to the folder. The lock ends with the returned file, or with the process.
    fn lock(&self) -> Result<File, StoreError> {
        let path = self.0.join(LOCK);
        let failed = |source| file_error("lock", &path, source);
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).mode(FILE_MODE).open(&path).map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(file)
    }

    /// Reads the file of a Secret, if there is one.
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        // The folder first: with access to it, another user could replace each of its files.
        self.check()?;
        let path = self.path(name);
        let failed = |source| file_error("read", &path, source);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(StoreError::WrongType { path, expected: "file" });
        }
        check_access(&path, &metadata, FILE_MODE)?;
        let not_secret = || StoreError::NotSecret { path: path.clone(), name: name.to_owned() };
        let size = usize::try_from(metadata.len().min(MAX_SIZE)).map_err(|_| not_secret())?;
        if metadata.len() > MAX_SIZE {
            return Err(not_secret());
        }
        // At full length, because a buffer that grows leaves its old allocation behind unwiped. A file that is shorter
        // by now is damaged; one that is longer is read in part, and is no manifest.
        let mut text = Zeroizing::new(vec![0; size]);
        file.read_exact(&mut text).map_err(failed)?;
        Ok(Some(text))
    }

    /// Parses what this store or a person wrote: JSON or other YAML.
    fn parse(&self, name: &str, text: &[u8]) -> Result<Secret, StoreError> {
        // The parsers' errors may quote what they read.
        let parsed =
            serde_json::from_slice::<Secret>(text).ok().or_else(|| serde_saphyr::from_slice(text).ok());
        match parsed {
            Some(mut secret) if secret.metadata.name.as_deref() == Some(name) => {
                secret.metadata.resource_version = Some(version(text));
                Ok(secret)
            }
            _ => Err(StoreError::NotSecret { path: self.path(name), name: name.to_owned() }),
        }
    }

    /// Writes a file under another name, so that no reader sees a part of it, not even after a loss of power.
    fn write(&self, name: &str, text: &[u8]) -> Result<Unfinished, StoreError> {
        self.check()?;
        let path = self.0.join(format!(".{name}.{:016x}{UNFINISHED}", rand::random::<u64>()));
        let failed = |source| file_error("write", &path, source);
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(FILE_MODE).open(&path).map_err(failed)?;
        let unfinished = Unfinished(path.clone());
        (&file).write_all(text).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(unfinished)
    }

    /// Makes the new name of a file durable, and returns the Secret as stored.
    fn finish(&self, name: &str, text: &[u8]) -> Result<Written, StoreError> {
        let synced = File::open(&self.0).and_then(|folder| folder.sync_all());
        synced.map_err(|source| file_error("write", &self.0, source))?;
        Ok(Written::Ours(Box::new(self.parse(name, text)?)))
    }
}

/// File that is being written; removed when dropped, unless it has got another name.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Not there any more after a rename. What cannot be removed is removed when the folder is opened next.
        let _ = fs::remove_file(&self.0);
    }
}

/// Refuses a file or folder to which other users have access.
fn check_access(path: &Path, metadata: &Metadata, expected: u32) -> Result<(), StoreError> {
    let (path, user, found) =
        (path.to_owned(), rustix::process::geteuid().as_raw(), metadata.mode() & 0o7777);
    if metadata.uid() != user {
        return Err(StoreError::Owner { path, found: metadata.uid(), expected: user });
    }
    if found & OTHERS != 0 {
        return Err(StoreError::Mode { path, found, expected });
    }
    Ok(())
}

/// Returns the version of a file: a digest of its content.
fn version(text: &[u8]) -> String {
    Sha256::digest(text).iter().fold(String::with_capacity(64), |hex, byte| format!("{hex}{byte:02x}"))
}

fn file_error(verb: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::File { verb, path: path.to_owned(), source }
}
