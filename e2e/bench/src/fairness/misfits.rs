//! Selects the proxies that misbehave, for each kind of misbehaviour.
//!
//! Called by `fairness`. Pure. The kinds share the proxies that receive the measured change, as a proxy that receives
//! nothing has nothing to answer wrongly; proxies that do not receive it fill up the rest.

use std::ops::Range;

use crate::{manner::Manner, shape::Shape};

/// All kinds of misbehaviour.
const MANNERS: [Manner; 4] = [Manner::Deaf, Manner::Mute, Manner::Refusing, Manner::Insisting];

/// Proxies with the same misbehaviour.
pub(super) struct Misfits {
    pub manner: Manner,
    pub seats: Vec<usize>,
    /// Number of them that receive the change.
    pub told: usize,
}

/// Selects at most `each` proxies of every kind among `seats`, for changes at `service`.
pub(super) fn choose(shape: Shape, service: usize, seats: Range<usize>, each: usize) -> Vec<Misfits> {
    let callers = shape.callers(service);
    let is_told = |seat: &usize| callers.binary_search(&shape.seat(*seat).0).is_ok();
    let each = each.min(seats.len() / MANNERS.len());
    let (told, others): (Vec<usize>, Vec<usize>) = seats.partition(is_told);
    let portion = (told.len() / MANNERS.len()).min(each);
    let (mut told, mut others) = (told.into_iter(), others.into_iter());
    let choose = |manner| {
        let mut seats: Vec<usize> = told.by_ref().take(portion).collect();
        seats.extend(others.by_ref().take(each - portion));
        Misfits { manner, seats, told: portion }
    };
    MANNERS.into_iter().map(choose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_manner_has_as_many_who_are_told() {
        let shape = Shape { services: 1000, pods: 10 };
        let service = shape.cold_plain();
        let all = choose(shape, service, 1000..10_000, 50);
        assert_eq!(all.iter().map(|misfits| misfits.told).collect::<Vec<_>>(), [22; 4]);
        let mut seats: Vec<usize> = all.iter().flat_map(|misfits| misfits.seats.clone()).collect();
        seats.sort_unstable();
        seats.dedup();
        assert_eq!(seats.len(), 200, "nobody has two manners");
        assert!(seats.iter().all(|seat| (1000..10_000).contains(seat)));
        let callers = shape.callers(service);
        let told = seats.iter().filter(|seat| callers.contains(&shape.seat(**seat).0)).count();
        assert_eq!(told, 88);
    }
}
