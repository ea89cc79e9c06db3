//! `smidge crds`: prints the custom resource definitions.
//!
//! The chart contains this output, and `make check` compares the two. Does not connect to a cluster.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::ValueEnum;
use serde_json::json;
use smidge_crds::definitions::{self, Error};

/// Arguments of `smidge crds`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Namespace that the operator runs in: the API server calls it there to convert versions.
    #[arg(long, default_value = "smidge-system")]
    pub namespace: String,
    /// Output format: one YAML document for each definition, or one JSON list of them all.
    #[arg(short, long, value_enum, default_value_t = Output::Yaml)]
    pub output: Output,
}

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// YAML documents, ready for `kubectl apply -f -`.
    Yaml,
    /// A `List` as JSON, ready for the same command.
    Json,
}

/// Runs `smidge crds`.
pub fn run(args: Args) -> ExitCode {
    let Args { namespace, output } = args;
    let text = match print(&namespace, output) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{:#}", anyhow::Error::from(error));
            return ExitCode::from(2);
        }
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // A closed pipe is not an error.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed to write to standard output: {error}");
            ExitCode::from(2)
        }
    }
}

fn print(namespace: &str, output: Output) -> Result<String, Error> {
    let definitions = definitions::within(definitions::all()?, namespace);
    match output {
        Output::Yaml => definitions::to_yaml(&definitions),
        Output::Json => {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": definitions});
            Ok(format!("{list:#}\n"))
        }
    }
}
