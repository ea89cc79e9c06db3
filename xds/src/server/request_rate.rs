//! Limits the rate of a client's requests. ACKs and NACKs do not count.
//!
//! Used by each stream. Decides when to pause reading, and until when. Requests wait meanwhile in a narrow HTTP/2
//! window, and then at the client.

use std::time::Duration;

use tokio::time::Instant;

/// Maximum number of requests other than ACKs and NACKs that a client may send in each `SPAN`, plus one for each name
/// that its view has: it may subscribe to each in a request of its own, as Envoy does for the routes of its listeners.
const REQUESTS: usize = 1000;
const SPAN: Duration = Duration::from_secs(10);

/// The request rate of one client.
#[derive(Debug)]
pub(super) struct RequestRate {
    count: usize,
    is_exceeded: bool,
    since: Instant,
}

impl Default for RequestRate {
    fn default() -> Self {
        Self { count: 0, is_exceeded: false, since: Instant::now() }
    }
}

impl RequestRate {
    /// Records a request of a client whose view has `names` names. Returns `true` if reading pauses after it.
    pub fn record(&mut self, names: usize) -> bool {
        if self.since.elapsed() >= SPAN {
            self.renew();
        }
        self.count += 1;
        self.is_exceeded = self.count >= REQUESTS.saturating_add(names);
        self.is_exceeded
    }

    /// Returns until when reading is paused, if it is.
    pub fn paused_until(&self) -> Option<Instant> {
        self.is_exceeded.then(|| self.since + SPAN)
    }

    /// Begins a new span.
    pub fn renew(&mut self) {
        *self = Self::default();
    }
}
