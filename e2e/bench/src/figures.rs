//! Rows of measured figures, and quantiles.
//!
//! Filled by the scenarios and by `growth`, printed by `report`, drawn by `plot`. Judges nothing: that is for
//! `targets`.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// Row of the table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Stable identifier for programs.
    pub id: String,
    /// Description for readers.
    pub what: String,
    /// Figures; each name ends with its unit.
    pub figures: BTreeMap<String, f64>,
}

impl Row {
    pub fn new(id: &str, what: &str) -> Self {
        Self { id: id.to_owned(), what: what.to_owned(), figures: BTreeMap::new() }
    }

    pub fn set(&mut self, name: &str, value: f64) {
        // No figure here is more precise than a microsecond.
        self.figures.insert(name.to_owned(), (value * 1000.0).round() / 1000.0);
    }

    /// Sets the ratio of two figures, if both exist.
    pub fn divide(&mut self, name: &str, one: &str, other: &str) {
        if let (Some(one), Some(other)) = (self.get(one), self.get(other)) {
            self.set(name, one / other.max(0.001));
        }
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }

    /// Sets the quantiles of times under `prefix`.
    pub fn quantiles(&mut self, prefix: &str, times: &[f64]) {
        for (name, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
            self.set(&format!("{prefix}_{name}_ms"), quantile(times, part));
        }
    }
}

/// Times of changes, in milliseconds. The API server notifies its watchers in an order of its own: a proxy may have a
/// change before the watch that starts its clock reports it, and such a time is meaningless.
#[derive(Debug, Default)]
pub struct Times {
    good: Vec<f64>,
    /// Number of changes without a valid start time.
    late: usize,
}

/// Maximum part of changes without a valid start time for the other times to be meaningful. On two cores that a storm
/// keeps busy it is more than a tenth: the proxy that is notified first may run before the watch.
const MOST_LATE: f64 = 0.25;

impl Times {
    pub fn add(&mut self, time: f64) {
        if time < 0.0 {
            self.late += 1;
        } else {
            self.good.push(time);
        }
    }

    /// Returns the number of changes.
    pub fn made(&self) -> usize {
        self.good.len() + self.late
    }

    /// Sets the quantiles, and the number of changes without a valid start time.
    pub fn set(&self, row: &mut Row) {
        row.quantiles("last", &self.good);
        row.set("late_clock", self.late as f64);
        row.set("late_clock_part", self.late as f64 / self.made().max(1) as f64);
    }
}

/// Fails if a row has too many changes without a valid start time.
pub fn clocked(rows: &[Row]) -> anyhow::Result<()> {
    let is_late = |row: &&Row| {
        let is_over = |name: &str, most: f64| row.get(name).is_some_and(|late| late > most);
        is_over("late_clock", 1.0) && is_over("late_clock_part", MOST_LATE)
    };
    let late: Vec<&str> = rows.iter().filter(is_late).map(|row| row.id.as_str()).collect();
    anyhow::ensure!(
        late.is_empty(),
        "the API server reported too many changes after they had arrived ({}): the machine is too busy to measure by",
        late.join(", ")
    );
    Ok(())
}

/// Returns the value below which `part` of the values are; the nearest one that occurred.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or_default()
}

/// Returns the milliseconds from one moment to another; negative if the other comes first.
pub fn millis(from: Instant, to: Instant) -> f64 {
    match to.checked_duration_since(from) {
        Some(after) => after.as_secs_f64() * 1000.0,
        None => -from.duration_since(to).as_secs_f64() * 1000.0,
    }
}

/// Returns a duration in milliseconds.
pub fn in_millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let at = |values: &[f64], part| quantile(values, part).to_string();
        assert_eq!([0.5, 0.99, 1.0].map(|part| at(&values, part)), ["50", "99", "100"]);
        assert_eq!([at(&[7.0], 0.99), at(&[], 0.5)], ["7", "0"]);
    }

    #[test]
    fn a_clock_that_is_mostly_late_is_an_error() {
        let mut times = Times::default();
        (0..19).for_each(|time| times.add(f64::from(time)));
        let mut row = Row::default();
        let mut late = |count: usize| {
            (0..count).for_each(|_| times.add(-1.0));
            times.set(&mut row);
            clocked(std::slice::from_ref(&row))
        };
        late(6).expect("less than a quarter");
        late(1).expect_err("more than a quarter");
        assert_eq!(times.made(), 26);
    }
}
