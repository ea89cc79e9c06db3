//! Limits the number of streams that are initialised concurrently: in a storm of connections the others wait here,
//! where a stream costs nothing yet.
//!
//! Sits between the authenticator and the streams. A stream holds a permit from when its token was accepted until it
//! has acknowledged its first responses. Initialised streams need none, so a change waits behind few new streams.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Semaphore, oneshot};

/// Time limit of a stream's permit: a stream that needs longer waits for its client and costs nothing meanwhile.
const MAX_HOLD: Duration = Duration::from_secs(1);

/// Issues the permits.
#[derive(Debug)]
pub(super) struct ConnectLimiter(Arc<Semaphore>);

/// A permit; released when it is dropped or `MAX_HOLD` has passed.
#[derive(Debug)]
pub(super) struct ConnectPermit(#[expect(dead_code, reason = "its drop is the signal")] oneshot::Sender<()>);

impl ConnectLimiter {
    pub fn new(permits: usize) -> Self {
        Self(Arc::new(Semaphore::new(permits)))
    }

    /// Waits for a permit, first come, first served.
    pub async fn acquire(&self) -> ConnectPermit {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.0).acquire_owned().await;
        let (taken, left) = oneshot::channel::<()>();
        // In a task of its own, as a stream whose client reads nothing is no longer polled.
        tokio::spawn(async move {
            let _permit = permit;
            let _ = tokio::time::timeout(MAX_HOLD, left).await;
        });
        ConnectPermit(taken)
    }
}
