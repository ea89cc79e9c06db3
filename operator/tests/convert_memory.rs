//! Memory that a conversion allocates, as a multiple of the text that is converted.
//!
//! A program of its own, as it counts what the program allocates. The bounds are of bytes: a busy machine fails
//! nothing.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test ends where it goes wrong"
)]

use std::{fmt::Write as _, time::Instant};

use peak_alloc::PeakAlloc;
use serde_json::Value;
use smidge::webhook::conversion;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const GROUP: &str = "specs.smi-spec.io";

/// A review of one object; `content` is its fields beside its metadata.
fn review(from: &str, content: &str, to: &str) -> String {
    let object = format!(
        r#"{{"apiVersion":"{GROUP}/{from}","kind":"HTTPRouteGroup","metadata":{{"name":"g","namespace":"a"}},{content}}}"#
    );
    format!(
        r#"{{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","request":{{"uid":"u",
        "desiredAPIVersion":"{GROUP}/{to}","objects":[{object}]}}}}"#
    )
}

/// A list of `count` elements.
fn list(count: usize, element: impl Fn(usize) -> String) -> String {
    let mut text = String::from("[");
    for index in 0..count {
        let comma = if index == 0 { "" } else { "," };
        write!(text, "{comma}{}", element(index)).unwrap();
    }
    text + "]"
}

fn a_match(index: usize) -> String {
    format!(r#"{{"name":"m{index}","headers":{{"a":"b"}}}}"#)
}

/// Returns the peak of allocated bytes, beside the body, for each byte of the body; and whether the object was
/// converted.
fn cost(body: &str) -> (usize, bool) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let start = Instant::now();
    let answer = conversion::answer(body.as_bytes()).unwrap();
    let (peak, time) = (MEMORY.peak_usage().saturating_sub(before), start.elapsed());
    let is_done =
        serde_json::from_slice::<Value>(&answer).unwrap()["response"]["result"]["status"] == "Success";
    println!(
        "{} bytes: {} KiB, {} times the body, {time:?}, converted: {is_done}",
        body.len(),
        peak >> 10,
        peak / body.len()
    );
    (peak / body.len(), is_done)
}

/// A single test, as no other may run beside it.
#[test]
fn a_conversion_takes_a_small_multiple_of_its_text() {
    let matches = |count| format!(r#""spec":{{"matches":{}}}"#, list(count, a_match));
    for (what, from, content, to, is_converted) in [
        ("matches that no API server stores", "v1alpha4", matches(150_000), "v1alpha1", false),
        ("the largest that one stores", "v1alpha4", matches(37_000), "v1alpha1", true),
        ("the largest that is accepted", "v1alpha4", matches(54_000), "v1alpha1", true),
        ("the way back", "v1alpha1", format!(r#""matches":{}"#, list(37_000, a_match)), "v1alpha4", true),
        (
            "small maps",
            "v1alpha4",
            format!(r#""spec":{{"matches":{}}}"#, list(280_000, |_| r#"{"":0}"#.into())),
            "v1alpha1",
            true,
        ),
        (
            "small maps in a list",
            "v1alpha4",
            format!(r#""spec":{{"x":[{}]}}"#, list(280_000, |_| r#"{"":0}"#.into())),
            "v1alpha1",
            true,
        ),
        (
            "numbers",
            "v1alpha4",
            format!(r#""spec":{{"matches":{}}}"#, list(900_000, |_| "0".into())),
            "v1alpha1",
            true,
        ),
        (
            "a wide map",
            "v1alpha4",
            format!(
                r#""spec":{{"x":0{}}}"#,
                list(160_000, |index| format!(r#""{index}":0"#)).replace('[', ",").replace(']', "")
            ),
            "v1alpha1",
            true,
        ),
    ] {
        println!("{what}:");
        let (times, is_done) = cost(&review(from, &content, to));
        assert_eq!(is_done, is_converted, "{what}");
        assert!(times <= MOST, "{what}: {times} times the body");
    }
}

/// Maximum multiple of the body, from the design.
const MOST: usize = 16;
