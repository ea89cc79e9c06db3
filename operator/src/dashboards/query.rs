//! Expressions over the traffic of the mesh, by the table of its metrics: the compiler refuses a label that the table does
//! not have.
//!
//! Pure. Each replica shows what its own proxies have pushed, so every expression adds them up.

use smidge_traffic_metrics::families::{CONNECTIONS, Family, LATENCY, REQUESTS};

/// Returns the label, if all of the families have it.
const fn of(families: &[Family], label: &'static str) -> &'static str {
    let mut rest = families;
    while let [family, more @ ..] = rest {
        assert!(family.has_label(label), "the table of metrics has no such label");
        rest = more;
    }
    label
}

const ALL: &[Family] = &[REQUESTS, LATENCY, CONNECTIONS];

pub(super) const REPORTER: &str = of(ALL, "reporter");
pub(super) const SOURCE_NAMESPACE: &str = of(ALL, "source_namespace");
pub(super) const SOURCE_KIND: &str = of(ALL, "source_kind");
pub(super) const SOURCE: &str = of(ALL, "source_workload");
pub(super) const NAMESPACE: &str = of(ALL, "destination_namespace");
pub(super) const KIND: &str = of(ALL, "destination_kind");
pub(super) const WORKLOAD: &str = of(ALL, "destination_workload");
pub(super) const SERVICE_NAMESPACE: &str = of(ALL, "service_namespace");
pub(super) const SERVICE: &str = of(ALL, "service");
pub(super) const BACKEND: &str = of(ALL, "backend");
pub(super) const MTLS: &str = of(ALL, "mtls");
pub(super) const OUTCOME: &str = of(&[REQUESTS, CONNECTIONS], "outcome");
pub(super) const CODE: &str = of(&[REQUESTS], "response_code");
pub(super) const FLAGS: &str = of(&[REQUESTS, CONNECTIONS], "response_flags");

/// Range of a rate over time.
pub(super) const RATE: &str = "$__rate_interval";
/// The whole time range of the dashboard.
pub(super) const RANGE: &str = "$__range";

/// Calls that a panel is about.
pub(super) struct Calls {
    /// Matchers of labels, separated by commas.
    matchers: String,
    /// Range of rates.
    range: &'static str,
}

impl Calls {
    /// Returns the calls that the server's proxies have counted, with further matchers.
    pub(super) fn received(matchers: &str) -> Self {
        Self { matchers: format!("{REPORTER}=\"destination\", {matchers}"), range: RATE }
    }

    /// Returns the calls that the callers' proxies have counted, with further matchers.
    pub(super) fn sent(matchers: &str) -> Self {
        Self { matchers: format!("{REPORTER}=\"source\", {matchers}"), range: RATE }
    }

    /// Returns the same calls within the whole time range.
    pub(super) fn within_range(self) -> Self {
        Self { range: RANGE, ..self }
    }

    fn rate(&self, metric: &str, more: &str, by: &[&str]) -> String {
        let by = if by.is_empty() { String::new() } else { format!(" by ({})", by.join(", ")) };
        format!("sum{by} (rate({metric}{{{}{more}}}[{}]))", self.matchers, self.range)
    }

    /// Returns requests per second, by labels.
    pub(super) fn requests(&self, by: &[&str]) -> String {
        self.rate(&REQUESTS.full_name(), "", by)
    }

    /// Returns requests per second that policy has refused, by labels.
    pub(super) fn refused(&self, by: &[&str]) -> String {
        self.rate(&REQUESTS.full_name(), &format!(", {OUTCOME}=\"refused\""), by)
    }

    /// Returns requests per second that have failed, by labels.
    pub(super) fn failed(&self, by: &[&str]) -> String {
        self.rate(&REQUESTS.full_name(), &format!(", {OUTCOME}=\"failure\""), by)
    }

    /// Returns the share of requests that have succeeded, by labels. As for TrafficMetrics, refused ones do not count.
    pub(super) fn success(&self, by: &[&str]) -> String {
        let of = |outcome: &str| self.rate(&REQUESTS.full_name(), &format!(", {OUTCOME}{outcome}"), by);
        // Where all fail, there is no series of successes.
        let judged = of("=~\"success|failure\"");
        format!("({} or 0 * {judged}) / ({judged} > 0)", of("=\"success\""))
    }

    /// Returns the share of requests whose peers have proven their identities.
    pub(super) fn mtls(&self) -> String {
        let mutual = self.rate(&REQUESTS.full_name(), &format!(", {MTLS}=\"true\""), &[]);
        let all = self.requests(&[]);
        format!("({mutual} or 0 * {all}) / ({all} > 0)")
    }

    /// Returns the latency below which a share of the answers was, in milliseconds, by labels.
    pub(super) fn latency(&self, share: &str, by: &[&str]) -> String {
        let by = [by, &["le"]].concat();
        format!("histogram_quantile({share}, {})", self.rate(&LATENCY.full_name(), "", &by))
    }

    /// Returns ended TCP connections per second, by labels.
    pub(super) fn connections(&self, by: &[&str]) -> String {
        self.rate(&CONNECTIONS.full_name(), "", by)
    }

    /// Returns the share of all requests that each value of a label has.
    pub(super) fn share(&self, by: &[&str]) -> String {
        format!("{} / scalar({})", self.requests(by), self.requests(&[]))
    }
}

/// Returns a query of the values of a label, of requests and TCP connections with these matchers.
pub(super) fn label_values(matchers: &str, label: &str) -> String {
    let (requests, connections) = (REQUESTS.full_name(), CONNECTIONS.full_name());
    format!("label_values({{__name__=~\"{requests}|{connections}\", {matchers}}}, {label})")
}
