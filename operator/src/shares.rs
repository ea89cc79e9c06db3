//! Bounds how much of something is taken at once: in all, and by one peer.
//!
//! Used by what serves HTTP, for connections and for bytes of bodies and answers. Counts by address, so that one peer leaves room for
//! others. Does not know what is shared out.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use axum::body::Bytes;

/// Something of which there is only so much.
#[derive(Debug, Clone)]
pub struct Shares {
    in_all: usize,
    per_peer: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// What somebody has taken; free again when dropped.
#[derive(Debug)]
pub struct Share {
    of: Shares,
    peer: IpAddr,
    amount: usize,
}

impl Shares {
    /// So much in all, and so much of it for one peer.
    pub fn new(in_all: usize, per_peer: usize) -> Self {
        Self { in_all, per_peer, taken: Arc::default() }
    }

    /// Takes `amount` for `peer`, unless that is more than there is for it.
    pub fn take(&self, peer: IpAddr, amount: usize) -> Option<Share> {
        let mut share = Share { of: self.clone(), peer, amount: 0 };
        share.grow(amount).then_some(share)
    }
}

impl Share {
    /// Whose it is.
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// Takes so much more; says whether that could be had.
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

    /// The same bytes, which keep the share until nobody holds any of them.
    pub fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _room: self })
    }
}

/// Bytes, and the room that they take until the last of them is on its way.
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
