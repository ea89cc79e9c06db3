//! `smidge edges`: shows who calls whom, as TrafficMetrics have it.
//!
//! Reads the edges of one object or of each in a list, with the rights of the user; `report` chooses between the two sides of
//! a call. Measures nothing itself.

use std::{collections::BTreeSet, process::ExitCode};

use super::{
    output::Output,
    terminal::is_colourful,
    traffic::{
        Query,
        cluster::{Items, ReadError, Reader},
        json, refresh,
        target::Target,
    },
};

mod report;

use report::Report;

/// Maximum number of objects whose edges are read, a request for each.
const MAX_OBJECTS: usize = 200;

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
    refresh::run(&query, async |reader: &mut Reader, target: &Target| output(&query, reader, target).await)
}

async fn output(query: &Query, reader: &mut Reader, target: &Target) -> Result<String, ReadError> {
    let Items { items, left_out } = match &target.name {
        Some(name) => {
            reader.one(&target.edges(target.namespace.as_deref().unwrap_or_default(), name)).await?
        }
        None => of_each(reader, target).await?,
    };
    let report = Report::new(target, items, left_out);
    Ok(match query.output {
        Output::Text => report.text(query.watch, is_colourful()),
        Output::Json => json(&report, query),
    })
}

/// Reads the edges of each object. One that was deleted since it was listed has none.
async fn of_each(reader: &mut Reader, target: &Target) -> Result<Items, ReadError> {
    let listed = reader.wholes(target).await?.items;
    let names: BTreeSet<_> = listed.iter().map(|it| (&it.object.namespace, &it.object.name)).collect();
    if names.len() > MAX_OBJECTS {
        let bound = format!("{MAX_OBJECTS} objects, whose edges are requested one by one");
        return Err(ReadError::TooMuch { path: target.wholes().path(), bound });
    }
    let mut all = Items::default();
    for (namespace, name) in names {
        match reader.one(&target.edges(namespace, name)).await {
            Ok(Items { items, left_out }) => {
                all.items.extend(items);
                all.left_out = all.left_out.saturating_add(left_out);
            }
            Err(ReadError::Refused(refusal)) if refusal.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}
