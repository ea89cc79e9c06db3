//! `smidge edges`: shows who calls whom, as TrafficMetrics have it.
//!
//! Reads the edges of one object or of each in a list, with the rights of the user; `report` chooses between the two sides of
//! a call. Measures nothing itself.

use std::process::ExitCode;

use smidge_traffic_metrics::api::request::Subresource;

use super::traffic::{
    Query,
    cluster::{Items, Reader},
    parts, refresh,
    target::Target,
};

mod report;

use report::Report;

/// Arguments of `smidge edges`.
///
/// The figures are those of the API metrics.smi-spec.io, in the cluster of the current kubeconfig. Of calls that the
/// proxies of both sides have counted, the server's figures are shown; SIDE is the side that has counted. A caller
/// without a verified identity is "(no identity)". Calls that reached no workload lead to the Service that was called.
///
/// Without a name the edges of each object are read, of at most 200.
///
/// Exit status: 0 success, 2 invalid arguments, or the figures could not be read.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The objects.
    #[command(flatten)]
    pub query: Query,
}

/// Runs `smidge edges`.
#[allow(clippy::needless_pass_by_value)] // All commands take their arguments alike.
pub fn run(args: Args) -> ExitCode {
    let Args { query } = args;
    refresh::run(&query, async |reader: &mut Reader, target: &Target| {
        let Items { items, left_out } = parts::read(reader, target, Subresource::Edges).await?;
        Ok(Report::new(target, items, left_out))
    })
}
