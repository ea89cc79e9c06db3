//! Turns files, folders and standard input into the inputs of a cluster with the objects in them.
//!
//! Used by the offline tools. A file that cannot be read is reported by its path, and affects no other file.
//! `smidge_lower::documents` interprets the texts.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use smidge_lower::documents::{Offline, Source, Unreadable, assemble_within};

/// Reads the cluster that the files describe; objects that name no namespace are in `namespace`. Files without any object are reported as unreadable: a check of no object
/// is a mistake.
pub fn load(paths: &[PathBuf], namespace: &str) -> Offline {
    let (sources, mut unreadable) = read(paths);
    let mut offline = assemble_within(&sources, namespace);
    if offline.objects == 0 && offline.unreadable.is_empty() && unreadable.is_empty() {
        let file = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let message = "holds no Kubernetes object".to_owned();
        unreadable.push(Unreadable { file, document: None, field: None, message });
    }
    unreadable.append(&mut offline.unreadable);
    offline.unreadable = unreadable;
    offline
}

/// Reads files, folders (every `*.yaml`, `*.yml` and `*.json` below them, by name) and `-` for standard input.
pub fn read(paths: &[PathBuf]) -> (Vec<Source>, Vec<Unreadable>) {
    let mut sources = Vec::new();
    let mut unreadable = Vec::new();
    for path in paths {
        read_path(path, &mut sources, &mut unreadable);
    }
    (sources, unreadable)
}

fn read_path(path: &Path, sources: &mut Vec<Source>, unreadable: &mut Vec<Unreadable>) {
    let name = path.display().to_string();
    if name == "-" {
        let mut bytes = Vec::new();
        let text = io::stdin().read_to_end(&mut bytes).and_then(|_| text(bytes));
        return keep(name, text, sources, unreadable);
    }
    if !path.is_dir() {
        return keep(name, fs::read(path).and_then(text), sources, unreadable);
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    match entries {
        Err(error) => unreadable.push(unreadable_file(name, &error)),
        Ok(mut entries) => {
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                read_entry(&entry, sources, unreadable);
            }
        }
    }
}

fn read_entry(entry: &fs::DirEntry, sources: &mut Vec<Source>, unreadable: &mut Vec<Unreadable>) {
    let path = entry.path();
    let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
    // A symbolic link to a folder can lead to a parent folder, so it is not followed; a link to a file is.
    let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
    if !is_hidden && (is_folder || (path.is_file() && is_manifest(&path))) {
        read_path(&path, sources, unreadable);
    }
}

/// Returns true if files of this name in a folder are read.
pub(super) fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    })
}

fn text(bytes: Vec<u8>) -> io::Result<String> {
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "is not UTF-8 text"))
}

fn keep(name: String, text: io::Result<String>, sources: &mut Vec<Source>, unreadable: &mut Vec<Unreadable>) {
    match text {
        Ok(text) => sources.push(Source { name, text }),
        Err(error) => unreadable.push(unreadable_file(name, &error)),
    }
}

fn unreadable_file(file: String, error: &io::Error) -> Unreadable {
    Unreadable { file, document: None, field: None, message: format!("failed to read: {error}") }
}
