//! Turns a folder of manifests into edits of the inputs, for a control plane without an API server.
//!
//! Started by `runtime`; consumed by `publish`. The kernel's notifications say when to look, and a look at the stamps of
//! all files every few seconds finds what they do not say; `reader` reads what has changed. Each change is one edit, so
//! that a folder that was exchanged takes effect as a whole. Judges no object.
//!
//! Not atomic are several files that are written in place one after another: each takes effect by itself. Exchange the
//! folder (or a link to it) where they belong together.

mod file;
mod holders;
mod listing;
mod merge;
mod notifications;
mod reader;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use smidge_mesh::id::ClusterId;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tracing::{debug, error, info, warn};

use self::{
    notifications::Notifications,
    reader::{Attention, Folder, Read},
};
use super::{Edit, Scope};
use crate::{inputs::Inputs, kinds::Change};

/// Name of the folder among the lists that must be read before anything is served.
pub const LIST: &str = "folder";

/// Interval between looks at all files, for file systems that notify of nothing.
const LOOK: Duration = Duration::from_secs(2);
/// Interval between readings of all files, whatever their stamps.
const READ_ALL: Duration = Duration::from_mins(1);

/// Limits of a folder.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Maximum number of manifests. Default 20,000.
    pub files: usize,
    /// Maximum size of a manifest, in bytes. Default 4 MiB.
    pub bytes: u64,
    /// Maximum depth of folders below the folder. Default 16.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: 20_000, bytes: 4 << 20, depth: 16 }
    }
}

/// Error of reading a folder.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is no such folder.
    #[error("folder {} does not exist", path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// It is no folder.
    #[error("{} is not a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("failed to read folder {}", path.display())]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// It has no manifest.
    #[error("folder {} holds no manifest (*.yaml, *.yml, *.json)", path.display())]
    Empty {
        /// The folder.
        path: PathBuf,
    },
    /// It was exchanged again and again while it was read.
    #[error("folder {} was exchanged while it was read", path.display())]
    Unstable {
        /// The folder.
        path: PathBuf,
    },
}

impl FolderError {
    fn of(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::NotADirectory => Self::NotAFolder { path },
            _ => Self::Unreadable { path, source },
        }
    }

    /// Returns the problem without the name of the folder.
    fn brief(&self) -> String {
        match self {
            Self::Missing { .. } => "does not exist".to_owned(),
            Self::NotAFolder { .. } => "is not a folder".to_owned(),
            Self::Unreadable { source, .. } => format!("cannot be read: {source}"),
            Self::Empty { .. } => "holds no manifest (*.yaml, *.yml, *.json)".to_owned(),
            Self::Unstable { .. } => "was exchanged while it was read".to_owned(),
        }
    }
}

/// Label with the digest of the texts in effect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    sha256: String,
}

/// Metrics of reading a folder.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    digest: Family<Labels, Gauge>,
    files: Gauge,
    objects: Gauge,
    reads: Counter,
    failures: Counter,
}

impl Metrics {
    /// Registers the metrics; the caller chooses the prefix.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "folder_digest",
            "Digest of the manifests in effect; replicas with equal digests serve equal configuration",
            metrics.digest.clone(),
        );
        registry.register("folder_files", "Manifests in the folder", metrics.files.clone());
        registry.register("folder_objects", "Objects in effect", metrics.objects.clone());
        registry.register("folder_reads", "Looks at the folder", metrics.reads.clone());
        registry.register(
            "folder_read_failures",
            "Looks at the folder that failed as a whole",
            metrics.failures.clone(),
        );
        metrics
    }

    fn read(&self, folder: &Folder) {
        let digest = folder.digest();
        let sha256 = digest.iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        self.digest.clear();
        self.digest.get_or_create(&Labels { sha256 }).set(1);
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.files.set(number(folder.files()));
        self.objects.set(number(folder.objects()));
    }
}

/// A folder to serve.
pub struct Source {
    cluster: ClusterId,
    folder: Folder,
    notifications: Notifications,
    metrics: Metrics,
    /// True once there were manifests.
    is_complete: bool,
}

impl Source {
    /// Opens the folder of `cluster`; objects that name no namespace are in `namespace`. An empty folder is no error,
    /// but nothing is served before it has manifests.
    pub fn open(
        path: &Path,
        cluster: ClusterId,
        namespace: &str,
        limits: Limits,
        metrics: Metrics,
    ) -> Result<Self, FolderError> {
        let failed = |source| FolderError::of(path, source);
        if !std::fs::metadata(path).map_err(failed)?.is_dir() {
            return Err(FolderError::NotAFolder { path: path.to_owned() });
        }
        std::fs::read_dir(path).map_err(failed)?;
        let notifications = Notifications::of(path);
        let folder = Folder::new(path.to_owned(), namespace.to_owned(), limits);
        Ok(Self { cluster, folder, notifications, metrics, is_complete: false })
    }

    /// Sends an edit for each change until the receiver is dropped.
    pub async fn run(mut self, edits: mpsc::Sender<Edit>) {
        let (mut look, mut read_all) = (Instant::now(), Instant::now());
        let mut failed = None;
        loop {
            let started = Instant::now();
            let everything = started >= read_all;
            if everything {
                read_all = started + READ_ALL;
            }
            let only = self.notifications.take_changed().filter(|_| !everything && started < look);
            if only.is_none() {
                look = started + LOOK;
            }
            let writing = self.notifications.writing(started);
            let attention = Attention { only, everything, writing, time: SystemTime::now() };
            let read = tokio::task::block_in_place(|| self.folder.read(&attention, started));
            self.metrics.reads.inc();
            let again = self.report(read, &mut failed);
            let (changed, again) = (again.0, again.1.unwrap_or(look));
            if again < look {
                look = again;
            }
            if changed && edits.send(self.edit()).await.is_err() {
                return;
            }
            // However often files change, two thirds of a core remain for the rest.
            sleep(started.elapsed() * 2).await;
            tokio::select! {
                () = self.notifications.changed() => {}
                () = sleep_until(again.min(look).min(read_all)) => {}
                () = edits.closed() => return,
            }
        }
    }

    /// Logs the result of a look once; returns whether to send an edit, and when to look again.
    fn report(
        &mut self,
        read: Result<Read, FolderError>,
        failed: &mut Option<String>,
    ) -> (bool, Option<Instant>) {
        match read {
            Ok(Read { changed, again }) => {
                let recovered = failed.take().is_some();
                if recovered {
                    info!("the folder can be read again");
                }
                let is_first = !std::mem::replace(&mut self.is_complete, true);
                self.metrics.read(&self.folder);
                (changed || recovered || is_first, again)
            }
            Err(error) => {
                self.metrics.failures.inc();
                let words = format!("{:#}", anyhow::Error::from(error));
                let is_new = failed.as_ref() != Some(&words);
                if is_new && self.is_complete {
                    error!("{words}; what was last read of it stays in effect");
                } else if is_new {
                    warn!("{words}; nothing is served before it does");
                }
                *failed = Some(words);
                // Before the first manifests there is nothing that a finding could be shown beside.
                (is_new && self.is_complete, None)
            }
        }
    }

    /// Returns the edit that makes the objects in effect those of the inputs.
    fn edit(&mut self) -> Edit {
        let replacements = self.folder.take_replacements();
        let findings = Arc::new(self.folder.findings());
        let scope = Scope::Objects(replacements.keys().cloned().collect());
        debug!(files = self.folder.files(), objects = self.folder.objects(), "manifests read");
        let apply = move |inputs: &mut Inputs| {
            let change = merge::replace(inputs, &replacements);
            if *inputs.reported == *findings {
                return change;
            }
            inputs.reported = findings;
            Change::Semantic
        };
        let cluster = self.cluster.clone();
        Edit { cluster, scope, apply: Box::new(apply), completes: Some(LIST) }
    }
}
