//! Builds the parts of the bootstrap by which a proxy authenticates itself to the control plane: by a token that it puts
//! on every stream, or by the client certificate of its connection.
//!
//! Both are files that something else keeps current, and both are read by stock Envoy, without an agent. Used by
//! `control_plane`. The server evaluates the credential.

use serde_json::{Value, json};

use super::with;

/// The file of the token.
pub const TOKEN_FILE: &str = "token";
/// The file with [`token_sds`]. Envoy derives the format from the extension.
pub const TOKEN_SDS_FILE: &str = "token-sds.json";
/// The file of the client certificate, with the intermediate that signed it.
pub const CERTIFICATE_FILE: &str = "tls.crt";
/// The file of its key.
pub const KEY_FILE: &str = "tls.key";
/// The file with [`certificate_sds`].
pub const CERTIFICATE_SDS_FILE: &str = "certificate-sds.json";

/// The name of the certificate in [`CERTIFICATE_SDS_FILE`].
const CERTIFICATE: &str = "machine";

/// Credential by which a proxy authenticates itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The token of its pod, which the platform keeps in [`TOKEN_FILE`] beside [`TOKEN_SDS_FILE`].
    Token {
        /// The folder of both, as the proxy sees it.
        folder: String,
    },
    /// The certificate of its machine in [`CERTIFICATE_FILE`], with [`KEY_FILE`] and [`CERTIFICATE_SDS_FILE`].
    Certificate {
        /// The folder of the three, as the proxy sees it.
        folder: String,
    },
}

/// Builds the content of [`TOKEN_SDS_FILE`]: names the token's file, and the folder to watch for a new one. The kubelet
/// swaps a link in that folder, so watching the file itself would see nothing.
pub fn token_sds(folder: &str) -> String {
    json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "token",
        "generic_secret": {"secret": {
            "filename": format!("{folder}/{TOKEN_FILE}"),
            "watched_directory": {"path": folder},
        }},
    }]})
    .to_string()
}

/// Builds the content of [`CERTIFICATE_SDS_FILE`]: names the files of certificate and key, and the folder to watch. A
/// file that is moved to its name there is used for the next connection.
pub fn certificate_sds(folder: &str) -> String {
    json!({"resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": CERTIFICATE,
        "tls_certificate": {
            "certificate_chain": {"filename": format!("{folder}/{CERTIFICATE_FILE}")},
            "private_key": {"filename": format!("{folder}/{KEY_FILE}")},
            "watched_directory": {"path": folder},
        },
    }]})
    .to_string()
}

impl Credential {
    /// Builds the options of HTTP to the control plane: with a token, the filters that put it on each stream; with a
    /// certificate, one stream for each connection. A stream ends before its certificate does, and the next one must
    /// not be opened over the connection that has presented the old one.
    pub(super) fn http_options(&self) -> Value {
        let options = json!({
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {
                "connection_keepalive": {"interval": "30s", "timeout": "10s"},
            }},
        });
        let field = match self {
            Self::Token { folder } => (
                "http_filters",
                json!([token_filter(folder), bearer_filter(), {
                    "name": "envoy.filters.http.upstream_codec",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
                    },
                }]),
            ),
            Self::Certificate { .. } => {
                ("common_http_protocol_options", json!({"max_requests_per_connection": 1}))
            }
        };
        with(options, [field])
    }

    /// Builds the source of the client certificate, if there is one.
    pub(super) fn certificate(&self) -> Option<Value> {
        match self {
            Self::Token { .. } => None,
            Self::Certificate { folder } => {
                Some(json!({"name": CERTIFICATE, "sds_config": file_source(folder, CERTIFICATE_SDS_FILE)}))
            }
        }
    }
}

fn file_source(folder: &str, file: &str) -> Value {
    json!({
        "resource_api_version": "V3",
        "path_config_source": {"path": format!("{folder}/{file}"), "watched_directory": {"path": folder}},
    })
}

/// Builds the filter that puts the token on the stream. A stream without a token is not opened.
fn token_filter(folder: &str) -> Value {
    json!({"name": "envoy.filters.http.credential_injector", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
        "overwrite": true,
        "allow_request_without_credential": false,
        "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic",
            "header": "authorization",
            "credential": {"name": "token", "sds_config": file_source(folder, TOKEN_SDS_FILE)},
        }},
    }})
}

/// Builds the filter that turns the token into `Bearer <token>`. The credential injector has a prefix of its own from
/// 1.40 on, and 1.36 refuses the field.
fn bearer_filter() -> Value {
    json!({"name": "envoy.filters.http.header_mutation", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        "mutations": {"request_mutations": [{"append": {
            "header": {"key": "authorization", "value": "Bearer %REQ(authorization)%"},
            "append_action": "OVERWRITE_IF_EXISTS",
        }}]},
    }})
}
