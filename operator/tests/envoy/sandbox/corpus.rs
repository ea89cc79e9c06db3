//! Manifests from other projects in a sandbox: what the wire does is what `smidge explain` answers.
//!
//! A sample of calls between the workloads and Services of each. The corpus is beside the checkout; without it, the test
//! prints so and passes.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};
use smidge::{
    documents::{Source, parse},
    sandbox::plan::{Plan, Workload, plan},
};
use smidge_testing::corpus;
use smidge_xds_testing::binaries;
use tempfile::TempDir;

use super::expect;

/// Folder of the corpus, and files of it that belong together.
const MANIFESTS: [(&str, &[&str]); 10] = [
    ("BuoyantIO__booksapp", &["booksapp-trafficsplit.yml"]),
    (
        "BuoyantIO__emojivoto",
        &["training__traffic-split__web-svc-2.yml", "training__traffic-split__web-svc-ts.yml"],
    ),
    ("hashicorp__consul-smi-controller", &["example__example-app.yml", "example__smi.yml"]),
    ("jsuto__traefik-mesh", &["server.yaml", "trafficsplit.yaml", "traffictarget.yaml"]),
    ("kanishkarj__consul-smi-tutorial", &["example-app-mini.yml"]),
    (
        "linkerd__linkerd-smi",
        &["test__testdata__application.yaml", "test__testdata__traffic-split-leaf-weights.yaml"],
    ),
    (
        "servicemeshinterface__smi-adapter-istio",
        &[
            "docs__smi-trafficsplit__manifests__00-bookinfo-setup.yaml",
            "docs__smi-trafficsplit__manifests__04-traffic-split-900-100.yaml",
        ],
    ),
    (
        "servicemeshinterface__smi-adapter-istio",
        &[
            "docs__smi-traffictarget__manifests__configs.yml",
            "docs__smi-traffictarget__manifests__traffictarget.yaml",
        ],
    ),
    (
        "traefik__mesh",
        &[
            "integration__testdata__acl_enabled__http__1.server.yaml",
            "integration__testdata__acl_enabled__http__7.traffic-target-path-filter.yaml",
        ],
    ),
    ("traefik__mesh", &["integration__testdata__acl_enabled__traffic-split__1.server-split.yaml"]),
];
/// Maximum number of workloads of each, as each takes an Envoy.
const WORKLOADS: u32 = 7;
/// Maximum number of calls in each.
const CALLS: usize = 24;

/// Puts files of the corpus into a folder, and returns the plan of them.
fn planned(corpus: &Path, (project, files): (&str, &[&str]), folder: &Path) -> Plan {
    let mut documents = Vec::new();
    for file in files {
        let text = fs::read_to_string(corpus.join(project).join(file)).unwrap();
        fs::write(folder.join(Path::new(file).with_extension("yaml")), &text).unwrap();
        let (mut read, unreadable) = parse(&Source { name: (*file).to_owned(), text });
        assert_eq!(unreadable, []);
        documents.append(&mut read);
    }
    plan(&documents, WORKLOADS).unwrap()
}

/// Returns calls of every workload to every Service, in turn with other requests.
fn calls(plan: &Plan) -> Vec<Value> {
    let requests = [("GET", "/"), ("POST", "/api/buy"), ("GET", "/books/1")];
    let callers = plan.workloads.iter().map(Workload::full_name);
    let all = callers.flat_map(|from| {
        let services = plan.services.iter().filter(|(_, addresses)| !addresses.is_empty());
        services.map(move |((namespace, name), _)| (from.clone(), format!("{namespace}/{name}")))
    });
    let numbered = all.zip(requests.iter().cycle());
    let calls = numbered.map(|((from, to), (method, path))| {
        json!({"from": from, "to": to, "method": method, "path": path, "expect": "allowed"})
    });
    calls.take(CALLS).collect()
}

#[test]
fn the_wire_does_what_explain_answers() {
    let (Some(corpus), Some(envoy)) = (corpus::corpus(), binaries::envoys().pop()) else {
        return;
    };
    let mut verdicts = BTreeSet::new();
    for manifests in MANIFESTS {
        let folder = TempDir::new().unwrap();
        let plan = planned(&corpus, manifests, folder.path());
        let (code, judged, stderr) = expect(&envoy, folder.path(), &Value::from(calls(&plan)).to_string());
        assert!([0, 1].contains(&code), "{manifests:?}: {code} {judged:#} {stderr}");
        for judgement in judged.as_array().unwrap() {
            assert_eq!(judgement["contradicts"], false, "{manifests:?}: {judgement:#}");
            verdicts.insert(judgement["wire"].as_str().unwrap().to_owned());
        }
    }
    assert!(verdicts.contains("allowed") && verdicts.contains("denied"), "{verdicts:?}");
}
