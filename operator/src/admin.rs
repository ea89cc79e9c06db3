//! The operator's own pages: liveness, readiness, metrics and debug dumps, over plain HTTP.
//!
//! Started by `runtime`, on a port that the chart does not expose outside the cluster. Shows values that hold no secret
//! by construction (mesh, findings, connected proxies), and changes nothing.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use prometheus_client::{encoding::text::encode, registry::Registry};
use smidge_xds::{server::Proxies, snapshot::Snapshot};
use tokio::sync::watch;

use crate::finding::Finding;

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// Kinds that were not read yet; ready when empty.
    pub awaited: watch::Receiver<BTreeSet<&'static str>>,
    /// The published snapshot.
    pub snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// The current findings.
    pub findings: watch::Receiver<Arc<Vec<Finding>>>,
    /// The connected proxies.
    pub proxies: Proxies,
    /// Every metric.
    pub registry: Arc<Registry>,
}

/// The router of all pages.
pub fn router(pages: Pages) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/debug/mesh", get(mesh))
        .route("/debug/findings", get(findings))
        .route("/debug/proxies", get(proxies))
        .with_state(pages)
}

async fn ready(State(pages): State<Pages>) -> impl IntoResponse {
    let awaited: Vec<&str> = pages.awaited.borrow().iter().copied().collect();
    if awaited.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: still reading {}\n", awaited.join(", ")))
    }
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let mut text = String::new();
    match encode(&mut text, &pages.registry) {
        Ok(()) => (
            StatusCode::OK,
            [("content-type", "application/openmetrics-text; version=1.0.0; charset=utf-8")],
            text,
        ),
        Err(error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [("content-type", "text/plain")],
            format!("failed to encode the metrics: {error}\n"),
        ),
    }
}

async fn mesh(State(pages): State<Pages>) -> impl IntoResponse {
    let snapshot = pages.snapshots.borrow().clone();
    match snapshot {
        Some(snapshot) => Json(&**snapshot.mesh()).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "nothing was published yet\n").into_response(),
    }
}

async fn findings(State(pages): State<Pages>) -> impl IntoResponse {
    let findings = pages.findings.borrow().clone();
    Json(&*findings).into_response()
}

async fn proxies(State(pages): State<Pages>) -> impl IntoResponse {
    Json(pages.proxies.list()).into_response()
}
