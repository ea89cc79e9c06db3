//! How much a client may say besides answering what it is told, which is free.
//!
//! Used by each stream. Says when to stop listening, and until when; the client's words wait meanwhile in a window that
//! is narrow, and then at the client.

use std::time::Duration;

use tokio::time::Instant;

/// Messages that are no mere answers, of which a client may send so many in each `SPAN`, and one more for each name that it
/// may know: it may ask for each in a message of its own, as Envoy does for the routes of its listeners.
const MESSAGES: usize = 1000;
const SPAN: Duration = Duration::from_secs(10);

/// One client's allowance.
#[derive(Debug)]
pub(super) struct Allowance {
    said: usize,
    is_spent: bool,
    since: Instant,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { said: 0, is_spent: false, since: Instant::now() }
    }
}

impl Allowance {
    /// The client, which may know so many names, has said something; `true` if that was the last for now.
    pub fn heard(&mut self, names: usize) -> bool {
        if self.since.elapsed() >= SPAN {
            self.renew();
        }
        self.said += 1;
        self.is_spent = self.said >= MESSAGES.saturating_add(names);
        self.is_spent
    }

    /// Until when the client is not listened to.
    pub fn deaf_until(&self) -> Option<Instant> {
        self.is_spent.then(|| self.since + SPAN)
    }

    /// Begins a new span.
    pub fn renew(&mut self) {
        *self = Self::default();
    }
}
