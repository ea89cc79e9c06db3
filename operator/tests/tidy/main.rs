//! Checks the house rules that a machine can check: module headers, sizes, circles, allowed imports, what pure modules
//! may not touch, the map. Reads the sources of the whole workspace; judges no behaviour.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod circles;
mod comments;
mod dependencies;
mod kinds;
mod map;
mod texts;
mod words;

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Maximum number of lines of a source file.
const FILE_LINES: usize = 400;

/// Text that a pure module may not contain.
const IMPURE: &[&str] = &[
    "tokio::",
    "std::env",
    "SystemTime",
    "Instant::now",
    "kube::Client",
    "kube::Api",
    "std::fs",
    "std::net::Tcp",
];

/// (folder, text that may not occur in it, reason).
const FORBIDDEN: &[(&str, &str, &str)] = &[
    ("operator/src", "envoy_types", "the operator does not know Envoy's messages"),
    ("operator/injector/src", "envoy_types", "the injector does not know Envoy's messages"),
    ("crds/src", "kube::Client", "crds has no client"),
    ("crds/src", "tokio", "crds has no runtime"),
    ("e2e/src", "smidge_xds", "e2e is black box"),
    ("e2e/tests", "smidge_xds", "e2e is black box"),
    ("e2e/tests", "use smidge::", "e2e is black box"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns every source of the workspace: path from the root with `/`, and text.
fn workspace() -> Vec<(String, String)> {
    let root = root().canonicalize().unwrap();
    let mut paths = Vec::new();
    for member in ["crds", "xds", "operator", "e2e", "examples", "fuzz"] {
        sources(&root.join(member), &mut paths);
    }
    paths.sort();
    assert!(paths.len() > 20, "the sources were not found below {}", root.display());
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path.strip_prefix(&root).unwrap().to_string_lossy().into_owned(), text)
        })
        .collect()
}

fn hold(rule: &str, broken: &[String]) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

/// Returns the code of a file without its inline tests, which may use whatever they need.
fn product(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

fn is_in(path: &str, module: &str) -> bool {
    path == format!("{module}.rs") || path.starts_with(&format!("{module}/"))
}

#[test]
fn every_file_opens_with_what_it_does() {
    let broken: Vec<String> =
        workspace().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| path).collect();
    hold("a file opens with `//!`: what it turns into what, where it sits, what it does not do", &broken);
}

#[test]
fn no_file_is_longer_than_its_budget() {
    let broken: Vec<String> = workspace()
        .into_iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines, at most {FILE_LINES}"))
        .collect();
    hold("split the file by the nouns in it", &broken);
}

#[test]
fn no_file_is_named_for_nothing() {
    let broken: Vec<String> = workspace()
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| {
            let stem = Path::new(path).file_stem().unwrap().to_string_lossy().into_owned();
            ["mod", "utils", "util", "common", "helpers", "helper", "types", "misc"].contains(&stem.as_str())
        })
        .collect();
    hold("a file is named for the noun it owns", &broken);
}

#[test]
fn pure_modules_touch_no_runtime_clock_or_environment() {
    let files = workspace();
    // A header with that word holds for the file and for its folder; that of a crate for all of it. A file of them whose
    // own header has the word Impure is exempt.
    let has = |text: &str, word: &str| {
        let header = text.lines().take_while(|line| line.starts_with("//!"));
        header.flat_map(|line| line.split(|c: char| !c.is_alphanumeric())).any(|it| it == word)
    };
    let pure: Vec<&str> = files
        .iter()
        .filter(|(_, text)| has(text, "Pure"))
        .map(|(path, _)| path.trim_end_matches(".rs").trim_end_matches("/lib"))
        .collect();
    assert!(pure.len() > 20, "the headers of pure modules were not found");
    let mut broken = Vec::new();
    for (path, text) in &files {
        if pure.iter().any(|module| is_in(path, module)) && !has(text, "Impure") {
            let found = IMPURE.iter().filter(|word| product(text).contains(**word));
            broken.extend(found.map(|word| format!("{path} has `{word}`")));
        }
    }
    hold("a module whose header has the word Pure has no effects", &broken);
}

#[test]
fn dependencies_go_one_way() {
    let mut broken = Vec::new();
    for (path, text) in workspace() {
        for (folder, word, why) in FORBIDDEN {
            if path.starts_with(folder) && product(&text).contains(word) {
                broken.push(format!("{path} has `{word}`: {why}"));
            }
        }
    }
    hold("dependencies go one way", &broken);
}

#[test]
fn imports_of_one_crate_are_one_statement() {
    let mut broken = Vec::new();
    for (path, text) in workspace() {
        let mut last = None;
        for (number, line) in text.lines().enumerate() {
            let first =
                line.strip_prefix("use ").and_then(|rest| rest.split_once("::")).map(|(first, _)| first);
            // `self` is no crate: what it names are modules of the file.
            if first.is_some_and(|first| first != "self") && first == last {
                broken.push(format!("{path}:{}: {line}", number + 1));
            }
            // A statement of several lines ends with a line of its own, so what follows it does not count.
            last = first.filter(|_| line.ends_with(';'));
        }
    }
    hold("group imports by crate: use one::{this, that};", &broken);
}

#[test]
fn nothing_is_left_for_later() {
    // In two parts, so that the rule applies to this file as well.
    let marks = [
        concat!("to", "do!("),
        concat!("unimplem", "ented!("),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("#[ign", "ore"),
        concat!("thread::", "sleep"),
    ];
    let mut broken = Vec::new();
    for (path, text) in workspace() {
        for mark in marks {
            if text.contains(mark) {
                broken.push(format!("{path} has `{mark}`"));
            }
        }
    }
    hold("finish it, or write down the limit in the documents", &broken);
}
