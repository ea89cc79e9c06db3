//! `smidge dashboards`: prints a dashboard for Grafana.
//!
//! The chart contains this output, and a test compares the two. Does not connect to Grafana.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::dashboards::Dashboard;

/// Arguments of `smidge dashboards`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Dashboard to print, as JSON that Grafana imports.
    #[arg(value_enum)]
    pub dashboard: Dashboard,
}

/// Runs `smidge dashboards`.
pub fn run(args: &Args) -> ExitCode {
    match io::stdout().lock().write_all(args.dashboard.text().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // A closed pipe is not an error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed to write to standard output: {error}");
            ExitCode::from(2)
        }
    }
}
