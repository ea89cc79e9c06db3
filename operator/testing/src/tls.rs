//! A certificate that signs itself: the server's side, and the roots by which a client believes it.

use std::sync::Arc;

use rustls::{RootCertStore, ServerConfig, crypto::ring::default_provider, pki_types::PrivateKeyDer};

/// A server called `name`, and the roots of its clients.
pub fn self_signed(name: &str) -> (ServerConfig, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    (server, roots)
}
