//! Serves a router on one connection, as long as its peer says and hears something.
//!
//! Used by `webhook` and by `runtime` for the operator's pages. Bounds what a connection may cost: time for headers, silence,
//! answers that nobody reads, HTTP/2 streams and their buffers. What requests may cost is the router's business.

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

/// How long a connection may be without a request under way, an answer's way out included. API servers keep idle connections
/// for 90 s: a connection that ended here before would break a call that is just being written.
pub const IDLE: Duration = Duration::from_mins(2);
/// How long the headers of a request may take over HTTP/1.1. The time runs from the end of the request before, so it is the
/// same.
const HEADERS: Duration = IDLE;
/// How often an HTTP/2 peer is asked whether it is there, and how long it may take to answer.
const ALIVE: Duration = Duration::from_secs(10);
/// How long what is under way may take once the connection is told to end.
const GRACE: Duration = Duration::from_secs(5);
/// HTTP/2 streams of a connection.
const STREAMS: u32 = 32;
/// What a peer may send on a connection, or on one of its streams, before any of it is read.
const WINDOW: u32 = 256 << 10;

/// What a peer may send over HTTP/1.1 before it is read, headers included, and what waits to be written but for the last part of
/// an answer.
const BUFFER: usize = 64 << 10;

/// How many connections a port takes, and how many of one peer. Those who call are few: API servers and other replicas. But an
/// API server calls over HTTP/1.1, with a connection for each call under way and idle ones for each webhook.
pub const CONNECTIONS: (usize, usize) = (1024, 256);

/// Who sent a request, as an extension of it.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// What goes on on a connection: requests under way, and since when there are none.
#[derive(Debug)]
struct Activity {
    under_way: usize,
    since: Instant,
}

/// A request under way.
struct UnderWay(Arc<Mutex<Activity>>);

impl UnderWay {
    fn new(activity: &Arc<Mutex<Activity>>) -> Self {
        activity.lock().unwrap_or_else(PoisonError::into_inner).under_way += 1;
        Self(Arc::clone(activity))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut activity = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        activity.under_way -= 1;
        activity.since = Instant::now();
    }
}

/// Serves a connection in `connections`, if its peer has a place left.
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

/// Serves until the peer goes, is idle, or `stopped` has news.
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
            drop(under_way);
            answer
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(ALIVE)
        .keep_alive_timeout(ALIVE)
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        // First, so that who has called already is answered.
        biased;
        ended = serving.as_mut() => Ok(ended),
        _ = stopped.changed() => {
            serving.as_mut().graceful_shutdown();
            timeout(GRACE, serving).await
        }
        () = idle(&activity) => {
            serving.as_mut().graceful_shutdown();
            timeout(GRACE, serving).await
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "connection failed"),
        Err(_) => debug!("connection timed out"),
    }
}

/// Completes when nothing was under way for a while.
async fn idle(activity: &Mutex<Activity>) {
    loop {
        let (under_way, since) = {
            let activity = activity.lock().unwrap_or_else(PoisonError::into_inner);
            (activity.under_way, activity.since)
        };
        let now = Instant::now();
        if under_way == 0 && now >= since + IDLE {
            return;
        }
        let from = if under_way == 0 { since } else { now };
        sleep_until(from + IDLE).await;
    }
}
