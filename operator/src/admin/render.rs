//! Renders pages one at a time with pauses between them, and bounds how much text waits for peers to read it.
//!
//! Used by `admin` for every page that grows with the mesh. Does not know the content of a page.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    extract::Request,
    http::{
        StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

use crate::{http::Peer, shares::Shares};

/// Pause after a page, as a multiple of the time that it took: for any number of requests, pages take a third of a
/// core.
const REST: u32 = 2;
/// Maximum number of requests that are rendered or wait for their turn, in all and of one peer, so that others are not
/// far behind it.
const WAITING: (usize, usize) = (32, 4);
/// Delay before a refusal is sent.
const REFUSAL_DELAY: Duration = Duration::from_millis(250);
/// Time limit of the wait for a turn.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of text that waits to be read, in bytes, in all and for one peer. A page that is larger is never sent.
const UNREAD: (usize, usize) = (128 << 20, 64 << 20);

/// Renders pages.
#[derive(Clone)]
pub(super) struct Renderer {
    turns: Arc<Semaphore>,
    waiting: Shares,
    unread: Shares,
}

/// Returns the address of the client. In tests there may be no connection.
pub(super) fn peer(request: &Request) -> IpAddr {
    request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0)
}

/// Refuses a request for which there is no room or no turn, so that the client tries again. The refusal is delayed, so
/// that repeated requests over a connection cost the peer more than us.
pub(super) async fn busy(why: &'static str) -> Response {
    sleep(REFUSAL_DELAY).await;
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], why).into_response()
}

impl Renderer {
    pub(super) fn new() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(1)),
            waiting: Shares::new(WAITING.0, WAITING.1),
            unread: Shares::new(UNREAD.0, UNREAD.1),
        }
    }

    /// Returns the page that `render` makes for `peer`, or a response with the reason for which there is none.
    pub(super) async fn page<E: std::fmt::Display + Send + 'static>(
        &self,
        peer: IpAddr,
        content_type: &'static str,
        render: impl FnOnce() -> Result<Vec<u8>, E> + Send + 'static,
    ) -> Response {
        let Some(place) = self.waiting.take(peer, 1) else {
            return busy("too many pages are asked for at once; try again\n").await;
        };
        let Ok(Ok(turn)) = timeout(QUEUE_TIMEOUT, Arc::clone(&self.turns).acquire_owned()).await else {
            return busy("other pages are being made; try again\n").await;
        };
        // The turn moves along: a client that disconnects does not stop a rendering that has begun.
        let rendered = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let rendered = render();
            drop(place);
            let rest = started.elapsed() * REST;
            tokio::spawn(async move {
                sleep(rest).await;
                drop(turn);
            });
            rendered
        });
        let text = match rendered.await {
            Ok(Ok(text)) => text,
            Ok(Err(error)) => return failed(&error),
            Err(error) => return failed(&error),
        };
        if text.len() > UNREAD.1 {
            let words = format!(
                "the page has {} bytes, more than the {} that may be held for a peer\n",
                text.len(),
                UNREAD.1
            );
            return (StatusCode::INTERNAL_SERVER_ERROR, words).into_response();
        }
        let Some(room) = self.unread.take(peer, text.len()) else {
            return busy("unread pages take all the room; try again\n").await;
        };
        ([(CONTENT_TYPE, content_type)], room.hold(text.into())).into_response()
    }
}

fn failed(error: &dyn std::fmt::Display) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to make the page: {error}\n")).into_response()
}
