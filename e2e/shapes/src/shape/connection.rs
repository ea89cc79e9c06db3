//! Connections of a client library: HTTP/1.1 and HTTP/2 over TCP.

use anyhow::Context as _;
use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use hyper::{Request, Response, body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Args;

async fn send(args: &Args, port: u16, request: Request<Body>) -> anyhow::Result<Response<Incoming>> {
    let stream = TokioIo::new(args.connect(port).await?);
    let (mut sender, connection) = conn::http1::handshake(stream).await?;
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.context("failed to send a request")
}

/// Sends one request, and returns the status and the body.
pub async fn http1(args: &Args, port: u16, request: Request<Body>) -> anyhow::Result<(u16, Bytes)> {
    let response = send(args, port, request).await?;
    let status = response.status().as_u16();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

/// Sends one request, and returns the size of the body.
pub async fn count(args: &Args, port: u16, request: Request<Body>) -> anyhow::Result<usize> {
    let mut body = response(args, port, request).await?.into_body();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        size += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(size)
}

/// Sends one request, and returns the response before its body has arrived.
pub async fn response(args: &Args, port: u16, request: Request<Body>) -> anyhow::Result<Response<Incoming>> {
    let response = send(args, port, request).await?;
    anyhow::ensure!(response.status().is_success(), "status {}", response.status());
    Ok(response)
}

/// Opens a connection of HTTP/2 on a stream.
pub async fn http2<S>(stream: S) -> anyhow::Result<conn::http2::SendRequest<Body>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.context("no HTTP/2")?;
    tokio::spawn(connection);
    Ok(sender)
}
