//! Serves the operator's pages over plain HTTP, up to a maximum number of connections.
//!
//! Started by `runtime`. Many clients at this port must not keep the kubelet from checking liveness, nor take the
//! memory and the open files that proxies need. Does not bound the cost of a page: `admin` does.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use axum::Router;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{info_span, warn};

use crate::{http, listen, shares::Shares};

/// Maximum number of connections of the port, in all and of one peer. Scrapers and the kubelet need one or two each,
/// and filling the port should take many peers.
pub const CONNECTIONS: (usize, usize) = (512, 32);
/// Size of the buffer for answers that the kernel keeps for a connection, in bytes; twice that with its own
/// bookkeeping. The default is megabytes, all of which a peer that reads nothing takes.
const SEND_BUFFER: u32 = 128 << 10;
/// Maximum number of connections that the kernel keeps before they are accepted.
const BACKLOG: u32 = 1024;
/// Time limit of answers in progress after shutdown has begun.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Listens at `address`.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen::listen(address, BACKLOG, Some(SEND_BUFFER))
}

/// Serves `router` until `shutdown` completes, and then lets requests in progress end.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    let (stop, stopped) = watch::channel(());
    let places = Shares::new(CONNECTIONS.0, CONNECTIONS.1);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let peer = listen::canonical(peer);
                    let span = info_span!("page", peer = display(peer));
                    http::start(&mut connections, &places, (stream, peer), (&router, &stopped), span);
                }
                Err(error) => {
                    // Most likely out of file descriptors: open connections must end first.
                    warn!(%error, "failed to accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    drop(stop);
    // Connections that do not end in time are aborted with the set.
    let _ = timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
}
