//! How much a client may say besides answering what it is told, which is free.
//!
//! Used by each stream. Says when to stop listening, and until when; the client's words wait meanwhile in a window that
//! is narrow, and then at the client.

use std::time::Duration;

use tokio::time::Instant;

/// Messages that are no mere answers, of which a client may send so many in each `SPAN`. A proxy that starts needs some
/// twenty, one that discovers on demand one for each host that it meets.
pub(super) const MESSAGES: u32 = 1000;
pub(super) const SPAN: Duration = Duration::from_secs(10);

/// One client's allowance.
#[derive(Debug)]
pub(super) struct Allowance {
    left: u32,
    since: Instant,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { left: MESSAGES, since: Instant::now() }
    }
}

impl Allowance {
    /// The client has said something; `true` if that was the last for now.
    pub fn heard(&mut self) -> bool {
        if self.since.elapsed() >= SPAN {
            self.renew();
        }
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    /// Until when the client is not listened to.
    pub fn deaf_until(&self) -> Option<Instant> {
        (self.left == 0).then(|| self.since + SPAN)
    }

    /// Begins a new span.
    pub fn renew(&mut self) {
        *self = Self::default();
    }
}
