//! Serves the operator's pages over plain HTTP to as many as there is room for.
//!
//! Started by `runtime`. A crowd at this port must not keep the kubelet from asking whether the operator lives, nor take the
//! memory and the open files that proxies need. What a page may cost is `admin`'s business.

use std::{io, net::SocketAddr, pin::pin, time::Duration};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{info_span, warn};

use crate::{http, shares::Shares};

/// How many connections the port takes, and how many of one peer. Scrapers and the kubelet need one or two each, and the more
/// peers it takes to fill the port, the better.
pub const CONNECTIONS: (usize, usize) = (512, 32);
/// How much of its answers the kernel keeps for a connection; twice that with its own accounts. By default that is megabytes, of which
/// a peer that reads nothing takes all.
const SEND_BUFFER: u32 = 128 << 10;
/// How many connections the kernel keeps that are not yet accepted.
const BACKLOG: u32 = 1024;
/// How long answers under way may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);

/// The port at `address`.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As `TcpListener::bind` does: a new operator takes the place of one that has just ended.
    socket.set_reuseaddr(true)?;
    // Connections take this over.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves `router` until `shutdown` is done, and then lets requests under way end.
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
                    let span = info_span!("page", peer = display(peer));
                    http::start(&mut connections, &places, (stream, peer), (&router, &stopped), span);
                }
                Err(error) => {
                    // Out of file descriptors, most likely: those that are open must end first.
                    warn!(%error, "failed to accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    drop(stop);
    // What does not end in time ends with the set.
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
}
