//! The body of a webhook's request, from whoever can reach the port: every one of the three answers it or refuses it.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use smidge::{
    admission::Current,
    injector::Settings,
    inputs::Inputs,
    webhook::{conversion, injection, validation},
};

fuzz_target!(|body: &[u8]| {
    let settings = Settings::default();
    let nothing = |_: &BTreeSet<String>| Current { inputs: Inputs::default(), read: true };
    for answer in [
        conversion::answer(body).ok(),
        injection::answer(body, &settings).ok(),
        validation::answer(body, nothing).ok(),
        validation::unjudged(body).ok(),
    ] {
        let Some(answer) = answer else { continue };
        let response = answer.get("response").and_then(|response| response.get("uid"));
        assert!(response.is_some_and(Value::is_string), "an answer to nobody: {answer}");
    }
});
