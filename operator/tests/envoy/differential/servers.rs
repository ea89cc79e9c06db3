//! The pods of a generated cluster: over mTLS each returns the Service name by which it was called, and its address.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr, sync::Arc};

use http_body_util::Empty;
use hyper::{Request, Response, body::Bytes, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use rustls::{ServerConfig, crypto::ring, pki_types::pem::PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::differential::{
    app::SEEN,
    caller::Authority,
    scenario::{HTTP_PORTS, PODS, TCP_PORTS, pod_address},
};

/// The header with the server name that the caller's proxy requested, and the called address.
pub const SERVED: &str = "x-served";
/// A header that the proxy uses itself, which no server may receive.
pub const INNER: &str = "x-smidge-path";

/// TLS configuration of each pod, by its address.
type Pods = Arc<BTreeMap<[u8; 4], Arc<ServerConfig>>>;

/// Serves every port of every pod.
pub async fn start(authority: &Authority) {
    let pods: Pods =
        Arc::new((0..PODS).map(|number| (pod_address(number), config(authority, number))).collect());
    for port in HTTP_PORTS.iter().chain(&TCP_PORTS) {
        let is_http = HTTP_PORTS.contains(port);
        let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], *port))).await.unwrap();
        let pods = Arc::clone(&pods);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let pods = Arc::clone(&pods);
                tokio::spawn(async move {
                    if let Some((stream, served)) = accept(stream, &pods).await {
                        if is_http { http(stream, &served).await } else { tcp(stream, &served).await }
                    }
                });
            }
        });
    }
}

fn config(authority: &Authority, number: u8) -> Arc<ServerConfig> {
    let (chain, key) = authority.issue(&format!("spiffe://cluster.local/ns/shop/sa/s{number}")).pems();
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

/// Returns the stream of a caller that accepts this pod's identity, and the Service name and address that it called.
async fn accept(stream: TcpStream, pods: &Pods) -> Option<(TlsStream<TcpStream>, String)> {
    stream.set_nodelay(true).ok()?;
    let SocketAddr::V4(at) = stream.local_addr().ok()? else { return None };
    let config = pods.get(&at.ip().octets())?;
    let stream = TlsAcceptor::from(Arc::clone(config)).accept(stream).await.ok()?;
    let name = stream.get_ref().1.server_name().unwrap_or_default().to_owned();
    Some((stream, format!("{name} {at}")))
}

async fn http(stream: TlsStream<TcpStream>, served: &str) {
    let answer = service_fn(|request: Request<_>| {
        let served = served.to_owned();
        async move { Ok::<_, Infallible>(answer(&request, &served)) }
    });
    // A caller may close a connection at any time.
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
}

fn answer<B>(request: &Request<B>, served: &str) -> Response<Empty<Bytes>> {
    let seen = request.uri().path_and_query().map_or("", |it| it.as_str());
    let is_told = request.headers().contains_key(INNER);
    let status = if is_told { 500 } else { 200 };
    Response::builder().status(status).header(SEEN, seen).header(SERVED, served).body(Empty::new()).unwrap()
}

async fn tcp(mut stream: TlsStream<TcpStream>, served: &str) {
    // The caller receives the answer once it has sent something.
    if let Ok(1..) = stream.read(&mut [0; 64]).await {
        let _ = stream.write_all(format!("{served}\n").as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}
