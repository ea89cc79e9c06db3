//! Applications that are probed: HTTP with or without TLS, gRPC health, and a bare port.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
};

use axum::{Router, http::HeaderMap, response::Response, routing::post};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use tokio::runtime::Runtime;

/// A port that no other process can bind while this value lives.
pub struct Application {
    socket: tokio::net::TcpSocket,
}

impl Application {
    /// Binds a port without listening on it.
    pub fn reserve() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { socket }
    }

    pub fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    /// Listens until the result is dropped.
    pub fn listen(&self) -> Listening {
        let runtime = Runtime::new().unwrap();
        let guard = runtime.enter();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind(self.socket.local_addr().unwrap()).unwrap();
        let listener = socket.listen(16).unwrap();
        drop(guard);
        Listening { _listener: listener, _runtime: runtime }
    }
}

/// An open port.
pub struct Listening {
    _listener: tokio::net::TcpListener,
    _runtime: Runtime,
}

#[derive(Default)]
struct State {
    requests: Mutex<Vec<(SocketAddr, String)>>,
    answer: Mutex<String>,
    hangs: AtomicBool,
    stopped: AtomicBool,
}

/// A server that records its requests.
pub struct Http {
    port: u16,
    state: Arc<State>,
}

impl Http {
    pub fn start(tls: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State { answer: Mutex::new("HTTP/1.1 200 OK".to_owned()), ..State::default() });
        let tls = tls.then(config);
        let served = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                if served.stopped.load(SeqCst) {
                    return;
                }
                let (state, tls) = (served.clone(), tls.clone());
                thread::spawn(move || {
                    let peer = stream.peer_addr().unwrap();
                    match tls {
                        None => answer(&state, peer, stream),
                        Some(tls) => {
                            answer(
                                &state,
                                peer,
                                StreamOwned::new(ServerConnection::new(tls).unwrap(), stream),
                            );
                        }
                    }
                });
            }
        });
        Self { port, state }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The last request as received.
    pub fn last(&self) -> String {
        self.state.requests.lock().unwrap().last().expect("a request").1.clone()
    }

    pub fn last_peer(&self) -> SocketAddr {
        self.state.requests.lock().unwrap().last().expect("a request").0
    }

    pub fn count(&self) -> usize {
        self.state.requests.lock().unwrap().len()
    }

    /// Sets the status line and headers of all further answers.
    pub fn answer(&self, head: &str) {
        head.clone_into(&mut self.state.answer.lock().unwrap());
    }

    /// Reads all further requests without answering them.
    pub fn hang(&self) {
        self.state.hangs.store(true, SeqCst);
    }

    /// Closes the port.
    pub fn stop(&self) {
        self.state.stopped.store(true, SeqCst);
        // The thread checks the flag after its next accept.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
    }
}

fn answer(state: &State, peer: SocketAddr, mut stream: impl Read + Write) {
    let mut request = String::new();
    let mut bytes = [0; 4096];
    while !request.contains("\r\n\r\n") {
        match stream.read(&mut bytes) {
            Ok(count) if count > 0 => request.push_str(&String::from_utf8_lossy(&bytes[..count])),
            _ => return,
        }
    }
    state.requests.lock().unwrap().push((peer, request));
    if state.hangs.load(SeqCst) {
        // Until the peer gives up.
        while matches!(stream.read(&mut bytes), Ok(count) if count > 0) {}
        return;
    }
    let head = state.answer.lock().unwrap().clone();
    let _ = write!(stream, "{head}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
}

/// A certificate that no client trusts.
fn config() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["nobody".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    Arc::new(config)
}

/// A server of `grpc.health.v1.Health`, written by hand: the messages have one field each.
pub struct Grpc {
    port: u16,
    serving: Arc<AtomicBool>,
    _runtime: Runtime,
}

impl Grpc {
    /// Serves the health of one service; every other is unknown.
    pub fn start(service: &'static str) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = Arc::new(AtomicBool::new(true));
        let state = serving.clone();
        let check = move |body: axum::body::Bytes| {
            let state = state.clone();
            async move { reply(body.ends_with(service.as_bytes()), state.load(SeqCst)) }
        };
        let router = Router::new().route("/grpc.health.v1.Health/Check", post(check));
        runtime.spawn(async move {
            use hyper_util::{rt, server::conn::auto, service::TowerToHyperService};
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(router.clone());
                tokio::spawn(async move {
                    let builder = auto::Builder::new(rt::TokioExecutor::new());
                    let _ = builder.serve_connection(rt::TokioIo::new(stream), service).await;
                });
            }
        });
        Self { port, serving, _runtime: runtime }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the health of the service.
    pub fn serving(&self, serving: bool) {
        self.serving.store(serving, SeqCst);
    }
}

/// `HealthCheckResponse { status }` in a gRPC frame, with the call's status as a trailer; NOT_FOUND if it is not known.
fn reply(known: bool, serving: bool) -> Response {
    use http_body_util::{BodyExt, Full};
    let status = if serving { 1 } else { 2 };
    let frame: Vec<u8> = if known { vec![0, 0, 0, 0, 2, 8, status] } else { Vec::new() };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", if known { "0" } else { "5" }.parse().unwrap());
    let body = Full::new(axum::body::Bytes::from(frame)).with_trailers(async { Some(Ok(trailers)) });
    Response::builder().header("content-type", "application/grpc").body(axum::body::Body::new(body)).unwrap()
}
