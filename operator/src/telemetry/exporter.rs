//! Bounds each export in time, and reports what is lost by a few log lines.
//!
//! Between the queues of the SDK, which call it on threads of their own, and the exporters of OTLP. The SDK is never informed of an
//! error: it would log each.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    logs::{LogBatch, LogExporter},
    trace::{SpanData, SpanExporter},
};
use tokio::{runtime::Handle, time::timeout};
use tracing::{info, warn};

/// Time limit of an export, with its attempts.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);
/// Minimum time between two reports of a loss.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);

/// Exporter with a time limit, whose failures are counted.
#[derive(Debug)]
pub(super) struct Bounded<E> {
    what: &'static str,
    exporter: E,
    threads: Handle,
    failures: Mutex<Failures>,
}

impl<E> Bounded<E> {
    /// Bounds `exporter`, which sends `what` by `threads`.
    pub fn new(what: &'static str, exporter: E, threads: Handle) -> Self {
        Self { what, exporter, threads, failures: Mutex::default() }
    }

    async fn bounded(&self, count: usize, export: impl Future<Output = OTelSdkResult>) -> OTelSdkResult {
        let limited = {
            let _entered = self.threads.enter();
            timeout(TIMEOUT, export)
        };
        let mut limited = pin!(limited);
        // The calling thread has no timers of its own.
        let result = poll_fn(|context| {
            let _entered = self.threads.enter();
            limited.as_mut().poll(context)
        });
        let result = result.await.unwrap_or(Err(OTelSdkError::Timeout(TIMEOUT)));
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = if result.is_ok() { 0 } else { count };
        match (failures.note(lost, Instant::now()), result) {
            (Some(Report::Lost(count)), Err(error)) => {
                warn!(count, %error, "lost {}: the collector of --tracing-endpoint did not accept them", self.what);
            }
            (Some(Report::Recovered(count)), _) => info!(lost = count, "sending {} again", self.what),
            _ => {}
        }
        Ok(())
    }
}

impl<E: SpanExporter> SpanExporter for Bounded<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.bounded(batch.len(), self.exporter.export(batch)).await
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Bounded<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        self.bounded(batch.iter().count(), self.exporter.export(batch)).await
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Failures since the last report.
#[derive(Debug, Default)]
struct Failures {
    lost: usize,
    reported: Option<Instant>,
    is_failing: bool,
}

/// A line of the log, with the number of what was lost.
#[derive(Debug, PartialEq, Eq)]
enum Report {
    /// Since the last report.
    Lost(usize),
    /// Since the last report; what followed has arrived.
    Recovered(usize),
}

impl Failures {
    /// Notes an export that has lost this number; returns what is to be reported. A recovery is reported once for each
    /// report of a loss.
    fn note(&mut self, lost: usize, now: Instant) -> Option<Report> {
        self.lost = self.lost.saturating_add(lost);
        if lost == 0 {
            let was_failing = std::mem::take(&mut self.is_failing);
            return was_failing.then(|| Report::Recovered(std::mem::take(&mut self.lost)));
        }
        if self.reported.is_some_and(|last| now.saturating_duration_since(last) < REPORT_INTERVAL) {
            return None;
        }
        self.reported = Some(now);
        self.is_failing = true;
        Some(Report::Lost(std::mem::take(&mut self.lost)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_reported_once_a_minute() {
        let start = Instant::now();
        let mut failures = Failures::default();
        let mut at = |second: u64, lost| failures.note(lost, start + Duration::from_secs(second));
        assert_eq!(at(0, 0), None);
        assert_eq!(at(1, 7), Some(Report::Lost(7)));
        for second in 2..61 {
            assert_eq!(at(second, 2), None);
        }
        assert_eq!(at(61, 2), Some(Report::Lost(120)));
        assert_eq!(at(62, 1), None);
        assert_eq!(at(63, 0), Some(Report::Recovered(1)));
        assert_eq!(at(64, 0), None);
        // A collector that fails now and then causes no more lines than one that fails always.
        for second in 65..121 {
            assert_eq!(at(second, usize::from(!second.is_multiple_of(2))), None);
        }
        assert_eq!(at(121, 1), Some(Report::Lost(29)));
    }
}
