//! Selects the proxies that misbehave, for each kind of misbehaviour.
//!
//! Called by `fairness`. Pure. The kinds share the proxies that receive the measured change, as a proxy that receives
//! nothing has nothing to answer wrongly; proxies that do not receive it fill up the rest.

use std::ops::Range;

use crate::{behaviour::Behaviour, shape::Shape};

/// All kinds of misbehaviour.
const BEHAVIOURS: [Behaviour; 4] =
    [Behaviour::Deaf, Behaviour::Mute, Behaviour::Refusing, Behaviour::Insisting];

/// Proxies with the same misbehaviour.
pub(super) struct Misbehaving {
    pub behaviour: Behaviour,
    pub slots: Vec<usize>,
    /// Number of them that receive the change.
    pub receivers: usize,
}

/// Selects at most `each` proxies of every kind among `slots`, for changes at `service`.
pub(super) fn choose(shape: Shape, service: usize, slots: Range<usize>, each: usize) -> Vec<Misbehaving> {
    let callers = shape.callers(service);
    let is_receiver = |slot: &usize| callers.binary_search(&shape.slot(*slot).0).is_ok();
    let each = each.min(slots.len() / BEHAVIOURS.len());
    let (receivers, others): (Vec<usize>, Vec<usize>) = slots.partition(is_receiver);
    let portion = (receivers.len() / BEHAVIOURS.len()).min(each);
    let (mut receivers, mut others) = (receivers.into_iter(), others.into_iter());
    let choose = |behaviour| {
        let mut slots: Vec<usize> = receivers.by_ref().take(portion).collect();
        slots.extend(others.by_ref().take(each - portion));
        Misbehaving { behaviour, slots, receivers: portion }
    };
    BEHAVIOURS.into_iter().map(choose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_behaviour_has_as_many_receivers() {
        let shape = Shape { services: 1000, pods: 10 };
        let service = shape.cold_plain();
        let all = choose(shape, service, 1000..10_000, 50);
        assert_eq!(all.iter().map(|misbehaving| misbehaving.receivers).collect::<Vec<_>>(), [22; 4]);
        let mut slots: Vec<usize> = all.iter().flat_map(|misbehaving| misbehaving.slots.clone()).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), 200, "nobody has two behaviours");
        assert!(slots.iter().all(|slot| (1000..10_000).contains(slot)));
        let callers = shape.callers(service);
        let receivers = slots.iter().filter(|slot| callers.contains(&shape.slot(**slot).0)).count();
        assert_eq!(receivers, 88);
    }
}
