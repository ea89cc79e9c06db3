//! Real TLS handshakes with the serving certificates of the operator.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use smidge::ca::{Authorities, Metrics, Secrets, ServingCertificate, pem};
use smidge_xds::mesh::id::TrustDomain;
use time::OffsetDateTime;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::ApiServer;

const NAME: &str = "smidge.smidge-system.svc";

/// An authority whose clock follows the runtime's, so that a test can advance both. It starts 18 hours ago, so that
/// what it issues after 17 hours is valid to the client, whose clock is not moved.
async fn authorities(server: &ApiServer) -> Authorities {
    let (started, begin) =
        (tokio::time::Instant::now(), OffsetDateTime::now_utc() - time::Duration::hours(18));
    let clock = smidge::clock::Clock::new(move || begin + started.elapsed());
    let secrets = Secrets::new(server.client.clone(), "smidge-system");
    let opening = Authorities::open(secrets, TrustDomain::default(), clock, Metrics::default());
    Box::pin(opening).await.unwrap()
}

/// Returns the certificate that the server presents to a client which trusts `roots` and expects `name`, and the agreed
/// protocol.
pub async fn handshake(
    certificate: &Arc<ServingCertificate>,
    roots: impl IntoIterator<Item = String>,
    name: &str,
) -> Result<(Vec<u8>, Option<Vec<u8>>), String> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(pem::certificates(root.as_bytes()).unwrap().remove(0)).unwrap();
    }
    let mut config = ClientConfig::builder().with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let (client, server) = tokio::io::duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(certificate.tls(&[b"h2"]).unwrap());
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let (client, _server) = tokio::join!(connector.connect(name, client), acceptor.accept(server));
    let client = client.map_err(|error| error.to_string())?;
    let (_, session) = client.get_ref();
    let shown = session.peer_certificates().unwrap()[0].to_vec();
    Ok((shown, session.alpn_protocol().map(<[u8]>::to_vec)))
}

#[tokio::test]
async fn proxies_take_the_control_plane_by_its_own_roots_and_name_only() {
    let server = ApiServer::start().await;
    let authorities = authorities(&server).await;
    let names = vec![NAME.to_owned(), "smidge".to_owned()];
    let certificate = Arc::new(authorities.control_plane_certificate(names).unwrap());
    let (_, protocol) = handshake(&certificate, authorities.control_plane_roots(), NAME).await.unwrap();
    assert_eq!(protocol.as_deref(), Some(b"h2".as_slice()));
    handshake(&certificate, authorities.control_plane_roots(), "other.smidge-system.svc").await.unwrap_err();
    handshake(&certificate, authorities.workload_bundle().roots, NAME).await.unwrap_err();
    handshake(&certificate, [authorities.webhook_ca_bundle()], NAME).await.unwrap_err();
}

#[tokio::test]
async fn the_api_server_takes_the_webhooks_by_the_ca_bundle() {
    let server = ApiServer::start().await;
    let authorities = authorities(&server).await;
    let certificate = Arc::new(authorities.webhook_certificate(vec![NAME.to_owned()]).unwrap());
    handshake(&certificate, [authorities.webhook_ca_bundle()], NAME).await.unwrap();
    handshake(&certificate, authorities.control_plane_roots(), NAME).await.unwrap_err();
}

#[tokio::test]
async fn a_serving_certificate_is_replaced_before_it_ends_without_a_restart() {
    let server = ApiServer::start().await;
    let authorities = authorities(&server).await;
    let certificate = Arc::new(authorities.control_plane_certificate(vec![NAME.to_owned()]).unwrap());
    let roots = || authorities.control_plane_roots();
    let (first, _) = handshake(&certificate, roots(), NAME).await.unwrap();
    tokio::time::pause();
    let task = tokio::spawn(Arc::clone(&certificate).run());
    tokio::time::sleep(std::time::Duration::from_hours(11)).await;
    assert_eq!(handshake(&certificate, roots(), NAME).await.unwrap().0, first, "not due yet");
    tokio::time::sleep(std::time::Duration::from_hours(6)).await;
    assert_ne!(handshake(&certificate, roots(), NAME).await.unwrap().0, first);
    task.abort();
}
