//! Role `bookstore`: sells books over HTTP, and restocks from the warehouse with every sale.
//!
//! Every answer has the header `served-by` with the version's name, so that a client can measure a split. `/echo`
//! answers with the request's headers, which shows what a proxy adds or removes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use serde_json::json;

use crate::{
    connection::{Ask, ask_once},
    serve,
};

/// Arguments of the bookstore.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Name of the version, in every answer.
    #[arg(long, default_value = "v1")]
    name: String,
    /// Port to listen on.
    #[arg(long, default_value_t = 14001)]
    port: u16,
    /// Warehouse, as http://HOST:PORT; without it nothing is restocked.
    #[arg(long)]
    warehouse: Option<Uri>,
    /// Time before each answer about books, in milliseconds.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
    /// Answer every Nth request for books with 500; 0: none.
    #[arg(long, value_name = "N", default_value_t = 0)]
    fail_every: u64,
    /// End at SIGTERM at once, with requests in progress, as programs do that do not handle it.
    #[arg(long)]
    exit_at_once: bool,
}

struct Shop {
    name: String,
    restock: Option<Ask>,
    sold: AtomicU64,
    delay: Duration,
    fail_every: u64,
    asked: AtomicU64,
}

/// Runs the bookstore until a signal ends the process.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let restock = args.warehouse.map(|uri| restocking(&uri, &args.name)).transpose()?;
    let shop = Arc::new(Shop {
        name: args.name,
        restock,
        sold: AtomicU64::new(0),
        delay: Duration::from_millis(args.delay_ms),
        fail_every: args.fail_every,
        asked: AtomicU64::new(0),
    });
    let serving = serve::http(args.port, router(shop));
    if !args.exit_at_once {
        return serving.await;
    }
    tokio::select! {
        served = serving => served,
        stopped = serve::stop_signal() => {
            stopped.context("failed to wait for signals")?;
            std::process::exit(0)
        }
    }
}

fn router(shop: Arc<Shop>) -> Router {
    Router::new()
        .route("/books", get(books))
        .route("/buy", post(buy))
        .route("/echo", any(echo))
        .route("/echo/{*rest}", any(echo))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(shop)
}

fn restocking(warehouse: &Uri, name: &str) -> anyhow::Result<Ask> {
    let base = warehouse.to_string();
    let uri = format!("{}/restock?shop={name}", base.trim_end_matches('/'));
    Ok(Ask {
        uri: uri.parse().with_context(|| format!("{uri} is no address"))?,
        method: Method::POST,
        headers: HeaderMap::new(),
        http2: false,
        timeout: Duration::from_secs(5),
    })
}

async fn books(State(shop): State<Arc<Shop>>) -> Response {
    tokio::time::sleep(shop.delay).await;
    let asked = shop.asked.fetch_add(1, Ordering::Relaxed) + 1;
    if asked.checked_rem(shop.fail_every) == Some(0) {
        let body =
            json!({"version": shop.name, "error": format!("request {asked} fails, as --fail-every states")});
        return shop.answer(StatusCode::INTERNAL_SERVER_ERROR, &body);
    }
    shop.answer(StatusCode::OK, &json!({"version": shop.name, "sold": shop.sold.load(Ordering::Relaxed)}))
}

async fn buy(State(shop): State<Arc<Shop>>) -> Response {
    let restocked = match &shop.restock {
        None => Ok(()),
        Some(ask) => match ask_once(ask).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => Err(format!(
                "the warehouse answered {}: {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            )),
            Err(failure) => Err(format!("the warehouse did not answer: {}", failure.word())),
        },
    };
    match restocked {
        Ok(()) => {
            let sold = shop.sold.fetch_add(1, Ordering::Relaxed) + 1;
            shop.answer(StatusCode::OK, &json!({"version": shop.name, "sold": sold}))
        }
        Err(error) => shop.answer(StatusCode::BAD_GATEWAY, &json!({"version": shop.name, "error": error})),
    }
}

async fn echo(State(shop): State<Arc<Shop>>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let mut seen: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in &headers {
        seen.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let body =
        json!({"version": shop.name, "method": method.as_str(), "path": uri.to_string(), "headers": seen});
    shop.answer(StatusCode::OK, &body)
}

impl Shop {
    fn answer(&self, status: StatusCode, body: &serde_json::Value) -> Response {
        (status, [("served-by", self.name.clone())], Json(body)).into_response()
    }
}
