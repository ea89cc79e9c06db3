//! Shapes of what every pod calls: the cluster's DNS, and its API server. The host of the server is the name that is resolved.

use std::{env, fs, sync::Arc};

use anyhow::Context as _;
use axum::body::Body;
use http_body_util::BodyExt as _;
use hyper::{Request, client::conn};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
};
use tokio_rustls::TlsConnector;

use super::Args;

const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const DNS: u16 = 53;
/// Name that every cluster has.
const NAME: &[&str] = &["kubernetes", "default", "svc", "cluster", "local"];

fn name_server() -> anyhow::Result<String> {
    let file = fs::read_to_string("/etc/resolv.conf")?;
    let server = file.lines().find_map(|line| line.strip_prefix("nameserver "));
    Ok(server.context("no name server")?.trim().to_owned())
}

/// Builds a query for an address of the cluster's first family, which is that of its name server (RFC 1035, section 4.1; RFC
/// 3596, section 2.1).
fn query() -> anyhow::Result<Vec<u8>> {
    let record = if name_server()?.contains(':') { 28 } else { 1 };
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in NAME {
        query.push(u8::try_from(label.len())?);
        query.extend(label.bytes());
    }
    query.extend([0, 0, record, 0, 1]);
    Ok(query)
}

/// Reads the code and the number of answers of a response.
fn answer(response: &[u8]) -> anyhow::Result<String> {
    let head = response.first_chunk::<12>().context("a response that is too short")?;
    let [.., code, _, _, answers_high, answers_low, _, _, _, _] = *head;
    let answers = u16::from_be_bytes([answers_high, answers_low]);
    Ok(format!("code {}, answered: {}", code & 0xf, answers > 0))
}

pub async fn dns_udp(_: Args) -> anyhow::Result<String> {
    let socket = UdpSocket::bind("[::]:0").await;
    let socket = match socket {
        Ok(socket) => socket,
        Err(_) => UdpSocket::bind("0.0.0.0:0").await?,
    };
    socket.connect((name_server()?, DNS)).await?;
    socket.send(&query()?).await?;
    let mut response = vec![0; 512];
    let size = socket.recv(&mut response).await?;
    response.truncate(size);
    answer(&response)
}

pub async fn dns_tcp(_: Args) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect((name_server()?, DNS)).await?;
    let query = query()?;
    stream.write_u16(u16::try_from(query.len())?).await?;
    stream.write_all(&query).await?;
    let mut response = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut response).await?;
    answer(&response)
}

pub async fn api_server(_: Args) -> anyhow::Result<String> {
    let host = env::var("KUBERNETES_SERVICE_HOST")?;
    let port: u16 = env::var("KUBERNETES_SERVICE_PORT")?.parse()?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(format!("{ACCOUNT}/ca.crt"))?)?;
    let client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    let name = ServerName::try_from("kubernetes.default.svc")?;
    let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await?;
    let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let token = fs::read_to_string(format!("{ACCOUNT}/token"))?;
    let request = Request::get("/version")
        .header("host", "kubernetes.default.svc")
        .header("authorization", format!("Bearer {}", token.trim()))
        .body(Body::empty())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let version = response.into_body().collect().await?.to_bytes();
    let named = String::from_utf8_lossy(&version).contains("gitVersion");
    Ok(format!("{status}, its version: {named}"))
}
