//! Limits the number of concurrent computations, and lets peers take turns.
//!
//! Used by `webhook` for computations that may take seconds, and by `admin` for requests to the API server. A peer has
//! a queue of its own, and is in the common one with no more than its share: others wait for one computation of a peer
//! that requests a thousand. Does not know what is computed.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Time limit of waiting for a turn. Less than API servers wait for an answer, so that they receive the reason for a
/// refusal.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(2);

/// Queue with a maximum number of concurrent turns, in all and for one peer.
#[derive(Clone)]
pub struct Queue {
    in_all: Arc<Semaphore>,
    per_peer: usize,
    peers: Arc<Mutex<HashMap<IpAddr, Arc<Semaphore>>>>,
}

/// Turn, which ends when it is dropped.
pub struct Turn {
    _of_all: OwnedSemaphorePermit,
    _of_peer: OwnedSemaphorePermit,
}

impl Queue {
    /// Creates a queue with at most `in_all` concurrent turns, and at most `per_peer` of them for one peer.
    pub fn new(in_all: usize, per_peer: usize) -> Self {
        Self { in_all: Arc::new(Semaphore::new(in_all)), per_peer, peers: Arc::default() }
    }

    /// Waits for a turn for `peer`; returns `None` if that takes too long.
    pub async fn turn(&self, peer: IpAddr) -> Option<Turn> {
        let own = self.of(peer);
        let both = async {
            let of_peer = own.acquire_owned().await.ok()?;
            Some(Turn { _of_all: Arc::clone(&self.in_all).acquire_owned().await.ok()?, _of_peer: of_peer })
        };
        timeout(QUEUE_TIMEOUT, both).await.ok().flatten()
    }

    fn of(&self, peer: IpAddr) -> Arc<Semaphore> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        // Each turn, and each call that waits for one, holds a reference to the semaphore, too.
        peers.retain(|_, own| Arc::strong_count(own) > 1);
        Arc::clone(peers.entry(peer).or_insert_with(|| Arc::new(Semaphore::new(self.per_peer))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn peers_take_turns_and_none_waits_for_ever() {
        let queue = Queue::new(1, 1);
        let [greedy, other] = [1, 2].map(|last| IpAddr::from([10, 0, 0, last]));
        let first = queue.turn(greedy).await.unwrap();
        assert!(queue.turn(greedy).await.is_none() && queue.turn(other).await.is_none(), "nobody ends");
        let (outcomes, mut order) = tokio::sync::mpsc::unbounded_channel();
        for peer in [greedy, greedy, other] {
            let (queue, outcomes) = (queue.clone(), outcomes.clone());
            tokio::spawn(async move {
                let turn = queue.turn(peer).await;
                let _ = outcomes.send((peer, turn.is_some()));
            });
            tokio::task::yield_now().await;
        }
        drop(first);
        let order = [order.recv().await, order.recv().await, order.recv().await].map(Option::unwrap);
        let place = order.iter().position(|(peer, _)| *peer == other).unwrap();
        assert!(place < 2 && order.iter().all(|(_, had)| *had), "{order:?}");
        drop(queue.turn(other).await);
        assert!(queue.peers.lock().unwrap().len() <= 1, "who has no turn takes no memory");
    }
}
