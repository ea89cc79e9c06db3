//! Role `bookwarehouse`: an HTTP server that keeps its stock in the TCP store.
//!
//! Opens a new connection to the store for every request: each one is a visible decision of the mesh.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::serve;

/// Arguments of the warehouse.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Port to listen on.
    #[arg(long, default_value_t = 14002)]
    port: u16,
    /// TCP store, as HOST:PORT.
    #[arg(long, default_value = "store:14003")]
    store: String,
}

/// Time limit of the store's answer.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
struct Order {
    /// Name of the shop that orders.
    #[serde(default)]
    shop: String,
}

/// Runs the warehouse until a signal ends the process.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let port = args.port;
    let router = Router::new()
        .route("/restock", post(restock))
        .route("/stock", get(stock))
        .route("/healthz", get(|| async { "ok" }))
        .with_state(Arc::new(args));
    serve::http(port, router).await
}

async fn restock(State(args): State<Arc<Args>>, Query(order): Query<Order>) -> Response {
    respond(&order, say(&args.store, &format!("ADD {} 1", name(&order))).await)
}

async fn stock(State(args): State<Arc<Args>>, Query(order): Query<Order>) -> Response {
    respond(&order, say(&args.store, &format!("GET {}", name(&order))).await)
}

/// Returns a name without white space, as the store's protocol splits at it.
fn name(order: &Order) -> String {
    let name: String = order.shop.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

fn respond(order: &Order, answer: anyhow::Result<String>) -> Response {
    match answer {
        Ok(answer) => Json(json!({"shop": order.shop, "store": answer})).into_response(),
        Err(error) => {
            let error = format!("{error:#}");
            println!("the store did not answer: {error}");
            (StatusCode::BAD_GATEWAY, Json(json!({"error": error}))).into_response()
        }
    }
}

/// Sends one line to the store and returns its answer.
async fn say(store: &str, line: &str) -> anyhow::Result<String> {
    let talk = async {
        let stream =
            TcpStream::connect(store).await.with_context(|| format!("failed to connect to {store}"))?;
        let (reader, mut writer) = stream.into_split();
        writer.write_all(format!("{line}\n").as_bytes()).await.context("failed to write to the store")?;
        let answer =
            BufReader::new(reader).lines().next_line().await.context("failed to read from the store")?;
        answer.context("the store closed the connection without an answer")
    };
    tokio::time::timeout(TIMEOUT, talk).await.context("the store took too long")?
}
