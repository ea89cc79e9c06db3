//! Turns a TCP listener into TLS connections, ready to be served.
//!
//! Used by `runtime` for the xDS server and by `webhook` for the servers that the API server and other replicas call.
//! Does not know what is served, and holds no certificate: the configuration's resolver decides which one is presented.

use std::{io, sync::Arc, time::Duration};

use rustls::ServerConfig;
use smidge_xds::server::ComputeLimiter;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, warn};

use crate::{listen, shares::Shares};

/// Time limit of a handshake: without it, a peer that sends nothing would hold its slot for ever.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Maximum number of concurrent handshakes. Few of them compute at the same time (`ComputeLimiter`); the others wait
/// for their peers, and a peer that sends nothing costs a slot here and no more.
pub const CONCURRENT: usize = 2048;

/// Connection in the form that servers accept.
pub type Connection = io::Result<TlsStream<TcpStream>>;

/// Accepts connections until their receiver is dropped. Handshakes run in `limiter`; one address may have at most
/// `per_peer` of them in progress, and its connections beyond that are closed. A failed handshake affects no other
/// peer.
pub async fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    limiter: ComputeLimiter,
    per_peer: usize,
    connections: mpsc::Sender<Connection>,
) {
    let places = Shares::new(CONCURRENT, per_peer);
    let acceptor = TlsAcceptor::from(config);
    let slots = Arc::new(Semaphore::new(CONCURRENT));
    while !connections.is_closed() {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let socket = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connections.closed() => return,
        };
        let (socket, peer) = match socket {
            Ok((socket, peer)) => (socket, listen::canonical(peer)),
            Err(error) => {
                // Most likely there are no file descriptors left: open connections must end first.
                warn!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = places.take(peer.ip(), 1) else {
            debug!(%peer, "too many TLS handshakes");
            continue;
        };
        let (acceptor, limiter, connections) = (acceptor.clone(), limiter.clone(), connections.clone());
        tokio::spawn(async move {
            let (_slot, place) = (slot, place);
            // Deltas are small, and the mesh is judged by its latency.
            let _ = socket.set_nodelay(true);
            let shaken = tokio::time::timeout(HANDSHAKE, limiter.run(acceptor.accept(socket))).await;
            drop(place);
            match shaken {
                Ok(Ok(stream)) => drop(connections.send(Ok(stream)).await),
                Ok(Err(error)) => debug!(%peer, %error, "TLS handshake failed"),
                Err(_) => debug!(%peer, "TLS handshake timed out"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rustls::{
        ClientConfig, RootCertStore,
        pki_types::{PrivateKeyDer, ServerName},
    };
    use tokio::{io::AsyncReadExt as _, net::TcpSocket, time::timeout};
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Returns the configuration of a server, and that of a client which trusts it.
    fn configs() -> (ServerConfig, ClientConfig) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let server =
            server.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        (server, client.unwrap().with_root_certificates(roots).with_no_client_auth())
    }

    #[tokio::test]
    async fn silent_peers_delay_no_other() {
        let (server, client) = configs();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, mut connections) = mpsc::channel(1);
        tokio::spawn(accept(listener, Arc::new(server), ComputeLimiter::new(1), CONCURRENT, accepted));
        let mut silent = Vec::new();
        for _ in 0..100 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        // Long before the time limit of a silent peer.
        timeout(HANDSHAKE / 2, async {
            shake_hands(client, address).await.unwrap();
            connections.recv().await.unwrap().unwrap();
        })
        .await
        .expect("the silent ones hold the handshake up");
        drop(silent);
    }

    #[tokio::test]
    async fn one_peer_has_few_handshakes_under_way() {
        let (server, client) = configs();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, mut connections) = mpsc::channel(1);
        tokio::spawn(accept(listener, Arc::new(server), ComputeLimiter::new(1), 4, accepted));
        let mut silent = Vec::new();
        for _ in 0..5 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            silent.push(socket.connect(address).await.unwrap());
        }
        // Long before the time limit of any of them.
        let closed = timeout(HANDSHAKE / 2, silent.last_mut().unwrap().read(&mut [0])).await;
        assert_eq!(closed.expect("a fifth one is held").unwrap_or(0), 0);
        shake_hands(client, address).await.unwrap();
        connections.recv().await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_waits_for_its_turn() {
        let (server, client) = configs();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, _connections) = mpsc::channel(1);
        tokio::spawn(accept(listener, Arc::new(server), ComputeLimiter::new(0), CONCURRENT, accepted));
        let shaken = timeout(2 * HANDSHAKE, shake_hands(client, address)).await.expect("not given up");
        shaken.expect_err("nobody has a turn");
    }

    async fn shake_hands(client: ClientConfig, address: SocketAddr) -> io::Result<()> {
        let socket = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(client)).connect(name, socket).await.map(drop)
    }
}
