//! Runs the committed inputs of every fuzz target: former findings, and inputs that reach most of the code. An input
//! that a fuzz run finds is added to `fuzz/corpus` together with its fix.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test ends where it goes wrong")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use smidge_fuzz_targets::TARGETS;

fn below(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn committed_inputs_pass() {
    for (name, run) in TARGETS {
        let inputs = below(&format!("corpus/{name}"));
        assert!(!inputs.is_empty(), "{name} has no inputs");
        for input in inputs {
            // Visible in the output of a failed test.
            println!("{}", input.display());
            run(&fs::read(&input).unwrap());
        }
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let names: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    for folder in ["fuzz_targets", "corpus"] {
        let there: BTreeSet<_> = below(folder)
            .iter()
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(there, names, "fuzz/{folder}");
    }
}
