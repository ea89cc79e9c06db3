//! Long computations take turns: a handshake, the judgement of a token, a key and its signature.
//!
//! Used by the server for tokens and certificates and by `operator::tls` for handshakes. A runtime runs its tasks in the
//! order in which they were woken, so a change would wait behind everybody who is computing; of those who take turns
//! there are never more than a few among them. Who waits for a peer holds no turn.

use std::{future::Future, pin::pin, sync::Arc, task::Poll};

use tokio::{runtime::Handle, sync::Semaphore};

/// Who may compute now. Clones share the turns.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Semaphore>);

impl Turns {
    /// As many as leave half of the runtime's workers to everything else, if this is called once for all who compute:
    /// two halves are everything.
    pub fn half() -> Self {
        let workers = Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        Self::new((workers / 2).max(1))
    }

    /// So many at the same time.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    /// Completes as `future` does, which is polled only when it has a turn.
    ///
    /// Must run in a task of its own: a turn that was given to somebody who is not polled is lost to all.
    pub async fn take<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            // Nobody closes the semaphore.
            let turn = self.0.acquire().await;
            let polled = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
            drop(turn);
            if let Poll::Ready(output) = polled {
                return output;
            }
            woken().await;
        }
    }
}

/// Completes when the task is polled the next time: what it has just polled has woken it.
async fn woken() {
    let mut again = false;
    std::future::poll_fn(
        |_| if std::mem::replace(&mut again, true) { Poll::Ready(()) } else { Poll::Pending },
    )
    .await;
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use tokio::{
        sync::{Notify, oneshot},
        time::timeout,
    };

    use super::*;

    /// Longer than anything here takes on a busy machine.
    const DEADLINE: Duration = Duration::from_secs(30);

    /// Computes in so many steps and says how many compute together.
    async fn compute(steps: usize, together: &AtomicUsize, most: &AtomicUsize) {
        for _ in 0..steps {
            let now = together.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            std::thread::yield_now();
            together.fetch_sub(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_more_compute_together_than_there_are_turns() {
        let turns = Turns::new(2);
        let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let tasks = (0..64).map(|_| {
            let (turns, counts) = (turns.clone(), Arc::clone(&counts));
            tokio::spawn(async move { turns.take(compute(20, &counts.0, &counts.1)).await })
        });
        for task in tasks.collect::<Vec<_>>() {
            timeout(DEADLINE, task).await.expect("somebody gets no turn").unwrap();
        }
        assert!((1..=2).contains(&counts.1.load(Ordering::SeqCst)), "{counts:?}");
        assert_eq!(turns.0.available_permits(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_peer_holds_no_turn() {
        let turns = Turns::new(1);
        let (word, silence) = oneshot::channel::<()>();
        let waits = Arc::new(Notify::new());
        let (line, waiting) = (turns.clone(), Arc::clone(&waits));
        let silent = tokio::spawn(async move {
            line.take(async {
                waiting.notify_one();
                silence.await
            })
            .await
        });
        timeout(DEADLINE, waits.notified()).await.expect("the silent one gets no turn");
        timeout(DEADLINE, turns.take(async {})).await.expect("the silent one holds the turn");
        word.send(()).unwrap();
        timeout(DEADLINE, silent).await.expect("the word is not heard").unwrap().unwrap();
    }
}
