//! Builds the mTLS contexts of both sides, and the validation contexts to which they subscribe over SDS.
//!
//! Identities of servers and trust bundles are in secrets, so that a new root or a new ServiceAccount changes no
//! cluster and no listener. Holds public certificates only.

use std::collections::HashMap;

use envoy_types::pb::{
    envoy::{
        config::{cluster::v3::cluster::TransportSocketMatch, core::v3::TransportSocket},
        extensions::transport_sockets::{
            raw_buffer::v3::RawBuffer,
            tls::v3::{
                CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
                Secret, SpiffeCertValidatorConfig, SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext,
                common_tls_context::ValidationContextType, downstream_tls_context::SessionTicketKeysType,
                secret, spiffe_cert_validator_config, subject_alt_name_matcher::SanType,
                tls_parameters::TlsProtocol,
            },
        },
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    },
    google::protobuf::{Struct, Value, value::Kind},
};

use super::{names, wire};
use crate::mesh::{
    id::{ServiceId, SpiffeId},
    trust::{Bundle, Trust},
};

const SOCKET: &str = "envoy.transport_sockets.tls";

/// The key of an endpoint's metadata, and the name of the socket that it chooses.
pub const PLAINTEXT: &str = "plaintext";

/// Builds the client's side towards a Service: the server must be one of the Service's identities.
pub fn upstream(service: &ServiceId, port: u16) -> TransportSocket {
    wire::transport_socket(
        SOCKET,
        UpstreamTlsContext {
            common_tls_context: Some(common(&names::servers(service))),
            sni: names::sni(service, port),
            // A resumed session would skip the check of the server's certificate against today's identities.
            max_session_keys: wire::number(0),
            ..UpstreamTlsContext::default()
        },
    )
}

/// Builds the sockets of endpoints that callers reach in another way than by mTLS. Every cluster has them, so that no
/// change of a Service's pods replaces it, and connections stay.
pub fn other_sockets() -> Vec<TransportSocketMatch> {
    let fields = HashMap::from([(PLAINTEXT.to_owned(), Value { kind: Some(Kind::BoolValue(true)) })]);
    vec![TransportSocketMatch {
        name: PLAINTEXT.to_owned(),
        r#match: Some(Struct { fields }),
        transport_socket: Some(wire::transport_socket("envoy.transport_sockets.raw_buffer", RawBuffer {})),
    }]
}

/// Builds the server's side: the client must present a certificate that `validation` accepts.
pub fn downstream(validation: &str) -> TransportSocket {
    wire::transport_socket(
        SOCKET,
        DownstreamTlsContext {
            common_tls_context: Some(common(validation)),
            require_client_certificate: wire::flag(true),
            // Before 1.40 Envoy ties a session to the first root of a bundle only, so that a session could outlive
            // the removal of another root. Connections are pooled: handshakes are rare anyway.
            disable_stateful_session_resumption: true,
            session_ticket_keys_type: Some(SessionTicketKeysType::DisableStatelessSessionResumption(true)),
            ..DownstreamTlsContext::default()
        },
    )
}

fn common(validation: &str) -> CommonTlsContext {
    CommonTlsContext {
        tls_params: Some(TlsParameters {
            tls_minimum_protocol_version: TlsProtocol::TlSv13 as i32,
            tls_maximum_protocol_version: TlsProtocol::TlSv13 as i32,
            ..TlsParameters::default()
        }),
        tls_certificate_sds_secret_configs: vec![sds(names::IDENTITY)],
        validation_context_type: Some(ValidationContextType::ValidationContextSdsSecretConfig(sds(
            validation,
        ))),
        ..CommonTlsContext::default()
    }
}

fn sds(name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: wire::ads() }
}

/// Builds the context by which servers verify clients: the bundle of the trust domain that the client's identity is in.
pub fn trust(trust: &Trust) -> Option<Secret> {
    Some(secret(names::TRUST, validation(trust)?))
}

/// Builds the context by which clients verify the servers of a Service: as above, and one of the Service's identities.
pub fn servers<'a>(
    service: &ServiceId,
    identities: impl IntoIterator<Item = &'a SpiffeId>,
    trust: &Trust,
) -> Option<Secret> {
    only(&names::servers(service), identities, trust)
}

/// Builds the context by which a TCP port verifies clients: those that may connect at all. `rbac` judges them as well,
/// but only when the first byte arrives, and a server that speaks first would have sent data by then. `identities` is
/// `None` for every client of a trusted domain.
pub fn clients<'a>(
    port: u16,
    identities: Option<impl IntoIterator<Item = &'a SpiffeId>>,
    trust: &Trust,
) -> Option<Secret> {
    let name = names::clients(port);
    match identities {
        Some(identities) => only(&name, identities, trust),
        None => Some(secret(&name, validation(trust)?)),
    }
}

fn only<'a>(
    secret_name: &str,
    identities: impl IntoIterator<Item = &'a SpiffeId>,
    trust: &Trust,
) -> Option<Secret> {
    let mut names: Vec<String> = identities.into_iter().map(ToString::to_string).collect();
    if names.is_empty() {
        // An empty list would accept every name. No workload can have this one: its path is none of a ServiceAccount.
        names.push(format!("spiffe://{}/none", trust.domain));
    }
    let context = CertificateValidationContext {
        match_typed_subject_alt_names: names
            .into_iter()
            .map(|name| SubjectAltNameMatcher {
                san_type: SanType::Uri as i32,
                matcher: Some(StringMatcher {
                    match_pattern: Some(MatchPattern::Exact(name)),
                    ..StringMatcher::default()
                }),
                ..SubjectAltNameMatcher::default()
            })
            .collect(),
        ..validation(trust)?
    };
    Some(secret(secret_name, context))
}

/// Builds a bundle for each domain. `None` if there is no root at all: Envoy refuses an empty list, and a secret that
/// is never sent keeps every connection closed, as no peer is trusted.
fn validation(trust: &Trust) -> Option<CertificateValidationContext> {
    let trust_domains: Vec<_> = trust
        .bundles
        .iter()
        .filter(|(_, bundle)| !bundle.roots.is_empty())
        .map(|(domain, Bundle { roots })| spiffe_cert_validator_config::TrustDomain {
            name: domain.to_string(),
            trust_bundle: Some(wire::inline(bundle_text(roots.iter()))),
            ..spiffe_cert_validator_config::TrustDomain::default()
        })
        .collect();
    (!trust_domains.is_empty()).then(|| CertificateValidationContext {
        custom_validator_config: Some(wire::extension(
            "envoy.tls.cert_validator.spiffe",
            SpiffeCertValidatorConfig { trust_domains, ..SpiffeCertValidatorConfig::default() },
        )),
        ..CertificateValidationContext::default()
    })
}

/// Joins the blocks, each on lines of its own.
fn bundle_text<'a>(roots: impl Iterator<Item = &'a String>) -> String {
    roots.flat_map(|root| [root.trim_end(), "\n"]).collect()
}

fn secret(name: &str, context: CertificateValidationContext) -> Secret {
    Secret { name: name.to_owned(), r#type: Some(secret::Type::ValidationContext(context)) }
}
