//! Serves the operator's own pages: liveness, readiness, metrics and debug dumps, over plain HTTP.
//!
//! Started by `runtime`, on a port that the chart does not expose outside the cluster. Shows values that hold no secret
//! by construction (mesh, findings, connected proxies), and changes nothing. The debug pages are a map of the mesh, so
//! `readers` decides which users may read them; `render` and `serve` bound the cost of requests.

pub mod process;
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
use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    registry::Registry,
};
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
    /// Every metric of the operator itself.
    pub registry: Arc<Registry>,
    /// Metrics of the traffic of the mesh.
    pub traffic: Arc<Registry>,
    /// Clients that may read the latter.
    pub traffic_readers: PrometheusReaders,
    /// Authorizer of the debug pages.
    pub readers: Arc<Readers>,
}

/// Clients that may read the traffic of the mesh as metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PrometheusReaders {
    /// All that reach the port, for which a NetworkPolicy decides: `/metrics` and `/metrics/traffic` have it.
    Network,
    /// Those who may `get` the path `/metrics/traffic`, with a token as for the debug pages; `/metrics` does not have it.
    Rbac,
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
        .route("/debug/proxies", get(proxies));
    let traffic = Router::new().route("/metrics/traffic", get(traffic));
    let (closed, open) = match shared.pages.traffic_readers {
        PrometheusReaders::Network => (debug, traffic),
        PrometheusReaders::Rbac => (debug.merge(traffic), Router::new()),
    };
    let closed =
        closed.route_layer(middleware::from_fn_with_state(Arc::clone(&shared.pages.readers), admitted));
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .merge(closed)
        .merge(open)
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
    let is_open = pages.traffic_readers == PrometheusReaders::Network;
    let registries = [pages.registry].into_iter().chain(is_open.then_some(pages.traffic)).collect();
    renderer.page(peer(&request), OPEN_METRICS, move || open_metrics(registries)).await
}

async fn traffic(State(Shared { pages, renderer }): State<Shared>, request: Request) -> Response {
    renderer.page(peer(&request), OPEN_METRICS, move || open_metrics(vec![pages.traffic])).await
}

fn open_metrics(registries: Vec<Arc<Registry>>) -> Result<Vec<u8>, fmt::Error> {
    let mut text = String::new();
    registries.into_iter().try_for_each(|registry| encode_registry(&mut text, &registry))?;
    encode_eof(&mut text)?;
    Ok(text.into_bytes())
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
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
