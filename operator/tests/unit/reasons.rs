//! The table of reasons: for each, a golden case in which `check`, admission, status, Events and `explain` agree.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use clap::Parser as _;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use serde_json::{Value, json};
use smidge::{
    admission::{Current, referenced_objects},
    cli::{Cli, Command as Face, explain},
    documents::{self, Document, Offline, Source},
    finding::{Admission, AffectedCondition, Finding, Reason},
    lower::lower,
    report,
    status::{
        conditions::{ACCEPTED, ConditionInputs, READY, RESOLVED_REFS, of, status},
        programmed::AckCount,
    },
    webhook::validation,
};
use smidge_xds::mesh::{Mesh, id::ClusterId};

/// Reasons that no manifest can have: a definition that is absent, an object that the API server stored in spite of its
/// schema, and a file of a served folder.
const WITHOUT_CASE: [Reason; 3] = [Reason::CRDNotInstalled, Reason::Malformed, Reason::FileNotRead];

/// Reasons about what has no part in the verdict on a call: pods by themselves, pods and Services outside the mesh, and
/// objects that are not read.
const WITHOUT_CALL: [Reason; 8] = [
    Reason::SidecarMissing,
    Reason::CanBypassSidecar,
    Reason::NamespaceNotInjected,
    Reason::NotCounted,
    Reason::ServicePortNotFound,
    Reason::NotInUse,
    Reason::UnknownField,
    Reason::ForeignCRD,
];

/// A golden case with its findings.
struct Case {
    path: PathBuf,
    text: String,
    offline: Offline,
    mesh: Mesh,
    findings: Vec<Finding>,
    /// Output of `smidge check`.
    checked: OnceLock<String>,
    /// Messages of the findings that `explain` shows about any call.
    explained: OnceLock<BTreeSet<String>>,
}

impl Case {
    fn read(folder: &Path) -> Self {
        let path = folder.join("in.yaml");
        let text = fs::read_to_string(&path).unwrap();
        let offline = documents::assemble(&[source(&text)]);
        let (mesh, findings) = lower(&BTreeMap::from([(ClusterId::default(), offline.inputs.clone())]));
        Self { path, text, offline, mesh, findings, checked: OnceLock::new(), explained: OnceLock::new() }
    }

    /// The document that an object was read from.
    fn document(&self, finding: &Finding) -> Option<Document> {
        let (documents, _) = documents::parse(&source(&self.text));
        let text = |document: &Document, field: &str| {
            document.value.pointer(field).and_then(Value::as_str).unwrap_or("default").to_owned()
        };
        documents.into_iter().find(|document| {
            document.kind == finding.object.kind
                && text(document, "/metadata/name") == finding.object.name
                && (finding.object.namespace.is_empty()
                    || text(document, "/metadata/namespace") == finding.object.namespace)
        })
    }
}

fn source(text: &str) -> Source {
    Source { name: "in.yaml".to_owned(), text: text.to_owned() }
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut folders: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    folders.sort();
    folders.iter().map(|folder| Case::read(folder)).collect()
}

#[test]
fn check_admission_status_events_and_explain_agree_on_every_reason() {
    let cases = cases();
    let mut missing = Vec::new();
    for reason in Reason::ALL.iter().filter(|reason| !WITHOUT_CASE.contains(reason)) {
        let of = |case: &Case| {
            let all = case.findings.iter().chain(&case.offline.findings);
            all.filter(|finding| finding.reason == *reason).cloned().collect::<Vec<_>>()
        };
        let with: Vec<(&Case, Vec<Finding>)> =
            cases.iter().map(|case| (case, of(case))).filter(|(_, found)| !found.is_empty()).collect();
        let Some((case, found)) = with.first() else {
            missing.push(format!("{reason}: no golden case"));
            continue;
        };
        for finding in found {
            let place = format!("{}: {finding}", case.path.display());
            check(case, finding, &place);
            event(finding, &place);
            conditions(case, finding, &place);
            admission(case, finding, &place);
        }
        let is_explained = |(case, found): &(&Case, Vec<Finding>)| {
            let explained = case.explained.get_or_init(|| explained(case));
            found.iter().any(|finding| explained.contains(&finding.message))
        };
        if !WITHOUT_CALL.contains(reason) && !with.iter().any(is_explained) {
            missing
                .push(format!("{reason}: no case whose calls explain it, such as {}", case.path.display()));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// `smidge check` prints the finding, and exits by its severity.
fn check(case: &Case, finding: &Finding, place: &str) {
    let printed = case.checked.get_or_init(|| {
        let smidge = env!("CARGO_BIN_EXE_smidge");
        let output = Command::new(smidge).args(["check", "-f"]).arg(&case.path).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    });
    let wanted = format!("{}: {}: ", finding.severity, finding.object);
    let is_it = |line: &str| {
        line.starts_with(&wanted) && line.contains(&finding.message) && line.contains(finding.reason.as_str())
    };
    assert!(printed.lines().any(is_it), "{place}\n{printed}");
}

/// The Event has the reason, and the text that `check` prints.
fn event(finding: &Finding, place: &str) {
    let event = report::event(finding);
    assert_eq!(event.reason, finding.reason.as_str(), "{place}");
    let note = event.note.unwrap();
    assert!(finding.to_string().starts_with(&note), "{place}\n{note}");
}

/// The condition that the table names is False with the reason, or `Ready` has the text.
fn conditions(case: &Case, finding: &Finding, place: &str) {
    let all: Vec<&Finding> = case.findings.iter().filter(|it| it.object == finding.object).collect();
    // Objects that only the offline tools report have no status.
    if !all.contains(&finding) {
        return;
    }
    let acks = AckCount {
        uid: "u".to_owned(),
        generation: Some(1),
        in_effect: true,
        concerned: 0,
        acknowledged: 0,
        refused: 0,
        words: BTreeMap::new().into_iter().collect(),
    };
    let status = status(&ConditionInputs {
        object: &finding.object,
        generation: Some(1),
        findings: &[finding],
        acks: &acks,
        overdue: false,
        present: None,
        now: &Time(Timestamp::UNIX_EPOCH),
    });
    let (kind, is_ready) = match finding.reason.condition() {
        AffectedCondition::Accepted => (ACCEPTED, false),
        AffectedCondition::ResolvedRefs => (RESOLVED_REFS, false),
        AffectedCondition::Nothing => (READY, true),
    };
    let condition = of(&status, kind).unwrap();
    let ready = of(&status, READY).unwrap();
    assert_eq!(ready.status == "True", is_ready, "{place}\n{ready:?}");
    assert!(is_ready || condition.reason == finding.reason.as_str(), "{place}\n{condition:?}");
    assert!(condition.message.contains(&finding.message), "{place}\n{condition:?}");
}

/// The webhook refuses, warns or passes as the table has it.
fn admission(case: &Case, finding: &Finding, place: &str) {
    let is_reviewed = smidge_crds::KINDS.iter().any(|info| info.kind == finding.object.kind);
    let Some(document) = case.document(finding).filter(|_| is_reviewed) else { return };
    if !case.findings.contains(finding) {
        return;
    }
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u", "operation": "CREATE", "dryRun": false,
            "kind": {"group": document.group, "version": document.version, "kind": document.kind},
            "namespace": finding.object.namespace, "name": finding.object.name,
            "object": document.value, "oldObject": null,
        },
    });
    let current = |namespaces: &BTreeSet<String>| Current {
        inputs: referenced_objects(&case.offline.inputs, namespaces),
        read: true,
    };
    let answer = validation::answer(review.to_string().as_bytes(), current).unwrap();
    let response = &answer["response"];
    // Long warnings are cut.
    let text: String = finding.message.chars().take(100).collect();
    let warned = response["warnings"].to_string().contains(&quoted(&text));
    let refused = response["status"]["message"].to_string().contains(&quoted(&text));
    let wanted = match finding.reason.admission() {
        Admission::Refuse => (false, true),
        Admission::Warn => (true, false),
        Admission::Pass => (false, false),
    };
    assert_eq!((warned, refused), wanted, "{place}\n{response:#}");
}

fn quoted(text: &str) -> String {
    json!(text).to_string().trim_matches('"').to_owned()
}

/// The messages of the findings that `explain` shows about any call of the case.
fn explained(case: &Case) -> BTreeSet<String> {
    let workloads: BTreeSet<String> =
        case.mesh.workloads.iter().map(|(id, it)| format!("{}/{}", id.namespace, it.name)).collect();
    let services = case.offline.inputs.services.keys().map(|(namespace, name)| format!("{namespace}/{name}"));
    let callees: Vec<String> = services
        .map(|name| format!("service:{name}"))
        .chain(workloads.iter().map(|name| format!("workload:{name}")))
        .collect();
    let mut messages = BTreeSet::new();
    for (from, to) in workloads.iter().take(3).flat_map(|from| callees.iter().map(move |to| (from, to))) {
        let words = ["smidge", "explain", &format!("workload:{from}"), to, "--method", "GET", "--path", "/"];
        let Face::Explain(arguments) = Cli::try_parse_from(words).unwrap().command else { panic!("{to}") };
        let offline = documents::assemble(&[source(&case.text)]);
        let Ok(answer) = explain::answer(offline, &arguments.question()) else { continue };
        messages.extend(answer.findings.into_iter().map(|finding| finding.message));
    }
    messages
}
