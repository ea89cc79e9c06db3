//! Who misbehaves: which seats have which manner.
//!
//! Asked by `fairness`. Pure. Manners are shared out over those who are told of the change that is measured, as someone
//! who is told nothing has nothing to misbehave about; those who are not fill up what is left.

use std::ops::Range;

use crate::{manner::Manner, shape::Shape};

/// All that are not honest.
const MANNERS: [Manner; 4] = [Manner::Deaf, Manner::Mute, Manner::Refusing, Manner::Insisting];

/// Proxies of one manner.
pub(super) struct Misfits {
    pub manner: Manner,
    pub seats: Vec<usize>,
    /// How many of them are told of the change.
    pub told: usize,
}

/// At most `each` of every manner among these seats, for changes at `service`.
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
