//! Sends requests to the judged proxy and finds out which of them audit would have denied.
//!
//! The answer to a request does not show it; the proxy's counters do. They are by port, so requests are first sent
//! together: if a port has counted the expected number, it has counted the expected requests. If not, each request is
//! sent by itself.

use std::collections::BTreeMap;

use crate::differential::{
    callers::{Answer, Callers},
    judge::Judge,
    reference::{Request, Says, Verdict},
};

/// Returns the answers to requests, in the same order. `expected` is the verdict of the reference on each.
pub async fn ask(
    judge: &Judge,
    callers: &mut Callers,
    requests: &[Request],
    expected: &[Verdict],
) -> Vec<Answer> {
    let before = judge.would_be_denied();
    let mut answers = callers.ask(requests).await;
    let counted = since(judge, &before);
    let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
    for (request, verdict) in requests.iter().zip(expected) {
        if *verdict == Verdict::Audited {
            *wanted.entry(counter(request)).or_default() += 1;
        }
    }
    for (index, (request, verdict)) in requests.iter().zip(expected).enumerate() {
        let by = counter(request);
        let is_told = if counted.get(&by) == wanted.get(&by) {
            *verdict == Verdict::Audited
        } else {
            let before = judge.would_be_denied();
            answers[index] = callers.ask(std::slice::from_ref(request)).await.remove(0);
            since(judge, &before).contains_key(&by)
        };
        if is_told && answers[index].verdict == Verdict::Allowed {
            answers[index].verdict = Verdict::Audited;
        }
    }
    answers
}

/// Name of the counter of a request.
fn counter(request: &Request) -> String {
    match request.says {
        Says::Http(_) => format!("inbound/{}/http", request.port),
        Says::Bytes(_) => "inbound".to_owned(),
    }
}

/// Increase of the counters that have grown.
fn since(judge: &Judge, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut now = judge.would_be_denied();
    now.retain(|name, count| {
        *count -= before.get(name).copied().unwrap_or(0);
        *count > 0
    });
    now
}
