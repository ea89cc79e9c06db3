//! `smidge run`: turns flags into settings, sets up logging, and starts the runtime.
//!
//! Called by `cli`. Decides nothing about the mesh: `MeshConfig`, which is watched, does.

use std::{path::PathBuf, process::ExitCode};

use tracing::error;
use tracing_subscriber::{
    EnvFilter, Layer as _,
    filter::{FilterExt as _, filter_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    runtime::{self, Settings},
    telemetry::{self, Telemetry},
};

/// Arguments of `smidge run`.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true)]
pub struct Args {
    /// YAML file with these settings, by the long names of the flags. Flags take precedence.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// Log filter, for example `info` or `info,smidge_xds=debug`.
    #[arg(long, env = "SMIDGE_LOG_LEVEL", default_value = "info")]
    log_level: EnvFilter,
    /// Format of log lines.
    #[arg(long, env = "SMIDGE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object for each line.
    Json,
}

/// Runs the operator until it is stopped. Returns 0 after an orderly stop, 1 if it could not start or a task failed.
pub fn run(args: Box<Args>) -> ExitCode {
    // The file was read before the arguments were parsed.
    let Args { config: _, settings, log_level, log_format } = *args;
    let started = settings.telemetry().map(|settings| Telemetry::start(&settings)).transpose();
    let (telemetry, failure) = match started {
        Ok(telemetry) => (telemetry, None),
        Err(error) => (None, Some(error)),
    };
    log(log_level, log_format, telemetry.as_ref());
    let ended = match failure {
        None => runtime::start(settings).map_err(anyhow::Error::from),
        Some(failure) => Err(failure.into()),
    };
    // The alternate form prints the causes as well.
    let ended = ended.inspect_err(|error| error!("{error:#}"));
    if let Some(telemetry) = telemetry {
        telemetry.stop();
    }
    if ended.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Sets up the log lines of the process, and what is sent besides.
fn log(level: EnvFilter, format: LogFormat, telemetry: Option<&Telemetry>) {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let records = level.clone();
    tracing_subscriber::registry()
        .with(lines.with_filter(level.and(filter_fn(telemetry::is_for_lines))))
        .with(telemetry.and_then(Telemetry::span_layer))
        .with(telemetry.and_then(|telemetry| telemetry.record_layer(records)))
        .init();
}
