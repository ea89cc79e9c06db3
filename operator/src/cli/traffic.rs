//! Common part of `smidge stat`, `smidge edges` and `smidge top`: arguments, requests for TrafficMetrics, tables, refreshing.
//!
//! Asks the aggregated API as any client does, so that RBAC applies; keeps and computes no traffic. `target`, `page`,
//! `refusal`, `calls`, `columns` and `frame` decide everything without effects; `cluster`, `parts` and `refresh` have
//! them.

use std::time::Duration;

use serde::Serialize;
use smidge_traffic_metrics::api::{
    duration,
    query::{MAX_WINDOW, MIN_WINDOW},
};

use super::{
    output::Output,
    terminal::{Shown, is_colourful},
};

pub mod calls;
pub mod cluster;
pub mod columns;
mod frame;
pub mod objects;
pub mod page;
pub mod parts;
pub mod refresh;
pub mod refusal;
pub mod target;

/// Shortest time between refreshes.
const MIN_INTERVAL: Duration = Duration::from_secs(1);

/// Arguments of commands that show figures.
#[derive(Debug, Clone, clap::Args)]
pub struct Query {
    /// Kind of the objects as kubectl has it (deploy, sts, ds, job, rs, rc, po, svc, ns, no; ts for TrafficSplits), or
    /// KIND/NAME for one object.
    #[arg(value_name = "KIND[/NAME]")]
    pub object: String,
    /// Name of the one object.
    pub name: Option<String>,
    /// Namespace of the objects; that of the kubeconfig's context by default.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Show the objects of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Length of the time up to now that is reported, from 10s to 1h.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = window)]
    pub window: Duration,
    /// Labels of the objects, as for kubectl.
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Refresh the figures: in place on a terminal, else one block after the other (JSON: one line each).
    #[arg(short, long)]
    pub watch: bool,
    /// Time between refreshes, from 1s to 1h.
    #[arg(long, value_name = "DURATION", default_value = "10s", requires = "watch", value_parser = interval)]
    pub interval: Duration,
}

fn window(text: &str) -> Result<Duration, String> {
    bounded(text, MIN_WINDOW)
}

fn interval(text: &str) -> Result<Duration, String> {
    bounded(text, MIN_INTERVAL)
}

fn bounded(text: &str, least: Duration) -> Result<Duration, String> {
    let parsed = duration::parse(text).filter(|it| (least..=MAX_WINDOW).contains(it));
    let [least, most] = [least, MAX_WINDOW].map(duration::format);
    parsed.ok_or_else(|| format!("expected a duration from {least} to {most}, such as 30s or 5m30s"))
}

/// Time of the figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Time {
    /// Time of the answer, RFC 3339; empty without items.
    pub timestamp: String,
    /// Length of the time up to then that is reported.
    pub window: String,
}

impl Time {
    /// Returns the time of the first item.
    pub fn of(items: &[page::Item], asked: Duration) -> Self {
        let first = items.first();
        Self {
            timestamp: first.map(|item| item.timestamp.clone()).unwrap_or_default(),
            window: duration::format(first.and_then(|item| item.window).unwrap_or(asked)),
        }
    }

    /// Returns the line that a refresh begins with.
    pub fn heading(&self) -> String {
        let text = format!("{} window {}", self.timestamp, self.window);
        format!("{}\n", Shown(text.trim_start()))
    }
}

/// Figures that a command shows.
pub trait Report: Serialize {
    /// Returns the time of the figures.
    fn time(&self) -> &Time;
    /// Returns the table.
    fn table(&self, is_colourful: bool) -> String;
}

/// Returns a report in the format that was asked for. A table of a refresh begins with its time; JSON is on one line.
fn shown(report: &impl Report, query: &Query) -> String {
    let json = match query.output {
        Output::Text => {
            let heading = if query.watch { report.time().heading() } else { String::new() };
            return heading + &report.table(is_colourful());
        }
        Output::Json if query.watch => serde_json::to_string(report),
        Output::Json => serde_json::to_string_pretty(report),
    };
    // Reports have texts and numbers alone.
    format!("{}\n", json.unwrap_or_default())
}
