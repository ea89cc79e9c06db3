//! Reads the body of a review, as far as there is room for it.
//!
//! Used by `webhook`. Room is taken as bytes arrive, so that a peer holds no more than it has sent.

use std::{net::IpAddr, time::Duration};

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::{BODY_BYTES, Shared, busy};
use crate::{
    http::Peer,
    shares::{Share, Shares},
};

/// How long a body may take to arrive. API servers have it ready.
const ARRIVAL: Duration = Duration::from_secs(5);
/// The least that room is taken for.
const STEP: usize = 64 << 10;

/// A body, and the room that it takes while it is held.
pub(super) struct Held {
    pub body: Bytes,
    pub share: Share,
}

impl FromRequest<Shared> for Held {
    type Rejection = Response;

    async fn from_request(request: Request, shared: &Shared) -> Result<Self, Response> {
        let late = |_| (StatusCode::REQUEST_TIMEOUT, "the body took too long").into_response();
        timeout(ARRIVAL, read(request, &shared.bodies)).await.map_err(late)?
    }
}

async fn read(request: Request, bodies: &Shares) -> Result<Held, Response> {
    // In tests there may be no connection.
    let peer = request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
    let mut share = bodies.take(peer, 0).ok_or_else(busy)?;
    let mut body = request.into_body();
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
