//! Waits for a named condition until a deadline, and reports the last state when the deadline passes.
//!
//! The only place in the tests that waits for time to pass: no test sleeps in the hope that something has happened.

use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Interval between two checks. Short against the time that is waited, long against the cost of a check to the API
/// server.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Repeats `check` until it succeeds. Its error is not a failure but the current state.
///
/// Fails when `within` has passed, with the name of the condition and the last state.
pub async fn until<T>(
    condition: &str,
    within: Duration,
    mut check: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    let mut rhythm = tokio::time::interval(POLL_INTERVAL);
    rhythm.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        rhythm.tick().await;
        let Some(left) = within.checked_sub(started.elapsed()) else { break };
        match tokio::time::timeout(left, check()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(state)) => last = Some(state),
            Err(_) => break,
        }
    }
    let state = last.unwrap_or_else(|| anyhow::anyhow!("the first look did not end"));
    Err(state).with_context(|| format!("waited {} s in vain for: {condition}", within.as_secs()))
}

/// Waits until `time` has passed, for what is to go on or to stay away that long.
pub async fn pass(time: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    until("the time to pass", time + POLL_INTERVAL * 20, async || {
        anyhow::ensure!(started.elapsed() >= time, "{} ms have", started.elapsed().as_millis());
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn reports_the_last_state() {
        let mut looks = 0;
        let waited = until("the third look", Duration::from_secs(5), async || {
            looks += 1;
            anyhow::ensure!(looks == 3, "look {looks}");
            Ok(looks)
        });
        assert_eq!(waited.await.unwrap(), 3);

        let waited = until("what never comes", Duration::from_millis(150), async || -> anyhow::Result<()> {
            anyhow::bail!("still nothing")
        });
        let error = format!("{:#}", waited.await.unwrap_err());
        assert!(error.contains("what never comes") && error.contains("still nothing"), "{error}");
    }

    #[tokio::test]
    async fn a_look_that_hangs_does_not_outlast_the_deadline() {
        let waited = until("a look that hangs", Duration::from_millis(50), async || {
            std::future::pending::<anyhow::Result<()>>().await
        });
        assert!(waited.await.is_err());
    }
}
