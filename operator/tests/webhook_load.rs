//! The webhooks' port under those who may reach it: what they hold and ask keeps nobody else waiting, and takes little memory.
//!
//! The real server over TLS, in this program, with its clients: the memory counted is that of both. Each attack comes from an
//! address of its own; the API server asks from another one all the while. `SMIDGE_LOAD_SECONDS` says how long each of them
//! goes on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test ends where it goes wrong"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    env,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Frame},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use peak_alloc::PeakAlloc;
use rustls::{ClientConfig, pki_types::ServerName};
use smidge::{
    injector::Settings,
    webhook::{self, Views, injection::Metrics},
};
use smidge_testing::tls;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Within this the API server gets its answer, on a busy machine with a program that is not optimised.
const DEADLINE: Duration = Duration::from_secs(10);
/// What client and server may take together, of which 280 MiB were seen. The operator's limit is 1 GiB.
const MOST: usize = 400 << 20;
/// What they may hold when the one before has ended.
const QUIET: usize = 40 << 20;
const NAME: &str = "smidge-webhook.smidge-system.svc";

type Body = BoxBody<Bytes, Infallible>;

#[derive(Clone)]
struct Port {
    address: SocketAddr,
    roots: Arc<ClientConfig>,
}

impl Port {
    /// The port of a server that runs until the test ends.
    async fn open() -> Self {
        let (tls, roots) = tls::self_signed(NAME);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let client = client.unwrap().with_root_certificates(roots).with_no_client_auth();
        let views = Views {
            injector: watch::channel(Arc::new(Settings::default())).1,
            world: watch::channel(BTreeMap::new()).1,
            awaited: watch::channel(BTreeSet::new()).1,
            injections: Metrics::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = webhook::router(views, None);
        tokio::spawn(webhook::serve(listener, Arc::new(tls), router, std::future::pending()));
        Self { address, roots: Arc::new(client) }
    }

    async fn socket(&self, from: Ipv4Addr) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        socket.connect(self.address).await
    }

    async fn connection(&self, from: Ipv4Addr) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(NAME).unwrap();
        TlsConnector::from(Arc::clone(&self.roots)).connect(name, self.socket(from).await?).await
    }

    async fn http2(&self, from: Ipv4Addr) -> Option<SendRequest<Body>> {
        let stream = TokioIo::new(self.connection(from).await.ok()?);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.ok()?;
        tokio::spawn(connection);
        Some(sender)
    }

    /// The answer to one request on a connection of its own.
    async fn ask(&self, from: Ipv4Addr, path: &str, body: Bytes) -> Option<(StatusCode, Bytes)> {
        let mut sender = self.http2(from).await?;
        let answer = sender.send_request(post(path, Full::new(body).boxed())).await.ok()?;
        let status = answer.status();
        Some((status, answer.into_body().collect().await.ok()?.to_bytes()))
    }
}

fn post(path: &str, body: Body) -> Request<Body> {
    Request::post(format!("https://{NAME}{path}")).body(body).unwrap()
}

fn matches(count: usize) -> String {
    let start = r#"{"apiVersion":"specs.smi-spec.io/v1alpha4","kind":"HTTPRouteGroup","metadata":{"name":"g","namespace":"a"}"#;
    let matches: Vec<String> =
        (0..count).map(|index| format!(r#"{{"name":"m{index}","headers":{{"a":"b"}}}}"#)).collect();
    format!(r#"{start},"spec":{{"matches":[{}]}}}}"#, matches.join(","))
}

fn conversion(matches: usize) -> Bytes {
    let start = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","request":{"uid":"u","desiredAPIVersion":"specs.smi-spec.io/v1alpha1","objects":["#;
    format!("{start}{}]}}}}", self::matches(matches)).into()
}

/// A review of an object, old and new.
fn admission(kind: &str, operation: &str, object: &str) -> Bytes {
    let start = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","namespace":"a","name":"g""#;
    format!(r#"{start},"operation":"{operation}","kind":{kind},"object":{object},"oldObject":{object}}}}}"#)
        .into()
}

fn pod() -> Bytes {
    let pod = r#"{"metadata":{"name":"web"},"spec":{"containers":[{"name":"app","image":"web:1"}]}}"#;
    admission(r#"{"group":"","kind":"Pod"}"#, "CREATE", pod)
}

/// Two connections of 200 streams, each with 8 MB that do not end.
async fn bodies_without_end(port: Port, from: Ipv4Addr) {
    let chunk = Bytes::from(vec![b' '; 64 << 10]);
    loop {
        let mut streams = JoinSet::new();
        for _ in 0..2 {
            let Some(sender) = port.http2(from).await else { continue };
            for _ in 0..200 {
                let (mut sender, chunk) = (sender.clone(), chunk.clone());
                streams.spawn(async move {
                    let frames = stream::repeat(chunk).take(125).map(|chunk| Ok(Frame::data(chunk)));
                    let body = BoxBody::new(StreamBody::new(frames.chain(stream::pending())));
                    let _ = sender.send_request(post("/convert", body)).await;
                });
            }
        }
        streams.join_all().await;
    }
}

/// Asks the same thing over and over.
async fn loops(port: Port, from: Ipv4Addr, path: &'static str, body: Bytes) {
    loop {
        port.ask(from, path, body.clone()).await;
    }
}

/// Connections that say nothing, before TLS and after it.
async fn silence(port: Port, from: Ipv4Addr) {
    let mut silent = Vec::new();
    let mut shaken = Vec::new();
    loop {
        for _ in 0..100 {
            silent.extend(timeout(DEADLINE, port.socket(from)).await.ok().and_then(Result::ok));
        }
        shaken.extend(timeout(DEADLINE, port.connection(from)).await.ok().and_then(Result::ok));
        // As many as a process may have open files for, some of which are the server's.
        silent.drain(..silent.len().saturating_sub(300));
        shaken.drain(..shaken.len().saturating_sub(100));
    }
}

/// Asks as the API server does while `attack` goes on; prints what was seen.
async fn held_out(port: &Port, what: &str, attack: JoinSet<()>) {
    let seconds = env::var("SMIDGE_LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut answers, mut slowest) = (0, Duration::ZERO);
    MEMORY.reset_peak_usage();
    while Instant::now() < end {
        let start = Instant::now();
        let answer = timeout(DEADLINE, port.ask(Ipv4Addr::new(127, 0, 0, 2), "/inject", pod())).await;
        let answer = answer.unwrap_or_else(|_| panic!("{what}: no answer after {answers}"));
        let (status, body) = answer.unwrap_or_else(|| panic!("{what}: the connection broke after {answers}"));
        assert_eq!(status, StatusCode::OK, "{what}: {}", String::from_utf8_lossy(&body));
        slowest = slowest.max(start.elapsed());
        answers += 1;
        // As pods are created: not all at once.
        sleep(Duration::from_millis(20)).await;
    }
    let peak = MEMORY.peak_usage();
    println!("{what}: {answers} answers, the slowest after {slowest:?}; {} MiB at the peak", peak >> 20);
    drop(attack);
    let ended = async {
        while MEMORY.current_usage() > QUIET {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let held = || MEMORY.current_usage() >> 20;
    timeout(3 * DEADLINE, ended).await.unwrap_or_else(|_| panic!("{what}: {} MiB stay", held()));
    assert!(peak < MOST, "{what}: {} MiB", peak >> 20);
}

/// Four objects of a version that is asked for, which come back as they are: 7.6 MB for next to no work.
fn echo() -> Bytes {
    let start = r#"{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","request":{"uid":"u","desiredAPIVersion":"specs.smi-spec.io/v1alpha4","objects":["#;
    let object = format!(
        r#"{{"apiVersion":"specs.smi-spec.io/v1alpha4","kind":"HTTPRouteGroup","metadata":{{"name":"g","namespace":"a"}},"spec":{{"matches":[{{"name":"{}"}}]}}}}"#,
        "m".repeat(1_900_000)
    );
    format!("{start}{}]}}}}", vec![object; 4].join(",")).into()
}

/// Answers whose peer opens no window take room; beyond it there are no others for that peer, until it goes.
async fn unread_answers_take_room(port: &Port) {
    let from = Ipv4Addr::new(127, 0, 0, 9);
    let stream = TokioIo::new(port.connection(from).await.unwrap());
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) =
        builder.initial_stream_window_size(0).handshake::<_, Body>(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..8 {
        let asked = sender.send_request(post("/convert", Full::new(echo()).boxed()));
        answers.push(timeout(DEADLINE, asked).await.expect("no answer").expect("the connection broke"));
    }
    let statuses: Vec<StatusCode> = answers.iter().map(hyper::Response::status).collect();
    let count = |status| statuses.iter().filter(|it| **it == status).count();
    assert!(count(StatusCode::OK) >= 1 && count(StatusCode::SERVICE_UNAVAILABLE) >= 3, "{statuses:?}");
    let other = port.ask(Ipv4Addr::new(127, 0, 0, 2), "/convert", echo()).await.expect("others are served");
    assert_eq!(other.0, StatusCode::OK);
    drop((answers, sender));
    connection.abort();
    let again = async {
        while port.ask(from, "/convert", echo()).await.is_none_or(|(status, _)| status != StatusCode::OK) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, again).await.expect("what ended makes room");
}

/// One test, as it counts memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_keep_nobody_waiting() {
    let port = Port::open().await;
    let from = |last| Ipv4Addr::new(127, 0, 0, last);
    let attack =
        |tasks: Vec<futures::future::BoxFuture<'static, ()>>| tasks.into_iter().collect::<JoinSet<()>>();
    held_out(&port, "nothing", JoinSet::new()).await;
    let bodies = bodies_without_end(port.clone(), from(3));
    held_out(&port, "bodies without end", attack(vec![Box::pin(bodies)])).await;
    let large = loops(port.clone(), from(4), "/convert", conversion(150_000));
    held_out(&port, "objects that no API server stores", attack(vec![Box::pin(large)])).await;
    let stored = conversion(37_000);
    let twice = |last, path, body: Bytes| {
        let one = || -> futures::future::BoxFuture<'static, ()> {
            Box::pin(loops(port.clone(), from(last), path, body.clone()))
        };
        attack(vec![one(), one(), one(), one()])
    };
    held_out(&port, "large conversions", twice(5, "/convert", stored)).await;
    let group = r#"{"group":"specs.smi-spec.io","kind":"HTTPRouteGroup"}"#;
    let verdict = admission(group, "UPDATE", &matches(37_000));
    held_out(&port, "large verdicts", twice(6, "/validate", verdict)).await;
    let maps = format!(r#"{{"spec":[{}{{}}]}}"#, r#"{"":0},"#.repeat(80_000));
    let injection = admission(r#"{"group":"","kind":"Pod"}"#, "CREATE", &maps);
    held_out(&port, "pods of small maps", twice(7, "/inject", injection)).await;
    unread_answers_take_room(&port).await;
    held_out(&port, "silence", attack(vec![Box::pin(silence(port.clone(), from(8)))])).await;
}
