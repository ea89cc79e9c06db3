//! `smidge run`: turns flags into settings, sets up logging, and starts the runtime.
//!
//! Called by `cli`. Decides nothing about the mesh: `MeshConfig`, which is watched, does.

use std::{path::PathBuf, process::ExitCode};

use tracing::error;
use tracing_subscriber::EnvFilter;

use crate::runtime::{self, Settings};

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
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(log_level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    match log_format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
    match runtime::start(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The alternate form prints the causes as well.
            error!("{:#}", anyhow::Error::from(error));
            ExitCode::from(1)
        }
    }
}
