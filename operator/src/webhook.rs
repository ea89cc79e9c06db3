//! The HTTPS server of the webhooks.
//!
//! Turns an AdmissionReview into the injector's decision as a JSON patch. Asks nobody: what it needs it was given, so an
//! answer takes well under a millisecond. Whose pods come here is the webhook configuration's selectors' business; whose
//! certificate is served, the `ca`'s.

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse, Json, Response},
    routing::post,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument, debug, info_span, warn};

use crate::injector::Settings;

pub mod ca_bundle;
pub mod review;

/// An API server's object is at most 3 MiB, and a review may hold an old one beside it.
const BODY_BYTES: usize = 8 << 20;
/// A caller that takes longer to shake hands is not the API server, which gives up after seconds itself.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long calls under way may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait after an accept that failed, which happens when the process has no file descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The paths of the webhooks: `POST /inject`. The settings are those of the moment of each call.
pub fn router(settings: watch::Receiver<Arc<Settings>>) -> Router {
    Router::new().route("/inject", post(inject)).layer(DefaultBodyLimit::max(BODY_BYTES)).with_state(settings)
}

async fn inject(State(settings): State<watch::Receiver<Arc<Settings>>>, body: Bytes) -> Response {
    let settings = settings.borrow().clone();
    match review::answer(&body, &settings) {
        Ok(answer) => Json(answer).into_response(),
        Err(error) => {
            warn!(%error, "a review was not understood");
            (StatusCode::BAD_REQUEST, error.to_string()).into_response()
        }
    }
}

/// Serves `router` over TLS until `shutdown` is done, and then lets calls under way end.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(tls);
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let task = connection(acceptor.clone(), stream, router.clone(), stopped.clone());
                    connections.spawn(task.instrument(info_span!("webhook", %peer)));
                }
                Err(error) => {
                    warn!(%error, "failed to accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }
    drop(stop);
    // What does not end in time ends with the set.
    let _ = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

async fn connection(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    router: Router,
    mut stopped: watch::Receiver<()>,
) {
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%error, "no TLS"),
        Err(_) => return debug!("the TLS handshake took too long"),
    };
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        _ = stopped.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "the connection broke");
    }
}
