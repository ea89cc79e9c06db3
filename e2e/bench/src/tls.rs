//! TLS configuration of a proxy, and addresses of the control plane.
//!
//! Used for the operator and for the baseline server alike. Sessions are not resumed: the proxies of a mesh are
//! different pods, and an operator that was restarted no longer knows its tickets.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context as _;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore,
    client::{Resumption, WantsClientCert},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// Builds a client that trusts these roots (PEM) and nothing else.
pub fn client(roots: &[String]) -> anyhow::Result<ClientConfig> {
    Ok(finish(builder(roots)?.with_no_client_auth()))
}

/// Builds such a client that presents a certificate.
pub fn client_with(
    roots: &[String],
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> anyhow::Result<ClientConfig> {
    Ok(finish(builder(roots)?.with_client_auth_cert(chain, key)?))
}

fn builder(roots: &[String]) -> anyhow::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let mut store = RootCertStore::empty();
    for pem in roots {
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            store.add(certificate.ok().context("a root that is no PEM")?)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(store))
}

fn finish(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// Returns addresses of this machine with that port: each has ports of its own on the client's side.
pub fn loopback(port: u16) -> Vec<SocketAddr> {
    (1..=8).map(|last| SocketAddr::from(([127, 0, 0, last], port))).collect()
}
