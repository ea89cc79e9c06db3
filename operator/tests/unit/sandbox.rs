//! Plans of sandboxes: golden cases in `operator/tests/sandbox`, each a folder with `in.yaml` and what is made of it.
//!
//! `UPDATE_EXPECT=1` writes what the code makes now. Starts no sandbox: `operator/tests/envoy/sandbox.rs` does.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::PathBuf};

use smidge::{
    documents::{Document, Source, parse},
    explain::Verdict,
    sandbox::{
        call::Outcome,
        expectations::{self, Expectation, ExpectationsError, judge},
        plan::{Plan, PlanError, hosts, plan},
    },
};

fn documents(text: &str) -> Vec<Document> {
    let (documents, unreadable) = parse(&Source { name: "in.yaml".to_owned(), text: text.to_owned() });
    assert_eq!(unreadable, []);
    documents
}

fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for note in &plan.notes {
        writeln!(text, "# note: {note}").unwrap();
    }
    for workload in &plan.workloads {
        let (name, address, listens) = (workload.full_name(), workload.address, &workload.listens);
        writeln!(text, "# {name} at {address} answers on {listens:?}").unwrap();
    }
    text + &plan.manifests
}

#[test]
fn plans_are_as_expected() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/sandbox");
    let mut cases: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 2, "the cases were not found");
    for case in cases {
        let input = fs::read_to_string(case.join("in.yaml")).unwrap();
        let plan = plan(&documents(&input), 30).unwrap();
        for (file, made) in [("plan.yaml", text(&plan)), ("hosts", hosts(&plan, "shop", "cluster.local"))] {
            let place = case.join(file);
            if env::var_os("UPDATE_EXPECT").is_some() {
                fs::write(&place, &made).unwrap();
            }
            let expected = fs::read_to_string(&place).unwrap_or_default();
            assert_eq!(made, expected, "UPDATE_EXPECT=1 writes {}", place.display());
        }
    }
}

fn pod(name: &str, port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  containers:\n  \
         - {{name: app, image: app, ports: [{{containerPort: {port}}}]}}\n"
    )
}

#[test]
fn a_plan_has_workloads_and_not_too_many() {
    assert_eq!(
        plan(&documents("apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"), 30),
        Err(PlanError::Empty)
    );
    let several: String = (0..4).map(|number| pod(&format!("p{number}"), 80)).collect();
    assert_eq!(plan(&documents(&several), 4).unwrap().workloads.len(), 4);
    let error = plan(&documents(&several), 3).unwrap_err();
    assert_eq!(error, PlanError::TooMany { found: 4, most: 3 });
    assert!(error.to_string().contains("--max-workloads"), "{error}");
}

#[test]
fn after_an_edit_workloads_keep_their_addresses_and_none_is_added() {
    let first = plan(&documents(&(pod("b", 80) + &pod("c", 80))), 30).unwrap();
    let next = first.next(&documents(&(pod("a", 80) + &pod("c", 81)))).unwrap();
    assert_eq!(next.workloads.len(), 1);
    assert_eq!(next.workloads[0].address, first.workloads[1].address);
    assert!(next.manifests.contains("port: 81") && !next.manifests.contains("name: a"), "{}", next.manifests);
    assert_eq!(next.notes.len(), 2, "{:?}", next.notes);
}

fn expectation(text: &str) -> Expectation {
    expectations::read(&format!("- {{from: a/a, to: b/b, {text}}}")).unwrap().remove(0)
}

fn outcome(answers: &[(&str, u32)], refusals: &[(&str, u32)]) -> Outcome {
    let counts = |of: &[(&str, u32)]| -> BTreeMap<String, u32> {
        of.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect()
    };
    Outcome { answers: counts(answers), refusals: counts(refusals) }
}

#[test]
fn shares_may_deviate_by_four_standard_deviations() {
    let expected = || expectation("expect: allowed, shares: {b/v1: 1, b/v2: 1}");
    let deviations = |first, second| {
        let outcome = outcome(&[("b/v1", first), ("b/v2", second)], &[]);
        judge(expected(), 80, Verdict::Allowed, outcome).deviations.len()
    };
    // Of 400 calls, half have a standard deviation of 10.
    assert_eq!((deviations(200, 200), deviations(240, 160), deviations(241, 159)), (0, 0, 2));
    let other = outcome(&[("b/v1", 200), ("b/v2", 199), ("b/v3", 1)], &[]);
    assert_eq!(judge(expected(), 80, Verdict::Allowed, other).deviations.len(), 1);
    let none = expectation("expect: allowed, shares: {b/v1: 0, b/v2: 100}");
    let judgement = judge(none, 80, Verdict::Allowed, outcome(&[("b/v1", 1), ("b/v2", 399)], &[]));
    assert_eq!(judgement.deviations.len(), 2, "a share of 0 may not deviate");
}

#[test]
fn a_call_is_judged_against_the_user_and_against_explain() {
    let answered = || outcome(&[("b/b", 1)], &[]);
    let refused = || outcome(&[], &[("403", 1)]);
    for (expect, explain, outcome, is_expected, contradicts) in [
        ("allowed", Verdict::Allowed, answered(), true, false),
        ("allowed", Verdict::Allowed, refused(), false, true),
        ("allowed", Verdict::Denied, refused(), false, false),
        ("denied", Verdict::Denied, refused(), true, false),
        ("denied", Verdict::Allowed, refused(), true, true),
        ("denied", Verdict::Partial, refused(), true, false),
    ] {
        let judgement = judge(expectation(&format!("expect: {expect}")), 80, explain, outcome);
        let found = (judgement.deviations.is_empty(), judgement.contradicts);
        assert_eq!(found, (is_expected, contradicts), "{expect} {explain:?} {judgement:?}");
    }
}

#[test]
fn files_of_expectations_are_refused_with_what_is_expected() {
    let error = |text: &str| expectations::read(text).unwrap_err();
    assert_eq!(error("[]"), ExpectationsError::Number(0));
    assert!(error("- {from: a/a, to: b/b, expect: maybe}").to_string().contains("allowed"));
    assert!(
        error("- {from: a/a, to: b/b, expect: denied, shares: {b/v1: 1}}").to_string().contains("entry 1")
    );
    assert!(
        error("- {from: a/a, to: b/b, expect: allowed, shares: {b/v1: -1}}").to_string().contains("entry 1")
    );
    assert!(error("- {from: a/a, to: b/b, expects: allowed}").to_string().contains("expects"));
}
