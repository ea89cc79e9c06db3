//! Extreme inputs: nonsense, huge objects, thousands of errors. The webhook returns one answer of bounded size.

use std::{collections::BTreeSet, time::Instant};

use serde_json::{Value, json};
use smidge::{
    admission::Current,
    inputs::Inputs,
    webhook::{review, validation},
};

use super::{
    WORLD, a_config, a_fine_target, a_group, a_split, answered, created, harness, refusal, review, warnings,
};

#[test]
fn words_are_bounded_however_much_is_wrong() {
    let text = "x".repeat(5000);
    let matches: Vec<Value> =
        (0..3000).map(|index| json!({"name": format!("m{index}"), "methods": [text]})).collect();
    let mut group = a_group("[]");
    group["spec"]["matches"] = json!(matches);
    let response = created(&group);
    let message = refusal(&response);
    assert!(message.contains("3000 errors") && message.contains("and 2980 more"), "{message}");
    assert!(message.len() < 20_000, "{}", message.len());

    let rules: Vec<Value> =
        (0..500).map(|index| json!({"kind": "TCPRoute", "name": format!("{text}\n{index}")})).collect();
    let mut target = a_fine_target();
    target["spec"]["rules"] = json!(rules);
    let response = created(&target);
    let found = warnings(&response);
    assert_eq!(found.len(), 11);
    assert_eq!(found[10], "TrafficTarget shop/buy: and 490 more");
    for warning in found {
        assert!(warning.chars().count() <= 256 && !warning.contains('\n'), "{warning}");
    }
}

#[test]
fn nonsense_is_an_error_or_a_refusal_and_no_panic() {
    let none = |_: &BTreeSet<String>| Current { inputs: Inputs::default(), read: true };
    for body in ["", "null", "{}", "[]", r#"{"apiVersion":"admission.k8s.io/v1","request":null}"#] {
        validation::answer(body.as_bytes(), none).unwrap_err();
        assert_eq!(review::uid(body.as_bytes()), None);
    }
    let fine = review("CREATE", &a_fine_target(), &json!(null)).to_string();
    for (what, object) in [
        ("deep", format!("{{\"spec\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000)).into_bytes()),
        ("no UTF-8", b"{\"spec\":\"\xff\xfe\"}".to_vec()),
    ] {
        let at = fine.find("\"object\":").unwrap() + "\"object\":".len();
        let end = fine.find(",\"oldObject\"").unwrap();
        let body = [&fine.as_bytes()[..at], &object, &fine.as_bytes()[end..]].concat();
        let answer = validation::answer(&body, none).unwrap();
        let message = refusal(&answer["response"]);
        assert!(message.starts_with("TrafficTarget cannot be read"), "{what}: {message}");
    }
    let odd =
        [json!(null), json!(7), json!("x"), json!([1]), json!({"a": {"b": []}}), json!([{"name": null}])];
    let parts = [
        "",
        "/kind",
        "/apiVersion",
        "/metadata",
        "/metadata/name",
        "/spec",
        "/spec/matches",
        "/spec/sources",
        "/spec/destination",
        "/spec/rules",
        "/spec/backends",
        "/spec/service",
        "/spec/access",
        "/status",
    ];
    let current = Current { inputs: harness(WORLD), read: true };
    for object in [
        a_fine_target(),
        a_group("[{name: a}]"),
        a_split("v1alpha1", "[{service: a}]"),
        a_config("{access: {}}"),
    ] {
        for part in parts {
            for value in &odd {
                let mut review = review("UPDATE", &object, &object);
                if let Some(field) = review["request"]["object"].pointer_mut(part) {
                    field.clone_from(value);
                    let _ = answered(&review, &current);
                }
            }
        }
    }
}

/// The API server waits 3 s in all, in a debug build as well.
#[test]
fn a_large_object_is_judged_in_bounded_time() {
    let matches: Vec<Value> = (0..6000)
        .map(|index| json!({"name": format!("m{index}"), "pathRegex": format!("/(a|b)*c{{1,9}}/[a-z]+{index}"), "headers": [{"x": "(.*)+"}]}))
        .collect();
    let mut group = a_group("[]");
    group["spec"]["matches"] = json!(matches);
    println!("{} bytes", group.to_string().len());
    let started = Instant::now();
    created(&group);
    println!("took {:?}", started.elapsed());
    let text = "a".repeat(1 << 20);
    let started = Instant::now();
    refusal(&created(&a_group(&format!("[{{name: a, pathRegex: '({text}){{1000}}'}}]"))));
    println!("one regex of 1 MiB took {:?}", started.elapsed());
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

/// A review that there is no time for is answered without being read: its UID is near its start.
#[test]
fn the_name_of_a_review_is_found_without_reading_the_review() {
    let start =
        r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"705a","kind":{"#;
    let body = format!("{start}{}", "[".repeat(8 << 20));
    let start = Instant::now();
    assert_eq!(review::uid(body.as_bytes()).as_deref(), Some("705a"));
    assert!(start.elapsed().as_millis() < 50, "{:?}", start.elapsed());
    for nobody in
        [r#"{"request":7}"#, r#"{"request":{"uid":7}}"#, r#"{"request":{"kind":{"uid":"x"}}}"#, "[1]"]
    {
        assert_eq!(review::uid(nobody.as_bytes()), None, "{nobody}");
    }
    let far = format!(r#"{{"x":"{}","request":{{"uid":"705a"}}}}"#, "x".repeat(5000));
    assert_eq!(review::uid(far.as_bytes()), None, "no more than the start is read");
}
