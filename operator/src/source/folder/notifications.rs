//! Waits for notifications of the kernel about a folder, and follows which files are being written.
//!
//! Used by `folder`. A folder that cannot be watched is looked at in intervals; that is logged once. Reads nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
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

/// Time after the last write of a program that does not close a file, after which its content counts all the same.
const STALLED: Duration = Duration::from_secs(30);
/// Maximum number of files that are followed; further ones are read while they are written.
const FOLLOWED: usize = 10_000;

/// Notifications about a folder.
pub(super) struct Notifications {
    root: PathBuf,
    state: Arc<State>,
    watcher: Option<RecommendedWatcher>,
    /// The folder that is watched: the target of the path, which may be a link.
    watched: Option<PathBuf>,
}

#[derive(Default)]
struct State {
    changed: Notify,
    /// Files that are open for writing, by the time of the last write.
    writing: Mutex<BTreeMap<PathBuf, Instant>>,
}

impl Notifications {
    /// Watches the folder at `path`, and the folder that has it or a link to it.
    pub fn of(path: &Path) -> Self {
        let state = Arc::<State>::default();
        let receiver = Arc::clone(&state);
        let watcher = notify::recommended_watcher(move |event| receiver.take(event));
        let watcher = watcher.inspect_err(|error| not_watched(path, error)).ok();
        let mut notifications = Self { root: path.to_owned(), state, watcher, watched: None };
        notifications.follow();
        notifications
    }

    /// Completes at the next notification.
    pub async fn changed(&self) {
        self.state.changed.notified().await;
    }

    /// Returns the files below the folder that are being written, and watches the folder that the path now leads to.
    pub fn writing(&mut self, now: Instant) -> BTreeSet<PathBuf> {
        self.follow();
        let mut writing = self.state.writing.lock().unwrap_or_else(PoisonError::into_inner);
        writing.retain(|_, last| now < *last + STALLED);
        let Some(watched) = &self.watched else { return BTreeSet::new() };
        writing.keys().filter_map(|path| path.strip_prefix(watched).ok()).map(Path::to_owned).collect()
    }

    /// Watches the target of the path, if it is another one than before.
    fn follow(&mut self) {
        let target = self.root.canonicalize().ok();
        let Some(watcher) = &mut self.watcher else { return };
        if target == self.watched {
            return;
        }
        if let Some(before) = self.watched.take() {
            // It may be gone, and then it is not watched any more.
            let _ = watcher.unwatch(&before);
        }
        let Some(target) = target else { return };
        let parent = self.root.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        // The exchange of the folder or of the link is an event of the folder above.
        let above = watcher.watch(parent, RecursiveMode::NonRecursive);
        if let Err(error) = above.and_then(|()| watcher.watch(&target, RecursiveMode::Recursive)) {
            not_watched(&self.root, &error);
        }
        self.watched = Some(target);
    }
}

impl State {
    fn take(&self, event: notify::Result<Event>) {
        // An overflow, for example: look at everything.
        let Ok(Event { kind, paths, .. }) = event else { return self.changed.notify_one() };
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match kind {
            EventKind::Modify(ModifyKind::Data(_)) => {
                let room = FOLLOWED.saturating_sub(writing.len());
                writing.extend(paths.into_iter().take(room).map(|path| (path, Instant::now())));
                return;
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(_))
            | EventKind::Remove(_) => {
                for path in &paths {
                    writing.remove(path);
                }
            }
            EventKind::Access(_) => return,
            // What is created is closed, linked or moved next, or is a folder.
            EventKind::Create(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => {}
        }
        drop(writing);
        self.changed.notify_one();
    }
}

fn not_watched(path: &Path, error: &notify::Error) {
    let path = path.display();
    warn!(%path, %error, "failed to watch the folder; it is looked at every 2 seconds");
}
