//! HTTP/2 as bytes for a caller, so that a header can have any name, and a server that answers with what it received.

use std::{
    convert::Infallible,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};

use crate::inbound::server;

/// Types of frames.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;

/// Frame by which a server states that it does not process a request.
#[derive(Debug, Clone, Copy)]
pub enum Refusal {
    /// It ends the stream with `REFUSED_STREAM`.
    Stream,
    /// It ends the connection, on which it has processed no stream.
    Goaway,
}

/// Sends a GET with these headers and trailers, and returns the frames that answer it, by type and content.
pub fn get(
    mut stream: impl Read + Write,
    headers: &[(&str, &str)],
    trailers: &[(&str, &str)],
) -> io::Result<Vec<(u8, Vec<u8>)>> {
    let fixed = [(":method", "GET"), (":scheme", "https"), (":path", "/books"), (":authority", "api")];
    let mut said = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // The end of the headers, and with the last block that of the stream.
    said.extend(frame(if trailers.is_empty() { 5 } else { 4 }, &block(fixed.iter().chain(headers))));
    if !trailers.is_empty() {
        said.extend(frame(5, &block(trailers)));
    }
    stream.write_all(&said)?;
    let mut frames = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut body = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut body)?;
        let [_, _, _, kind, flags, .., id] = head;
        if id == 1 {
            frames.push((kind, body));
            if kind == RST_STREAM || (kind <= HEADERS && flags & 1 == 1) {
                return Ok(frames);
            }
        }
    }
}

fn frame(flags: u8, block: &[u8]) -> Vec<u8> {
    let [.., high, low] = u32::try_from(block.len()).unwrap().to_be_bytes();
    [&[0, high, low, HEADERS, flags, 0, 0, 0, 1], block].concat()
}

fn block<'a>(headers: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        // A literal without indexing, with a new name.
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "longer texts have longer lengths");
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// Starts a server of HTTP/2 that answers no request, and ends its stream with `CANCEL` after this time.
pub fn resetting_server(after: Duration) -> SocketAddr {
    server(move |stream| {
        drop(on_each_request(stream, |id| {
            // No one sends: it is a timer.
            let (_sender, timer) = mpsc::channel::<()>();
            let _ = timer.recv_timeout(after);
            [&[0, 0, 4, RST_STREAM, 0], id, &[0, 0, 0, 8]].concat()
        }));
    })
}

/// Starts a server of HTTP/2 that does not process any request.
pub fn refusing_server(refusal: Refusal) -> SocketAddr {
    server(move |stream| {
        drop(on_each_request(stream, |id| match refusal {
            Refusal::Stream => [&[0, 0, 4, RST_STREAM, 0], id, &[0, 0, 0, 7]].concat(),
            Refusal::Goaway => [&[0, 0, 8, 7], [0; 13].as_slice()].concat(),
        }));
    })
}

/// Serves a connection: answers the headers of each request with the frame that is built for the stream.
fn on_each_request(mut stream: TcpStream, frame: impl Fn(&[u8]) -> Vec<u8>) -> io::Result<()> {
    stream.read_exact(&mut [0; 24])?;
    // An empty SETTINGS.
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])?;
    let mut head = [0; 9];
    loop {
        stream.read_exact(&mut head)?;
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length])?;
        if head[3] == HEADERS {
            stream.write_all(&frame(&head[5..]))?;
        }
    }
}

/// Starts a server of HTTP/1.1 and HTTP/2 that answers each request with its headers and trailers, one a line.
pub fn mirror_server() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let builder = Builder::new(TokioExecutor::new());
                    // An error is the end of a connection.
                    drop(builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await);
                });
            }
        });
    });
    address
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.ok();
    let trailers = body.and_then(|body| body.trailers().cloned()).unwrap_or_default();
    let lines = head.headers.iter().chain(&trailers);
    let lines = lines.map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    Ok(Response::new(Full::from(lines.collect::<String>())))
}
