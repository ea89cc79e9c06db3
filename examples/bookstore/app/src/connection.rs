//! One HTTP connection that the client holds, without a pool: nothing is retried or replaced implicitly.
//!
//! Used by every role that sends requests. A pool would hide a lost connection by a retry on another one, and these
//! clients exist to detect exactly that.

use std::time::Duration;

use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request,
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Kind of failure of a request without an answer; the report has the same words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// The name has no address.
    Resolve,
    /// No connection could be opened.
    Connect,
    /// The connection ended before the whole answer had arrived.
    Closed,
    /// The answer took too long.
    Timeout,
    /// The address or the request is invalid.
    Request,
}

impl Failure {
    /// Returns the word in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Closed => "closed",
            Self::Timeout => "timeout",
            Self::Request => "request",
        }
    }
}

/// Request that is sent repeatedly.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Address of the server.
    pub uri: Uri,
    /// Method of the request.
    pub method: Method,
    /// Headers of the request; `host` overrides the host of the address.
    pub headers: HeaderMap,
    /// True for HTTP/2 from the first byte.
    pub http2: bool,
    /// Time limit of a connection attempt and of an answer, each.
    pub timeout: Duration,
}

/// Answer to a request.
#[derive(Debug)]
pub struct Answer {
    /// Status of the answer.
    pub status: StatusCode,
    /// Headers of the answer.
    pub headers: HeaderMap,
    /// Body of the answer, complete.
    pub body: Bytes,
}

enum Sender {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// One connection.
pub struct Connection {
    sender: Sender,
}

impl Connection {
    /// Connects to the address of `ask`.
    pub async fn open(ask: &Ask) -> Result<Self, Failure> {
        let host = ask.uri.host().ok_or(Failure::Request)?;
        let port = ask.uri.port_u16().unwrap_or(80);
        let made = async {
            let addresses = tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await;
            let addresses: Vec<_> = addresses.map_err(|_| Failure::Resolve)?.collect();
            let stream = TcpStream::connect(&*addresses).await.map_err(|_| Failure::Connect)?;
            stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
            Self::handshake(TokioIo::new(stream), ask.http2).await.map_err(|_| Failure::Connect)
        };
        tokio::time::timeout(ask.timeout, made).await.map_err(|_| Failure::Timeout)?
    }

    async fn handshake(stream: TokioIo<TcpStream>, two: bool) -> hyper::Result<Self> {
        let sender = if two {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
            tokio::spawn(connection);
            Sender::Two(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await?;
            tokio::spawn(connection);
            Sender::One(sender)
        };
        Ok(Self { sender })
    }

    /// Returns true if another request may be sent. False after the peer has closed or announced that it will.
    pub async fn is_open(&mut self) -> bool {
        match &mut self.sender {
            Sender::One(sender) => sender.ready().await.is_ok(),
            Sender::Two(sender) => sender.ready().await.is_ok(),
        }
    }

    /// Sends one request and waits for the whole answer.
    pub async fn send(&mut self, ask: &Ask) -> Result<Answer, Failure> {
        let request = request(ask)?;
        let answered = async {
            let response = self.dispatch(request).await.map_err(|_| Failure::Closed)?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|_| Failure::Closed)?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        tokio::time::timeout(ask.timeout, answered).await.map_err(|_| Failure::Timeout)?
    }

    async fn dispatch(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<hyper::Response<Incoming>> {
        match &mut self.sender {
            Sender::One(sender) => sender.send_request(request).await,
            Sender::Two(sender) => sender.send_request(request).await,
        }
    }
}

fn request(ask: &Ask) -> Result<Request<Full<Bytes>>, Failure> {
    let authority = ask.uri.authority().ok_or(Failure::Request)?.as_str();
    // HTTP/1 has the path alone in its first line, HTTP/2 needs the whole address.
    let path = ask.uri.path_and_query().map_or("/", |path| path.as_str());
    let target = if ask.http2 { ask.uri.to_string() } else { path.to_owned() };
    let mut request = Request::builder().method(&ask.method).uri(target);
    if !ask.http2 && !ask.headers.contains_key(header::HOST) {
        request = request.header(header::HOST, authority);
    }
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    request.body(Full::default()).map_err(|_| Failure::Request)
}

/// Sends one request on a connection of its own.
pub async fn ask_once(ask: &Ask) -> Result<Answer, Failure> {
    Connection::open(ask).await?.send(ask).await
}
