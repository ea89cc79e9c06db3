//! Follows the manifests of the user: turns each change of their files into what the control plane serves.
//!
//! Used by `sandbox`. While something cannot be read, what was read before stays in effect. Starts no process.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};

use super::plan::{Plan, PlanError, hosts};
use crate::{
    documents::{self, DEFAULT_NAMESPACE, Document, Source, Unreadable},
    source::files,
};

/// Interval of looks at the files where no notification comes.
const LOOK: Duration = Duration::from_secs(1);
/// Time in which an editor completes a change of several steps.
const SETTLE: Duration = Duration::from_millis(20);

/// The manifests of the user.
#[derive(Debug, Clone)]
pub struct Manifests {
    /// Files and folders, without standard input.
    pub paths: Vec<PathBuf>,
    /// Namespace of objects that name none.
    pub namespace: String,
    /// Standard input, which is read once.
    input: Vec<Source>,
}

impl Manifests {
    /// Returns the manifests at these paths; `-` is standard input.
    pub fn open(paths: Vec<PathBuf>, namespace: String) -> (Self, Vec<Unreadable>) {
        let (input, paths): (Vec<PathBuf>, Vec<PathBuf>) =
            paths.into_iter().partition(|path| path.as_os_str() == "-");
        let (input, unreadable) = files::read(input.get(..1).unwrap_or_default());
        (Self { paths, namespace, input }, unreadable)
    }

    /// Reads the objects as they are now, with what could not be read.
    pub fn read(&self) -> (Vec<Document>, Vec<Unreadable>) {
        let (mut sources, mut unreadable) = files::read(&self.paths);
        sources.extend(self.input.iter().cloned());
        let mut all = Vec::new();
        for source in &sources {
            let (mut documents, mut broken) = documents::parse(source);
            for document in &mut documents {
                document.default_namespace.clone_from(&self.namespace);
            }
            all.append(&mut documents);
            unreadable.append(&mut broken);
        }
        (all, unreadable)
    }
}

/// Error of writing what is served.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The manifests have no plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A file of the sandbox could not be written.
    #[error("failed to write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
}

/// Manifests that are served, in the folder of a sandbox.
#[derive(Debug)]
pub struct Served {
    manifests: Manifests,
    folder: PathBuf,
    plan: Mutex<Plan>,
    /// Text that was last reported to the user.
    reported: Mutex<String>,
}

impl Served {
    /// Writes the plan into the folder.
    pub fn write(manifests: Manifests, plan: Plan, folder: PathBuf) -> Result<Self, FollowError> {
        // The caller has reported these.
        let reported = Mutex::new(plan.notes.join("\n"));
        let served = Self { manifests, folder, plan: Mutex::new(plan), reported };
        served.replace(&served.plan())?;
        Ok(served)
    }

    /// Returns the manifests of the user.
    pub fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    /// Returns the plan in effect.
    pub fn plan(&self) -> Plan {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the manifests again, and writes what differs. Returns what the user should know of it, if that is new.
    pub fn update(&self) -> Result<Option<String>, FollowError> {
        let (documents, unreadable) = self.manifests.read();
        if !unreadable.is_empty() {
            let lines = unreadable.iter().map(|it| format!("unreadable: {it}"));
            let text = lines.chain(["what was read before stays in effect".to_owned()]);
            return Ok(self.report(text.collect::<Vec<_>>().join("\n")));
        }
        let mut plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        let next = plan.next(&documents)?;
        if next.manifests != plan.manifests {
            self.replace(&next)?;
        }
        // Workloads that are gone from the manifests have their address still, should they return.
        let notes = next.notes.join("\n");
        let workloads = std::mem::take(&mut plan.workloads);
        *plan = Plan { workloads, ..next };
        Ok(self.report(notes))
    }

    fn report(&self, text: String) -> Option<String> {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if *reported == text {
            return None;
        }
        reported.clone_from(&text);
        Some(text).filter(|text| !text.is_empty())
    }

    fn replace(&self, plan: &Plan) -> Result<(), FollowError> {
        let mut namespaces: BTreeSet<&str> =
            plan.workloads.iter().map(|workload| workload.namespace.as_str()).collect();
        namespaces.insert(DEFAULT_NAMESPACE);
        for namespace in namespaces {
            write(&self.folder.join("hosts").join(namespace), &hosts(plan, namespace, "cluster.local"))?;
        }
        let place = self.folder.join("mesh/manifests.yaml");
        let unfinished = self.folder.join("mesh/.manifests.yaml");
        write(&unfinished, &plan.manifests)?;
        fs::rename(&unfinished, &place).map_err(|source| FollowError::Write { path: place, source })
    }

    /// Follows the files until the sender of `end` is dropped; `report` receives what the user should know.
    pub fn follow(&self, end: &Receiver<()>, mut report: impl FnMut(String)) {
        let (sender, changes) = channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| is_change(&event)) {
                // The receiver is gone at the end.
                let _ = sender.send(());
            }
        });
        // Without notifications, the files are looked at in intervals.
        let _watcher = watcher.ok().map(|watcher| self.watch(watcher));
        while end.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            match changes.recv_timeout(LOOK) {
                Ok(()) => {
                    let until = Instant::now() + LOOK;
                    while Instant::now() < until && changes.recv_timeout(SETTLE).is_ok() {}
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => drop(end.recv_timeout(LOOK)),
            }
            match self.update() {
                Ok(text) => text.into_iter().for_each(&mut report),
                Err(error) => self.report(error.to_string()).into_iter().for_each(&mut report),
            }
        }
    }

    fn watch(&self, mut watcher: RecommendedWatcher) -> RecommendedWatcher {
        for path in &self.manifests.paths {
            // Of a file, its folder: editors put another file in its place.
            let place = if path.is_dir() { path.as_path() } else { parent(path) };
            let mode = if path.is_dir() { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
            let _ = watcher.watch(place, mode);
        }
        watcher
    }
}

/// Returns true unless a file was only read, as it is here.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn write(path: &Path, text: &str) -> Result<(), FollowError> {
    fs::write(path, text).map_err(|source| FollowError::Write { path: path.to_owned(), source })
}
