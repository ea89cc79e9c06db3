//! Times at which statuses are written, against a clock that the test sets.

use std::time::Duration;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use smidge::{
    finding::ObjectRef,
    status::{
        plan::{Due, Plan},
        programmed::AckCount,
    },
};
use smidge_crds::status::Status;

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn object(number: usize) -> ObjectRef {
    ObjectRef::new("TCPRoute", "shop", format!("route-{number}"))
}

fn says(ready: &str, message: &str) -> Status {
    let condition = |kind: &str| Condition {
        type_: kind.to_owned(),
        status: ready.to_owned(),
        reason: kind.to_owned(),
        message: message.to_owned(),
        observed_generation: Some(1),
        last_transition_time: Time(Timestamp::from_second(0).unwrap()),
    };
    let kinds = ["Accepted", "ResolvedRefs", "Programmed", "Ready"];
    Status { observed_generation: Some(1), conditions: kinds.map(condition).into() }
}

#[test]
fn good_news_goes_out_at_once_and_bad_news_after_a_second() {
    let (mut plan, one) = (Plan::new(at(0.0)), object(1));
    assert_eq!(plan.due(&one, &says("True", ""), None, at(5.0)), Due::Now);
    let two = object(2);
    let bad = says("False", "");
    assert_eq!(plan.due(&two, &bad, None, at(5.0)), Due::At(at(6.0)));
    assert_eq!(plan.due(&two, &bad, None, at(5.5)), Due::At(at(6.0)));
    assert_eq!(plan.due(&two, &bad, None, at(6.0)), Due::Now);
    assert_eq!(plan.due(&two, &says("True", ""), None, at(5.5)), Due::Now, "it was over in between");
}

#[test]
fn what_stands_there_is_never_written() {
    let (mut plan, one) = (Plan::new(at(0.0)), object(1));
    let good = says("True", "");
    let foreign = Condition { type_: "Theirs".to_owned(), ..good.conditions[0].clone() };
    let mut watched = good.clone();
    watched.conditions.insert(0, foreign);
    assert_eq!(plan.due(&one, &good, Some(&watched), at(1.0)), Due::Never);
}

#[test]
fn a_write_counts_before_it_comes_back() {
    let (mut plan, one) = (Plan::new(at(0.0)), object(1));
    let acks = AckCount { uid: "u".to_owned(), ..AckCount::default() };
    plan.overdue(&one, &acks, at(1.0));
    let good = says("True", "");
    plan.written(&one, good.clone(), at(1.0));
    assert_eq!(plan.present(&one, None, at(1.1)), Some(&good));
    // It never returned through the watch, so another client has removed it.
    assert_eq!(plan.present(&one, None, at(11.1)), None);
}

#[test]
fn one_that_cannot_be_read_is_written_once() {
    let (mut plan, one) = (Plan::new(at(0.0)), object(1));
    plan.overdue(&one, &AckCount::default(), at(1.0));
    let bad = says("False", "");
    plan.written(&one, bad.clone(), at(1.0));
    assert_eq!(plan.present(&one, None, at(1000.0)), Some(&bad));
}

#[test]
fn another_wording_waits_and_is_folded() {
    let (mut plan, one) = (Plan::new(at(100.0)), object(1));
    let (first, second) = (says("True", "3 proxies"), says("True", "4 proxies"));
    // A new leader does not begin with changes of wording, as proxies have just lost the previous one.
    assert_eq!(plan.due(&one, &second, Some(&first), at(101.0)), Due::At(at(110.0)));
    assert_eq!(plan.due(&one, &second, Some(&first), at(110.0)), Due::Now);
    plan.written(&one, second.clone(), at(110.0));
    assert_eq!(plan.due(&one, &first, Some(&second), at(111.0)), Due::At(at(120.0)));
}

#[test]
fn a_thousand_at_once_share_a_budget() {
    let mut plan = Plan::new(at(0.0));
    let (mut written, mut now, mut checks) = (0, at(0.0), 0);
    while written < 1000 {
        let (budget, next) = plan.budget(now);
        (0..budget.min(1000 - written)).for_each(|_| plan.spent());
        written += budget;
        now = next.max(now + at(0.1));
        checks += 1;
        assert!(checks < 1000, "it does not end");
    }
    assert!((18.0..=20.0).contains(&now.as_secs_f64()), "1000 writes took {} s", now.as_secs_f64());
}

#[test]
fn a_failure_waits_longer_each_time_and_holds_up_nobody_else() {
    let (mut plan, one) = (Plan::new(at(0.0)), object(1));
    let good = says("True", "");
    let mut waits = Vec::new();
    for _ in 0..9 {
        plan.failed(&one, at(0.0));
        let Due::At(at) = plan.due(&one, &good, None, at(0.0)) else { panic!("it is tried at once") };
        waits.push(at.as_secs_f64());
    }
    assert_eq!(waits, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
    assert_eq!(plan.due(&object(2), &good, None, at(0.0)), Due::Now);
}

#[test]
fn who_is_late_holds_an_object_up_for_ten_seconds() {
    let (mut plan, one) = (Plan::new(at(0.0)), object(1));
    let late = AckCount { uid: "u".to_owned(), generation: Some(1), concerned: 2, ..AckCount::default() };
    assert_eq!(plan.overdue(&one, &late, at(1.0)), (false, Some(at(11.0))));
    let half = AckCount { acknowledged: 1, ..late.clone() };
    assert_eq!(plan.overdue(&one, &half, at(10.0)), (false, Some(at(11.0))));
    assert_eq!(plan.overdue(&one, &half, at(11.0)), (true, None));
    // A new generation has a new time limit, and so has one that was complete in between.
    let next = AckCount { generation: Some(2), ..half.clone() };
    assert_eq!(plan.overdue(&one, &next, at(12.0)), (false, Some(at(22.0))));
    let all = AckCount { acknowledged: 2, ..next.clone() };
    assert_eq!(plan.overdue(&one, &all, at(13.0)), (false, None));
    assert_eq!(plan.overdue(&one, &next, at(21.0)), (false, Some(at(31.0))));
}
