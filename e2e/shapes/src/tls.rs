//! TLS of the application itself: a server with a certificate of its own, and a client that trusts that one alone.
//!
//! The client gets the certificate from the server's HTTP port (`http`). It does not matter that this is no secure way: a
//! certificate of anything in between would be another one.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

use crate::http;

/// Name in the certificate.
const NAME: &str = "application.example";

/// Makes a certificate, and the configuration of a server that has it and offers HTTP/2 and HTTP/1.1.
pub fn server() -> anyhow::Result<(CertificateDer<'static>, ServerConfig)> {
    let made =
        rcgen::generate_simple_self_signed([NAME.to_owned()]).context("failed to make a certificate")?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let certificate = made.cert.der().clone();
    let mut server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((certificate, server))
}

/// Answers one connection with HTTP over TLS.
pub async fn answer(stream: TcpStream, acceptor: TlsAcceptor, server: http::Server) -> anyhow::Result<()> {
    http::answer(acceptor.accept(stream).await?, server).await
}

/// Connects, and returns the stream after a handshake with the server of `certificate`.
pub async fn connect(
    stream: TcpStream,
    certificate: CertificateDer<'static>,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from(NAME)?;
    TlsConnector::from(Arc::new(client)).connect(name, stream).await.context("the handshake failed")
}
