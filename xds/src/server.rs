//! Serves delta xDS over gRPC around `delta::Session`: authenticates streams, and carries views and certificates. Passes
//! on the statistics that proxies push on the same port.
//!
//! Fed by `operator::publish` (snapshots), `operator::auth`, `operator::ca` and `operator::traffic` (which implement its
//! three traits); serves Envoy. The caller terminates TLS: connections arrive ready for HTTP/2, so a serving certificate may change at any
//! time. Reads no environment and no clock except timers, and knows nothing of Kubernetes.

mod auth;
mod cert;
mod codec;
mod compute_limiter;
mod connect_limiter;
mod proxies;
mod reports;
mod request_rate;
mod snapshot_hub;
mod stream;
pub mod versions;

use std::{future::Future, sync::Arc, time::Duration};

pub use crate::refusal::RefusalReason;
pub use auth::{Admission, Authenticator, Presented, Refusal};
pub use cert::{CertSource, Credentials, Holder, IssueError};
use codec::{Ads, Open, Responses};
pub use compute_limiter::ComputeLimiter;
use connect_limiter::ConnectLimiter;
use futures::Stream;
pub use proxies::{AckState, AckWatcher, Connected, NackMessages, Proxies};
use reports::Pushes;
pub use reports::Reports;
pub use snapshot_hub::SnapshotHub;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
    time::Instant,
};
use tonic::{Status, Streaming, body::Body, codegen::http, transport::server::Connected as Connection};

use crate::{
    delta::{Refused, Request, changes::Memo},
    mesh::id::ProxyId,
    metrics::Metrics,
};

/// Inputs of serving. `S` is the type that is published: a snapshot.
pub struct Server<A, C, S> {
    /// Decides to which workload instance a stream belongs.
    pub authenticator: A,
    /// Issues the certificates.
    pub certificates: C,
    /// Snapshots to serve; nothing is served before the first one is published.
    pub hub: SnapshotHub<S>,
    /// Metrics of the server.
    pub metrics: Metrics,
    /// Connected proxies.
    pub proxies: Proxies,
    /// Receives the statistics that proxies push.
    pub reports: Arc<dyn Reports>,
    /// Receives every refused response while the channel has room: a slow reader misses some.
    pub nacks: mpsc::Sender<Nack>,
    /// Limits concurrent verification of tokens and issuing of certificates. The caller that accepts the connections
    /// must use the same limiter.
    pub compute_limiter: ComputeLimiter,
    /// Limits of the server.
    pub settings: Settings,
}

/// Limits of the server, each with a default that suits a cluster.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Time limit of a stream without its first message, its view, or the first snapshot. The stream then ends and the
    /// proxy connects again. Default 30 s.
    pub patience: Duration,
    /// Interval between keepalive pings on an idle connection, and time limit of their answer. Default 30 s and 10 s.
    pub keepalive: (Duration, Duration),
    /// Maximum size of a message that a proxy may send, in bytes. Default 4 MiB: the versions of some 40,000 resources.
    pub max_request: usize,
    /// Maximum number of streams on one connection. A proxy needs one, and a second while one ends. Default 16.
    pub streams_per_connection: u32,
    /// Maximum number of streams that are initialised concurrently: those whose token was accepted and whose client has
    /// not acknowledged everything yet, each for a second at most. Default 64: enough to keep two cores busy while
    /// proxies need 50 ms each.
    pub initialising_streams: usize,
    /// Time for which a proxy keeps a cluster at least when nothing leads to it any more; at most twice that. Default 20 s:
    /// longer than a proxy's listeners drain, which injection sets to 15 s.
    pub linger: Duration,
    /// Time limit for connections to end after the server was stopped. Default 5 s.
    pub drain: Duration,
}

/// Maximum size of data that a client may send before the server has read it, in bytes: on a stream, and on a
/// connection. Enough for the first messages of most proxies that reconnect; longer messages take further round trips.
const WINDOWS: (u32, u32) = (64 << 10, 256 << 10);

impl Default for Settings {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(30),
            keepalive: (Duration::from_secs(30), Duration::from_secs(10)),
            max_request: 4 << 20,
            streams_per_connection: 16,
            initialising_streams: 64,
            linger: Duration::from_secs(20),
            drain: Duration::from_secs(5),
        }
    }
}

/// NACK of a proxy: a response that it refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// Proxy that refused the response.
    pub proxy: ProxyId,
    /// Refused response, with the message of the proxy.
    pub refused: Refused,
}

/// Error by which serving ends early.
#[derive(Debug, thiserror::Error)]
#[error("failed to serve proxies")]
pub struct ServeError(#[from] tonic::transport::Error);

/// State that the streams share.
struct Shared<A, C, S> {
    server: Server<A, C, S>,
    memo: Memo,
    connect_limiter: ConnectLimiter,
    pushes: Pushes,
    drain: watch::Receiver<bool>,
}

impl<A: Authenticator, C: CertSource, S: Send + Sync + 'static> Server<A, C, S> {
    /// Serves the connections of `incoming` until `stop` completes; streams then end, and proxies connect elsewhere.
    pub async fn serve<I, IO, E>(self, incoming: I, stop: impl Future<Output = ()>) -> Result<(), ServeError>
    where
        I: Stream<Item = Result<IO, E>>,
        IO: AsyncRead + AsyncWrite + Connection + Unpin + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let settings = self.settings.clone();
        let (draining, drain) = watch::channel(false);
        let connect_limiter = ConnectLimiter::new(settings.initialising_streams);
        let open = Arc::new(Shared {
            server: self,
            memo: Memo::default(),
            connect_limiter,
            pushes: Pushes::default(),
            drain,
        });
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
            // A connection whose peer reads nothing would delay the end for ever.
            () = async {
                let _ = drained.wait_for(|draining| *draining).await;
                tokio::time::sleep(settings.drain).await;
            } => Ok(()),
        }
    }
}

impl<A: Authenticator, C, S> Shared<A, C, S> {
    /// Authenticates a request. Unauthenticated peers must not queue ahead of authenticated ones. gRPC runs this in a
    /// task of its own, as `ComputeLimiter` requires, which ends with the connection: a peer that disconnects while it
    /// queues leaves nothing behind.
    async fn admit(&self, presented: &Presented<'_>) -> Result<Admission, Status> {
        let Server { authenticator, compute_limiter, .. } = &self.server;
        compute_limiter.run(authenticator.admit(presented)).await.map_err(|refusal| self.refuse(&refusal))
    }

    fn refuse(&self, refusal: &Refusal) -> Status {
        tracing::info!(%refusal, "stream refused");
        self.server.metrics.refuse(refusal.reason);
        refusal.reason.status()
    }
}

impl<A: Authenticator, C: CertSource, S: Send + Sync + 'static> Open for Shared<A, C, S> {
    async fn open(self: Arc<Self>, request: tonic::Request<Streaming<Request>>) -> Result<Responses, Status> {
        let chain = request.peer_certs();
        let (metadata, _, requests) = request.into_parts();
        let chain = chain.as_deref().map(Vec::as_slice).unwrap_or_default();
        let mut admission = self.admit(&Presented { metadata: &metadata, chain }).await?;
        drop(metadata);
        let judged = Instant::now();
        let permit = self.connect_limiter.acquire().await;
        if *self.drain.borrow() {
            return Err(RefusalReason::Unavailable.status());
        }
        admission.expires_in = admission.expires_in.saturating_sub(judged.elapsed());
        stream::run(Arc::clone(&self), admission, requests, permit).map_err(|refusal| self.refuse(&refusal))
    }

    async fn export(self: Arc<Self>, request: http::Request<Body>, max_request: usize) -> Result<(), Status> {
        let (request, body) = reports::split(request);
        let chain = request.peer_certs();
        let chain = chain.as_deref().map(Vec::as_slice).unwrap_or_default();
        let presented = Presented { metadata: request.metadata(), chain };
        let key = reports::key(&presented);
        let proxy = match self.pushes.known(&key) {
            Some(proxy) => proxy,
            None => self.pushes.remember(key, self.admit(&presented).await?),
        };
        drop(request);
        let Some(mut receiving) = self.pushes.admit(&proxy) else {
            self.server.metrics.pushes_throttled.inc();
            return Err(Status::resource_exhausted("too many messages"));
        };
        let message = receiving.receive(body, max_request).await?;
        let Server { reports, compute_limiter, .. } = &self.server;
        compute_limiter.run(async { reports.report(&proxy, message) }).await;
        Ok(())
    }
}
