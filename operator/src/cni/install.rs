//! Puts the plugin on the node, and keeps it in the configuration of the node's network until it is uninstalled.
//!
//! The thin shell around `conflist`: reads a folder, and applies edits one by one, each by a rename. Watches the folder, as
//! the cluster's own plugin writes its file again when it starts. Never removes the plugin's file: the runtime calls it for
//! pods that were started with it. Starts no pod and applies no rules.

use std::{
    fs, io,
    io::{BufRead as _, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;

use super::{
    PLUGIN,
    conflist::{self, ConflistError, Edit, Files},
};

/// Interval at which the folder is read even if nothing has changed, in case a notification was lost.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum size of a file of the configuration, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Maximum number of files of the configuration.
const MAX_FILES: usize = 256;

/// Errors of the installation.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file cannot be read or written.
    #[error("failed to {action} {}: {source}", path.display())]
    File {
        /// The action.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// The folder cannot be watched.
    #[error("failed to watch {}: {source}", path.display())]
    Watch {
        /// The folder.
        path: PathBuf,
        /// Error of the watcher.
        #[source]
        source: notify::Error,
    },
    /// The configuration cannot have the plugin.
    #[error(transparent)]
    Conflist(#[from] ConflistError),
}

/// State of the node after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// There is no configuration yet: the cluster's own plugin has not been installed.
    NoNetwork,
    /// The plugin was already there.
    Unchanged,
    /// The plugin was installed, or repaired.
    Changed,
}

/// Places on the node.
#[derive(Debug, Clone)]
pub struct Node {
    /// Folder of the plugins.
    pub bin_dir: PathBuf,
    /// Folder of the configuration.
    pub conf_dir: PathBuf,
    /// Path of the agent's socket, as the plugin sees it.
    pub socket: String,
}

impl Node {
    /// Copies this program to the folder of the plugins, and chains it.
    pub fn install(&self) -> Result<State, InstallError> {
        let program = std::env::current_exe().map_err(failed("find", Path::new("this program")))?;
        self.copy(&program)?;
        self.chain()
    }

    /// Chains the plugin, which is on the node. The program is copied first, so that the configuration never names a file
    /// that is not there.
    pub fn chain(&self) -> Result<State, InstallError> {
        let Some(edits) = conflist::chain(&self.files()?, &self.socket)? else { return Ok(State::NoNetwork) };
        self.apply(&edits)
    }

    /// Takes the plugin out of the configuration. Its file stays.
    pub fn uninstall(&self) -> Result<State, InstallError> {
        self.apply(&conflist::unchain(&self.files()?))
    }

    /// Returns true if the plugin is on the node and chained.
    pub fn is_installed(&self) -> bool {
        self.bin_dir.join(PLUGIN).is_file()
            && self.files().is_ok_and(|files| conflist::is_chained(&files, &self.socket))
    }

    /// Repairs the installation at each change of the folder, forever.
    pub async fn keep(&self) -> Result<(), InstallError> {
        let (sender, mut changes) = mpsc::channel(1);
        let watch = |source| InstallError::Watch { path: self.conf_dir.clone(), source };
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if !event.is_ok_and(|event| event.kind.is_access()) {
                // One waiting notification is enough.
                let _ = sender.try_send(());
            }
        })
        .map_err(watch)?;
        watcher.watch(&self.conf_dir, RecursiveMode::NonRecursive).map_err(watch)?;
        let mut last = String::new();
        let mut is_copied = false;
        loop {
            // A copy that is there stays what it is: another version is another pod.
            let settled =
                if is_copied && self.bin_dir.join(PLUGIN).is_file() { self.chain() } else { self.install() };
            is_copied |= settled.is_ok();
            let message = match settled {
                Ok(State::NoNetwork) => format!("{} has no configuration yet", self.conf_dir.display()),
                Ok(State::Changed) => {
                    eprintln!("smidge: the CNI plugin is installed in {}", self.conf_dir.display());
                    String::new()
                }
                Ok(State::Unchanged) => String::new(),
                Err(error) => error.to_string(),
            };
            if message != last && !message.is_empty() {
                eprintln!("smidge: {message}");
            }
            last = message;
            // Whether a change or the time has come, the folder is read.
            let _ = tokio::time::timeout(CHECK_INTERVAL, changes.recv()).await;
        }
    }

    fn copy(&self, program: &Path) -> Result<(), InstallError> {
        let target = self.bin_dir.join(PLUGIN);
        if is_same(program, &target).unwrap_or(false) {
            return Ok(());
        }
        let mut source = fs::File::open(program).map_err(failed("read", program))?;
        replace(&target, &mut source, 0o755)
    }

    fn files(&self) -> Result<Files, InstallError> {
        let folder = fs::read_dir(&self.conf_dir).map_err(failed("read", &self.conf_dir))?;
        let mut files = Files::new();
        for entry in folder.take(MAX_FILES) {
            let entry = entry.map_err(failed("read", &self.conf_dir))?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if !conflist::is_known(&name) {
                continue;
            }
            let mut text = String::new();
            let read = fs::File::open(&path).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
            match read {
                Ok(_) => drop(files.insert(name, text)),
                // It was removed in between.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("read", &path)(error)),
            }
        }
        Ok(files)
    }

    fn apply(&self, edits: &[Edit]) -> Result<State, InstallError> {
        for edit in edits {
            match edit {
                Edit::Write { name, text } => {
                    replace(&self.conf_dir.join(name), &mut text.as_bytes(), 0o644)?;
                }
                Edit::Rename { from, to } => {
                    let path = self.conf_dir.join(from);
                    fs::rename(&path, self.conf_dir.join(to)).map_err(failed("rename", &path))?;
                }
                Edit::Remove { name } => {
                    let path = self.conf_dir.join(name);
                    fs::remove_file(&path).map_err(failed("remove", &path))?;
                }
            }
        }
        Ok(if edits.is_empty() { State::Unchanged } else { State::Changed })
    }
}

/// Compares two files, which may be large, part by part.
fn is_same(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (fs::File::open(one)?, fs::File::open(other)?);
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut one, mut other) = (io::BufReader::new(one), io::BufReader::new(other));
    loop {
        let (left, right) = (one.fill_buf()?, other.fill_buf()?);
        let length = left.len().min(right.len());
        if length == 0 || left.get(..length) != right.get(..length) {
            return Ok(left.is_empty() && right.is_empty());
        }
        one.consume(length);
        other.consume(length);
    }
}

/// Replaces a file by a rename, so that a reader sees the old content or the new one.
fn replace(path: &Path, content: &mut impl io::Read, mode: u32) -> Result<(), InstallError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // No runtime reads a file of this name.
    let temporary = path.with_file_name(format!(".{name}.smidge-new"));
    let mut write = || {
        let _ = fs::remove_file(&temporary);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        io::copy(content, &mut file)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        failed("write", path)(error)
    })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError + use<> {
    let path = path.to_owned();
    move |source| InstallError::File { action, path, source }
}
