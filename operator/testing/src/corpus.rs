//! Location of the corpus: manifests from other projects, beside the checkout and never in it.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Returns the folder, if it exists. `SMIDGE_CORPUS` names another one; without it, it is `shared/corpus` beside the
/// checkout, or beside the folder that holds several checkouts.
pub fn corpus() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let places = [root.join("../shared/corpus"), root.join("../../shared/corpus")];
    let named = env::var_os("SMIDGE_CORPUS").map(PathBuf::from);
    let found = named.into_iter().chain(places).find(|place| place.is_dir());
    if found.is_none() {
        println!("skipped: there is no corpus at ../shared/corpus; SMIDGE_CORPUS names another place");
    }
    found
}

/// Returns the names of its files, without those that describe the corpus.
pub fn files(corpus: &Path) -> Vec<String> {
    let mut found = Vec::new();
    below(corpus, corpus, &mut found);
    found.retain(|name| name != "README.md" && name != "SOURCES.md");
    found.sort();
    assert!(found.len() > 100, "the corpus is not what it was");
    found
}

fn below(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            below(root, &path, found);
        } else {
            found.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
        }
    }
}
