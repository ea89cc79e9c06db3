//! `smidge explain`: turns a question into the verdict and its reasons.
//!
//! Reads files as `smidge check` does, or lists the cluster of the current kubeconfig, and prints the answer of
//! `explain`.

use std::{collections::BTreeMap, io, process::ExitCode};

use anyhow::Context as _;
use smidge_xds::mesh::id::ClusterId;

use super::{
    check::{Report, print as print_report},
    manifests::Manifests,
    output::Output,
    terminal::{Shown, is_colourful},
};
use crate::{
    documents::Offline,
    explain::{Answer, QueryError, Question, Verdict, explain},
    lower::lower,
};

mod live;
pub mod text;

/// Arguments of `smidge explain`.
///
/// With -f the files are read as by `smidge check`; without, the objects of the cluster of the current kubeconfig are
/// listed (this needs the right to list pods, Services, EndpointSlices, namespaces, SMI's kinds, MeshConfigs and
/// ExternalWorkloads).
///
/// Anything that the question leaves out may have any value: the verdict is "allowed" if every value is allowed,
/// "partial" if some are, and "denied" if none is. Without --port the question is about every port.
///
/// Exit status: 0 allowed, 1 denied or allowed in part, 2 invalid query, or something could not be read.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Source of the call: NAMESPACE/WORKLOAD, or sa:NAMESPACE/NAME for a ServiceAccount.
    pub from: String,
    /// Destination of the call: NAMESPACE/NAME of a Service or else of a workload (prefix service: or workload: to
    /// choose), or sa:NAMESPACE/NAME.
    pub to: String,
    /// Method of the request.
    #[arg(long)]
    pub method: Option<String>,
    /// Path of the request.
    #[arg(long)]
    pub path: Option<String>,
    /// Header of the request; may be repeated.
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub headers: Vec<String>,
    /// Port of the Service, or of the workload if the destination is one.
    #[arg(long)]
    pub port: Option<u16>,
    /// The manifests.
    #[command(flatten)]
    pub manifests: Manifests,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Runs `smidge explain`.
#[allow(clippy::needless_pass_by_value)] // All commands take their arguments alike.
pub fn run(args: Args) -> ExitCode {
    match run_or_fail(&args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {}", Shown(&format!("{error:#}")));
            ExitCode::from(2)
        }
    }
}

fn run_or_fail(args: &Args) -> anyhow::Result<u8> {
    let offline = if args.manifests.filename.is_empty() { live::load()? } else { args.manifests.load() };
    if !offline.unreadable.is_empty() {
        let unreadable = offline.unreadable.clone();
        print_report(&Report { unreadable, findings: Vec::new() }, false, &mut io::stderr().lock())
            .context("failed to print what could not be read")?;
    }
    let is_whole = offline.unreadable.is_empty();
    let answer = answer(offline, &args.question())?;
    let written = args.output.write(&answer, |out| text::print(&answer, is_colourful(), out));
    written.context("failed to write")?;
    // Objects that could not be read might have changed the answer.
    Ok(if is_whole { exit_code(&answer) } else { 2 })
}

/// Returns the exit status: 0 allowed, 1 denied or allowed in part.
pub fn exit_code(answer: &Answer) -> u8 {
    u8::from(answer.verdict != Verdict::Allowed)
}

impl Args {
    /// Returns the question without the options of input and output.
    pub fn question(&self) -> Question {
        let Self { from, to, method, path, headers, port, manifests: _, output: _ } = self;
        Question {
            from: from.clone(),
            to: to.clone(),
            method: method.clone(),
            path: path.clone(),
            headers: headers.clone(),
            port: *port,
        }
    }
}

/// Answers a question about one cluster.
pub fn answer(offline: Offline, question: &Question) -> Result<Answer, QueryError> {
    let clusters = BTreeMap::from([(ClusterId::default(), offline.inputs)]);
    let (mesh, mut findings) = lower(&clusters);
    offline.written.rename(&mut findings);
    findings.extend(offline.findings);
    findings.sort();
    let inputs = clusters.into_values().next().unwrap_or_default();
    explain(&mesh, &inputs, &findings, question)
}
