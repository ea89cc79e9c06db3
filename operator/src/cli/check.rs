//! `smidge check`: turns manifests into findings.
//!
//! Treats the objects of the files as one cluster, judged by the same `lower` that the operator runs, and adds no
//! rules.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;
use smidge_xds::mesh::id::ClusterId;

use super::{
    manifests::Manifests,
    output::Output,
    terminal::{Colour, Shown, coloured, is_colourful},
};
use crate::{
    documents::Unreadable,
    finding::{Finding, Severity, in_short},
    lower::lower,
};

/// Arguments of `smidge check`.
///
/// The files are read as one cluster: workloads become pods, Services select them by their labels, and an object
/// without an address gets a placeholder from 198.18.0.0/15. Every workload counts as injected, unless it or its
/// namespace is labelled smidge.mesh/inject=disabled. A pod that was read from a cluster counts as it is.
///
/// Exit status: 0 success (warnings allowed), 1 errors, 2 something could not be read.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment, mut_arg("filename", |arg| arg.required(true)))]
pub struct Args {
    /// The manifests.
    #[command(flatten)]
    pub manifests: Manifests,
    /// Output format.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Result of `check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Documents that could not be read.
    pub unreadable: Vec<Unreadable>,
    /// Findings about the documents that could be read, errors first.
    pub findings: Vec<Finding>,
}

/// Runs `smidge check`.
pub fn run(args: Args) -> ExitCode {
    let Args { manifests, output } = args;
    let report = check(&manifests);
    if output.write(&report, |out| print(&report, is_colourful(), out)).is_err() {
        return ExitCode::from(2);
    }
    ExitCode::from(report.exit_code())
}

/// Checks the files as one cluster.
pub fn check(manifests: &Manifests) -> Report {
    let offline = manifests.load();
    let (_, mut findings) = lower(&BTreeMap::from([(ClusterId::default(), offline.inputs)]));
    offline.written.rename(&mut findings);
    findings.extend(offline.findings);
    findings.sort();
    Report { unreadable: offline.unreadable, findings }
}

impl Report {
    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Returns the exit status: 0 success, 1 errors, 2 something could not be read.
    pub fn exit_code(&self) -> u8 {
        match (self.unreadable.is_empty(), self.count(Severity::Error)) {
            (false, _) => 2,
            (true, 0) => 0,
            (true, _) => 1,
        }
    }
}

/// Writes the report as text.
pub fn print(report: &Report, is_colourful: bool, out: &mut impl Write) -> io::Result<()> {
    for unreadable in &report.unreadable {
        line("unreadable: ", Colour::Red, is_colourful, &unreadable.to_string(), out)?;
    }
    for finding in &report.findings {
        let colour = if finding.severity == Severity::Error { Colour::Red } else { Colour::Yellow };
        let text = finding.to_string();
        let word = format!("{}: ", finding.severity);
        line(&word, colour, is_colourful, text.strip_prefix(&word).unwrap_or(&text), out)?;
    }
    let (errors, warnings) = (report.count(Severity::Error), report.count(Severity::Warning));
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let mut summary = format!("{}, {}", count(errors, "error"), count(warnings, "warning"));
    if !report.unreadable.is_empty() {
        summary = format!("{}, {summary}", count(report.unreadable.len(), "unreadable document"));
    }
    writeln!(out, "{summary}")
}

fn line(word: &str, colour: Colour, is_colourful: bool, text: &str, out: &mut impl Write) -> io::Result<()> {
    // A name may be too long to be read.
    let text = in_short(text.to_owned());
    writeln!(out, "{}{}", coloured(word, colour, is_colourful), Shown(&text))
}
