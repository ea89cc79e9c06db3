//! Turns questions about traffic into queries of Prometheus over our own metrics.
//!
//! Pure. The metrics and their labels are those of `families`; `samples` turns the answers into traffic, and
//! `operator::traffic::prometheus` sends the queries. The reasons for the form of a query are in
//! docs/design/025-prometheus-source.md.

use std::collections::BTreeSet;

use crate::{
    directory::{Directory, Split},
    families::{
        CONNECTIONS, Family, LATENCY, POD_CONNECTIONS, POD_LATENCY, POD_REQUESTS, REQUESTS,
        labels::{
            BACKEND, DESTINATION, Label, OUTCOME, Party, REPORTER, ROUTE, SERVICE, SERVICE_NAMESPACE, SOURCE,
            reporter,
        },
    },
    store::WINDOWS,
    subject::splits,
    traffic::{Direction, Kind, ObjectName, Question, Side, SourceError},
};

/// Label of the buckets of a histogram.
pub(crate) const LE: &str = "le";

/// Query of Prometheus, to be evaluated at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Name of what it reads, for messages.
    pub purpose: &'static str,
    /// The text.
    pub text: String,
    /// True if it reads the buckets of a histogram, not numbers of calls by outcome.
    pub(crate) is_latency: bool,
    /// Direction of the calls, seen from the objects.
    pub(crate) direction: Direction,
    /// Side that has counted.
    pub(crate) side: Side,
}

/// Metric with the names of what it reads, at the server's side and at the caller's.
struct Metric {
    family: Family,
    purposes: [&'static str; 2],
}

const fn metric(family: Family, received: &'static str, sent: &'static str) -> Metric {
    Metric { family, purposes: [received, sent] }
}

const OF_WORKLOADS: [Metric; 3] = [
    metric(REQUESTS, "requests received", "requests sent"),
    metric(CONNECTIONS, "connections received", "connections opened"),
    metric(LATENCY, "latency of requests received", "latency of requests sent"),
];

const OF_PODS: [Metric; 3] = [
    metric(POD_REQUESTS, "requests received by pod", "requests sent by pod"),
    metric(POD_CONNECTIONS, "connections received by pod", "connections opened by pod"),
    metric(POD_LATENCY, "latency of requests received by pod", "latency of requests sent by pod"),
];

/// Series of one side that a question is about, and the labels that its edges need.
struct Selection {
    direction: Direction,
    side: Side,
    /// Matchers of disjoint sets of series.
    matchers: Vec<Vec<String>>,
    by: Vec<Label>,
}

/// Returns the queries of a question: none if no object can have traffic. `pods` is true if there are metrics of pods.
pub fn queries(
    question: &Question,
    directory: &dyn Directory,
    pods: bool,
) -> Result<Vec<Query>, SourceError> {
    let metrics = if is_by_pod(question.kind) { &OF_PODS } else { &OF_WORKLOADS };
    if is_by_pod(question.kind) && !pods {
        return Err(SourceError::Unsupported(format!(
            "Prometheus has no traffic of {:?}s, as the metrics of pods are off: set trafficMetrics.prometheus.pods=true \
             in the chart's values (--prometheus-pods)",
            question.kind
        )));
    }
    let window = question.window.clamp(WINDOWS.0, WINDOWS.1).as_secs();
    let selections = match question.kind {
        Kind::Service => vec![of_services(question)],
        Kind::TrafficSplit => of_splits(&splits(question, directory)),
        _ => vec![of_own(question, Side::Server), of_own(question, Side::Client)],
    };
    let of = |selection: &Selection| metrics.each_ref().map(|metric| query(metric, selection, window));
    Ok(selections.iter().flat_map(of).collect())
}

/// Returns true for kinds that metrics by workload do not distinguish.
pub(crate) fn is_by_pod(kind: Kind) -> bool {
    matches!(kind, Kind::Pod | Kind::Node | Kind::ReplicaSet)
}

/// Returns the labels of the end at a side.
pub(crate) fn party(side: Side) -> &'static Party {
    match side {
        Side::Client => &SOURCE,
        Side::Server => &DESTINATION,
    }
}

/// Returns the label that names the object within its namespace; `None` for a Namespace.
pub(crate) fn own_label(kind: Kind, party: &Party) -> Option<Label> {
    match kind {
        Kind::Namespace => None,
        kind if is_by_pod(kind) => Some(party.pod),
        _ => Some(party.workload),
    }
}

/// Returns what the proxies of objects have counted themselves, at one side.
fn of_own(question: &Question, side: Side) -> Selection {
    let (own, label) = (party(side), own_label(question.kind, party(side)));
    let mut matchers = vec![is(REPORTER, reporter(side))];
    let named =
        |label: Label, name: Option<&String>| name.map_or_else(|| is_known(label), |name| is(label, name));
    match question.kind {
        Kind::Namespace => matchers.push(named(own.namespace, question.name.as_ref())),
        Kind::Node => matchers.push(is_known(own.pod)),
        kind => {
            matchers.extend(question.namespace.as_ref().map(|namespace| is(own.namespace, namespace)));
            if !is_by_pod(kind) {
                matchers.push(is(own.kind, &format!("{kind:?}")));
            }
            // The pods of a ReplicaSet are known by the directory alone.
            let name = question.name.as_ref().filter(|_| kind != Kind::ReplicaSet);
            matchers.extend(label.map(|label| named(label, name)));
        }
    }
    let mut by: Vec<Label> = [own.namespace].into_iter().chain(label).collect();
    let direction = match side {
        Side::Server => {
            by.extend(peer_labels(&SOURCE));
            by.push(ROUTE);
            Direction::From
        }
        Side::Client => {
            by.extend(peer_labels(&DESTINATION));
            by.extend([SERVICE_NAMESPACE, SERVICE, BACKEND]);
            Direction::To
        }
    };
    Selection { direction, side, matchers: vec![matchers], by }
}

/// Returns what callers have counted of Services, which they have called or which took the calls.
fn of_services(question: &Question) -> Selection {
    let mut matchers = vec![is(REPORTER, reporter(Side::Client))];
    matchers.extend(question.namespace.as_ref().map(|namespace| is(SERVICE_NAMESPACE, namespace)));
    let with = |more: &[String]| [&matchers, more].concat();
    let matchers = match &question.name {
        None => vec![with(&[is_known(SERVICE)])],
        Some(name) => {
            vec![with(&[is(SERVICE, name)]), with(&[is_not(SERVICE, name), is(BACKEND, name)])]
        }
    };
    of_callers(matchers)
}

/// Returns what callers have counted of the root Services of TrafficSplits, by backend.
fn of_splits(splits: &[Split]) -> Vec<Selection> {
    let roots: BTreeSet<&ObjectName> = splits.iter().map(|split| &split.root).collect();
    let namespaces: BTreeSet<&str> = roots.iter().map(|root| root.namespace.as_str()).collect();
    let mut matchers = vec![is(REPORTER, reporter(Side::Client))];
    if let (1, Some(namespace)) = (namespaces.len(), namespaces.first()) {
        matchers.push(is(SERVICE_NAMESPACE, namespace));
    }
    match (roots.len(), roots.first()) {
        (0, _) => return Vec::new(),
        (1, Some(root)) => matchers.push(is(SERVICE, &root.name)),
        _ => matchers.push(is_known(SERVICE)),
    }
    matchers.push(is_known(BACKEND));
    vec![of_callers(vec![matchers])]
}

fn of_callers(matchers: Vec<Vec<String>>) -> Selection {
    let mut by = peer_labels(&SOURCE).to_vec();
    by.extend([SERVICE_NAMESPACE, SERVICE, BACKEND]);
    Selection { direction: Direction::From, side: Side::Client, matchers, by }
}

fn peer_labels(party: &Party) -> [Label; 4] {
    [party.namespace, party.kind, party.workload, party.service_account]
}

fn query(metric: &Metric, selection: &Selection, window: u64) -> Query {
    let Metric { family, purposes: [received, sent] } = metric;
    let Selection { direction, side, matchers, by } = selection;
    let mut by: Vec<&str> = by.iter().map(|label| label.name).collect();
    by.push(if family.is_histogram { LE } else { OUTCOME.name });
    let name = family.full_name();
    let series =
        matchers.iter().map(|matchers| increase(&format!("{name}{{{}}}", matchers.join(",")), window));
    let text = format!("sum by ({}) ({})", by.join(","), series.collect::<Vec<_>>().join(" or "));
    let purpose = if *side == Side::Server { received } else { sent };
    Query { purpose, text, is_latency: family.is_histogram, direction: *direction, side: *side }
}

/// Returns the expression for what series have counted within a window, in seconds: for each series the last value less the
/// value at the beginning of the window. At the beginning, the value was
///
/// - the one that Prometheus has for that time,
/// - else 0, if its target was read successfully then: the counter did not exist yet,
/// - else the first one within the window, as it may have counted for long before its target was found.
///
/// A value that is smaller than the one at the beginning was counted from zero. Calls that a target counted before it
/// ended are those up to its last value within the window.
fn increase(series: &str, window: u64) -> String {
    let last = format!("({series} or last_over_time({series}[{window}s]))");
    let before = format!("{series} offset {window}s");
    format!(
        "({last} - ({before} or ({last} * 0 and on (job, instance) (up offset {window}s == 1)) \
         or min_over_time({series}[{window}s])) >= 0 or {last} < {before})"
    )
}

fn is(label: Label, value: &str) -> String {
    format!("{}={}", label.name, quote(value))
}

fn is_not(label: Label, value: &str) -> String {
    format!("{}!={}", label.name, quote(value))
}

fn is_known(label: Label) -> String {
    is_not(label, "")
}

/// Returns a text as a literal of PromQL, whatever it has.
fn quote(text: &str) -> String {
    let letter = |letter: char| match letter {
        '"' | '\\' => format!("\\{letter}"),
        // Of C0, DEL and C1, all below U+00A0.
        _ if letter.is_control() => format!("\\u{:04x}", u32::from(letter)),
        _ => letter.to_string(),
    };
    format!("\"{}\"", text.chars().map(letter).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_one_literal() {
        assert_eq!(quote("web-1.a"), "\"web-1.a\"");
        assert_eq!(quote(r#"a"} or up{b=""#), r#""a\"} or up{b=\"""#);
        assert_eq!(quote("a\\\" b\n\u{85}\u{e4}"), "\"a\\\\\\\" b\\u000a\\u0085\u{e4}\"");
    }
}
