//! How many newcomers are served at the same time: a storm of them queues here, where a stream costs nothing yet.
//!
//! Between the authenticator and the streams. A newcomer has a place from when its token was found good until it has
//! acknowledged everything; those who are served already need none, so however many come, a change waits behind few.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Semaphore, oneshot};

/// How long a newcomer has its place at most: who needs longer waits for its own side and costs nothing meanwhile.
const LONGEST: Duration = Duration::from_secs(1);

/// The places.
#[derive(Debug)]
pub(super) struct Entrance(Arc<Semaphore>);

/// Holds a newcomer's place, which is given up when this is dropped, or before.
#[derive(Debug)]
pub(super) struct Ticket(#[expect(dead_code, reason = "its end is what it says")] oneshot::Sender<()>);

impl Entrance {
    pub fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places)))
    }

    /// A place, in the order in which newcomers came.
    pub async fn enter(&self) -> Ticket {
        // Nobody closes the semaphore.
        let place = Arc::clone(&self.0).acquire_owned().await;
        let (taken, left) = oneshot::channel::<()>();
        // In a task of its own, as a stream whose client reads nothing is polled no more.
        tokio::spawn(async move {
            let _place = place;
            let _ = tokio::time::timeout(LONGEST, left).await;
        });
        Ticket(taken)
    }
}
