//! Counts outcomes and turns them into a report.
//!
//! Pure: `call` adds the outcomes, and it prints nothing by itself. Latencies are kept one by one, as a run is bounded.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use crate::connection::{Answer, Failure};

/// Maximum size of the part of a body that is kept as a sample of its status, in bytes.
const SAMPLE: usize = 600;

/// Outcomes so far.
#[derive(Debug, Default)]
pub struct Tally {
    requests: u64,
    connections: u64,
    status: BTreeMap<u16, u64>,
    served_by: BTreeMap<String, u64>,
    failures: BTreeMap<&'static str, u64>,
    samples: BTreeMap<u16, String>,
    /// Time of every answered request, in microseconds.
    latencies: Vec<u64>,
    took: Duration,
}

/// Report, as `call --output json` prints it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Number of requests sent.
    pub requests: u64,
    /// Number of connections opened for them.
    pub connections: u64,
    /// Time from the first request to the last answer, in seconds.
    pub seconds: f64,
    /// Number of answers by status.
    pub status: BTreeMap<u16, u64>,
    /// Number of answers by their header `served-by`.
    pub served_by: BTreeMap<String, u64>,
    /// Number of requests without an answer, by kind of failure.
    pub failures: BTreeMap<&'static str, u64>,
    /// First body of each status, truncated.
    pub samples: BTreeMap<u16, String>,
    /// Latency percentiles of the answered requests, connecting included where a connection was opened.
    pub latency_ms: BTreeMap<&'static str, f64>,
}

impl Tally {
    /// Counts one outcome. Returns true for the very first answer.
    pub fn count(&mut self, took: Duration, opened: bool, outcome: Result<Answer, Failure>) -> bool {
        self.requests += 1;
        self.connections += u64::from(opened);
        let answer = match outcome {
            Ok(answer) => answer,
            Err(failure) => {
                *self.failures.entry(failure.word()).or_default() += 1;
                return false;
            }
        };
        self.latencies.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        *self.status.entry(answer.status.as_u16()).or_default() += 1;
        if let Some(version) = answer.headers.get("served-by") {
            *self.served_by.entry(String::from_utf8_lossy(version.as_bytes()).into_owned()).or_default() += 1;
        }
        self.samples.entry(answer.status.as_u16()).or_insert_with(|| sample(&answer.body));
        self.latencies.len() == 1
    }

    /// Sets the total time.
    pub fn took(&mut self, took: Duration) {
        self.took = took;
    }

    /// Builds the report.
    pub fn report(&self) -> Report {
        let mut latencies = self.latencies.clone();
        latencies.sort_unstable();
        let percentile = |thousandths: usize| {
            let rank = (latencies.len() * thousandths).div_ceil(1000).max(1) - 1;
            latencies.get(rank).map_or(0.0, |micros| Duration::from_micros(*micros).as_secs_f64() * 1000.0)
        };
        Report {
            requests: self.requests,
            connections: self.connections,
            seconds: self.took.as_secs_f64(),
            status: self.status.clone(),
            served_by: self.served_by.clone(),
            failures: self.failures.clone(),
            samples: self.samples.clone(),
            latency_ms: BTreeMap::from([
                ("p50", percentile(500)),
                ("p90", percentile(900)),
                ("p99", percentile(990)),
                ("max", percentile(1000)),
            ]),
        }
    }
}

fn sample(body: &[u8]) -> String {
    String::from_utf8_lossy(body.get(..SAMPLE).unwrap_or(body)).trim_end().to_owned()
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.report();
        let Report { requests, connections, seconds, status, served_by, failures, samples, latency_ms } =
            report;
        writeln!(f, "{requests} requests over {connections} connections in {seconds:.2} s")?;
        for (status, count) in &status {
            writeln!(f, "  {status}: {count}")?;
            match samples.get(status) {
                Some(sample) if !(200..300).contains(status) => writeln!(f, "       {sample}")?,
                _ => {}
            }
        }
        for (version, count) in &served_by {
            writeln!(f, "  from {version}: {count}")?;
        }
        for (kind, count) in &failures {
            writeln!(f, "  no answer ({kind}): {count}")?;
        }
        let times: Vec<String> = latency_ms.iter().map(|(name, ms)| format!("{name} {ms:.2} ms")).collect();
        writeln!(f, "  latency: {}", times.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, StatusCode};

    use super::*;

    fn answer(status: u16, version: Option<&'static str>) -> Answer {
        let mut headers = HeaderMap::new();
        if let Some(version) = version {
            headers.insert("served-by", version.parse().unwrap());
        }
        Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: "body\n".into() }
    }

    #[test]
    fn counts_what_came_and_what_did_not() {
        let mut tally = Tally::default();
        assert!(tally.count(Duration::from_millis(1), true, Ok(answer(200, Some("v1")))));
        assert!(!tally.count(Duration::from_millis(3), false, Ok(answer(200, Some("v2")))));
        assert!(!tally.count(Duration::from_millis(2), false, Ok(answer(403, None))));
        assert!(!tally.count(Duration::from_millis(9), true, Err(Failure::Closed)));
        let report = tally.report();
        assert_eq!(report.requests, 4);
        assert_eq!(report.connections, 2);
        assert_eq!(report.status, BTreeMap::from([(200, 2), (403, 1)]));
        assert_eq!(report.served_by, BTreeMap::from([("v1".into(), 1), ("v2".into(), 1)]));
        assert_eq!(report.failures, BTreeMap::from([("closed", 1)]));
        assert_eq!(report.samples.get(&403).map(String::as_str), Some("body"));
        assert_eq!(
            report.latency_ms,
            BTreeMap::from([("p50", 2.0), ("p90", 3.0), ("p99", 3.0), ("max", 3.0)])
        );
    }

    #[test]
    fn an_empty_run_has_a_report() {
        let report = Tally::default().report();
        assert_eq!(report.requests, 0);
        assert!(report.latency_ms.values().all(|ms| *ms == 0.0));
    }
}
