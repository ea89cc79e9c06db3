//! Flags for the traces of proxies: the collector of spans, and the share of requests that is traced.
//!
//! Part of the settings of `smidge run`; `runtime::pipeline` passes them on to lowering. `xds::envoy::tracing` builds the
//! tracer.

use std::{fmt, str::FromStr};

use hyper::Uri;
use smidge_xds::mesh::settings::{Share, Tracing};

/// Port of OTLP over gRPC.
const DEFAULT_PORT: u16 = 4317;

/// Settings of traces.
#[derive(Debug, Clone, clap::Args)]
pub struct TraceFlags {
    /// Collector to which sidecars send spans, by OTLP over gRPC in plaintext: http://HOST[:PORT], port 4317 by default.
    /// Without it there are none. Replicas must have the same value. A change replaces the listeners of all proxies.
    #[arg(
        id = "tracing_endpoint",
        long = "tracing-endpoint",
        env = "SMIDGE_TRACING_ENDPOINT",
        value_name = "URL"
    )]
    endpoint: Option<Endpoint>,
    /// Percentage of the traces that begin at a sidecar, from 0 to 100 with at most four decimals. Traces that others have
    /// begun are continued as they decided.
    #[arg(
        id = "tracing_sample",
        long = "tracing-sample-percent",
        env = "SMIDGE_TRACING_SAMPLE_PERCENT",
        value_name = "PERCENT",
        default_value = "1",
        requires = "tracing_endpoint"
    )]
    sample: Share,
}

/// Address of a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoint {
    host: String,
    port: u16,
}

/// A text is no address of a collector.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}: expected http://HOST[:PORT] (hint: the port of OTLP over gRPC is {DEFAULT_PORT})")]
struct EndpointError {
    problem: &'static str,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let error = |problem| EndpointError { problem };
        let uri: Uri = text.parse().map_err(|_| error("not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(error("spans are sent in plaintext")),
            _ => return Err(error("no scheme")),
        }
        let authority = uri.authority().ok_or_else(|| error("no host"))?;
        if authority.as_str().contains('@')
            || uri.path().len() > 1
            || uri.query().is_some()
            || text.contains('#')
        {
            return Err(error("more than a host and a port"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let has_port = authority.as_str().len() > authority.host().len();
        let port = authority.port_u16();
        if host.is_empty() || host.len() > 253 || port == Some(0) || (has_port && port.is_none()) {
            return Err(error("no host, or an invalid port"));
        }
        Ok(Self { host, port: port.unwrap_or(DEFAULT_PORT) })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "http://[{host}]:{port}")
        } else {
            write!(f, "http://{host}:{port}")
        }
    }
}

impl TraceFlags {
    /// Returns the address of the collector with its port, if there is one.
    pub fn endpoint(&self) -> Option<String> {
        self.endpoint.as_ref().map(Endpoint::to_string)
    }

    /// Returns the setting of the mesh.
    pub fn setting(&self) -> Option<Tracing> {
        let Endpoint { host, port } = self.endpoint.clone()?;
        Some(Tracing { host, port, share: self.sample })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        flags: TraceFlags,
    }

    fn of(arguments: &[&str]) -> Result<Option<Tracing>, String> {
        let command = Command::try_parse_from(["smidge"].iter().chain(arguments));
        Ok(command.map_err(|error| error.to_string())?.flags.setting())
    }

    #[test]
    fn a_collector_turns_them_on() {
        assert_eq!(of(&[]), Ok(None));
        let one = "1".parse().unwrap();
        for (text, host, port) in [
            ("http://otel.observability:4318", "otel.observability", 4318),
            ("http://otel/", "otel", 4317),
            ("http://[::1]:99", "::1", 99),
        ] {
            let expected = Tracing { host: host.to_owned(), port, share: one };
            assert_eq!(of(&["--tracing-endpoint", text]), Ok(Some(expected)));
            // The text with its port means the same.
            let endpoint = Endpoint::from_str(text).unwrap();
            assert_eq!(Endpoint::from_str(&endpoint.to_string()), Ok(endpoint));
        }
        let all = of(&["--tracing-endpoint=http://a", "--tracing-sample-percent=100"]).unwrap().unwrap();
        assert_eq!(all.share, Share::ALL);
    }

    #[test]
    fn other_addresses_are_refused() {
        for (text, problem) in [
            ("https://otel", "plaintext"),
            ("otel:4317", "no scheme"),
            ("http://", "not a URL"),
            ("http://otel:0", "port"),
            ("http://otel:99999", "port"),
            ("http://otel/v1/traces", "more than"),
            ("http://a:b@otel", "more than"),
        ] {
            let error = of(&["--tracing-endpoint", text]).unwrap_err();
            assert!(error.contains(problem) && error.contains("expected http://HOST"), "{text}: {error}");
        }
        assert!(of(&["--tracing-sample-percent=5"]).unwrap_err().contains("--tracing-endpoint"));
    }
}
