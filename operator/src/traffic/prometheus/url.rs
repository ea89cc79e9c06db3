//! Reads the address of Prometheus: `http` or `https`, host, port, and the prefix of its paths.
//!
//! Pure. A setting of `smidge run`. Credentials are no part of it, as addresses are logged.

use std::{fmt, str::FromStr};

use hyper::Uri;

/// Address of the API of a Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrometheusUrl {
    /// True for https.
    pub is_https: bool,
    /// The host, without brackets.
    pub host: String,
    /// The port; 80 or 443 by default.
    pub port: u16,
    /// Prefix of all paths, without a slash at the end; usually empty.
    pub prefix: String,
    authority: String,
}

/// Error of an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}: expected http://HOST[:PORT][/PREFIX] or https://HOST[:PORT][/PREFIX]{hint}")]
pub struct UrlError {
    problem: &'static str,
    hint: &'static str,
}

impl FromStr for PrometheusUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let error = |problem, hint| UrlError { problem, hint };
        let uri: Uri = text.parse().map_err(|_| error("not a URL", ""))?;
        let is_https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(error("no scheme of HTTP", "")),
        };
        let authority = uri.authority().ok_or_else(|| error("no host", ""))?;
        if authority.as_str().contains('@') {
            let hint = " (hint: --prometheus-token names a file with the token)";
            return Err(error("credentials in the URL", hint));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(error("a query or a fragment in the URL", ""));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        // A port that is out of range counts as none in the parser's view.
        let has_port = authority.as_str().len() > authority.host().len();
        if host.is_empty() || (has_port && authority.port_u16().is_none()) {
            return Err(error("no host, or an invalid port", ""));
        }
        let port = authority.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { is_https, host, port, prefix, authority: authority.as_str().to_owned() })
    }
}

impl PrometheusUrl {
    /// Returns host and port as written.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl fmt::Display for PrometheusUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(formatter, "{scheme}://{}{}", self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_and_may_have_a_port_and_a_prefix() {
        for (text, is_https, host, port, prefix) in [
            ("http://prometheus", false, "prometheus", 80, ""),
            ("http://prometheus.monitoring:9090/", false, "prometheus.monitoring", 9090, ""),
            ("https://metrics.example.com/a/b/", true, "metrics.example.com", 443, "/a/b"),
            ("https://[::1]:9090", true, "::1", 9090, ""),
        ] {
            let url: PrometheusUrl = text.parse().unwrap();
            assert_eq!((url.is_https, &*url.host, url.port, &*url.prefix), (is_https, host, port, prefix));
            assert_eq!(url.to_string(), text.trim_end_matches('/'));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for (text, expected) in [
            ("prometheus:9090", "no scheme"),
            ("ftp://prometheus", "no scheme"),
            ("", "not a URL"),
            ("http://", "not a URL"),
            ("http://a b", "not a URL"),
            ("http://host:99999", "port"),
            ("http://host:", "port"),
            ("http://host/?a=b", "query"),
            ("http://host/#a", "fragment"),
            ("http://user:secret@host", "credentials"),
        ] {
            let error = text.parse::<PrometheusUrl>().unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("expected http://HOST"), "{text}: {error}");
            assert!(!error.contains("secret"));
        }
    }
}
