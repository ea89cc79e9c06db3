//! Waits for notifications of the kernel about a folder, and follows which files are being written.
//!
//! Used by `folder`. A folder that cannot be watched is looked at in intervals; that is logged once. Reads nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::{
    sync::Notify,
    time::{Duration, Instant},
};
use tracing::warn;

use crate::source::files::is_manifest;

/// Time after the last write of a program that does not close a file, after which its content counts all the same.
const STALLED: Duration = Duration::from_secs(30);
/// Maximum number of files that are followed; further ones are read while they are written.
const FOLLOWED: usize = 10_000;

/// Notifications about a folder.
pub(super) struct Notifications {
    root: PathBuf,
    state: Arc<State>,
    watcher: Option<RecommendedWatcher>,
    /// True if the last attempt to watch has succeeded. A part of the folder that cannot be watched makes it fail.
    is_watched: bool,
}

#[derive(Default)]
struct State {
    changed: Notify,
    followed: Mutex<Followed>,
}

#[derive(Default)]
struct Followed {
    /// The path of the folder, which may be a link, in the folder above as it is watched.
    link: PathBuf,
    /// The folder that is watched: the target of the path.
    target: Option<PathBuf>,
    /// Files that are open for writing, by the time of the last write.
    writing: BTreeMap<PathBuf, Instant>,
    /// Files that were closed or moved since they were taken; `None` if anything else may have changed.
    changed: Option<BTreeSet<PathBuf>>,
}

impl Followed {
    /// Adds files that were closed or moved. Of a path that is no manifest, or of too many, anything may have changed.
    fn note(&mut self, paths: Vec<PathBuf>) {
        let Some(changed) = &mut self.changed else { return };
        if changed.len() + paths.len() > FOLLOWED || !paths.iter().all(|path| is_manifest(path)) {
            self.changed = None;
        } else {
            changed.extend(paths);
        }
    }

    /// Returns true for the folder and what is in it. Other events of the folder above are none of ours.
    fn has(&self, path: &Path) -> bool {
        path == self.link || self.target.as_deref().is_some_and(|target| path.starts_with(target))
    }
}

impl Notifications {
    /// Watches the folder at `path`, and the folder that has it or a link to it.
    pub fn of(path: &Path) -> Self {
        let state = Arc::<State>::default();
        let receiver = Arc::clone(&state);
        let watcher = notify::recommended_watcher(move |event| receiver.take(event));
        let watcher = watcher.inspect_err(|error| not_watched(path, error)).ok();
        let mut notifications = Self { root: path.to_owned(), state, watcher, is_watched: true };
        notifications.follow();
        notifications
    }

    /// Completes at the next notification.
    pub async fn changed(&self) {
        self.state.changed.notified().await;
    }

    /// Returns the files below the folder that were closed or moved since the last call; `None` if anything else may have
    /// changed, so that the whole folder is to be looked at.
    pub fn take_changed(&mut self) -> Option<BTreeSet<PathBuf>> {
        let mut followed = self.state.followed();
        let Followed { target: Some(target), changed, .. } = &mut *followed else { return None };
        let taken = changed.replace(BTreeSet::new())?;
        let below = |path: PathBuf| path.strip_prefix(&*target).map(Path::to_owned).ok();
        Some(taken.into_iter().filter_map(below).collect())
    }

    /// Returns the files below the folder that are being written, and watches the folder that the path now leads to.
    pub fn writing(&mut self, now: Instant) -> BTreeSet<PathBuf> {
        self.follow();
        let mut followed = self.state.followed();
        followed.writing.retain(|_, last| now < *last + STALLED);
        let Followed { target: Some(target), writing, .. } = &*followed else { return BTreeSet::new() };
        writing.keys().filter_map(|path| path.strip_prefix(target).ok()).map(Path::to_owned).collect()
    }

    /// Watches the target of the path, if it is another one than before, or could not be watched.
    fn follow(&mut self) {
        let target = self.root.canonicalize().ok();
        let Some(watcher) = &mut self.watcher else { return };
        let before = std::mem::replace(&mut self.state.followed().target, target.clone());
        if target == before && self.is_watched {
            return;
        }
        if let Some(before) = before {
            // It may be gone, and then it is not watched any more.
            let _ = watcher.unwatch(&before);
        }
        let Some(target) = target else { return };
        let above = self.root.parent().filter(|above| !above.as_os_str().is_empty());
        let above = above.unwrap_or(Path::new("."));
        let name = self.root.file_name().unwrap_or_default();
        self.state.followed().link = above.join(name);
        // The exchange of the folder or of the link is an event of the folder above.
        let parent = watcher.watch(above, RecursiveMode::NonRecursive);
        let attempt = parent.and_then(|()| watcher.watch(&target, RecursiveMode::Recursive));
        let was_watched = std::mem::replace(&mut self.is_watched, attempt.is_ok());
        if let Err(error) = attempt
            && was_watched
        {
            not_watched(&self.root, &error);
        }
    }
}

impl State {
    fn followed(&self) -> MutexGuard<'_, Followed> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, event: notify::Result<Event>) {
        // An overflow, for example: look at everything.
        let mut followed = self.followed();
        let Ok(Event { kind, mut paths, .. }) = event else {
            followed.changed = None;
            drop(followed);
            return self.changed.notify_one();
        };
        let had_paths = !paths.is_empty();
        paths.retain(|path| followed.has(path) && (*path == followed.link || !is_draft(path)));
        if had_paths && paths.is_empty() {
            return;
        }
        match kind {
            EventKind::Modify(ModifyKind::Data(_)) => {
                let room = FOLLOWED.saturating_sub(followed.writing.len());
                followed.writing.extend(paths.into_iter().take(room).map(|path| (path, Instant::now())));
                return;
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_) => {
                for path in &paths {
                    followed.writing.remove(path);
                }
                followed.note(paths);
            }
            EventKind::Access(_) => return,
            // What is created is closed, linked or moved next, or is a folder.
            EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => {
                followed.changed = None;
            }
        }
        drop(followed);
        self.changed.notify_one();
    }
}

/// Returns true for a file that is not read, by its name: that of a draft, which is moved into place. A name with two dots
/// is that of a link which ConfigMap volumes exchange, and through which others lead.
fn is_draft(path: &Path) -> bool {
    let name = path.file_name().map(OsStr::as_encoded_bytes).unwrap_or_default();
    name.starts_with(b".") && !name.starts_with(b"..")
}

fn not_watched(path: &Path, error: &notify::Error) {
    let path = path.display();
    warn!(%path, %error, "failed to watch the folder; it is looked at every 2 seconds");
}
