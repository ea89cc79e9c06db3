//! Proxies that are being configured: the queue, the retries, and those that have every resource.
//!
//! Filled and emptied by `fleet`. Opens no connection itself.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::Target;
use crate::figures::millis;

/// Delay before a refused connection is retried.
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Report of the proxies of one call.
#[derive(Debug)]
pub struct Connected {
    /// Time at which the first one started.
    pub started: Instant,
    /// Time at which each one had every resource.
    pub configured: Vec<Instant>,
    /// Number of connections and streams that were retried.
    pub retries: u64,
}

impl Connected {
    /// Returns the time of each one, in milliseconds since the first one started.
    pub fn times(&self) -> Vec<f64> {
        self.configured.iter().map(|at| millis(self.started, *at)).collect()
    }
}

/// State of one call.
pub(super) struct Connecting {
    pub target: Target,
    count: usize,
    report: Connected,
    reply: Option<oneshot::Sender<Connected>>,
    queue: VecDeque<usize>,
    /// Proxies to be retried, and when.
    again: VecDeque<(Instant, usize)>,
    under_way: usize,
    /// Number of configured proxies, readable before all are.
    progress: Arc<AtomicUsize>,
}

impl Connecting {
    /// Starts with the proxies in `queue`. If it is empty, the reply is sent immediately.
    pub fn start(
        target: Target,
        queue: VecDeque<usize>,
        progress: Arc<AtomicUsize>,
        reply: oneshot::Sender<Connected>,
    ) -> Option<Self> {
        let count = queue.len();
        let report = Connected { started: Instant::now(), configured: Vec::new(), retries: 0 };
        if count == 0 {
            let _ = reply.send(report);
            return None;
        }
        let (reply, again, under_way) = (Some(reply), VecDeque::new(), 0);
        Some(Self { target, count, report, reply, queue, again, under_way, progress })
    }

    /// Returns true if a proxy is to be retried.
    pub fn waits(&self) -> bool {
        !self.again.is_empty()
    }

    /// Returns the next proxy that may start.
    pub fn next(&mut self) -> Option<usize> {
        while let Some((at, slot)) = self.again.front().copied() {
            if at > Instant::now() {
                break;
            }
            self.again.pop_front();
            self.queue.push_back(slot);
        }
        if self.under_way >= self.target.window {
            return None;
        }
        let slot = self.queue.pop_front()?;
        self.under_way += 1;
        Some(slot)
    }

    /// Records that one proxy has every resource.
    pub fn arrive(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        self.report.configured.push(Instant::now());
        self.progress.fetch_add(1, Ordering::Relaxed);
        if self.report.configured.len() == self.count
            && let Some(reply) = self.reply.take()
        {
            let configured = std::mem::take(&mut self.report.configured);
            let Connected { started, retries, .. } = self.report;
            let _ = reply.send(Connected { started, configured, retries });
        }
    }

    /// Records that one proxy has lost its connection before it was configured.
    pub fn retry(&mut self, slot: usize) {
        self.under_way = self.under_way.saturating_sub(1);
        self.report.retries += 1;
        self.again.push_back((Instant::now() + RETRY_DELAY, slot));
    }
}
