//! Decides when a certificate is renewed, and when a failed renewal is tried again.
//!
//! Called by `authorities`, `source` and `serving`. Pure: randomness is a parameter, and nothing here waits.

use smidge_xds::backoff::Backoff;
use time::{Duration, OffsetDateTime};

/// Delays between attempts to renew, before jitter.
const RETRY: Backoff =
    Backoff { first: std::time::Duration::from_secs(1), longest: std::time::Duration::from_mins(1) };

/// Returns the time at which a certificate that was issued at `now` and ends at `not_after` is renewed: between a half
/// and two thirds of its lifetime. `random` spreads proxies that started together over four hours of a 24 h leaf.
pub fn renew_at(now: OffsetDateTime, not_after: OffsetDateTime, random: u32) -> OffsetDateTime {
    let life = not_after - now;
    now + life / 2 + life * (f64::from(random) / f64::from(u32::MAX)) / 6.0
}

/// Returns the delay after the `failures`th failure in a row: 1 s, doubled each time up to a minute, of which `random`
/// leaves at least a half.
pub fn retry_after(failures: u32, random: u32) -> Duration {
    let full = Duration::try_from(RETRY.delay(failures)).unwrap_or(Duration::MINUTE);
    full / 2 + full * (f64::from(random) / f64::from(u32::MAX)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_lies_between_a_half_and_two_thirds_of_life() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let end = now + Duration::hours(24);
        assert_eq!(renew_at(now, end, 0), now + Duration::hours(12));
        assert_eq!(renew_at(now, end, u32::MAX), now + Duration::hours(16));
        assert!(renew_at(now, end, u32::MAX / 2) < renew_at(now, end, u32::MAX));
    }

    #[test]
    fn retries_slow_down_to_a_minute() {
        let longest: Vec<i64> = (1..9).map(|n| retry_after(n, u32::MAX).whole_seconds()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(retry_after(u32::MAX, 0), Duration::seconds(30));
        assert_eq!(retry_after(1, 0), Duration::milliseconds(500));
    }
}
