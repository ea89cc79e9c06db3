//! Answers HTTP of both versions: each path is for one shape, and gRPC and WebSocket are among them.
//!
//! An answer reports what the server saw, so that a client can print it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Request, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use futures::{SinkExt as _, StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::broadcast,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

use crate::grpc;

/// Size of the parts of a body.
const PART: usize = 64 * 1024;
/// Largest response head that is asked for, in bytes.
const HEAD: usize = 1 << 20;

/// State that all connections share.
#[derive(Clone)]
pub struct Server {
    name: Arc<str>,
    certificate: CertificateDer<'static>,
    /// Events that were acknowledged, so that the next one is due.
    acknowledged: broadcast::Sender<()>,
}

impl Server {
    /// Creates a server that gives `name` and `certificate` in answers.
    pub fn new(name: &Arc<str>, certificate: &CertificateDer<'static>) -> Self {
        Self { name: name.clone(), certificate: certificate.clone(), acknowledged: broadcast::channel(16).0 }
    }

    fn router(self) -> Router {
        Router::new()
            .route("/", get(async |State(server): State<Self>| server.name.to_string()))
            .route("/certificate", get(async |State(server): State<Self>| server.certificate.to_vec()))
            .route("/request", any(request))
            .route("/status/{code}", any(status))
            .route("/bytes/{count}", get(bytes))
            .route("/upload", post(upload))
            .route("/head/{size}", get(head))
            .route("/trailers", any(trailers))
            .route("/events", get(events))
            .route("/acknowledge", get(acknowledge))
            .route("/refuse", post(async || (StatusCode::EXPECTATION_FAILED, "no body, please")))
            .route("/websocket", any(websocket))
            .route("/shapes.Shapes/{method}", post(call))
            .with_state(self)
    }
}

/// Serves one connection.
pub async fn answer<S>(stream: S, server: Server) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().max_buf_size(4 << 20);
    builder.http2().max_header_list_size(4 << 20);
    let service = TowerToHyperService::new(server.router());
    let end = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
    end.map_err(|error| anyhow::anyhow!("failed to serve a connection: {error}"))
}

/// Answers a call of gRPC.
async fn call(Path(method): Path<String>, State(server): State<Server>, request: Request<Body>) -> Response {
    grpc::answer(&method, &server.name, request).await
}

/// Answers with the request line, the size of the body and the trailers that arrived.
async fn request(request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    match body.collect().await {
        Ok(collected) => {
            let trailer = collected.trailers().and_then(|trailers| trailers.get("x-sum")).cloned();
            let trailer = trailer.map_or("none".to_owned(), |sum| format!("{sum:?}"));
            let size = collected.to_bytes().len();
            format!("{} {} body={size} trailer={trailer}", parts.method, parts.uri).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

async fn status(Path(code): Path<u16>) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST)
}

async fn bytes(Path(count): Path<usize>) -> Body {
    let parts = count.div_ceil(PART);
    let part = move |index: usize| {
        let size = PART.min(count - index * PART);
        Ok::<_, Infallible>(Bytes::from(vec![b'.'; size]))
    };
    Body::from_stream(stream::iter((0..parts).map(part)))
}

async fn upload(body: Body) -> Response {
    let mut parts = body.into_data_stream();
    let mut count = 0;
    while let Some(part) = parts.next().await {
        match part {
            Ok(part) => count += part.len(),
            Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        }
    }
    count.to_string().into_response()
}

async fn head(Path(size): Path<usize>) -> Response {
    let value = HeaderValue::from_str(&"h".repeat(size.min(HEAD)));
    match value {
        Ok(value) => ([("x-large", value)], "large").into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

/// Answers with a trailer.
async fn trailers() -> Response {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("abc"));
    let frames =
        [Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"body"))), Ok(Frame::trailers(trailers))];
    let body = Body::new(StreamBody::new(stream::iter(frames)));
    ([(header::TRAILER, "x-sum")], body).into_response()
}

/// Sends an event, and the next one when a client has acknowledged it: a proxy that collects events would never get a second.
async fn events(State(server): State<Server>) -> Response {
    let acknowledged = server.acknowledged.subscribe();
    let events = stream::unfold((0, acknowledged), async |(number, mut acknowledged)| {
        if number > 0 && tokio::time::timeout(Duration::from_secs(20), acknowledged.recv()).await.is_err() {
            return None;
        }
        let event = Bytes::from(format!("data: {number}\n\n"));
        Some((Ok::<_, Infallible>(event), (number + 1, acknowledged)))
    });
    let body = Body::from_stream(events.take(5));
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}

async fn acknowledge(State(server): State<Server>) -> &'static str {
    // Without a receiver there is no stream that waits.
    let _ = server.acknowledged.send(());
    "acknowledged"
}

/// Upgrades to a WebSocket that sends back what it receives.
async fn websocket(mut request: Request<Body>) -> Response {
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return StatusCode::UPGRADE_REQUIRED.into_response();
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let upgraded = TokioIo::new(upgrade.await?);
        let socket = WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await;
        let (mut writer, mut reader) = socket.split();
        while let Some(message) = reader.next().await {
            match message? {
                message if message.is_text() || message.is_binary() => writer.send(message).await?,
                message if message.is_close() => break,
                _ => {}
            }
        }
        anyhow::Ok(())
    });
    let headers = [
        (header::UPGRADE, "websocket".to_owned()),
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}
