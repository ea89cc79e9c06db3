//! The table of conditions.

use std::{fmt::Write as _, path::Path};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use smidge::{
    finding::{Finding, ObjectRef, Reason},
    status::{
        conditions::{ConditionInputs, is_same, of, status},
        programmed::AckCount,
    },
};
use smidge_crds::status::Status;

fn time(seconds: i64) -> Time {
    Time(Timestamp::from_second(1_800_000_000 + seconds).unwrap())
}

fn acks(concerned: usize, acknowledged: usize, refused: usize) -> AckCount {
    let words = (0..refused.min(3)).map(|n| (format!("shop/web-{n}"), "Proto constraint failed".to_owned()));
    AckCount {
        uid: "u".to_owned(),
        generation: Some(2),
        in_effect: true,
        concerned,
        acknowledged,
        refused,
        words: words.collect(),
    }
}

/// One row: what is known, and the status that the object has already.
struct Case {
    name: &'static str,
    kind: &'static str,
    findings: Vec<Reason>,
    acks: AckCount,
    overdue: bool,
    present: Option<Status>,
}

fn case(name: &'static str) -> Case {
    Case {
        name,
        kind: "TrafficTarget",
        findings: Vec::new(),
        acks: acks(3, 3, 0),
        overdue: false,
        present: None,
    }
}

fn of_case(case: &Case, now: &Time) -> Status {
    let object = ObjectRef::new(case.kind, "shop", "web");
    let findings: Vec<Finding> = case
        .findings
        .iter()
        .map(|reason| Finding::new(object.clone(), *reason, format!("what is so of {reason}")).at("spec.x"))
        .collect();
    status(&ConditionInputs {
        object: &object,
        generation: case.acks.generation,
        findings: &findings.iter().collect::<Vec<_>>(),
        acks: &case.acks,
        overdue: case.overdue,
        present: case.present.as_ref(),
        now,
    })
}

/// Status that `case` leaves on the object, at the generation before or at this one.
fn left_by(case: &Case, generation: i64) -> Status {
    let acks = AckCount { generation: Some(generation), ..case.acks.clone() };
    let before = Case { acks, findings: case.findings.clone(), present: case.present.clone(), ..*case };
    of_case(&before, &time(0))
}

fn cases() -> Vec<Case> {
    programmed().into_iter().chain(moving()).chain(found()).collect()
}

/// Cases of an object without findings, by the answers of proxies.
fn programmed() -> Vec<Case> {
    let all = Some(left_by(&case(""), 2));
    let unused = Some(left_by(&Case { acks: acks(0, 0, 0), ..case("") }, 2));
    let most = Some(left_by(&Case { acks: acks(3, 2, 1), overdue: true, ..case("") }, 2));
    vec![
        case("acknowledged by all"),
        Case { acks: acks(1, 1, 0), ..case("acknowledged by the only one") },
        Case { acks: acks(0, 0, 0), ..case("nobody is concerned") },
        Case { acks: acks(3, 1, 0), ..case("some have not answered yet") },
        Case { acks: acks(3, 1, 0), overdue: true, ..case("some stay silent") },
        Case { acks: acks(3, 0, 0), overdue: true, ..case("all stay silent") },
        Case { acks: acks(3, 2, 1), ..case("one refuses") },
        Case { acks: acks(3, 2, 1), overdue: true, ..case("one goes on refusing") },
        Case { acks: acks(3, 2, 1), present: most, ..case("one goes on refusing, says a new leader") },
        Case { acks: acks(5, 0, 5), overdue: true, ..case("all refuse") },
        Case { acks: acks(3, 1, 2), present: all.clone(), ..case("refused after all had it: not its doing") },
        Case {
            acks: acks(3, 1, 2),
            overdue: true,
            present: all,
            ..case("refused after all had it, for long")
        },
        Case {
            acks: acks(3, 1, 2),
            present: Some(left_by(&case(""), 1)),
            ..case("refused after all had the generation before")
        },
        Case { acks: acks(2, 0, 0), present: unused.clone(), ..case("somebody comes to be concerned") },
        Case {
            acks: acks(2, 0, 0),
            overdue: true,
            present: unused,
            ..case("somebody who is concerned stays silent")
        },
    ]
}

/// Cases of an object that proxies had, and whose proxies come, go or connect again.
fn moving() -> Vec<Case> {
    let all = Some(left_by(&case(""), 2));
    let some = Some(left_by(&Case { acks: acks(9, 2, 0), overdue: true, ..case("") }, 2));
    let most = Some(left_by(&Case { acks: acks(3, 2, 1), overdue: true, ..case("") }, 2));
    vec![
        Case {
            acks: acks(9, 9, 0),
            present: all.clone(),
            ..case("more proxies have it than when all had it")
        },
        Case {
            acks: acks(9, 3, 0),
            overdue: true,
            present: all,
            ..case("others stay silent after all had it")
        },
        Case {
            acks: acks(9, 5, 0),
            overdue: true,
            present: some.clone(),
            ..case("more of those that were silent have it")
        },
        Case { acks: acks(9, 9, 0), present: some, ..case("all of those that were silent have it") },
        Case {
            acks: acks(3, 1, 0),
            present: most.clone(),
            ..case("one refused before a restart and is not connected yet")
        },
        Case {
            acks: acks(3, 2, 0),
            overdue: true,
            present: most,
            ..case("one refused before a restart and stays away")
        },
    ]
}

/// Cases of an object with findings.
fn found() -> Vec<Case> {
    let nothing = || AckCount { in_effect: false, ..acks(0, 0, 0) };
    vec![
        Case { findings: vec![Reason::Empty], acks: nothing(), ..case("means nothing") },
        Case { findings: vec![Reason::Empty], ..case("means less than it says") },
        Case {
            findings: vec![Reason::InvalidRegex, Reason::InvalidPort, Reason::RouteNotFound],
            acks: nothing(),
            ..case("several things are wrong")
        },
        Case { findings: vec![Reason::RouteNotFound], acks: nothing(), ..case("its only route is missing") },
        Case { findings: vec![Reason::MatchNotFound], ..case("one of its matches is missing") },
        Case {
            findings: vec![Reason::Conflicted],
            kind: "TrafficSplit",
            ..case("another split won the root, and its route is acknowledged")
        },
        Case {
            findings: vec![Reason::BackendNotReady, Reason::RootServiceInferred],
            kind: "TrafficSplit",
            ..case("things worth knowing")
        },
        Case { kind: "UDPRoute", acks: nothing(), ..case("UDP") },
        Case {
            kind: "UDPRoute",
            findings: vec![Reason::InvalidPort],
            acks: nothing(),
            ..case("UDP with a port that is none")
        },
        Case { kind: "ExternalWorkload", acks: nothing(), ..case("a machine, which is an endpoint") },
        Case {
            kind: "ExternalWorkload",
            findings: vec![Reason::InvalidPort],
            acks: nothing(),
            ..case("a machine with a port that is none")
        },
        Case {
            acks: AckCount { generation: None, in_effect: false, ..acks(0, 0, 0) },
            findings: vec![Reason::Malformed],
            ..case("cannot be read")
        },
    ]
}

#[test]
fn the_table_of_conditions_is_as_committed() {
    let mut text = String::new();
    for case in cases() {
        let status = of_case(&case, &time(60));
        writeln!(text, "# {} {}", case.kind, case.name).unwrap();
        for condition in &status.conditions {
            let since = if condition.last_transition_time == time(60) { "now" } else { "before" };
            let generation = condition.observed_generation.map_or("none".to_owned(), |it| it.to_string());
            assert_eq!(condition.observed_generation, status.observed_generation);
            writeln!(
                text,
                "{:12} {:5} {:13} since {since}, generation {generation}: {:?}",
                condition.type_, condition.status, condition.reason, condition.message
            )
            .unwrap();
        }
        text.push('\n');
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/status/conditions.txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "UPDATE_EXPECT=1 writes {}", path.display());
}

#[test]
fn a_status_that_stands_there_is_what_comes_out_again() {
    for before in cases() {
        let name = before.name;
        let first = of_case(&before, &time(0));
        let again = of_case(&Case { present: Some(first.clone()), ..before }, &time(1000));
        assert_eq!(first, again, "{name}: it would be written for ever");
    }
}

#[test]
fn a_time_changes_only_with_the_word() {
    let first = of_case(&case("all have it"), &time(0));
    let refused = Case { findings: vec![Reason::Empty], present: Some(first.clone()), ..case("") };
    let second = of_case(&refused, &time(60));
    let at = |status: &Status, kind| of(status, kind).unwrap().last_transition_time.clone();
    assert_eq!(at(&second, "Accepted"), time(60));
    assert_eq!(at(&second, "Ready"), time(60));
    assert_eq!(at(&second, "ResolvedRefs"), time(0));
    let other_reason = Case { findings: vec![Reason::InvalidPort], present: Some(second), ..case("") };
    let third = of_case(&other_reason, &time(120));
    assert_eq!(at(&third, "Accepted"), time(60), "another reason is no other word");
    assert!(!is_same(&first, &third));
}

#[test]
fn a_message_is_bounded_and_cut_between_characters() {
    let object = ObjectRef::new("TrafficTarget", "shop", "web");
    let findings: Vec<Finding> = (0..100)
        .map(|n| Finding::new(object.clone(), Reason::Empty, format!("{n} {}", "ü".repeat(50))))
        .collect();
    let status = status(&ConditionInputs {
        object: &object,
        generation: Some(1),
        findings: &findings.iter().collect::<Vec<_>>(),
        acks: &AckCount::default(),
        overdue: false,
        present: None,
        now: &time(0),
    });
    for condition in &status.conditions {
        assert!(condition.message.len() <= 1024, "{}: {} bytes", condition.type_, condition.message.len());
    }
    assert!(of(&status, "Accepted").unwrap().message.ends_with(" ..."));
}
