//! Lists the manifests below a folder, with what tells a changed file from an unchanged one.
//!
//! Used by `reader`. Reads no file. Which files are manifests is decided by `source::files`.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::Limits;
use crate::source::files::is_manifest;

/// Properties of a file that differ between two states of it, known without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Returns the stamp of a file, or of the target of a link.
    pub fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Returns the time since the file was written; `None` if it was written in the future.
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        let (seconds, nanoseconds) = self.modified;
        let written = Duration::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?);
        now.duration_since(SystemTime::UNIX_EPOCH + written).ok()
    }

    /// Size of the file, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Manifests below a folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The files by name, below the folder.
    pub files: Vec<(PathBuf, Stamp)>,
    /// Folders and files below the folder that could not be looked at; what is below them is unknown.
    pub failed: Vec<(PathBuf, io::Error)>,
    /// Number of manifests that were left out, as there are too many.
    pub left_out: usize,
}

/// Lists the manifests below `root`, in the order of their names.
pub(super) fn list(root: &Path, limits: &Limits) -> io::Result<Listing> {
    let mut listing = Listing::default();
    // The folder itself must be readable; below it, a failure costs only itself.
    let entries = fs::read_dir(root)?;
    add(entries, Path::new(""), (root, limits, 0), &mut listing);
    Ok(listing)
}

fn add(
    entries: fs::ReadDir,
    below: &Path,
    (root, limits, depth): (&Path, &Limits, usize),
    listing: &mut Listing,
) {
    let mut names = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => names.push((entry.file_name(), entry)),
            Err(error) => listing.failed.push((below.to_owned(), error)),
        }
    }
    names.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (name, entry) in names {
        let path = below.join(&name);
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        // A link to a folder can lead to a parent folder, so it is not followed; a link to a file is.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if depth >= limits.depth {
                listing.left_out += 1;
                continue;
            }
            match fs::read_dir(root.join(&path)) {
                Ok(entries) => add(entries, &path, (root, limits, depth + 1), listing),
                Err(error) => listing.failed.push((path, error)),
            }
        } else if is_manifest(&path) {
            match fs::metadata(root.join(&path)) {
                Ok(metadata) if !metadata.is_file() => {}
                Ok(_) if listing.files.len() >= limits.files => listing.left_out += 1,
                Ok(metadata) => listing.files.push((path, Stamp::of(&metadata))),
                // Removed since the folder was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => listing.failed.push((path, error)),
            }
        }
    }
}
