//! Exponential back-off: number of failures in a row → delay before the next attempt.
//!
//! Pure. Used by streams that wait for a certificate and, in the operator, by everything that tries again. Waits for nothing
//! itself, and adds no jitter.

use std::time::Duration;

/// Delays between attempts: doubled after each failure, up to a limit.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Delay after the first failure.
    pub first: Duration,
    /// Longest delay.
    pub longest: Duration,
}

impl Backoff {
    /// Returns the delay after `failures` failures in a row; zero if there were none.
    pub fn delay(self, failures: u32) -> Duration {
        match failures {
            0 => Duration::ZERO,
            _ => self.first.saturating_mul(2_u32.saturating_pow(failures - 1)).min(self.longest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_mins(1) };
        let delays: Vec<u64> = (0..9).map(|failures| backoff.delay(failures).as_secs()).collect();
        assert_eq!(delays, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.delay(u32::MAX), Duration::from_mins(1));
    }
}
