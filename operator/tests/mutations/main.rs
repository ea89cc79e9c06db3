//! Ten thousand mutated manifests, and a few that are built to exhaust time or memory, through everything that reads
//! manifests of users: the offline tools, lowering, admission, conversion and `explain`.
//!
//! Nothing may panic; each input costs bounded time and memory, and messages about it have a readable length. Cost is
//! CPU time of the thread, so that a busy machine fails nothing. `SMIDGE_SEED` repeats a run, `SMIDGE_MUTATIONS` sets
//! the number of inputs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test ends where it goes wrong"
)]

mod mutate;
mod oversized;

use std::{
    collections::BTreeMap,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use mutate::{Dice, mutate, spoil_bytes};
use serde_json::{Value, json, value::RawValue};
use smidge::{
    admission::Current,
    cli::{
        check::{Report, check, print},
        manifests::Manifests,
    },
    documents::{self, Offline, Source},
    explain::{Question, explain},
    finding::Finding,
    inputs::Inputs,
    lower::lower,
    webhook::{conversion, validation},
};
use smidge_testing::corpus;
use smidge_xds::mesh::{Mesh, id::ClusterId};

/// Number of mutated manifests.
const MUTATIONS: usize = 10_000;
/// Maximum CPU time for one mutated manifest of a few kilobytes, in a debug build.
const SMALL: Duration = Duration::from_secs(1);
/// Maximum CPU time for one that is built to exhaust time, in a debug build: twice what the largest took where it was
/// measured, as processors differ. An input whose cost does explode takes a hundred times as long.
const LARGE: Duration = Duration::from_secs(20);
/// Maximum length of a message about an object, in bytes.
const WORDS: usize = 4096;
/// Words of the implementation that messages to users must not contain.
const INTERNAL: [&str; 6] = [
    "untagged enum",
    "expected struct",
    "expected a sequence",
    "Option<",
    "DuplicateKeyPolicy",
    "expected i32",
];
/// Maximum peak memory of the test, in KiB.
const MEMORY_KIB: u64 = 1 << 20;

fn bases() -> Vec<String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut bases = Vec::new();
    for folder in ["golden", "explain"] {
        for case in fs::read_dir(tests.join(folder)).unwrap() {
            bases.extend(fs::read_to_string(case.unwrap().path().join("in.yaml")));
        }
    }
    assert!(bases.len() > 80, "the cases are not where they were");
    bases.sort();
    let own = bases.len();
    if let Some(corpus) = corpus::corpus() {
        let files = corpus::files(&corpus).into_iter().map(|name| corpus.join(name));
        bases.extend(files.filter_map(|file| fs::read_to_string(file).ok()));
    }
    println!("{own} bases of our own, {} of the corpus", bases.len() - own);
    // A CustomResourceDefinition is large, and the product does not read it.
    bases.retain(|text| text.len() < 16_384 && !text.contains("CustomResourceDefinition"));
    bases
}

/// CPU time of this thread.
fn spent() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|it| it.parse().ok()).unwrap_or(0))
}

/// Peak memory of this process.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// Results of the inputs so far.
#[derive(Debug, Default)]
struct Tally {
    inputs: usize,
    unreadable: usize,
    findings: usize,
    reviews: usize,
    refused: usize,
    conversions: usize,
    converted: usize,
    questions: usize,
    /// Number of inputs that were sent unchanged, and refused by an answer rather than an error.
    sent: usize,
    slowest: (Duration, String),
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.inputs += other.inputs;
        self.unreadable += other.unreadable;
        self.findings += other.findings;
        self.reviews += other.reviews;
        self.refused += other.refused;
        self.conversions += other.conversions;
        self.converted += other.converted;
        self.questions += other.questions;
        self.sent += other.sent;
        if other.slowest.0 > self.slowest.0 {
            self.slowest = other.slowest;
        }
        self.wrong.extend(other.wrong);
    }

    /// Puts one input, which `name` identifies, through everything.
    fn put(&mut self, name: &str, bytes: &[u8], limit: Duration) {
        let before = spent();
        self.inputs += 1;
        if catch_unwind(AssertUnwindSafe(|| self.through(bytes))).is_err() {
            self.wrong.push(format!("{name}: panicked"));
        }
        let cost = spent().saturating_sub(before);
        if cost > limit {
            self.wrong.push(format!("{name}: took {cost:?}"));
        }
        if cost > self.slowest.0 {
            self.slowest = (cost, name.to_owned());
        }
    }

    fn through(&mut self, bytes: &[u8]) {
        self.send(bytes);
        let Ok(text) = std::str::from_utf8(bytes) else {
            let mut file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
            std::io::Write::write_all(&mut file, bytes).unwrap();
            let report = check(&Manifests::of(vec![file.path().to_owned()]));
            assert_eq!(report.exit_code(), 2, "bytes that are no text were read");
            return self.said(&report);
        };
        let source = Source { name: "in.yaml".to_owned(), text: text.to_owned() };
        let (parsed, _) = documents::parse(&source);
        for document in parsed.iter().take(4).filter(|it| !it.group.is_empty()) {
            self.admit(&document.value);
            self.convert(&document.value, &document.group);
        }
        let Offline { inputs, mut findings, unreadable, .. } = documents::assemble(&[source]);
        let clusters = BTreeMap::from([(ClusterId::default(), inputs)]);
        let (mesh, more) = lower(&clusters);
        findings.extend(more);
        self.ask(&mesh, &clusters[&ClusterId::default()], &findings);
        self.said(&Report { unreadable, findings });
    }

    /// Sends the bytes unchanged where the API server puts an object.
    fn send(&mut self, bytes: &[u8]) {
        let body = |before: &str, after: &str| [before.as_bytes(), bytes, after.as_bytes()].concat();
        let kind = r#"{"group":"split.smi-spec.io","version":"v1alpha4","kind":"TrafficSplit"}"#;
        let review = format!(
            r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","operation":"CREATE","name":"s","namespace":"n","kind":{kind},"object":"#
        );
        let current = Current { inputs: Inputs::default(), read: true };
        // An error is answered with 400, and a broken object is refused.
        if let Ok(answer) = validation::answer(&body(&review, "}}"), |_| current) {
            self.sent += usize::from(answer["response"]["allowed"] == json!(false));
        }
        let review = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","request":{"uid":"u","desiredAPIVersion":"split.smi-spec.io/v1alpha1","objects":["#;
        if let Ok(answer) = conversion::answer(&body(review, "]}}")) {
            self.sent += usize::from(result_of(&answer)["status"] != json!("Success"));
        }
    }

    /// Checks that messages are readable: of a bounded length, and without control characters for a terminal.
    fn said(&mut self, report: &Report) {
        self.unreadable += report.unreadable.len();
        self.findings += report.findings.len();
        let mut printed = Vec::new();
        print(report, false, &mut printed).unwrap();
        let printed = String::from_utf8(printed).unwrap();
        for line in printed.lines() {
            assert!(
                line.len() <= WORDS,
                "{} bytes: {}…",
                line.len(),
                &line.chars().take(300).collect::<String>()
            );
        }
        for word in INTERNAL {
            assert!(!printed.contains(word), "{word:?} is no word for users: {printed}");
        }
        let steers = |c: char| c.is_control() && c != '\n';
        assert!(!printed.contains(steers), "a control character is printed");
    }

    fn admit(&mut self, object: &Value) {
        let field = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let group = field("/apiVersion").split('/').next().unwrap_or_default();
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "u", "operation": "CREATE", "namespace": field("/metadata/namespace"), "name": field("/metadata/name"),
            "kind": {"group": group, "version": "v1", "kind": field("/kind")}, "object": object,
        }});
        let current = Current { inputs: Inputs::default(), read: true };
        let answer = validation::answer(review.to_string().as_bytes(), |_| current).unwrap();
        let response = &answer["response"];
        self.reviews += 1;
        if response["allowed"] == json!(false) {
            self.refused += 1;
            let message = response["status"]["message"].as_str().unwrap();
            assert!(message.len() > 20 && message.len() < 20 * WORDS, "{} bytes", message.len());
            is_clear(message, field("/kind"));
        }
    }

    fn convert(&mut self, object: &Value, group: &str) {
        for version in ["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4", "v9"] {
            let review = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": {
                "uid": "u", "desiredAPIVersion": format!("{group}/{version}"), "objects": [object],
            }});
            let answer = conversion::answer(review.to_string().as_bytes()).unwrap();
            let result = result_of(&answer);
            self.conversions += 1;
            if result["status"] == json!("Success") {
                self.converted += 1;
            } else {
                let message = result["message"].as_str().unwrap();
                assert!(message.len() > 20 && message.len() < 2 * WORDS, "{} bytes", message.len());
            }
        }
    }

    fn ask(&mut self, mesh: &Mesh, inputs: &Inputs, findings: &[Finding]) {
        let from = mesh.workloads.keys().next().map(|id| format!("{}/{}", id.namespace, id.instance));
        let to = mesh.services.keys().next_back().map(ToString::to_string);
        if let (Some(from), Some(to)) = (from, to) {
            let path = Some("/api/v1/x".to_owned());
            let question = Question { from, to, path, ..Question::default() };
            let _ = explain(mesh, inputs, findings, &question);
            self.questions += 1;
        }
    }
}

/// The result of an answer to a ConversionReview. It does not parse the objects: one that is nested as deeply as can be
/// read once is nested more deeply in the answer.
fn result_of(answer: &[u8]) -> Value {
    let answer: BTreeMap<&str, &RawValue> = serde_json::from_slice(answer).unwrap();
    let response: BTreeMap<&str, &RawValue> = serde_json::from_str(answer["response"].get()).unwrap();
    serde_json::from_str(response["result"].get()).unwrap()
}

/// Checks that a refusal names the object, and for each error the reason, in words for users.
fn is_clear(message: &str, kind: &str) {
    let short: String = kind.chars().take(20).collect();
    assert!(message.starts_with(&short), "{kind} is not named: {message}");
    let errors: Vec<&str> = message.split("\n- ").collect();
    let is_list = errors.len() > 1;
    for error in errors.iter().skip(usize::from(is_list)) {
        let is_counted = error.starts_with("and ") && error.ends_with(" more");
        let is_cut = error.ends_with("...");
        assert!(is_counted || is_cut || error.contains(" ["), "no reason is named: {error}");
    }
    for word in INTERNAL {
        assert!(!message.contains(word), "{word:?} is no word for users: {message}");
    }
}

/// Mutates one of the bases, as a whole or in one document.
fn mutated(bases: &[String], dice: &mut Dice) -> Vec<u8> {
    let base = dice.pick(bases);
    if dice.below(3) == 0 {
        let mut bytes = base.clone().into_bytes();
        spoil_bytes(&mut bytes, dice);
        return bytes;
    }
    let source = Source { name: "base.yaml".to_owned(), text: base.clone() };
    let (mut documents, _) = documents::parse(&source);
    if documents.is_empty() {
        return base.clone().into_bytes();
    }
    let at = dice.below(documents.len());
    mutate(&mut documents[at].value, dice);
    let is_yaml = dice.below(2) == 0;
    let texts = documents.iter().map(|document| {
        let yaml = is_yaml.then(|| serde_saphyr::to_string(&document.value).ok()).flatten();
        yaml.unwrap_or_else(|| document.value.to_string())
    });
    let mut bytes = texts.collect::<Vec<_>>().join("\n---\n").into_bytes();
    if dice.below(4) == 0 {
        spoil_bytes(&mut bytes, dice);
    }
    bytes
}

#[test]
fn spoilt_manifests_cost_only_themselves() {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SMIDGE_SEED").unwrap_or(0x5eed);
    let count = number("SMIDGE_MUTATIONS").and_then(|it| usize::try_from(it).ok()).unwrap_or(MUTATIONS);
    let bases = bases();
    let (next, total) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    // A panic is counted; a thread ends after more than 20 failures, as not all of ten thousand need be printed.
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut tally = Tally::default();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count || tally.wrong.len() > 20 {
                        break;
                    }
                    let mut dice = Dice(seed ^ (u64::try_from(index).unwrap() << 20));
                    let bytes = mutated(&bases, &mut dice);
                    tally.put(&format!("seed {seed} number {index}"), &bytes, SMALL);
                }
                total.lock().unwrap().add(tally);
            });
        }
    });
    let total = total.into_inner().unwrap();
    println!("{total:#?}\npeak memory {} KiB", peak_kib());
    assert!(total.wrong.is_empty(), "{:#?}", total.wrong);
    assert!(total.inputs >= count && total.reviews > count / 4, "not all was tried");
    assert!(total.refused > 100 && total.unreadable > 100 && total.findings > 100, "nothing was mutated");
    assert!(peak_kib() < MEMORY_KIB, "{} KiB at the peak", peak_kib());
}

#[test]
fn what_is_made_to_explode_does_not() {
    let mut total = Tally::default();
    let only = env::var("SMIDGE_BOMB").unwrap_or_default();
    for (name, text) in oversized::oversized().into_iter().filter(|(name, _)| name.contains(&only)) {
        let before = (spent(), total.findings, total.unreadable);
        total.put(name, text.as_bytes(), LARGE);
        println!(
            "{name}: {:?}, {} findings, {} unreadable, peak {} KiB",
            spent().saturating_sub(before.0),
            total.findings - before.1,
            total.unreadable - before.2,
            peak_kib()
        );
    }
    assert!(total.wrong.is_empty(), "{:#?}", total.wrong);
    assert!(peak_kib() < MEMORY_KIB, "{} KiB at the peak", peak_kib());
}
