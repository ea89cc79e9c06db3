//! Reads a folder again and again, at the cost of the files that have changed.
//!
//! Used by `folder`, which decides when. What could not be read keeps its last objects: a file or a folder below that
//! has become unreadable, a file that a program is still writing, a folder that is empty all at once. Judges no object.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Metadata},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};
use tokio::time::{Duration, Instant};

use super::{
    FolderError, Limits,
    file::{Digest, File, problem},
    holders::{Holders, Name},
    listing::{Listing, Stamp, list},
    merge::Replacements,
};
use crate::finding::{Finding, ObjectRef, Reason};

/// Time for which a file that is gone keeps its objects: editors move a file away before they write the new one.
const GRACE: Duration = Duration::from_millis(250);
/// Time since the last write before a file is read: the notification that a program is still writing it takes a moment.
const SETTLED: Duration = Duration::from_millis(5);
/// Maximum number of looks at a file that always changes, before one of them reads it.
const UNSETTLED: usize = 10;
/// Attempts to list a folder that is exchanged meanwhile.
const ATTEMPTS: usize = 3;
/// Maximum number of findings about objects that several files have.
const DUPLICATES: usize = 100;

/// A folder, and what was read of it.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    namespace: String,
    limits: Limits,
    files: BTreeMap<PathBuf, Entry>,
    holders: Holders,
    /// Objects that may differ since `take_replacements` was called.
    touched: BTreeSet<Name>,
    /// True if objects or findings may differ since then. A look that ends early must not lose what it has read.
    is_changed: bool,
    /// Findings about the folder itself.
    problems: Vec<Finding>,
}

#[derive(Debug)]
struct Entry {
    file: File,
    stamp: Option<Stamp>,
    gone_since: Option<Instant>,
    /// Looks in a row at which it was changing.
    unsettled: usize,
}

/// Files to look at, and how closely.
#[derive(Debug, Clone)]
pub(super) struct Attention {
    /// Files that have changed, if nothing else has: they were closed or moved, so their content is whole.
    pub only: Option<BTreeSet<PathBuf>>,
    /// Read every file, whatever its stamp.
    pub everything: bool,
    /// Files that a program is writing: their present content is not looked at.
    pub writing: BTreeSet<PathBuf>,
    /// The present time of the file system.
    pub time: SystemTime,
}

/// Result of looking at a file.
#[derive(PartialEq, Eq)]
enum Looked {
    /// It was read, or is as it was.
    Read,
    /// It changes right now.
    Unsettled,
}

/// Result of reading a folder.
#[derive(Debug)]
pub(super) struct Read {
    /// True if objects or findings may have changed since the last call of `take_replacements`.
    pub changed: bool,
    /// The time at which to read again, whatever happens.
    pub again: Option<Instant>,
}

impl Folder {
    /// Creates the state of a folder that was not read yet. Objects that name no namespace are in `namespace`.
    pub fn new(root: PathBuf, namespace: String, limits: Limits) -> Self {
        Self {
            root,
            namespace,
            limits,
            files: BTreeMap::new(),
            holders: Holders::default(),
            touched: BTreeSet::new(),
            is_changed: false,
            problems: Vec::new(),
        }
    }

    /// Reads what has changed. After an error, everything that was read before stays in effect.
    pub fn read(&mut self, attention: &Attention, now: Instant) -> Result<Read, FolderError> {
        let read = self.read_stable(attention, now);
        if let Err(error) = &read {
            let name = self.root.display().to_string();
            self.problems = vec![problem(&name, "what was last read of it stays in effect", &error.brief())];
        }
        read
    }

    fn read_stable(&mut self, attention: &Attention, now: Instant) -> Result<Read, FolderError> {
        if attention.only.as_ref().is_some_and(|only| self.read_only(only, attention)) {
            return Ok(Read { changed: self.is_changed, again: None });
        }
        let place = |source| FolderError::of(&self.root, source);
        for _ in 0..ATTEMPTS {
            let before = identity(&self.root).map_err(place)?;
            let listing = list(&self.root, &self.limits).map_err(place)?;
            // A folder that was exchanged while it was listed would give files of both.
            if identity(&self.root).map_err(place)? != before {
                continue;
            }
            if listing.files.is_empty() && listing.failed.is_empty() {
                return Err(FolderError::Empty { path: self.root.clone() });
            }
            return Ok(self.take(listing, attention, now));
        }
        Err(FolderError::Unstable { path: self.root.clone() })
    }

    /// Reads some files without listing the folder. Returns false if that is not enough: a file is new or gone, or
    /// something has failed before.
    fn read_only(&mut self, only: &BTreeSet<PathBuf>, attention: &Attention) -> bool {
        if !self.problems.is_empty() || self.files.is_empty() {
            return false;
        }
        only.iter().all(|path| {
            let metadata = fs::metadata(self.root.join(path)).ok().filter(Metadata::is_file);
            let Some(metadata) = metadata.filter(|_| self.files.contains_key(path)) else { return false };
            self.look(path, Stamp::of(&metadata), attention) == Looked::Read
        })
    }

    fn take(&mut self, listing: Listing, attention: &Attention, now: Instant) -> Read {
        let mut problems = Vec::new();
        let failed: Vec<&Path> = listing.failed.iter().map(|(path, _)| path.as_path()).collect();
        for (path, error) in &listing.failed {
            let name = path.display().to_string();
            problems.push(problem(&name, "what was last read of it stays in effect", &error.to_string()));
        }
        if listing.left_out > 0 {
            problems.push(self.too_many(listing.left_out));
        }
        let mut present = BTreeSet::new();
        let mut again = None;
        for (path, stamp) in listing.files {
            if self.look(&path, stamp, attention) == Looked::Unsettled {
                again = Some(now + SETTLED);
            }
            present.insert(path);
        }
        let Self { files, holders, touched, is_changed, .. } = self;
        files.retain(|path, entry| {
            if present.contains(path) || failed.iter().any(|failed| path.starts_with(failed)) {
                entry.gone_since = None;
                return true;
            }
            let since = *entry.gone_since.get_or_insert(now);
            let keep = now < since + GRACE;
            if keep {
                again = Some(again.map_or(since + GRACE, |at: Instant| at.min(since + GRACE)));
            }
            if !keep {
                *is_changed = true;
                touched.extend(holders.replace(path, entry.file.inputs().map(|it| &**it), None));
            }
            keep
        });
        self.is_changed |= self.problems != problems;
        self.problems = problems;
        Read { changed: self.is_changed, again }
    }

    /// Reads a file if it has changed.
    fn look(&mut self, path: &Path, stamp: Stamp, attention: &Attention) -> Looked {
        if attention.writing.contains(path) {
            return Looked::Read;
        }
        let entry = self.files.entry(path.to_owned()).or_insert_with(|| Entry {
            file: File::new(path.display().to_string(), self.namespace.clone()),
            stamp: None,
            gone_since: None,
            unsettled: 0,
        });
        if entry.stamp == Some(stamp) && !attention.everything {
            return Looked::Read;
        }
        let is_whole = attention.only.as_ref().is_some_and(|only| only.contains(path));
        let is_young = !is_whole && stamp.age(attention.time).is_some_and(|age| age < SETTLED);
        if is_young && entry.file.inputs().is_some() && entry.unsettled < UNSETTLED {
            entry.unsettled += 1;
            return Looked::Unsettled;
        }
        entry.unsettled = 0;
        let before = entry.file.inputs().cloned();
        self.is_changed |= match content(&self.root.join(path), stamp, &self.limits) {
            Ok(Some(content)) => {
                entry.stamp = Some(stamp);
                entry.file.take(&content)
            }
            Ok(None) => {
                entry.stamp = None;
                return Looked::Unsettled;
            }
            Err(error) => {
                entry.stamp = None;
                entry.file.fail(&error.to_string())
            }
        };
        let after = entry.file.inputs();
        let is_same = match (&before, after) {
            (Some(before), Some(after)) => Arc::ptr_eq(before, after),
            (before, after) => before.is_none() && after.is_none(),
        };
        if !is_same {
            let (before, after) = (before.as_deref(), after.map(|it| &**it));
            self.touched.extend(self.holders.replace(path, before, after));
        }
        Looked::Read
    }

    fn too_many(&self, left_out: usize) -> Finding {
        let Limits { files, depth, .. } = self.limits;
        let what = format!("has {left_out} manifests or folders beyond {files} files or {depth} levels");
        problem(&self.root.display().to_string(), "they are left out", &what)
    }

    /// Returns the objects that may differ since the last call, each with the file that counts for it.
    pub fn take_replacements(&mut self) -> Replacements {
        let touched = std::mem::take(&mut self.touched);
        self.is_changed = false;
        let file = |name: &Name| {
            let entry = self.files.get(self.holders.file(name)?)?;
            entry.file.inputs().cloned()
        };
        touched.into_iter().map(|name| (name.clone(), file(&name))).collect()
    }

    /// Number of objects in effect, objects of kinds that are not read included.
    pub fn objects(&self) -> usize {
        self.files.values().map(|entry| entry.file.objects()).sum()
    }

    /// Number of files.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Returns all findings, in the order of `Finding`.
    pub fn findings(&self) -> Vec<Finding> {
        let of_files = self.files.values().flat_map(|entry| entry.file.findings());
        let mut all: Vec<Finding> = self.problems.iter().chain(of_files).cloned().collect();
        let several = self.holders.several().take(DUPLICATES);
        all.extend(several.filter_map(|((kind, (namespace, name)), files)| {
            let last = files.last()?;
            let others: Vec<_> =
                files.iter().filter(|path| *path != last).map(|path| path.display().to_string()).collect();
            let message = format!("is also in {}: the one in {} counts", others.join(", "), last.display());
            let finding = Finding::new(ObjectRef::new(*kind, namespace, name), Reason::Conflicted, message);
            Some(finding.hint("leave it in one file"))
        }));
        all.sort();
        all.dedup();
        all
    }

    /// Digest of all texts in effect, with the names of their files.
    pub fn digest(&self) -> Digest {
        let mut sum = Sha256::new();
        for (path, digest) in self.files.iter().filter_map(|(path, entry)| Some((path, entry.file.digest()?)))
        {
            sum.update(path.as_os_str().as_encoded_bytes());
            sum.update([0]);
            sum.update(digest);
        }
        sum.finalize().into()
    }
}

/// Returns the device and inode of a folder.
fn identity(root: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(root)?;
    if !metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    Ok((metadata.dev(), metadata.ino()))
}

/// Returns the content of a file; `None` if the file is not the one of `stamp` any more, before or after reading.
fn content(path: &Path, stamp: Stamp, limits: &Limits) -> io::Result<Option<Vec<u8>>> {
    if stamp.size() > limits.bytes {
        let why = format!("has {} bytes: expected at most {}", stamp.size(), limits.bytes);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    let mut file = match fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let is_same = |metadata: Metadata| Stamp::of(&metadata) == stamp;
    if !is_same(file.metadata()?) {
        return Ok(None);
    }
    let mut content = Vec::new();
    (&mut file).take(limits.bytes).read_to_end(&mut content)?;
    Ok(is_same(file.metadata()?).then_some(content))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(name: &str) -> String {
        format!(
            "{{apiVersion: specs.smi-spec.io/v1alpha4, kind: TCPRoute, metadata: {{name: {name}}}, spec: {{}}}}"
        )
    }

    /// A look at some files that finds another one gone continues with the whole folder, where the first is as it was.
    #[test]
    fn what_a_look_has_read_before_it_ends_early_is_not_lost() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(place.path().join(name), text).unwrap();
        let names = |names: &[&str]| names.iter().map(PathBuf::from).collect::<BTreeSet<_>>();
        let look =
            |only| Attention { only, everything: false, writing: BTreeSet::new(), time: SystemTime::now() };
        write("a.yaml", &route("one"));
        write("b.yaml", &route("two"));
        let mut folder = Folder::new(place.path().to_owned(), "default".to_owned(), Limits::default());
        let now = Instant::now();
        assert!(folder.read(&look(None), now).unwrap().changed);
        assert_eq!(folder.take_replacements().len(), 2);
        write("a.yaml", &route("other"));
        fs::remove_file(place.path().join("b.yaml")).unwrap();
        let read = folder.read(&look(Some(names(&["a.yaml", "b.yaml"]))), now).unwrap();
        assert!(read.changed, "the change of a.yaml would wait for the next one");
        assert_eq!(folder.take_replacements().len(), 2, "one object is gone, and one is new");
        assert!(!folder.read(&look(None), now).unwrap().changed);
    }
}
