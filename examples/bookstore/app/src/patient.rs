//! Role `patient`: serves a health check of every kind, and can be made ill (unhealthy) while it runs.
//!
//! While well, it answers HTTP, HTTPS, raw TCP and gRPC on four ports; while ill, it closes those ports and the process
//! goes on. `health` connects to it over loopback, from within the same pod, and is the exec check.

use std::{io, sync::Arc};

use anyhow::Context as _;
use axum::{Router, body::Body, http::HeaderMap, http::HeaderValue, response::Response, routing::get};
use hyper::body::{Bytes, Frame};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::pki_types::PrivateKeyDer;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_rustls::TlsAcceptor;

use crate::serve;

/// Address at which the patient accepts commands: loopback, so that no proxy and no other pod is in between.
const DOCTOR: (&str, u16) = ("127.0.0.1", 14099);

/// Ports of the checks.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Port of HTTP: answers GET of any path.
    #[arg(long, default_value_t = 8080)]
    http: u16,
    /// Port of HTTPS with a self-signed certificate, as the kubelet's probe accepts.
    #[arg(long, default_value_t = 8443)]
    https: u16,
    /// Port of TCP: accepts connections.
    #[arg(long, default_value_t = 9000)]
    tcp: u16,
    /// Port of gRPC: `grpc.health.v1.Health/Check`.
    #[arg(long, default_value_t = 9001)]
    grpc: u16,
}

/// Arguments of `health`.
#[derive(Debug, clap::Args)]
pub struct HealthArgs {
    /// Command: `ill`, `well`, or `ask`; exits with 1 when the patient is ill.
    #[arg(value_parser = ["ill", "well", "ask"])]
    word: String,
}

/// Sends a command to the patient, and prints its state.
pub async fn health(args: HealthArgs) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(DOCTOR).await.context("failed to reach the patient of this pod")?;
    stream.write_all(format!("{}\n", args.word).as_bytes()).await?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).await?;
    println!("{}", answer.trim());
    anyhow::ensure!(args.word != "ask" || answer.trim() == "well", "the patient is ill");
    Ok(())
}

/// Runs the patient until a signal ends the process.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let (well, state) = watch::channel(true);
    let tls = TlsAcceptor::from(Arc::new(certificate()?));
    tokio::spawn(port(args.http, state.clone(), |stream| async move { web(stream).await }));
    tokio::spawn(port(args.https, state.clone(), move |stream| {
        let tls = tls.clone();
        async move { web(tls.accept(stream).await?).await }
    }));
    tokio::spawn(port(args.grpc, state.clone(), |stream| async move { web(stream).await }));
    tokio::spawn(port(args.tcp, state, echo));
    let doctor = TcpListener::bind(DOCTOR).await.context("failed to listen for the doctor")?;
    tokio::select! {
        ended = treat(doctor, &well) => ended,
        stopped = serve::stop_signal() => stopped.context("failed to wait for signals"),
    }
}

async fn treat(doctor: TcpListener, well: &watch::Sender<bool>) -> anyhow::Result<()> {
    loop {
        let (stream, _) = doctor.accept().await.context("failed to accept the doctor")?;
        let (reader, mut writer) = stream.into_split();
        let line = BufReader::new(reader).lines().next_line().await.unwrap_or_default().unwrap_or_default();
        match line.trim() {
            "ill" => drop(well.send_replace(false)),
            "well" => drop(well.send_replace(true)),
            _ => {}
        }
        let answer = if *well.borrow() { "well\n" } else { "ill\n" };
        // The command was executed even if the client does not wait for the answer.
        let _ = writer.write_all(answer.as_bytes()).await;
    }
}

/// Listens while the patient is well, and not while it is ill: the port is closed, as after a crash.
async fn port<F, A>(port: u16, mut state: watch::Receiver<bool>, answer: F) -> anyhow::Result<()>
where
    F: Fn(TcpStream) -> A,
    A: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    loop {
        state.wait_for(|well| *well).await?;
        let listener = serve::listen(port).await?;
        println!("listening on port {port}");
        let illness = state.clone();
        loop {
            tokio::select! {
                _ = state.wait_for(|well| !*well) => break,
                accepted = listener.accept() => {
                    let (stream, _) = accepted?;
                    let answering = answer(stream);
                    let mut ill = illness.clone();
                    tokio::spawn(async move {
                        tokio::select! {
                            _ = answering => {}
                            _ = ill.wait_for(|well| !*well) => {}
                        }
                    });
                }
            }
        }
        println!("closed port {port}");
    }
}

async fn echo(mut stream: TcpStream) -> anyhow::Result<()> {
    let mut buffer = [0; 64];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

async fn web<S>(stream: S) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let router = Router::new()
        .route("/grpc.health.v1.Health/Check", axum::routing::post(|| async { serving() }))
        .fallback(get(|| async { "well" }));
    let builder = auto::Builder::new(TokioExecutor::new());
    let served = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
    served.map_err(|error| anyhow::anyhow!("failed to serve a connection: {error}"))
}

/// Builds the answer `SERVING` of the gRPC health protocol: one message, field 1 = 1, and the status in the trailers.
fn serving() -> Response {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let message = Frame::data(Bytes::from_static(&[0, 0, 0, 0, 2, 0x08, 0x01]));
    let frames = [Ok::<_, io::Error>(message), Ok(Frame::trailers(trailers))];
    let body = http_body_util::StreamBody::new(futures::stream::iter(frames));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn certificate() -> anyhow::Result<rustls::ServerConfig> {
    let made =
        rcgen::generate_simple_self_signed(["patient".to_owned()]).context("failed to make a certificate")?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .context("failed to use the certificate")
}
