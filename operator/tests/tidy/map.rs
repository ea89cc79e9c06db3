//! ARCHITECTURE.md is a map without blank spots: it names every crate and every top-level module of the product.

use std::{collections::BTreeSet, fs};

use super::{hold, root, workspace};

/// Crates whose top-level modules are on the map, by the folder of their sources.
const MAPPED: [&str; 7] = [
    "crds/src",
    "operator/injector/src",
    "operator/lower/src",
    "operator/src",
    "operator/traffic-metrics/src",
    "xds/mesh/src",
    "xds/src",
];

#[test]
fn the_map_names_every_crate_and_module() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let words: BTreeSet<&str> = map
        .split('`')
        .skip(1)
        .step_by(2)
        .flat_map(|code| code.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')))
        .collect();
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest.lines().find(|line| line.starts_with("members")).unwrap();
    let crates = members.split('"').skip(1).step_by(2);
    let mut missing: Vec<String> = crates
        .filter(|member| !map.contains(&format!("`{member}/`")))
        .map(|member| format!("crate {member}/"))
        .collect();
    for (path, _) in workspace() {
        let own = MAPPED.iter().find_map(|folder| path.strip_prefix(folder)?.strip_prefix('/'));
        let module = own.filter(|own| !own.contains('/')).map(|own| own.trim_end_matches(".rs"));
        if module.is_some_and(|module| !["lib", "main"].contains(&module) && !words.contains(module)) {
            missing.push(format!("module {path}"));
        }
    }
    hold("ARCHITECTURE.md does not name", &missing);
}
