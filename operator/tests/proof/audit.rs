//! Puts requests to the judged proxy and finds out which of them audit would have denied.
//!
//! The answer of a request does not show it; the proxy's counters do. They are by port, so that requests are first put
//! together: if a port has counted as many as are expected, it has counted those. If not, each is put by itself.

use std::collections::BTreeMap;

use crate::{
    callers::{Answer, Callers},
    judge::Judge,
    reference::{Request, Says, Verdict},
};

/// The answers to requests, in the same order. `expected` is what the reference says of each.
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

/// What counts a request.
fn counter(request: &Request) -> String {
    match request.says {
        Says::Http(_) => format!("inbound/{}/http", request.port),
        Says::Bytes(_) => "inbound".to_owned(),
    }
}

/// How far the counters have gone on, where they have.
fn since(judge: &Judge, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut now = judge.would_be_denied();
    now.retain(|name, count| {
        *count -= before.get(name).copied().unwrap_or(0);
        *count > 0
    });
    now
}
