//! Callers of a proxy: certificates from a test authority, TLS as a proxy of the mesh uses it, and hand-written
//! requests, so that a header can be repeated and a path can be any text.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime},
};

/// Test authority with a root certificate. Clones are the same authority.
#[derive(Clone)]
pub struct Authority {
    issuer: Arc<Issuer<'static, KeyPair>>,
    /// The root certificate.
    pub pem: String,
}

/// Leaf certificate and its key.
pub struct Leaf {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    /// Generates a new, unique authority.
    pub fn generate() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "a root for tests");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Arc::new(Issuer::new(params, key)), pem }
    }

    /// Issues a leaf certificate for any name.
    pub fn issue(&self, name: &str) -> Leaf {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        Leaf { certificate: params.signed_by(&key, &self.issuer).unwrap(), key }
    }
}

impl Leaf {
    /// Returns the certificate and the key as PEM, for a proxy.
    pub fn pems(&self) -> (String, String) {
        (self.certificate.pem(), self.key.serialize_pem())
    }

    /// Returns the TLS configuration of a caller with this certificate.
    pub fn config(&self) -> Arc<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer))
            .with_client_auth_cert(vec![self.certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }

    /// Connects as a proxy of the mesh does. With the first byte it is known that the server has accepted the
    /// certificate.
    pub fn connect(&self, to: SocketAddr) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        self.connect_as(to, &[])
    }

    /// Connects likewise, and offers these protocols: a proxy that forwards HTTP offers its version.
    pub fn connect_as(
        &self,
        to: SocketAddr,
        protocols: &[&str],
    ) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let mut config = (*self.config()).clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("80.api.shop.smidge").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        Ok(StreamOwned::new(connection, plain(to)?))
    }
}

/// Returns the first bytes of a TLS connection to `name` that offers `protocols`, as those of an application.
pub fn client_hello(name: &'static str, protocols: &[&str]) -> Vec<u8> {
    let mut config = (*Authority::generate().issue("spiffe://application.example").config()).clone();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name).unwrap();
    let mut hello = Vec::new();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut hello).unwrap();
    hello
}

/// Connects without TLS.
pub fn plain(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// Sends one request, and returns the status and the text of the response.
pub fn request(mut stream: impl Read + Write, head: &str) -> io::Result<(u16, String)> {
    stream.write_all(
        format!("{}\r\nconnection: close\r\n\r\n", head.trim().replace('\n', "\r\n")).as_bytes(),
    )?;
    let mut answer = String::new();
    let mut bytes = [0; 4096];
    // Does not read to the end of the connection: Envoy waits a second for the caller to close first.
    while !is_whole(&answer, head) {
        match stream.read(&mut bytes)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => answer.push_str(&String::from_utf8_lossy(&bytes[..count])),
        }
    }
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.map(|status| (status, answer)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Returns true if a response is complete, according to its content length.
fn is_whole(answer: &str, head: &str) -> bool {
    let Some((fields, text)) = answer.split_once("\r\n\r\n") else {
        return false;
    };
    let length = fields.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    head.starts_with("HEAD") || text.len() >= length.unwrap_or(0)
}

/// Verifier that accepts every server: the tests check how servers treat callers.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
