//! Reads the body of a review within limits of memory.
//!
//! Used by `webhook`. Memory is reserved as bytes arrive, so that a peer holds no more than it has sent. A body that is
//! refused is read to its end over HTTP/1.1, and dropped: a client that is still writing would receive a reset instead
//! of the answer.

use std::{net::IpAddr, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{FromRequest, Request},
    http::{StatusCode, Version},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout_at};

use super::{BODY_BYTES, Shared, busy};
use crate::{
    http::Peer,
    shares::{Share, Shares},
};

/// Time limit for a body to arrive. API servers have it ready.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of bytes of a refused body that are read.
const DRAINED: usize = 16 << 20;
/// Minimum number of bytes that are reserved.
const STEP: usize = 64 << 10;

/// A body, and the memory that is reserved while it is held.
pub(super) struct Held {
    pub body: Bytes,
    pub share: Share,
}

impl FromRequest<Shared> for Held {
    type Rejection = Response;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Response> {
        // In tests there may be no connection.
        let peer = request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
        let must_drain = request.version() < Version::HTTP_2;
        let mut body = request.into_body();
        let until = Instant::now() + BODY_TIMEOUT;
        let result = match timeout_at(until, read(&mut body, peer, &shared.bodies)).await {
            Ok(result) => result,
            Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body took too long").into_response()),
        };
        if result.is_err() && must_drain {
            let _ = timeout_at(until, drain(&mut body)).await;
        }
        result
    }
}

/// Reads the rest of a body without keeping it.
async fn drain(body: &mut Body) {
    let mut read = 0_usize;
    while read < DRAINED {
        let Some(Ok(frame)) = body.frame().await else { return };
        read = read.saturating_add(frame.data_ref().map_or(0, Bytes::len));
    }
}

async fn read(body: &mut Body, peer: IpAddr, bodies: &Shares) -> Result<Held, Response> {
    let mut share = bodies.take(peer, 0).ok_or_else(busy)?;
    let mut held: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let broken = |_| (StatusCode::BAD_REQUEST, "the body broke off").into_response();
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        let needed = held.len().saturating_add(data.len());
        if needed > BODY_BYTES {
            let words = format!("the body is too large: expected at most {BODY_BYTES} bytes");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, words).into_response());
        }
        if needed > held.capacity() {
            let capacity = needed.max(held.capacity() * 2).clamp(STEP, BODY_BYTES);
            if !share.grow(capacity - held.capacity()) {
                return Err(busy());
            }
            held.reserve_exact(capacity - held.len());
        }
        held.extend_from_slice(&data);
    }
    Ok(Held { body: Bytes::from(held), share })
}
