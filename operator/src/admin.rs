//! Serves the operator's own pages: liveness, readiness, metrics and debug dumps, over plain HTTP.
//!
//! Started by `runtime`, on a port that the chart does not expose outside the cluster. Shows values that hold no secret
//! by construction (mesh, findings, connected proxies), and changes nothing. The debug pages are a map of the mesh, so
//! `readers` decides which users may read them; `render` and `serve` bound the cost of requests.

mod readers;
mod render;
mod serve;
pub mod status;

use std::{collections::BTreeSet, fmt, sync::Arc};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
pub use readers::{Readers, token};
use render::{Renderer, peer};
pub use serve::{CONNECTIONS, listen, serve};
use smidge_xds::{server::Proxies, snapshot::Snapshot};
use tokio::sync::watch;

use crate::{finding::Finding, publish::Published};

/// State that the pages show, and the authorizer of the debug pages.
#[derive(Clone)]
pub struct Pages {
    /// Kinds that are not read yet; the operator is ready when the set is empty.
    pub awaited: watch::Receiver<BTreeSet<&'static str>>,
    /// The published snapshot.
    pub snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// The current findings.
    pub findings: watch::Receiver<Arc<Vec<Finding>>>,
    /// The last publication: it has the status of each object.
    pub published: watch::Receiver<Option<Arc<Published>>>,
    /// The connected proxies.
    pub proxies: Proxies,
    /// Every metric.
    pub registry: Arc<Registry>,
    /// Authorizer of the debug pages.
    pub readers: Arc<Readers>,
}

#[derive(Clone)]
struct Shared {
    pages: Pages,
    renderer: Renderer,
}

/// Builds the router of all pages.
pub fn router(pages: Pages) -> Router {
    let shared = Shared { pages, renderer: Renderer::new() };
    let debug = Router::new()
        .route("/debug/mesh", get(mesh))
        .route("/debug/findings", get(findings))
        .route("/debug/status", get(status))
        .route("/debug/proxies", get(proxies))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&shared.pages.readers), admitted));
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(debug)
        .with_state(shared)
}

async fn admitted(State(readers): State<Arc<Readers>>, request: Request, next: Next) -> Response {
    match readers.admit(peer(&request), request.headers(), request.uri().path()).await {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal,
    }
}

async fn ready(State(Shared { pages, .. }): State<Shared>) -> impl IntoResponse {
    let awaited: Vec<&str> = pages.awaited.borrow().iter().copied().collect();
    if awaited.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: still reading {}\n", awaited.join(", ")))
    }
}

async fn metrics(State(Shared { pages, renderer }): State<Shared>, request: Request) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let render = move || -> Result<Vec<u8>, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &pages.registry)?;
        Ok(text.into_bytes())
    };
    renderer.page(peer(&request), content_type, render).await
}

async fn mesh(State(Shared { pages, renderer }): State<Shared>, request: Request) -> Response {
    let snapshot = pages.snapshots.borrow().clone();
    match snapshot {
        Some(snapshot) => {
            renderer.page(peer(&request), JSON, move || serde_json::to_vec(&**snapshot.mesh())).await
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "nothing was published yet\n").into_response(),
    }
}

async fn findings(State(Shared { pages, renderer }): State<Shared>, request: Request) -> Response {
    let findings = pages.findings.borrow().clone();
    renderer.page(peer(&request), JSON, move || serde_json::to_vec(&*findings)).await
}

async fn status(State(Shared { pages, renderer }): State<Shared>, request: Request) -> Response {
    let published = pages.published.borrow().clone();
    match published {
        Some(published) => {
            let render = move || serde_json::to_vec(&status::of(&published));
            renderer.page(peer(&request), JSON, render).await
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "nothing was published yet\n").into_response(),
    }
}

async fn proxies(State(Shared { pages, renderer }): State<Shared>, request: Request) -> Response {
    renderer.page(peer(&request), JSON, move || serde_json::to_vec(&pages.proxies.list())).await
}

const JSON: &str = "application/json";
