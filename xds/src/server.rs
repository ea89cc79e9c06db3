//! The gRPC shell around `delta::Session`: authenticates streams, and carries views and certificates to them.
//!
//! Fed by `operator::publish` (snapshots), `operator::auth` and `operator::ca` (the two seams); serves Envoy.
//! TLS is the caller's: connections come in ready to speak HTTP/2, so a serving certificate may change at any time.
//! Reads no environment and no clock but for timers, and knows nothing of Kubernetes.

mod auth;
mod cert;
mod codec;
mod compute_limiter;
mod connect_limiter;
mod proxies;
mod request_rate;
mod snapshot_hub;
mod stream;

use std::{future::Future, sync::Arc, time::Duration};

pub use crate::refusal::RefusalReason;
pub use auth::{Admission, Authenticator, Refusal};
pub use cert::{CertSource, Credentials, Holder, IssueError};
use codec::{Ads, Open, Responses};
pub use compute_limiter::ComputeLimiter;
use connect_limiter::ConnectLimiter;
use futures::Stream;
pub use proxies::{AckState, AckWatcher, Connected, NackMessages, Proxies};
pub use snapshot_hub::SnapshotHub;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
    time::Instant,
};
use tonic::{Status, Streaming, transport::server::Connected as Connection};

use crate::{
    delta::{Refused, Request, changes::Memo},
    mesh::id::ProxyId,
    metrics::Metrics,
};

/// All that serving takes. `S` is what is published: a snapshot.
pub struct Server<A, C, S> {
    /// Judges who a stream belongs to.
    pub authenticator: A,
    /// Issues the certificates.
    pub certificates: C,
    /// What is served; nothing before something was put up.
    pub hub: SnapshotHub<S>,
    /// Counts.
    pub metrics: Metrics,
    /// Who is connected.
    pub proxies: Proxies,
    /// Told of every refused response, as long as there is room: a reader that is slow misses some.
    pub nacks: mpsc::Sender<Nack>,
    /// Who may compute now: who judges a token, or makes a certificate. Whoever makes the connections needs the same.
    pub compute_limiter: ComputeLimiter,
    /// Limits.
    pub settings: Settings,
}

/// The limits of the server, each with a default that suits a cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a stream may be without its first message, its view, or the first snapshot before it is sent away, to
    /// come again. Default 30 s.
    pub patience: Duration,
    /// How often an idle connection is asked for a sign of life, and after which silence it is given up.
    /// Default 30 s and 10 s.
    pub keepalive: (Duration, Duration),
    /// The largest message that a proxy may send, in bytes. Default 4 MiB: the versions of some 40,000 resources.
    pub max_request: usize,
    /// How many streams one connection may hold. A proxy needs one, and a second while the first one ends. Default 16.
    pub streams_per_connection: u32,
    /// Streams that are initialised at once: those whose token was accepted and whose client has not acknowledged everything yet,
    /// each for a second at most. Default 64: enough to keep two cores busy while proxies need 50 ms each.
    pub initialising_streams: usize,
    /// How long connections may take to end after the server was told to. Default 5 s.
    pub drain: Duration,
}

/// What a client may send before the server has looked at it, in bytes: to a stream, and to a connection. Enough for
/// what most proxies bring when they come back; longer messages take further round trips.
const WINDOWS: (u32, u32) = (64 << 10, 256 << 10);

impl Default for Settings {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(30),
            keepalive: (Duration::from_secs(30), Duration::from_secs(10)),
            max_request: 4 << 20,
            streams_per_connection: 16,
            initialising_streams: 64,
            drain: Duration::from_secs(5),
        }
    }
}

/// A proxy refused a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// Who refused.
    pub proxy: ProxyId,
    /// What, and why.
    pub refused: Refused,
}

/// Why serving ended early.
#[derive(Debug, thiserror::Error)]
#[error("failed to serve proxies")]
pub struct ServeError(#[from] tonic::transport::Error);

/// What the streams share.
struct Shared<A, C, S> {
    server: Server<A, C, S>,
    memo: Memo,
    connect_limiter: ConnectLimiter,
    drain: watch::Receiver<bool>,
}

impl<A: Authenticator, C: CertSource, S: Send + Sync + 'static> Server<A, C, S> {
    /// Serves the connections of `incoming` until `stop` completes; streams then end, and their proxies go elsewhere.
    pub async fn serve<I, IO, E>(self, incoming: I, stop: impl Future<Output = ()>) -> Result<(), ServeError>
    where
        I: Stream<Item = Result<IO, E>>,
        IO: AsyncRead + AsyncWrite + Connection + Unpin + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let settings = self.settings.clone();
        let (draining, drain) = watch::channel(false);
        let connect_limiter = ConnectLimiter::new(settings.initialising_streams);
        let open = Arc::new(Shared { server: self, memo: Memo::default(), connect_limiter, drain });
        let (interval, timeout) = settings.keepalive;
        let serving = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(interval))
            .http2_keepalive_timeout(Some(timeout))
            .max_concurrent_streams(settings.streams_per_connection)
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .serve_with_incoming_shutdown(Ads { open, max_request: settings.max_request }, incoming, async {
                stop.await;
                draining.send_replace(true);
            });
        tokio::pin!(serving);
        let mut drained = draining.subscribe();
        tokio::select! {
            result = &mut serving => Ok(result?),
            // A connection whose peer reads nothing would hold the end up for ever.
            () = async {
                let _ = drained.wait_for(|draining| *draining).await;
                tokio::time::sleep(settings.drain).await;
            } => Ok(()),
        }
    }
}

impl<A: Authenticator, C: CertSource, S: Send + Sync + 'static> Open for Shared<A, C, S> {
    async fn open(self: Arc<Self>, request: tonic::Request<Streaming<Request>>) -> Result<Responses, Status> {
        let (metadata, _, requests) = request.into_parts();
        let Server { authenticator, compute_limiter, metrics, .. } = &self.server;
        let refuse = |refusal: Refusal| {
            tracing::info!(%refusal, "stream refused");
            metrics.refuse(refusal.reason);
            refusal.reason.status()
        };
        // Who is nobody must not queue ahead of those who are somebody. gRPC runs this in a task of its own, as `ComputeLimiter`
        // asks, which ends with the connection: who goes away while it queues leaves nothing behind.
        let mut admission = compute_limiter.run(authenticator.admit(&metadata)).await.map_err(refuse)?;
        drop(metadata);
        let judged = Instant::now();
        let permit = self.connect_limiter.acquire().await;
        if *self.drain.borrow() {
            return Err(RefusalReason::Unavailable.status());
        }
        admission.expires_in = admission.expires_in.saturating_sub(judged.elapsed());
        stream::run(Arc::clone(&self), admission, requests, permit).map_err(refuse)
    }
}
