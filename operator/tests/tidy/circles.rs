//! No top-level modules of a crate use each other in a circle, or none could be read, tested and moved by itself.
//!
//! Reads `crate::` paths and, in files beside `lib.rs`, `super::` ones; inline tests do not count.

use std::collections::{BTreeMap, BTreeSet};

use super::{hold, product, workspace};

/// The crates, by the folder of their sources.
pub const CRATES: [&str; 12] = [
    "crds/src",
    "e2e/bench/src",
    "e2e/shapes/src",
    "e2e/src",
    "operator/injector/src",
    "operator/lower/src",
    "operator/src",
    "operator/testing/src",
    "operator/traffic-metrics/src",
    "xds/mesh/src",
    "xds/src",
    "xds/testing/src",
];

/// Circles that are allowed, with the reason.
const ALLOWED: [(&str, [&str; 2], &str); 2] = [
    ("e2e/bench/src", ["fairness", "scenario"], "a scenario that has a file of its own"),
    (
        "e2e/src",
        ["operator", "token"],
        "the operator's pages want a token, and tokens want the operator's namespace",
    ),
];

type Uses = BTreeMap<String, BTreeSet<String>>;

#[test]
fn modules_do_not_use_each_other_in_a_circle() {
    let files = workspace();
    let mut broken = Vec::new();
    for folder in CRATES {
        let mut uses = uses(folder, &files);
        assert!(!uses.is_empty(), "{folder} has no modules");
        for (_, [one, other], _) in ALLOWED.iter().filter(|(of, ..)| *of == folder) {
            let removed = uses.get_mut(*one).is_some_and(|used| used.remove(*other));
            assert!(removed, "{folder}: {one} no longer uses {other}: take it off the list");
        }
        // A module that uses none of those that are left is in no circle.
        while let Some(free) = uses.iter().find(|(_, used)| used.is_empty()).map(|(module, _)| module.clone())
        {
            uses.remove(&free);
            for used in uses.values_mut() {
                used.remove(&free);
            }
        }
        broken.extend(uses.iter().map(|(module, used)| format!("{folder}: {module} uses {used:?}")));
    }
    hold("in a circle, or behind one", &broken);
}

/// Top-level modules of a crate, each with those that it uses.
fn uses(folder: &str, files: &[(String, String)]) -> Uses {
    let own = |path: &str| Some(path.strip_prefix(folder)?.strip_prefix('/')?.to_owned());
    let mut graph = Uses::new();
    for (path, text) in files.iter().filter_map(|(path, text)| Some((own(path)?, text))) {
        let module = path.split(['/', '.']).next().unwrap().to_owned();
        let code: String =
            product(text).lines().map(|line| line.split("//").next().unwrap().to_owned() + "\n").collect();
        let used = graph.entry(module.clone()).or_default();
        used.extend(heads(&code, "crate::"));
        if !path.contains('/') {
            used.extend(heads(&code, "super::"));
        }
        used.remove(&module);
    }
    for root in ["lib", "main"] {
        graph.remove(root);
    }
    let modules: BTreeSet<String> = graph.keys().cloned().collect();
    for used in graph.values_mut() {
        used.retain(|module| modules.contains(module));
    }
    graph
}

/// Returns the first names of all paths that begin with `root`, those of a `use` in braces included.
fn heads(code: &str, root: &str) -> BTreeSet<String> {
    let mut heads = BTreeSet::new();
    for (at, _) in code.match_indices(root) {
        let rest = &code[at + root.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            heads.insert(word(rest));
            continue;
        };
        let mut depth = 1;
        let mut is_start = true;
        for (index, letter) in list.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => is_start = true,
                letter if depth == 1 && is_start && !letter.is_whitespace() => {
                    heads.insert(word(&list[index..]));
                    is_start = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    heads
}

fn word(text: &str) -> String {
    text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
}

#[test]
fn paths_are_read_as_rust_reads_them() {
    let code = "use crate::{\n    a,\n    b::{c, d::{e}},\n    f::g,\n};\nlet x = crate::h::i();";
    assert_eq!(heads(code, "crate::"), ["a", "b", "f", "h"].map(str::to_owned).into());
}
