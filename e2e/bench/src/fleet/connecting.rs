//! Proxies on their way to being configured: whose turn it is, who tries again, and who has everything.
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

/// After how long a connection that was refused is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(100);

/// How the proxies of one call came to be configured.
#[derive(Debug)]
pub struct Connected {
    /// When the first one began.
    pub started: Instant,
    /// When each one had everything.
    pub configured: Vec<Instant>,
    /// How often a connection or stream had to be tried again.
    pub retries: u64,
}

impl Connected {
    /// How long each one took, in milliseconds since the first one began.
    pub fn times(&self) -> Vec<f64> {
        self.configured.iter().map(|at| millis(self.started, *at)).collect()
    }
}

/// One call.
pub(super) struct Connecting {
    pub target: Target,
    count: usize,
    report: Connected,
    reply: Option<oneshot::Sender<Connected>>,
    queue: VecDeque<usize>,
    /// Seats to be tried again, and when.
    again: VecDeque<(Instant, usize)>,
    under_way: usize,
    /// How many are configured, for whoever wants to know before all are.
    progress: Arc<AtomicUsize>,
}

impl Connecting {
    /// The proxies of some seats. Without any, everything has been done.
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

    /// Whether somebody is to be tried again.
    pub fn waits(&self) -> bool {
        !self.again.is_empty()
    }

    /// The next one that may begin.
    pub fn next(&mut self) -> Option<usize> {
        while let Some((at, seat)) = self.again.front().copied() {
            if at > Instant::now() {
                break;
            }
            self.again.pop_front();
            self.queue.push_back(seat);
        }
        if self.under_way >= self.target.window {
            return None;
        }
        let seat = self.queue.pop_front()?;
        self.under_way += 1;
        Some(seat)
    }

    /// One has everything.
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

    /// One has lost its connection on its way.
    pub fn retry(&mut self, seat: usize) {
        self.under_way = self.under_way.saturating_sub(1);
        self.report.retries += 1;
        self.again.push_back((Instant::now() + AGAIN, seat));
    }
}
