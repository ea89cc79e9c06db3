//! Turns a router into a server of HTTP/1 and HTTP/2 on one port, until a signal ends the process.
//!
//! Used by every role that listens. On SIGTERM it stops accepting, finishes the requests in flight and returns, so that
//! a rolling update fails no request.

use std::{io, time::Duration};

use anyhow::Context as _;
use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Time limit of requests in flight after the signal to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Listens on all addresses, of both families where the machine has both.
pub async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let listener = match TcpListener::bind(("::", port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
    };
    listener.with_context(|| format!("failed to listen on port {port}"))
}

/// Resolves when a signal ends the process.
pub async fn stop_signal() -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Serves `router` on `port` until a signal ends the process.
pub async fn http(port: u16, router: Router) -> anyhow::Result<()> {
    let listener = listen(port).await?;
    println!("listening on port {port}");
    let (ending, end) = watch::channel(false);
    let stop = stop_signal();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(answer(stream, router.clone(), end.clone()));
                }
                Err(error) => eprintln!("failed to accept a connection: {error}"),
            },
            _ = &mut stop => break,
        }
    }
    drop((listener, end));
    let _ = ending.send(true);
    // Every connection holds a receiver. Connections still open after the grace period are closed with the process.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, ending.closed()).await;
    Ok(())
}

async fn answer(stream: TcpStream, router: Router, mut end: watch::Receiver<bool>) {
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    // A peer that disconnects during a request is no error of the server.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = end.wait_for(|end| *end) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
