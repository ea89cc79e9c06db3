//! Serves a router on one connection, as long as its peer is active.
//!
//! Used by `webhook`, and by `admin` for the operator's pages. Bounds the cost of a connection: time for headers, idle
//! time, answers that a peer does not read, HTTP/2 streams and their buffers. Does not bound the cost of requests: the
//! router does.

use std::{
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::Router;
use hyper::service::Service as _;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tracing::{Instrument as _, Span, debug};

use crate::shares::Shares;

/// Time limit of a connection without a request in progress; sending an answer counts as idle time. API servers keep
/// idle connections for 90 s: a connection that ended here before would break a call that is just being written.
pub const IDLE_TIMEOUT: Duration = Duration::from_mins(2);
/// Time limit of the headers of a request over HTTP/1.1. The time runs from the end of the request before, so it is the
/// same.
const HEADER_TIMEOUT: Duration = IDLE_TIMEOUT;
/// Interval between keepalive pings to an HTTP/2 peer, and time limit of its answer.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Time limit of requests in progress after the connection has begun to close.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of HTTP/2 streams of a connection.
const STREAMS: u32 = 32;
/// Maximum size of what a peer may send on a connection, or on one of its streams, before any of it is read, in bytes.
const WINDOW: u32 = 256 << 10;

/// Maximum size of what a peer may send over HTTP/1.1 before it is read, headers included, and of what waits to be
/// written except for the last part of an answer, in bytes.
const BUFFER: usize = 64 << 10;

/// Maximum number of connections of a port, in all and of one peer. There are few clients: API servers and other
/// replicas. But an API server calls over HTTP/1.1, with a connection for each call in progress and idle ones for each
/// webhook.
pub const CONNECTIONS: (usize, usize) = (1024, 256);

/// Address of the client of a request, as an extension of it.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Time until which a response is sent piece by piece, as an extension of it: its connection is not idle before.
#[derive(Debug, Clone, Copy)]
pub struct ActiveUntil(pub Instant);

/// Activity of a connection: number of requests in progress, and the time since which there are none, or will be.
#[derive(Debug)]
struct Activity {
    under_way: usize,
    since: Instant,
}

/// A request in progress, counted until it is dropped.
struct UnderWay(Arc<Mutex<Activity>>);

impl UnderWay {
    fn new(activity: &Arc<Mutex<Activity>>) -> Self {
        activity.lock().unwrap_or_else(PoisonError::into_inner).under_way += 1;
        Self(Arc::clone(activity))
    }

    /// Extends the activity of the connection by a response that is sent piece by piece.
    fn extend(&self, until: Option<&ActiveUntil>) {
        let mut activity = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        activity.since = until.map_or(activity.since, |until| activity.since.max(until.0));
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut activity = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        activity.under_way -= 1;
        activity.since = activity.since.max(Instant::now());
    }
}

/// Serves a connection as a task of `connections`, unless the port or its peer has too many.
pub fn start<S>(
    connections: &mut JoinSet<()>,
    places: &Shares,
    (stream, peer): (S, SocketAddr),
    (router, stopped): (&Router, &watch::Receiver<()>),
    span: Span,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(place) = places.take(peer.ip(), 1) else {
        debug!(%peer, "too many connections");
        return;
    };
    let (router, stopped) = (router.clone(), stopped.clone());
    let task = async move {
        serve(stream, peer.ip(), router, stopped).await;
        drop(place);
    };
    connections.spawn(task.instrument(span));
}

/// Serves until the peer closes the connection, it is idle, or `stopped` changes.
async fn serve<S>(stream: S, peer: IpAddr, router: Router, mut stopped: watch::Receiver<()>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Mutex::new(Activity { under_way: 0, since: Instant::now() }));
    let counted = Arc::clone(&activity);
    let router = TowerToHyperService::new(router);
    let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let under_way = UnderWay::new(&counted);
        request.extensions_mut().insert(Peer(peer));
        let answer = router.call(request);
        async move {
            let answer = answer.await;
            if let Ok(answer) = &answer {
                under_way.extend(answer.extensions().get());
            }
            drop(under_way);
            answer
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        // First, so that a client that has already called is answered.
        biased;
        ended = serving.as_mut() => Ok(ended),
        _ = stopped.changed() => {
            serving.as_mut().graceful_shutdown();
            timeout(DRAIN_TIMEOUT, serving).await
        }
        () = idle(&activity) => {
            serving.as_mut().graceful_shutdown();
            timeout(DRAIN_TIMEOUT, serving).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "connection failed"),
        Err(_) => debug!("connection timed out"),
    }
}

/// Completes when no request was in progress for `IDLE_TIMEOUT`.
async fn idle(activity: &Mutex<Activity>) {
    loop {
        let (under_way, since) = {
            let activity = activity.lock().unwrap_or_else(PoisonError::into_inner);
            (activity.under_way, activity.since)
        };
        let now = Instant::now();
        if under_way == 0 && now >= since + IDLE_TIMEOUT {
            return;
        }
        let from = if under_way == 0 { since } else { now };
        sleep_until(from + IDLE_TIMEOUT).await;
    }
}
