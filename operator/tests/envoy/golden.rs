//! Kubernetes objects in; mesh, findings and Envoy configurations out: one folder a behaviour.
//!
//! `UPDATE_EXPECT=1` writes the current output; without it, any difference and any extra file is a failure. Every Envoy
//! binary at hand validates every configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Serialize;
use smidge::{
    cli::render::configuration,
    documents::{self, Source},
    lower::lower,
};
use smidge_xds::mesh::{
    Mesh,
    id::{ClusterId, ProxyId},
    proxy::TrafficStats,
};
use smidge_xds_testing::binaries;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The cases by name, with their input.
fn cases() -> BTreeMap<String, String> {
    let folders = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    folders
        .filter(|path| path.is_dir())
        .map(|path| {
            let input = path.join("in.yaml");
            let text =
                fs::read_to_string(&input).unwrap_or_else(|_| panic!("{} is missing", input.display()));
            (path.file_name().unwrap().to_string_lossy().into_owned(), text)
        })
        .collect()
}

/// Output of the code for one case, by file.
fn outputs(case: &str, text: String) -> BTreeMap<String, String> {
    let offline = documents::assemble(&[Source { name: "in.yaml".to_owned(), text }]);
    let (mesh, mut findings) = lower(&BTreeMap::from([(ClusterId::default(), offline.inputs)]));
    offline.written.rename(&mut findings);
    findings.extend(offline.findings);
    findings.sort();
    let mut files = BTreeMap::from([("mesh.yaml".to_owned(), yaml(&mesh))]);
    if !findings.is_empty() {
        files.insert("findings.yaml".to_owned(), yaml(&findings));
    }
    if !offline.unreadable.is_empty() {
        files.insert("unreadable.yaml".to_owned(), yaml(&offline.unreadable));
    }
    for (proxy, file) in proxies(&mesh) {
        let configuration =
            configuration(mesh.clone(), &proxy).unwrap_or_else(|error| panic!("{case}: {error:#}"));
        files.insert(file, yaml(&configuration));
    }
    files
}

/// Every proxy with the name of its file.
fn proxies(mesh: &Mesh) -> Vec<(ProxyId, String)> {
    mesh.workloads
        .iter()
        .map(|(id, workload)| (id.clone(), format!("envoy/{}.{}.yaml", id.namespace, workload.name)))
        .collect()
}

fn yaml(value: &impl Serialize) -> String {
    let text = serde_saphyr::to_string(value).unwrap();
    if text.ends_with('\n') { text } else { format!("{text}\n") }
}

/// The existing files of a case, except its input.
fn present(case: &str) -> BTreeMap<String, String> {
    let root = folder().join(case);
    let mut files = BTreeMap::new();
    for folder in [root.clone(), root.join("envoy")] {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
    files.remove("in.yaml");
    files
}

#[test]
fn every_case_comes_out_as_it_is_written_down() {
    let is_update = env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() > 40, "the cases are not where they were");
    for (case, text) in cases {
        let (made, there) = (outputs(&case, text), present(&case));
        let names = made.keys().chain(there.keys());
        let differing: Vec<&String> = names.filter(|name| made.get(*name) != there.get(*name)).collect();
        if is_update {
            for name in differing {
                let path = folder().join(&case).join(name);
                match made.get(name) {
                    None => fs::remove_file(path).unwrap_or_default(),
                    Some(text) => {
                        fs::create_dir_all(path.parent().unwrap()).unwrap();
                        fs::write(path, text).unwrap();
                    }
                }
            }
        } else {
            wrong.extend(differing.iter().map(|name| format!("{case}/{name}")));
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "not as expected: {wrong:#?}\nUPDATE_EXPECT=1 writes what the code makes now");
}

#[test]
fn every_envoy_takes_every_configuration() {
    let mut files = Vec::new();
    for case in cases().into_keys() {
        let names = present(&case).into_keys().filter(|name| name.starts_with("envoy/"));
        files.extend(names.map(|name| folder().join(&case).join(name)));
    }
    assert!(files.len() > 50, "the configurations are not where they were");
    let refusals: Vec<String> = binaries::envoys()
        .iter()
        .flat_map(|envoy| {
            let written_for = files.iter().filter(|file| is_for(envoy, file));
            written_for.filter_map(|file| refusal(envoy, file)).collect::<Vec<_>>()
        })
        .collect();
    assert!(refusals.is_empty(), "{}", refusals.join("\n\n"));
}

/// Returns true if a configuration is one for this version: those with statistics of traffic are for the latest ones.
fn is_for(envoy: &Path, file: &Path) -> bool {
    let counts = fs::read_to_string(file).unwrap().contains("envoy.access_loggers.stats");
    !counts || binaries::traffic(envoy) == TrafficStats::Bounded
}

/// Returns the error with which Envoy refuses a file.
fn refusal(envoy: &Path, file: &Path) -> Option<String> {
    let output = Command::new(envoy)
        .args(["--mode", "validate", "--log-level", "error", "-c"])
        .arg(file)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", envoy.display()));
    let message = String::from_utf8_lossy(&output.stderr);
    (!output.status.success()).then(|| format!("{} on {}: {message}", envoy.display(), file.display()))
}

#[test]
fn the_documentation_names_every_case_and_no_other() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/smi.md");
    let text = fs::read_to_string(page).unwrap();
    let cases = cases();
    // A case is named in code, in the last column of a table whose last heading is `case`.
    let tables = text.split("\n\n").filter(|block| block.lines().any(|line| line.ends_with("| case |")));
    let named: BTreeSet<&str> = tables
        .flat_map(str::lines)
        .filter_map(|line| line.trim_end_matches([' ', '|']).rsplit('|').next())
        .flat_map(|column| column.split('`').skip(1).step_by(2))
        .filter(|word| word.contains('-') && word.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
        .collect();
    let missing: Vec<&String> = cases.keys().filter(|case| !named.contains(case.as_str())).collect();
    assert!(missing.is_empty(), "docs/smi.md does not name {missing:#?}");
    let gone: Vec<&&str> = named.iter().filter(|case| !cases.contains_key(**case)).collect();
    assert!(gone.is_empty(), "docs/smi.md names cases that are not there: {gone:#?}");
}

#[test]
fn equal_inputs_in_another_order_give_equal_bytes() {
    for (case, text) in cases() {
        let mut documents: Vec<&str> = text.split("\n---\n").collect();
        documents.reverse();
        let reversed = documents.join("\n---\n");
        let (mut one, mut other) = (outputs(&case, text.clone()), outputs(&case, reversed));
        // It contains positions of documents, which reversal changes.
        one.remove("unreadable.yaml");
        other.remove("unreadable.yaml");
        assert_eq!(one, other, "{case}");
    }
}
