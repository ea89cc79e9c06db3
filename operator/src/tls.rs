//! Turns a TCP listener into TLS connections, ready to be served.
//!
//! Used by `runtime` for the xDS and the webhook server. Does not know what is served, and holds no certificate: the
//! configuration's resolver decides which one is shown.

use std::{io, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, warn};

/// Longer handshakes are given up: a peer that sends nothing would hold its slot for ever.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once. Each costs a signature, so more would only make all of them late.
const CONCURRENT: usize = 512;

/// A connection as servers take them.
pub type Connection = io::Result<TlsStream<TcpStream>>;

/// Accepts until nobody takes connections any more. A peer that fails its handshake costs only itself.
pub async fn accept(listener: TcpListener, config: Arc<ServerConfig>, connections: mpsc::Sender<Connection>) {
    let acceptor = TlsAcceptor::from(config);
    let slots = Arc::new(Semaphore::new(CONCURRENT));
    while !connections.is_closed() {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let socket = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connections.closed() => return,
        };
        let (socket, peer) = match socket {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: those that are open must end first.
                warn!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (acceptor, connections) = (acceptor.clone(), connections.clone());
        tokio::spawn(async move {
            let _slot = slot;
            // Deltas are small and latency is what the mesh is judged by.
            let _ = socket.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(socket)).await {
                Ok(Ok(stream)) => drop(connections.send(Ok(stream)).await),
                Ok(Err(error)) => debug!(%peer, %error, "failed TLS handshake"),
                Err(_) => debug!(%peer, "TLS handshake took too long"),
            }
        });
    }
}
