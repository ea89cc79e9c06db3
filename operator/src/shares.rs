//! Limits the amount of something that is taken at once: in all, and by one peer.
//!
//! Used by HTTP servers, for connections and for bytes of bodies and answers, and by `tls`, for handshakes. Counts by
//! address, so that one peer leaves room for others. Does not know what is shared.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::body::Bytes;

/// Limited amount of something, shared by peers.
#[derive(Debug, Clone)]
pub struct Shares {
    in_all: usize,
    per_peer: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// Amount that a peer has taken; released when dropped.
#[derive(Debug)]
pub struct Share {
    of: Shares,
    peer: IpAddr,
    amount: usize,
}

impl Shares {
    /// Creates shares with the limit `in_all`, and the limit `per_peer` for one peer.
    pub fn new(in_all: usize, per_peer: usize) -> Self {
        Self { in_all, per_peer, taken: Arc::default() }
    }

    /// Takes `amount` for `peer`; returns `None` if that exceeds a limit.
    pub fn take(&self, peer: IpAddr, amount: usize) -> Option<Share> {
        let mut share = Share { of: self.clone(), peer, amount: 0 };
        share.grow(amount).then_some(share)
    }
}

impl Share {
    /// Returns the peer that has taken it.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Takes `amount` more; returns false, and takes nothing, if that exceeds a limit.
    pub fn grow(&mut self, amount: usize) -> bool {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_all = taken.values().sum::<usize>().saturating_add(amount);
        let of_peer = taken.get(&self.peer).copied().unwrap_or_default().saturating_add(amount);
        if of_all > self.of.in_all || of_peer > self.of.per_peer {
            return false;
        }
        taken.insert(self.peer, of_peer);
        self.amount += amount;
        true
    }

    /// Returns the same bytes, which keep the share until the last reference to them is dropped.
    pub fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _room: self })
    }
}

/// Bytes, and their share, which is released when the last reference to them is dropped.
struct Held {
    bytes: Bytes,
    _room: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.of.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_peer) = taken.get_mut(&self.peer) {
            *of_peer = of_peer.saturating_sub(self.amount);
            if *of_peer == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_leaves_room_for_others_and_what_ends_makes_room() {
        let shares = Shares::new(10, 4);
        let peer = |last| IpAddr::from([10, 0, 0, last]);
        let held: Vec<Share> = std::iter::from_fn(|| shares.take(peer(1), 1)).collect();
        assert_eq!(held.len(), 4);
        let mut other = shares.take(peer(2), 3).unwrap();
        assert!(other.grow(1) && !other.grow(1), "a peer has no more than four");
        assert!(shares.take(peer(3), 3).is_none(), "there are two left");
        drop(held);
        assert!(shares.take(peer(3), 3).is_some());
        drop(other);
        assert!(shares.taken.lock().unwrap().is_empty(), "who has nothing takes no memory");
    }
}
