//! The webhooks' port without a cluster behind it, and a client: over HTTP/2 as any client may, over HTTP/1.1 as API
//! servers do.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::{
        http1,
        http2::{self, SendRequest},
    },
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, crypto::ring::default_provider, pki_types::ServerName,
};
use smidge::{
    https,
    injector::Settings,
    webhook::{self, Views, callers::Callers, injection::Metrics},
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The name in its certificate.
pub const NAME: &str = "smidge-webhook.smidge-system.svc";

/// Body of a request.
pub type Body = BoxBody<Bytes, Infallible>;

/// Serves the webhooks without a cluster, at an address of loopback, until the test ends.
pub async fn serve(tls: Arc<ServerConfig>, callers: Option<Callers>) -> SocketAddr {
    serve_at("127.0.0.1", tls, callers).await
}

/// Serves the webhooks without a cluster, at an address of this machine, until the test ends.
pub async fn serve_at(ip: &str, tls: Arc<ServerConfig>, callers: Option<Callers>) -> SocketAddr {
    let views = Views {
        injector: watch::channel(Arc::new(Settings::default())).1,
        clusters: watch::channel(BTreeMap::new()).1,
        awaited: watch::channel(BTreeSet::new()).1,
        injections: Metrics::default(),
        requests: webhook::metrics::Metrics::default(),
    };
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(https::serve(listener, tls, webhook::router(views, callers), std::future::pending()));
    address
}

/// The port, from the side of its clients.
#[derive(Clone)]
pub struct Webhook {
    pub address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Webhook {
    /// The port at `address`, whose certificate one of `roots` has signed.
    pub fn new(address: SocketAddr, roots: RootCertStore) -> Self {
        let client = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let client = client.with_safe_default_protocol_versions().unwrap();
        let client = client.with_root_certificates(roots).with_no_client_auth();
        Self { address, tls: Arc::new(client) }
    }

    pub async fn socket(&self, from: Ipv4Addr) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        socket.connect(self.address).await
    }

    pub async fn connection(&self, from: Ipv4Addr) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(NAME).unwrap();
        TlsConnector::from(Arc::clone(&self.tls)).connect(name, self.socket(from).await?).await
    }

    pub async fn http2(&self, from: Ipv4Addr) -> Option<SendRequest<Body>> {
        let stream = TokioIo::new(self.connection(from).await.ok()?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.ok()?;
        tokio::spawn(connection);
        Some(sender)
    }

    /// Returns the answer to one request on an HTTP/2 connection of its own.
    pub async fn ask(&self, from: Ipv4Addr, path: &str, body: Bytes) -> Option<(StatusCode, Bytes)> {
        let mut sender = self.http2(from).await?;
        read(sender.send_request(post(path, Full::new(body).boxed())).await.ok()?).await
    }

    /// Returns the answer to one request on an HTTP/1.1 connection of its own.
    pub async fn ask_over_http1(
        &self,
        from: Ipv4Addr,
        path: &str,
        body: Bytes,
    ) -> Option<(StatusCode, Bytes)> {
        let stream = TokioIo::new(self.connection(from).await.ok()?);
        let (mut sender, connection) = http1::handshake(stream).await.ok()?;
        tokio::spawn(connection);
        read(sender.send_request(post(path, Full::new(body).boxed())).await.ok()?).await
    }
}

async fn read(answer: Response<Incoming>) -> Option<(StatusCode, Bytes)> {
    let status = answer.status();
    Some((status, answer.into_body().collect().await.ok()?.to_bytes()))
}

/// A request to the webhooks.
pub fn post(path: &str, body: Body) -> Request<Body> {
    let request = Request::post(format!("https://{NAME}{path}")).header("host", NAME);
    request.body(body).unwrap()
}
