//! Turns the labels of a call into its outcome: success, failure or refusal, or none.
//!
//! Pure. Used by `store` once for each series.
//!
//! | label | outcome |
//! | --- | --- |
//! | policy denied it (`enforced`, the `termination` of a connection, a refusal of the caller's own proxy) | refused, whatever the rest is |
//! | an attempt that found no server (code 0, flag `UF`), and not the last one | none: another attempt follows |
//! | an attempt that did not reach the workload behind the server's proxy, and not the last one (`retried`) | none: another attempt follows |
//! | a refusal of the caller's own proxy as the Service has no server | failure |
//! | gRPC status 2, 4, 12, 13, 14, 15 (`UNKNOWN`, `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`) | failure |
//! | any other gRPC status | success |
//! | no answer (code 0), or code 500 and above | failure |
//! | the answer ended early by a fault of the server's side (flags `UC`, `UR`, `LR`, `UT`, `SI`, `UPE`, `OM`) | failure |
//! | everything else, 4xx included | success |
//!
//! The gRPC statuses are those that OpenTelemetry's conventions count as errors of a server; the others are the
//! caller's own doing, as 4xx is: `CANCELLED`, `PERMISSION_DENIED`, and `RESOURCE_EXHAUSTED`, which corresponds to 429.

use crate::series::{ATTEMPTS, DENIED, IS_RETRIED, Labels, Metric, NO_ENDPOINT, TCP_DENIED};

/// Outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It was answered.
    Success,
    /// It failed by a fault of the server, or was not answered.
    Failure,
    /// Policy refused it.
    Refused,
    /// It was an attempt that is followed by another, which counts.
    Repeated,
}

/// Response flags of answers that ended early by a fault behind the proxy.
const FAULTS: [&str; 7] = ["UC", "UR", "LR", "UT", "SI", "UPE", "OM"];

/// Returns the outcome of the calls of a counter.
pub fn outcome(metric: Metric, labels: &Labels<'_>) -> Outcome {
    match metric {
        Metric::OutboundRefused if labels.chain.starts_with(NO_ENDPOINT) => return Outcome::Failure,
        Metric::OutboundRefused => return Outcome::Refused,
        Metric::InboundConnections if labels.termination.starts_with(TCP_DENIED) => return Outcome::Refused,
        Metric::InboundConnections => return Outcome::Success,
        _ if labels.enforced == DENIED => return Outcome::Refused,
        _ if is_repeated(labels) => return Outcome::Repeated,
        _ => {}
    }
    if let Ok(status) = labels.grpc.parse::<u8>() {
        let is_fault = matches!(status, 2 | 4 | 12..=15);
        return if is_fault { Outcome::Failure } else { Outcome::Success };
    }
    let code: u16 = labels.code.parse().unwrap_or_default();
    let is_cut = labels.flags.split(',').any(|flag| FAULTS.contains(&flag.trim()));
    if (1..500).contains(&code) && !is_cut { Outcome::Success } else { Outcome::Failure }
}

/// Returns true for an attempt that found no server, or no workload behind one, and is followed by another.
fn is_repeated(labels: &Labels<'_>) -> bool {
    if labels.retried == IS_RETRIED {
        return true;
    }
    let attempt: u8 = labels.attempt.parse().unwrap_or(ATTEMPTS);
    labels.code == "0" && attempt < ATTEMPTS && labels.flags.split(',').any(|flag| flag.trim() == "UF")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &str, flags: &str, grpc: &str, enforced: &str) -> Outcome {
        let labels = Labels { code, flags, grpc, enforced, ..Labels::default() };
        outcome(Metric::InboundRequests, &labels)
    }

    #[test]
    fn http_fails_by_the_fault_of_the_server_only() {
        for code in ["200", "204", "301", "404", "429", "499"] {
            assert_eq!(of(code, "-", "", ""), Outcome::Success, "{code}");
        }
        for code in ["500", "503", "599", "0", "", "many", "70000", "-1"] {
            assert_eq!(of(code, "-", "", ""), Outcome::Failure, "{code}");
        }
        assert_eq!(of("200", "UC", "", ""), Outcome::Failure);
        assert_eq!(of("200", "DC,LR", "", ""), Outcome::Failure);
        assert_eq!(of("200", "DC", "", ""), Outcome::Success, "the caller has gone");
    }

    #[test]
    fn grpc_is_judged_by_its_status() {
        let failures: Vec<u8> =
            (0..20).filter(|status| of("200", "-", &status.to_string(), "") == Outcome::Failure).collect();
        assert_eq!(failures, [2, 4, 12, 13, 14, 15]);
        assert_eq!(of("503", "-", "5", ""), Outcome::Success);
        assert_eq!(of("503", "-", "x", ""), Outcome::Failure, "no status");
    }

    #[test]
    fn a_refusal_is_neither() {
        assert_eq!(of("403", "-", "7", "denied"), Outcome::Refused);
        assert_eq!(of("200", "-", "", "shadow"), Outcome::Success);
        assert_eq!(of("500", "-", "", "shadow"), Outcome::Failure);
        assert_eq!(outcome(Metric::OutboundRefused, &Labels::default()), Outcome::Refused);
        assert_eq!(outcome(Metric::InboundConnections, &Labels::default()), Outcome::Success);
        let denied = Labels { termination: "rbac_access_denied_matched_policy[none]", ..Labels::default() };
        assert_eq!(outcome(Metric::InboundConnections, &denied), Outcome::Refused);
        let unserved = Labels { chain: "no-endpoint/80/http", ..Labels::default() };
        assert_eq!(outcome(Metric::OutboundRefused, &unserved), Outcome::Failure);
    }

    #[test]
    fn only_the_last_attempt_counts() {
        let of = |code, attempt| {
            let labels = Labels { code, flags: "UF", attempt, ..Labels::default() };
            outcome(Metric::OutboundRequests, &labels)
        };
        assert_eq!([of("0", "1"), of("0", "2")], [Outcome::Repeated; 2]);
        for (metric, flags) in [(Metric::InboundRequests, "UF"), (Metric::OutboundRequests, "-")] {
            let of = |retried| outcome(metric, &Labels { code: "503", flags, retried, ..Labels::default() });
            assert_eq!(of("1"), Outcome::Repeated);
            assert_eq!([of(""), of("-"), of("yes")], [Outcome::Failure; 3]);
        }
        for last in [of("0", "3"), of("0", ""), of("0", "many"), of("503", "1")] {
            assert_eq!(last, Outcome::Failure);
        }
    }
}
