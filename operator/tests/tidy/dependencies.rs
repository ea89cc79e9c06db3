//! Dependencies have licences that allow us to ship them, and no further crate is compiled in two versions.
//!
//! Reads `cargo metadata`. Does not look for advisories: docs/design/016 has the reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;
use spdx::{Expression, ParseMode};

use super::{hold, root};

/// Licences of dependencies, by their SPDX identifiers.
const LICENCES: [&str; 10] = [
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    // Of `imbl`: its own files stay under it, and ours do not have to be.
    "MPL-2.0",
    "Unicode-3.0",
    "CC0-1.0",
    "Unlicense",
    "Zlib",
];

/// Crates in several versions: dependencies of dependencies that have not all moved to the newer one.
const DUPLICATES: [&str; 15] = [
    "base64",
    "bit-vec",
    "block-buffer",
    "const-oid",
    "cpufeatures",
    "crypto-common",
    "digest",
    "getrandom",
    "hashbrown",
    "itertools",
    "pem",
    "rand",
    "rand_chacha",
    "rand_core",
    "syn",
];

/// Packages that are compiled on Linux.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform=x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let compiled: BTreeSet<&str> = nodes.iter().map(|node| node["id"].as_str().unwrap()).collect();
    let all = metadata["packages"].as_array().unwrap().iter();
    all.filter(|package| compiled.contains(package["id"].as_str().unwrap())).cloned().collect()
}

fn is_allowed(licence: &str) -> bool {
    let Ok(expression) = Expression::parse_mode(licence, ParseMode::LAX) else { return false };
    expression.evaluate(|one| one.license.id().is_some_and(|id| LICENCES.contains(&id.name)))
}

#[test]
fn licences_of_dependencies_are_known() {
    let broken: Vec<String> = packages()
        .iter()
        .filter(|package| !is_allowed(package["license"].as_str().unwrap_or_default()))
        .map(|package| format!("{} {}: {}", package["name"], package["version"], package["license"]))
        .collect();
    hold("read the licence before you add it to the list", &broken);
    assert!(
        !is_allowed("GPL-3.0-only") && !is_allowed("MIT AND GPL-3.0-only") && is_allowed("MIT/Apache-2.0")
    );
}

#[test]
fn no_further_crate_has_several_versions() {
    let packages = packages();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in &packages {
        versions
            .entry(package["name"].as_str().unwrap())
            .or_default()
            .insert(package["version"].as_str().unwrap());
    }
    versions.retain(|_, versions| versions.len() > 1);
    let further = versions.iter().filter(|(name, _)| !DUPLICATES.contains(name));
    let mut broken: Vec<String> = further.map(|(name, versions)| format!("{name} in {versions:?}")).collect();
    let gone = DUPLICATES.iter().filter(|name| !versions.contains_key(**name));
    broken.extend(gone.map(|name| format!("{name} has one version now: take it off the list")));
    hold("update a dependency so that one version is enough, or add it to the list", &broken);
}
