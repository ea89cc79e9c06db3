//! Decides whether counts can be chance: Pearson's chi-squared test at α = 10⁻⁹.

use crate::differential::shares::{Shares, Who};
use std::collections::BTreeMap;

/// Values that chi-squared exceeds in one of 10⁹ cases, by degrees of freedom from 1.
const LIMITS: [f64; 6] = [37.325, 41.447, 44.841, 47.879, 50.692, 53.345];
/// Cells with a smaller expected count are counted together: below it, the test's tails are not those of chi-squared.
const LEAST: f64 = 10.0;

/// Number of answers of each.
pub type Counts = BTreeMap<Who, u32>;

/// Returns an answering Service, or the lack of one, that has no share at all.
pub fn intruder(counts: &Counts, shares: &Shares) -> Option<Who> {
    counts.keys().find(|who| !shares.contains_key(*who)).cloned()
}

/// Returns true if the counts are further from the shares than chance takes them once in 10⁹ times.
pub fn is_far(counts: &Counts, shares: &Shares) -> bool {
    let sum = f64::from(counts.values().sum::<u32>());
    let mut cells: Vec<(f64, f64)> = shares
        .iter()
        .map(|(who, share)| (share * sum, f64::from(counts.get(who).copied().unwrap_or(0))))
        .collect();
    cells.sort_by(|one, other| one.0.total_cmp(&other.0));
    while let [(expected, counted), next, ..] = cells[..]
        && expected < LEAST
    {
        cells[1] = (next.0 + expected, next.1 + counted);
        cells.remove(0);
        cells.sort_by(|one, other| one.0.total_cmp(&other.0));
    }
    let distance: f64 = cells.iter().map(|(expected, counted)| (counted - expected).powi(2) / expected).sum();
    cells.len() > 1 && distance > LIMITS[cells.len() - 2]
}

#[test]
fn far_is_what_chance_does_not_do() {
    let who = |name: &str| Some(name.to_owned());
    let shares = Shares::from([(who("a"), 0.9), (who("b"), 0.1)]);
    let counts = |a, b| Counts::from([(who("a"), a), (who("b"), b)]);
    assert!(!is_far(&counts(900, 100), &shares));
    assert!(!is_far(&counts(850, 150), &shares));
    assert!(is_far(&counts(840, 160), &shares));
    assert!(is_far(&counts(500, 500), &shares));
    assert_eq!(intruder(&Counts::from([(None, 1)]), &shares), Some(None));
}
