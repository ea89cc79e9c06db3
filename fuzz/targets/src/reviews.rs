//! Fuzz target of webhooks: the body of a request, from any client that reaches the port. Each of the three webhooks
//! answers it or refuses it.

use std::collections::BTreeSet;

use serde_json::Value;
use smidge::{
    admission::Current,
    injector::Settings,
    inputs::Inputs,
    webhook::{
        conversion,
        injection::{self, Metrics, Strictness},
        review, validation,
    },
};

/// Runs one input.
pub fn run(body: &[u8]) {
    let settings = Settings::default();
    let nothing = |_: &BTreeSet<String>| Current { inputs: Inputs::default(), read: true };
    for answer in [
        conversion::answer(body)
            .ok()
            .map(|answer| serde_json::from_slice(&answer).expect("an answer is JSON")),
        injection::answer(body, &settings, Strictness::Warn, &Metrics::default(), |_| None).ok(),
        validation::answer(body, nothing).ok(),
        review::uid(body).map(|uid| validation::unjudged(&uid)),
    ] {
        let Some(answer) = answer else { continue };
        let response = answer.get("response").and_then(|response| response.get("uid"));
        assert!(response.is_some_and(Value::is_string), "an answer to nobody: {answer}");
    }
}
