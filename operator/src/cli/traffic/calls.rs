//! Numbers of calls and latencies of one line, and the cells and JSON that are made of them.
//!
//! Pure. Read by `page`, shown by `stat`, `edges` and `top`. Without calls there is no rate and no latency.

use std::time::Duration;

use serde::Serialize;

use super::columns::Cell;
use crate::cli::terminal::Colour;

/// Text of a figure that there is none of.
pub const NONE: &str = "-";

/// Calls within a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Calls {
    /// Number of calls that succeeded.
    pub success: u64,
    /// Number of calls that failed.
    pub failure: u64,
    /// Number of calls that policy refused.
    pub refused: u64,
    /// Latency below which 50 % of the answers were, in milliseconds; `None` without answers.
    pub p50_ms: Option<f64>,
    /// The same for 90 %.
    pub p90_ms: Option<f64>,
    /// The same for 99 %.
    pub p99_ms: Option<f64>,
}

/// Rates of calls.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    /// Share of the calls that succeeded, of those that were not refused, in percent; `None` without calls.
    pub success_percent: Option<f64>,
    /// Calls per second, without those that were refused.
    pub rps: f64,
}

impl Calls {
    /// Returns the number of all calls.
    pub fn total(&self) -> u64 {
        self.answered().saturating_add(self.refused)
    }

    fn answered(&self) -> u64 {
        self.success.saturating_add(self.failure)
    }

    /// Returns the rates within this window.
    pub fn rates(&self, window: Duration) -> Rates {
        let rps = number(self.answered()) / window.as_secs_f64().max(1.0);
        Rates { success_percent: percent(self.success, self.answered()), rps }
    }

    /// Returns the cells of success rate and calls per second. A line whose every call was refused has that word.
    pub fn rate_cells(&self, window: Duration) -> [Cell; 2] {
        let Rates { success_percent, rps } = self.rates(window);
        let is_refused = success_percent.is_none() && self.refused > 0;
        let success = success_percent.map_or_else(
            || Cell::number(if is_refused { "refused" } else { NONE }).coloured_if(is_refused, Colour::Red),
            |rate| Cell::number(format!("{rate:.2}%")).coloured_if(self.failure > 0, Colour::Yellow),
        );
        [success, Cell::number(if self.total() == 0 { NONE.to_owned() } else { format!("{rps:.2}") })]
    }

    /// Returns the cells of latencies.
    pub fn latency_cells(&self) -> [Cell; 3] {
        [self.p50_ms, self.p90_ms, self.p99_ms]
            .map(|latency| Cell::number(latency.map_or_else(|| NONE.to_owned(), |it| format!("{it:.1}ms"))))
    }

    /// Returns the cell of refused calls.
    pub fn refused_cell(&self) -> Cell {
        Cell::number(self.refused.to_string()).coloured_if(self.refused > 0, Colour::Red)
    }
}

/// Returns the share of a number, in percent; `None` of zero.
pub fn percent(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| number(part) / number(of) * 100.0)
}

#[expect(clippy::cast_precision_loss, reason = "for display")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(of: Calls) -> String {
        let cells = of.rate_cells(Duration::from_secs(30)).into_iter().chain(of.latency_cells());
        cells.chain([of.refused_cell()]).map(|cell| cell.text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn figures_without_calls_are_none() {
        assert_eq!(shown(Calls::default()), "- - - - - 0");
        assert_eq!(shown(Calls { refused: 12, ..Calls::default() }), "refused 0.00 - - - 12");
        let calls = Calls { success: 2, failure: 1, refused: 3, p50_ms: Some(0.5), ..Calls::default() };
        assert_eq!(shown(calls), "66.67% 0.10 0.5ms - - 3");
        assert_eq!(shown(Calls { failure: 3, ..Calls::default() }), "0.00% 0.10 - - - 0");
    }

    #[test]
    fn any_count_has_rates() {
        let most = Calls { success: u64::MAX, failure: u64::MAX, refused: u64::MAX, ..Calls::default() };
        assert_eq!(most.total(), u64::MAX);
        let rates = most.rates(Duration::ZERO);
        assert!(rates.rps.is_finite() && rates.success_percent.unwrap() <= 100.0, "{rates:?}");
    }
}
