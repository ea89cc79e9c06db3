//! `smidge top`: shows the calls of objects by route, those with most calls first, as TrafficMetrics have them.
//!
//! Reads the aggregated API with the rights of the user; `report` turns the items into rows. Measures nothing itself: a
//! MetricsPolicy does.

use std::process::ExitCode;

use smidge_traffic_metrics::api::request::Subresource;

use super::traffic::{
    Query,
    cluster::Reader,
    parts, refresh,
    target::{Target, TargetError},
};

mod report;

use report::Report;

/// Arguments of `smidge top`.
///
/// The figures are those of the API metrics.smi-spec.io, in the cluster of the current kubeconfig: calls that the objects
/// received, by the match of an HTTPRouteGroup that they met. ROUTE is "-" for calls that met none. Routes are
/// measured where a MetricsPolicy asks for it. With --watch the figures are refreshed in place.
///
/// Exit status: 0 success, 2 invalid arguments, or the figures could not be read.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The objects; Services and TrafficSplits have no routes.
    #[command(flatten)]
    pub query: Query,
}

/// Runs `smidge top`.
#[allow(clippy::needless_pass_by_value)] // All commands take their arguments alike.
pub fn run(args: Args) -> ExitCode {
    let Args { query } = args;
    refresh::run(&query, async |reader: &mut Reader, target: &Target| {
        if !target.resource.has_routes() {
            return Err(TargetError::NoRoutes { kind: target.resource.plural }.into());
        }
        Ok(Report::new(target, parts::read(reader, target, Subresource::Routes).await?.items))
    })
}
