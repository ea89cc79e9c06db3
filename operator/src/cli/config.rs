//! Turns the configuration file of `smidge run` into arguments, so that a setting in the file means what the flag means.
//!
//! Called before arguments are parsed. The file has the long names of flags as keys. A flag takes precedence over the
//! file, the file over the environment. Decides nothing about values: the parser of arguments does.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

use clap::CommandFactory as _;
use serde_json::Value;

use super::Cli;

/// Command that has a configuration file.
const COMMAND: &str = "run";
/// Flag that names the file.
const FLAG: &str = "--config";

/// Errors of a configuration file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("failed to read configuration file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        source: io::Error,
    },
    /// It is not a YAML mapping.
    #[error("configuration file {}: {message}: expected a YAML mapping of settings, as in `trust-domain: cluster.local`", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Message of the parser.
        message: String,
    },
    /// It has a setting that does not exist.
    #[error("configuration file {}: {name} is not a setting of `smidge {COMMAND}`{}", path.display(), hint(near.as_deref()))]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Name of the setting.
        name: String,
        /// A setting with a similar name.
        near: Option<String>,
    },
    /// It has a value that no flag can have.
    #[error("configuration file {}: {name}: expected text, a number, or a list of these", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Name of the setting.
        name: String,
    },
}

fn hint(near: Option<&str>) -> String {
    near.map(|near| format!(" (hint: is {near} meant?)")).unwrap_or_default()
}

/// Returns the arguments with those of the configuration file that they name, if they name one.
pub fn expand(mut arguments: Vec<OsString>) -> Result<Vec<OsString>, ConfigError> {
    if arguments.get(1).map(OsString::as_os_str) != Some(OsStr::new(COMMAND)) {
        return Ok(arguments);
    }
    let Some(path) = file(&arguments) else { return Ok(arguments) };
    let settings = read(&path)?;
    arguments.splice(2..2, settings);
    Ok(arguments)
}

/// Returns the file that the arguments name.
fn file(arguments: &[OsString]) -> Option<PathBuf> {
    let position = arguments.iter().position(|argument| argument == FLAG);
    let separate = position.and_then(|position| arguments.get(position + 1)).map(PathBuf::from);
    let joined = || {
        let mut texts = arguments.iter().filter_map(|argument| argument.to_str());
        texts.find_map(|text| text.strip_prefix(FLAG)?.strip_prefix('=')).map(PathBuf::from)
    };
    separate.or_else(joined)
}

fn read(path: &Path) -> Result<Vec<OsString>, ConfigError> {
    let file = |source| ConfigError::File { path: path.to_owned(), source };
    let text = fs::read_to_string(path).map_err(file)?;
    let settings: BTreeMap<String, Value> = serde_saphyr::from_str(&text).map_err(|error| {
        let message = error.to_string().lines().next().unwrap_or_default().to_owned();
        ConfigError::Form { path: path.to_owned(), message }
    })?;
    let command = Cli::command();
    let run = command.find_subcommand(COMMAND);
    let names: Vec<&str> =
        run.into_iter().flat_map(clap::Command::get_arguments).filter_map(clap::Arg::get_long).collect();
    let mut arguments = Vec::new();
    for (name, value) in settings {
        if !names.contains(&name.as_str()) || name == FLAG.trim_start_matches('-') {
            let near = crate::lower::near::nearest(&name, names.iter().copied()).map(str::to_owned);
            return Err(ConfigError::Unknown { path: path.to_owned(), name, near });
        }
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            let text = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(value) => value.to_string(),
                _ => return Err(ConfigError::Value { path: path.to_owned(), name }),
            };
            arguments.push(OsString::from(format!("--{name}={text}")));
        }
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn expanded(text: &str, more: &[&str]) -> Result<Vec<OsString>, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        fs::write(&path, text).unwrap();
        let arguments = ["smidge", "run", "--config"].map(OsString::from).into_iter();
        expand(arguments.chain([path.into()]).chain(more.iter().map(OsString::from)).collect())
    }

    #[test]
    fn settings_of_the_file_are_those_of_flags_and_flags_take_precedence() {
        let text = "dir: /mesh\nstate: /state\ntrust-domain: from.file\ncluster-name: from-file\n";
        let arguments = expanded(text, &["--cluster-name", "from-flag"]).unwrap();
        let shown = format!("{:?}", Cli::try_parse_from(arguments).unwrap());
        for part in ["\"/mesh\"", "\"/state\"", "\"from.file\"", "\"from-flag\""] {
            assert!(shown.contains(part), "{part} in {shown}");
        }
        assert!(!shown.contains("from-file"));
    }

    #[test]
    fn defects_name_file_and_setting() {
        for (text, words) in [
            (
                "trust-domian: a\n",
                "trust-domian is not a setting of `smidge run` (hint: is trust-domain meant?)",
            ),
            ("config: other.yaml\n", "config is not a setting"),
            ("- a\n", "expected a YAML mapping of settings"),
            ("dir: {a: b}\n", "dir: expected text, a number, or a list of these"),
        ] {
            let error = expanded(text, &[]).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("config.yaml"), "{error}");
        }
    }
}
