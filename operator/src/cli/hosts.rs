//! `smidge hosts`: prints the names and addresses of the Services of a folder, in the form of /etc/hosts.
//!
//! For machines without the DNS of a cluster. The addresses are those that `smidge run --dir` serves. Changes nothing.

use std::{
    io::{self, Write},
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
};

use crate::{
    documents::{DEFAULT_NAMESPACE, objects_within},
    source::files,
};

/// Arguments of `smidge hosts`.
///
/// Exit status: 0 success, 2 something could not be read.
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// A file, a folder (every *.yaml, *.yml and *.json below it) or - for standard input; may be repeated.
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    pub filename: Vec<PathBuf>,
    /// DNS domain of the Services.
    #[arg(long, env = "SMIDGE_CLUSTER_DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
}

/// Runs `smidge hosts`.
pub fn run(args: Args) -> ExitCode {
    let Args { filename, cluster_domain } = args;
    let (sources, mut unreadable) = files::read(&filename);
    let mut lines = Vec::new();
    for source in &sources {
        let mut read = objects_within(source, DEFAULT_NAMESPACE);
        unreadable.append(&mut read.unreadable);
        for ((namespace, name), service) in &read.inputs.services {
            let spec = service.spec.as_ref();
            let listed = spec.and_then(|spec| spec.cluster_ips.clone()).unwrap_or_default();
            let single = spec.and_then(|spec| spec.cluster_ip.clone()).filter(|_| listed.is_empty());
            for address in listed.into_iter().chain(single).filter_map(|text| text.parse::<IpAddr>().ok()) {
                let short = format!("{name}.{namespace}");
                lines.push(format!("{address} {short}.svc.{cluster_domain} {short}.svc {short}"));
            }
        }
    }
    for problem in &unreadable {
        eprintln!("unreadable: {problem}");
    }
    lines.sort();
    lines.dedup();
    let mut stdout = io::stdout().lock();
    let written = lines.iter().try_for_each(|line| writeln!(stdout, "{line}"));
    let is_lost = written.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe);
    if is_lost || !unreadable.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS }
}
