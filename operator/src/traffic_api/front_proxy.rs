//! Authenticates the API server as a front proxy, and reads the user from the headers that it adds.
//!
//! Used by `traffic_api` for each request; made by `configuration` from what the API server publishes for this purpose.
//! *Invariant:* headers count only together with a client certificate that the published authorities have signed, for a
//! published name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::http::HeaderMap;
use rustls::{
    RootCertStore,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use smidge_traffic_metrics::api::query::unescape;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::ca::pem;

/// Field of the ConfigMap with the authorities of front proxies.
const AUTHORITIES: &str = "requestheader-client-ca-file";
/// Field with the common names of front proxies; an empty list: any.
const NAMES: &str = "requestheader-allowed-names";
/// Maximum number of groups, and of values of extra fields, of a user.
const MAX_VALUES: usize = 1000;

/// Errors of the published configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    /// There are no authorities.
    #[error(
        "no field {AUTHORITIES}: the API server does not act as a front proxy (hint: kube-apiserver needs \
         --requestheader-client-ca-file and --proxy-client-cert-file)"
    )]
    NoAuthorities,
    /// The authorities cannot be used.
    #[error("invalid field {AUTHORITIES}: expected PEM certificates of authorities")]
    Authorities,
    /// A list cannot be read.
    #[error("invalid field {field}: expected a JSON list of texts")]
    List {
        /// The field.
        field: &'static str,
    },
}

/// User whose request a front proxy passes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The UID; empty if it was not sent.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// Further fields.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Front proxies that are trusted, and the headers that they use. The default trusts none.
#[derive(Debug, Default)]
pub struct Trusted {
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    names: BTreeSet<String>,
    username: Vec<String>,
    uid: Vec<String>,
    group: Vec<String>,
    extra_prefixes: Vec<String>,
}

impl Trusted {
    /// Reads the data of the ConfigMap `extension-apiserver-authentication`.
    pub fn parse(data: &BTreeMap<String, String>) -> Result<Self, ConfigurationError> {
        let text = data.get(AUTHORITIES).filter(|text| !text.trim().is_empty());
        let text = text.ok_or(ConfigurationError::NoAuthorities)?;
        let invalid = || ConfigurationError::Authorities;
        let mut roots = RootCertStore::empty();
        for certificate in pem::certificates(text.as_bytes()).ok_or_else(invalid)? {
            roots.add(certificate).map_err(|_| invalid())?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let list = |field: &'static str| match data.get(field) {
            None => Ok(Vec::new()),
            Some(text) => serde_json::from_str::<Option<Vec<String>>>(text)
                .map(Option::unwrap_or_default)
                .map_err(|_| ConfigurationError::List { field }),
        };
        let headers = |field| {
            let names = list(field)?.into_iter().map(|name| name.to_ascii_lowercase());
            Ok::<Vec<String>, ConfigurationError>(names.filter(|name| !name.is_empty()).collect())
        };
        Ok(Self {
            verifier: Some(verifier.map_err(|_| invalid())?),
            names: list(NAMES)?.into_iter().collect(),
            username: headers("requestheader-username-headers")?,
            uid: headers("requestheader-uid-headers")?,
            group: headers("requestheader-group-headers")?,
            extra_prefixes: headers("requestheader-extra-headers-prefix")?,
        })
    }

    /// Returns true if the client that presented this chain, its own certificate first, is a trusted front proxy.
    pub fn accepts(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let (Some(verifier), Some((leaf, intermediates))) = (&self.verifier, chain.split_first()) else {
            return false;
        };
        if verifier.verify_client_cert(leaf, intermediates, now).is_err() {
            return false;
        }
        let Ok((_, leaf)) = X509Certificate::from_der(leaf) else { return false };
        let mut names = leaf.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        self.names.is_empty() || names.any(|name| self.names.contains(name))
    }

    /// Reads the user from the headers; `None` if there is none, or what there is cannot be read.
    pub fn user(&self, headers: &HeaderMap) -> Option<User> {
        let mut user = User {
            name: first(headers, &self.username)?,
            uid: first(headers, &self.uid).unwrap_or_default(),
            ..User::default()
        };
        for name in &self.group {
            for value in headers.get_all(name) {
                user.groups.push(std::str::from_utf8(value.as_bytes()).ok()?.to_owned());
            }
        }
        let mut extra = 0;
        for (name, value) in headers {
            let key =
                self.extra_prefixes.iter().find_map(|prefix| name.as_str().strip_prefix(prefix.as_str()));
            let Some(key) = key else { continue };
            // Keys are escaped where a header cannot have a character.
            let key = unescape(key).unwrap_or_else(|| key.to_owned());
            let value = std::str::from_utf8(value.as_bytes()).ok()?.to_owned();
            user.extra.entry(key).or_default().push(value);
            extra += 1;
        }
        (user.groups.len() <= MAX_VALUES && extra <= MAX_VALUES).then_some(user)
    }
}

/// Returns the first value that is not empty, of the first header that has one.
fn first(headers: &HeaderMap, names: &[String]) -> Option<String> {
    let mut values = names.iter().flat_map(|name| headers.get_all(name));
    let value = values.find(|value| !value.is_empty())?;
    std::str::from_utf8(value.as_bytes()).ok().map(str::to_owned)
}
