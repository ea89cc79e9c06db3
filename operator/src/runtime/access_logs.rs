//! Flags for the access logs of proxies.
//!
//! Part of the settings of `smidge run`; `runtime::pipeline` passes them on to lowering. `xds::envoy::access_log` defines the
//! lines.

use smidge_xds::mesh::settings::{AccessLogs, Share};

/// Settings of access logs.
#[derive(Debug, Clone, clap::Args)]
pub struct AccessLogFlags {
    /// Calls about which sidecars write a line of JSON to their standard output. Replicas must have the same value. A change
    /// replaces the listeners of all proxies.
    #[arg(long = "access-logs", env = "SMIDGE_ACCESS_LOGS", value_enum, default_value_t = Mode::Errors)]
    mode: Mode,
    /// Percentage of the calls without an error that `all` logs, from 0 to 100 with at most four decimals.
    #[arg(
        long = "access-log-sample-percent",
        env = "SMIDGE_ACCESS_LOG_SAMPLE_PERCENT",
        value_name = "PERCENT",
        default_value = "100"
    )]
    sample: Share,
}

/// Calls that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// None.
    // YAML reads the bare word as a truth value.
    #[value(alias = "false")]
    Off,
    /// Calls that failed, or that policy refused or, in audit mode, would refuse.
    Errors,
    /// Those, and a share of all others.
    All,
}

impl AccessLogFlags {
    /// Returns the setting of the mesh.
    pub fn setting(&self) -> AccessLogs {
        match self.mode {
            Mode::Off => AccessLogs::Off,
            Mode::Errors => AccessLogs::Errors,
            Mode::All => AccessLogs::All(self.sample),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        flags: AccessLogFlags,
    }

    fn of(arguments: &[&str]) -> Result<AccessLogs, String> {
        let arguments = ["smidge"].iter().chain(arguments);
        let command = Command::try_parse_from(arguments).map_err(|error| error.to_string())?;
        Ok(command.flags.setting())
    }

    #[test]
    fn errors_are_logged_by_default() {
        assert_eq!(of(&[]), Ok(AccessLogs::Errors));
        assert_eq!(of(&["--access-logs=off"]), Ok(AccessLogs::Off));
        assert_eq!(of(&["--access-logs=false"]), Ok(AccessLogs::Off));
        assert_eq!(of(&["--access-logs=all"]), Ok(AccessLogs::All(Share::ALL)));
        let tenth = AccessLogs::All("0.1".parse().unwrap());
        assert_eq!(of(&["--access-logs=all", "--access-log-sample-percent=0.1"]), Ok(tenth));
    }

    #[test]
    fn wrong_values_are_refused_with_what_is_expected() {
        let error = of(&["--access-log-sample-percent=101"]).unwrap_err();
        assert!(error.contains("expected a number from 0 to 100"), "{error}");
        let error = of(&["--access-logs=some"]).unwrap_err();
        assert!(error.contains("off, errors, all"), "{error}");
    }
}
