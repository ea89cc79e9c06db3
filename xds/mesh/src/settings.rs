//! Settings that every proxy of a mesh has: limits of the heads of messages, the header that names the caller, and what
//! is logged and traced.
//!
//! Turned into options of every listener and cluster, so that a change of them replaces all of these.

use std::{fmt, str::FromStr};

use serde::Serialize;

/// Settings of a mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// The maximum number of headers of a request or of a response.
    pub max_headers: u32,
    /// The maximum size of the head of a request or of a response, in KiB.
    pub max_head_kib: u32,
    /// True if the server's proxy names the verified caller of each request in a header of its own.
    pub names_caller: bool,
    /// The calls about which proxies write a line.
    #[serde(skip_serializing_if = "AccessLogs::is_off")]
    pub access_logs: AccessLogs,
    /// The traces of requests; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
}

impl Default for Settings {
    fn default() -> Self {
        // Servers commonly take 8 to 64 KiB, and Envoy by itself 100 headers and 60 KiB.
        let access_logs = AccessLogs::Off;
        Self { max_headers: 1_000, max_head_kib: 96, names_caller: false, access_logs, tracing: None }
    }
}

/// The calls about which proxies write a line to their standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AccessLogs {
    /// None.
    #[default]
    Off,
    /// Those that failed, that policy refused, or that it would refuse if it were enforced.
    Errors,
    /// Those, and this share of all others.
    All(Share),
}

impl AccessLogs {
    /// Returns true if nothing is logged.
    pub fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

/// Collector of the spans of requests, and the share of requests that have some: OTLP over gRPC, in plaintext.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tracing {
    /// Name or address of the collector.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The share of the traces that begin at a proxy. One that others have begun is continued as they decided.
    pub share: Share,
}

/// Share of a whole, in millionths. In settings: a percentage from 0 to 100 with at most four decimals, for example `0.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Share(u32);

/// A text is no percentage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no percentage: expected a number from 0 to 100 with at most four decimals, for example 0.1"
)]
pub struct ShareError(String);

impl Share {
    /// The whole.
    pub const ALL: Self = Self(1_000_000);

    /// Returns the number of millionths, at most a million.
    pub fn millionths(self) -> u32 {
        self.0
    }
}

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        let invalid = || ShareError(text.to_owned());
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || whole.len() > 3 || !is_number(decimals) || decimals.len() > 4 {
            return Err(invalid());
        }
        let number = format!("{whole}{decimals:0<4}").parse().map_err(|_| invalid())?;
        (number <= Self::ALL.0).then_some(Self(number)).ok_or_else(invalid)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:04}", self.0 / 10_000, self.0 % 10_000);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        let of = |text: &str| text.parse::<Share>().map(Share::millionths);
        assert_eq!(of("100"), Ok(1_000_000));
        assert_eq!(of("0.1"), Ok(1_000));
        assert_eq!(of("12.3456"), Ok(123_456));
        assert_eq!(of("0"), Ok(0));
        for text in ["", ".", "1.", ".5", "-1", "101", "100.1", "1e2", "0.00001", "NaN", "99999999999"] {
            assert_eq!(of(text), Err(ShareError(text.to_owned())));
        }
    }

    #[test]
    fn shares_are_written_as_they_are_read() {
        for text in ["100", "0.1", "12.3456", "0", "10"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
    }
}
