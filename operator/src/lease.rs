//! Decides which replica leads: the one that holds the Lease `smidge-leader`.
//!
//! The leader alone does what only one replica may do: write status and Events. The rest of the operator needs no
//! leader. Pure: this file is the decision; `candidate` is the loop around it. As with Kubernetes' own components,
//! clocks of different machines are never compared: a lease is treated as expired when no renewal was seen for its
//! duration.

pub mod candidate;
pub mod metrics;

use std::time::Duration;

/// Duration of a lease after it was last renewed.
pub const DURATION: Duration = Duration::from_secs(15);
/// Time without a renewal after which a leader no longer leads, well before others may take over.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Delay between two reads of the Lease.
pub const RETRY: Duration = Duration::from_secs(2);

/// Lease, reduced to what the decision needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lease {
    /// Name of the holder; empty if it was released.
    pub holder: String,
    /// Resource version, which changes with every renewal.
    pub version: String,
    /// Duration of the lease.
    pub duration: Duration,
}

/// Lease as one replica last read it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    lease: Option<(Lease, Duration)>,
}

/// Next step of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is no Lease: create it.
    Create,
    /// The Lease is free, or was not renewed for too long: take it.
    Acquire,
    /// This replica holds the Lease: renew it.
    Renew,
    /// Another replica leads.
    Wait,
}

impl Seen {
    /// Decides what `me` does about the lease as read at `now`, a time that only ever grows.
    pub fn decide(&mut self, found: Option<Lease>, me: &str, now: Duration) -> Step {
        let Some(found) = found else {
            self.lease = None;
            return Step::Create;
        };
        let since = match &self.lease {
            Some((lease, since)) if lease.version == found.version && lease.holder == found.holder => *since,
            _ => now,
        };
        let expired = now >= since + found.duration;
        let step = match found.holder.as_str() {
            "" => Step::Acquire,
            holder if holder == me => Step::Renew,
            _ if expired => Step::Acquire,
            _ => Step::Wait,
        };
        self.lease = Some((found, since));
        step
    }
}

/// Leader, as far as this replica knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leader {
    /// No replica, or none that is known.
    #[default]
    None,
    /// Another replica.
    Other,
    /// This replica.
    Me,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, version: &str) -> Lease {
        Lease { holder: holder.to_owned(), version: version.to_owned(), duration: DURATION }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_that_is_not_there_is_created_and_a_released_one_taken() {
        let mut seen = Seen::default();
        assert_eq!(seen.decide(None, "me", at(0)), Step::Create);
        assert_eq!(seen.decide(Some(lease("", "1")), "me", at(1)), Step::Acquire);
    }

    #[test]
    fn our_own_lease_is_renewed_however_old_it_is() {
        let mut seen = Seen::default();
        assert_eq!(seen.decide(Some(lease("me", "1")), "me", at(0)), Step::Renew);
        assert_eq!(seen.decide(Some(lease("me", "1")), "me", at(100)), Step::Renew);
    }

    #[test]
    fn anothers_lease_is_taken_only_after_it_was_not_renewed_for_its_duration() {
        let mut seen = Seen::default();
        assert_eq!(seen.decide(Some(lease("other", "1")), "me", at(1000)), Step::Wait);
        assert_eq!(seen.decide(Some(lease("other", "1")), "me", at(1014)), Step::Wait);
        assert_eq!(seen.decide(Some(lease("other", "2")), "me", at(1014)), Step::Wait, "it was renewed");
        assert_eq!(seen.decide(Some(lease("other", "2")), "me", at(1028)), Step::Wait);
        assert_eq!(seen.decide(Some(lease("other", "2")), "me", at(1029)), Step::Acquire);
        assert_eq!(seen.decide(Some(lease("third", "3")), "me", at(1030)), Step::Wait, "somebody was faster");
    }
}
