//! Limits the number of concurrent long computations: TLS handshakes, token verification, key generation and signing.
//!
//! Used by the server for tokens and certificates and by `operator::tls` for handshakes. A runtime polls its tasks in
//! the order in which they were notified, so a change would wait behind every task that computes. With the limiter only
//! a few of them are polled at a time. A task that waits for its peer holds no permit.

use std::{future::Future, pin::pin, sync::Arc, task::Poll};

use tokio::{runtime::Handle, sync::Semaphore};

/// Limits the number of futures that are polled at once. Clones share the permits.
#[derive(Debug, Clone)]
pub struct ComputeLimiter(Arc<Semaphore>);

impl ComputeLimiter {
    /// Creates a limiter with as many permits as half of the runtime's workers, at least one. Create one and share it:
    /// two of them could occupy every worker.
    pub fn half() -> Self {
        let workers = Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        Self::new((workers / 2).max(1))
    }

    /// Creates a limiter with `count` permits.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    /// Runs `future` to its end; each poll of it takes a permit.
    ///
    /// Must run in a task of its own: a permit that is granted to a future which is not polled blocks the others.
    pub async fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            // The semaphore is never closed.
            let permit = self.0.acquire().await;
            let polled = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
            drop(permit);
            if let Poll::Ready(output) = polled {
                return output;
            }
            notified().await;
        }
    }
}

/// Completes when the task is polled the next time, notified by the future that it has just polled.
async fn notified() {
    let mut is_second = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut is_second, true) { Poll::Ready(()) } else { Poll::Pending }
    })
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

    /// Time limit that is longer than any step of these tests takes on a busy machine.
    const DEADLINE: Duration = Duration::from_secs(30);

    /// Computes in `steps` steps and records the maximum number of concurrent computations in `most`.
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
        let limiter = ComputeLimiter::new(2);
        let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let tasks = (0..64).map(|_| {
            let (limiter, counts) = (limiter.clone(), Arc::clone(&counts));
            tokio::spawn(async move { limiter.run(compute(20, &counts.0, &counts.1)).await })
        });
        for task in tasks.collect::<Vec<_>>() {
            timeout(DEADLINE, task).await.expect("somebody gets no turn").unwrap();
        }
        assert!((1..=2).contains(&counts.1.load(Ordering::SeqCst)), "{counts:?}");
        assert_eq!(limiter.0.available_permits(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_peer_holds_no_turn() {
        let limiter = ComputeLimiter::new(1);
        let (word, silence) = oneshot::channel::<()>();
        let waits = Arc::new(Notify::new());
        let (line, waiting) = (limiter.clone(), Arc::clone(&waits));
        let silent = tokio::spawn(async move {
            line.run(async {
                waiting.notify_one();
                silence.await
            })
            .await
        });
        timeout(DEADLINE, waits.notified()).await.expect("the silent one gets no turn");
        timeout(DEADLINE, limiter.run(async {})).await.expect("the silent one holds the turn");
        word.send(()).unwrap();
        timeout(DEADLINE, silent).await.expect("the word is not heard").unwrap().unwrap();
    }
}
