//! The workload behind the judged proxy: over HTTP it answers 200 with the path that it has read, over TCP it echoes.

use std::{convert::Infallible, net::SocketAddr};

use http_body_util::Empty;
use hyper::{Request, Response, body::Bytes, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// The header with the path and query that arrived.
pub const SEEN: &str = "x-seen";

/// Serves HTTP/1.1 and HTTP/2 on every address of a port.
pub async fn http(port: u16) {
    let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
}

async fn answer<B>(request: Request<B>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let seen = request.uri().path_and_query().map_or("", |it| it.as_str());
    Ok(Response::builder().header(SEEN, seen).body(Empty::new()).unwrap())
}

/// Echoes on every address of a port.
pub async fn tcp(port: u16) {
    let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
}

async fn echo(mut stream: TcpStream) {
    let mut heard = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut heard).await {
        if stream.write_all(&heard[..count]).await.is_err() {
            break;
        }
    }
}

/// Serves HTTP, and echoes what begins like the bytes of a TCP caller.
pub async fn either(port: u16) {
    let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut first = [0; 4];
                match stream.peek(&mut first).await {
                    Ok(1..) if !first.starts_with(b"p") => serve(stream).await,
                    _ => echo(stream).await,
                }
            });
        }
    });
}

async fn serve(stream: TcpStream) {
    // A caller may close a connection at any time.
    let _ =
        Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}
