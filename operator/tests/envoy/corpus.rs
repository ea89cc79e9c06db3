//! Manifests from other projects, each through everything that reads manifests: nothing crashes, nothing takes long,
//! and the findings of each are those that `docs/corpus.md` has judged.
//!
//! `UPDATE_EXPECT=1` counts anew. The corpus is beside the checkout; without it, the test prints so and passes.

mod report;
mod shares;

use smidge_xds_testing::binaries;
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use report::Said;
use serde_json::{Value, json};
use smidge::{
    admission::Current,
    cli::{
        check::{check, print},
        manifests::Manifests,
        render::configuration,
    },
    documents::{self, Document, Source},
    inputs::Inputs,
    lower::lower,
    webhook::validation,
};
use smidge_crds::conversion;
use smidge_testing::corpus;
use smidge_xds::mesh::{Mesh, id::ClusterId};

/// Maximum CPU time for one file, in a debug build.
const LONGEST: Duration = Duration::from_secs(1);

/// CPU time of this thread.
fn spent() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or(0))
}

fn smidge(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_smidge")).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn documents_of(file: &Path) -> Vec<Document> {
    let text = fs::read_to_string(file).unwrap();
    documents::parse(&Source { name: "in.yaml".to_owned(), text }).0
}

fn mesh_of(file: &Path) -> Mesh {
    let inputs = Manifests::of(vec![file.to_owned()]).load().inputs;
    lower(&BTreeMap::from([(ClusterId::default(), inputs)])).0
}

/// Returns whether admission refuses an object; `None` if the webhook is not called for it.
fn is_refused(document: &Document) -> Option<bool> {
    let Document { group, version, kind, value, .. } = document;
    if !conversion::served(group, kind).contains(&version.as_str()) {
        return None;
    }
    // The API server rejects an object without a name before the webhook.
    let name = value.pointer("/metadata/name")?;
    let namespace = value.pointer("/metadata/namespace").cloned().unwrap_or(json!("default"));
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": "CREATE", "namespace": namespace, "name": name,
        "kind": {"group": group, "version": version, "kind": kind}, "object": value,
    }});
    let current = Current { inputs: Inputs::default(), read: true };
    let answer = validation::answer(review.to_string().as_bytes(), |_| current).unwrap();
    Some(answer["response"]["allowed"] == json!(false))
}

/// Puts one file through everything; configurations are written to `kept`.
fn said(name: &str, file: &Path, kept: &Path) -> Said {
    let before = spent();
    let report = check(&Manifests::of(vec![file.to_owned()]));
    print(&report, false, &mut Vec::new()).unwrap();
    let mesh = mesh_of(file);
    let made: Vec<Value> =
        mesh.workloads.keys().map(|proxy| configuration(mesh.clone(), proxy).unwrap()).collect();
    let refused: Vec<bool> = documents_of(file).iter().filter_map(is_refused).collect();
    let cost = spent().saturating_sub(before);
    assert!(cost < LONGEST, "{name} took {cost:?}");
    let mut reasons = BTreeMap::new();
    if !report.unreadable.is_empty() {
        reasons.insert("unreadable".to_owned(), report.unreadable.len());
    }
    for finding in &report.findings {
        *reasons.entry(finding.reason.to_string()).or_default() += 1;
    }
    for (index, made) in made.iter().enumerate() {
        fs::write(kept.join(format!("{}.{index}.json", name.replace('/', "_"))), made.to_string()).unwrap();
    }
    Said {
        status: report.exit_code(),
        reasons,
        reviewed: refused.len(),
        refused: refused.iter().filter(|it| **it).count(),
        rendered: made.len(),
    }
}

/// Runs the commands on a file, as a user does.
fn run(name: &str, file: &Path, said: &Said) {
    let path = file.display().to_string();
    let checked = smidge(&["check", "-f", &path]);
    assert_eq!(checked.status.code(), Some(i32::from(said.status)), "check of {name}");
    let mesh = mesh_of(file);
    let first = mesh.workloads.iter().next().map(|(id, it)| format!("{}/{}", id.namespace, it.name));
    let rendered = smidge(&["render", "-f", &path, "-w", first.as_deref().unwrap_or("default/none")]);
    let words = String::from_utf8_lossy(&rendered.stderr).into_owned();
    // Without a workload there is nothing to render, which is an error of the arguments.
    let status = if first.is_some() { said.status } else { 2 };
    assert_eq!(rendered.status.code(), Some(i32::from(status)), "render of {name}: {words}");
    assert_eq!(first.is_none(), words.contains("there is no workload"), "render of {name}: {words}");
    assert!(!words.contains("panicked"), "render of {name}: {words}");
}

#[test]
fn every_file_is_judged_as_the_report_says() {
    let Some(corpus) = corpus::corpus() else { return };
    let kept = tempfile::tempdir().unwrap();
    let mut all = BTreeMap::new();
    for name in corpus::files(&corpus) {
        let file = corpus.join(&name);
        let said = said(&name, &file, kept.path());
        run(&name, &file, &said);
        all.insert(name, said);
    }
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/corpus.md");
    let there = fs::read_to_string(&place).unwrap_or_default();
    let (head, words) = report::by_hand(&there);
    let made = report::report(&head, &words, &all);
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&place, &made).unwrap();
    } else {
        let differing = made.lines().zip(there.lines()).find(|(made, there)| made != there);
        assert!(made == there, "docs/corpus.md differs: {differing:#?}\nUPDATE_EXPECT=1 counts anew");
    }
    assert!(!made.contains("not judged yet"), "a file of the corpus is not judged in docs/corpus.md");
    envoys_take(kept.path());
}

/// Checks that every Envoy accepts every configuration that was made.
fn envoys_take(folder: &Path) {
    let files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 20, "only {} configurations", files.len());
    for envoy in binaries::envoys() {
        for file in &files {
            let output = Command::new(&envoy)
                .args(["--mode", "validate", "--log-level", "error", "-c"])
                .arg(file)
                .output()
                .unwrap();
            let words = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{} on {}: {words}", envoy.display(), file.display());
        }
    }
}

#[test]
fn the_whole_corpus_is_one_cluster_without_a_crash() {
    let Some(corpus) = corpus::corpus() else { return };
    let report = check(&Manifests::of(vec![corpus.clone()]));
    assert!(report.findings.len() > 50 && report.unreadable.len() > 10, "the corpus is not what it was");
    let mesh = mesh_of(&corpus);
    for proxy in mesh.workloads.keys() {
        configuration(mesh.clone(), proxy).unwrap();
    }
}

#[test]
fn every_split_sends_the_shares_that_it_says() {
    let Some(corpus) = corpus::corpus() else { return };
    let mut splits = 0;
    for name in corpus::files(&corpus) {
        for document in documents_of(&corpus.join(&name)).iter().filter(|it| it.kind == "TrafficSplit") {
            if conversion::served(&document.group, &document.kind).contains(&document.version.as_str())
                && document.value.pointer("/metadata/name").is_some()
            {
                shares::hold(&name, document);
                splits += 1;
            }
        }
    }
    assert!(splits > 50, "only {splits} splits");
    println!("{splits} splits send what they say");
}
