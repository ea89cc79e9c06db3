//! `smidge stat`: shows success rate, calls per second and latency of objects, as TrafficMetrics have them.
//!
//! Reads the aggregated API with the rights of the user; `report` turns the items into rows. Measures nothing itself.

use std::process::ExitCode;

use super::traffic::{Query, cluster::Reader, refresh, target::Target};

mod report;

use report::Report;

/// Arguments of `smidge stat`.
///
/// The figures are those of the API metrics.smi-spec.io, in the cluster of the current kubeconfig: calls that the
/// objects received, refused ones apart. A TrafficSplit has a line for each backend, with its weight and the share of
/// the calls that it took. An object without calls has "-".
///
/// Exit status: 0 success, 2 invalid arguments, or the figures could not be read.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The objects.
    #[command(flatten)]
    pub query: Query,
}

/// Runs `smidge stat`.
#[allow(clippy::needless_pass_by_value)] // All commands take their arguments alike.
pub fn run(args: Args) -> ExitCode {
    let Args { query } = args;
    refresh::run(&query, async |reader: &mut Reader, target: &Target| {
        Ok(Report::new(target, reader.wholes(target).await?.items))
    })
}
