//! Roles `bookbuyer` and `bookthief`: a client that requests the list of books and takes one, in a loop.
//!
//! Prints a line whenever the outcome changes and a count now and then; `/stats` has the counts as JSON. The two roles
//! differ in their name alone: policies outside of the program decide which of them may buy.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Json, Router,
    http::{HeaderMap, Method, Uri},
    routing::get,
};
use serde::Serialize;

use crate::{
    connection::{Answer, Ask, Failure, ask_once},
    serve,
};

/// Arguments of the client.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Bookstore, as http://HOST:PORT.
    #[arg(long, default_value = "http://bookstore:14001")]
    bookstore: Uri,
    /// Milliseconds between two visits.
    #[arg(long, default_value_t = 500)]
    every_ms: u64,
    /// Port of `/stats`.
    #[arg(long, default_value_t = 14000)]
    port: u16,
}

/// Counts since the start.
#[derive(Debug, Clone, Default, Serialize)]
struct Stats {
    /// Number of books taken, by the version that served them.
    books: BTreeMap<String, u64>,
    /// Number of answers by status, over both requests of a visit.
    status: BTreeMap<u16, u64>,
    /// Number of requests without an answer, by kind of failure.
    failures: BTreeMap<&'static str, u64>,
    /// Latest outcome, as text.
    last: String,
}

/// Runs the client until a signal ends the process. `verb` is the word for its success.
pub async fn run(args: Args, verb: &'static str) -> anyhow::Result<()> {
    let stats = Arc::new(Mutex::new(Stats::default()));
    let visits = tokio::spawn(visit_forever(args.clone(), verb, stats.clone()));
    let router = Router::new()
        .route("/stats", get(move || async move { Json(snapshot(&stats)) }))
        .route("/healthz", get(|| async { "ok" }));
    let served = serve::http(args.port, router).await;
    visits.abort();
    served
}

fn snapshot(stats: &Mutex<Stats>) -> Stats {
    stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

async fn visit_forever(args: Args, verb: &'static str, stats: Arc<Mutex<Stats>>) -> anyhow::Result<()> {
    let base = args.bookstore.to_string();
    let base = base.trim_end_matches('/');
    let look = ask(Method::GET, &format!("{base}/books"))?;
    let buy = ask(Method::POST, &format!("{base}/buy"))?;
    let mut rhythm = tokio::time::interval(Duration::from_millis(args.every_ms.max(1)));
    let mut visits = 0_u64;
    loop {
        rhythm.tick().await;
        let looked = ask_once(&look).await;
        let bought = ask_once(&buy).await;
        let mut stats = stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.count(&looked);
        let outcome = stats.count(&bought);
        if let Ok(answer) = &bought
            && answer.status.is_success()
        {
            *stats.books.entry(version(answer)).or_default() += 1;
        }
        visits += 1;
        if outcome != stats.last || visits.is_multiple_of(20) {
            println!("{verb} so far: {:?}; now: {outcome}", stats.books);
        }
        stats.last = outcome;
    }
}

fn ask(method: Method, uri: &str) -> anyhow::Result<Ask> {
    let uri = uri.parse().with_context(|| format!("{uri} is no address"))?;
    Ok(Ask { uri, method, headers: HeaderMap::new(), http2: false, timeout: Duration::from_secs(5) })
}

fn version(answer: &Answer) -> String {
    answer.headers.get("served-by").and_then(|value| value.to_str().ok()).unwrap_or("unknown").to_owned()
}

impl Stats {
    /// Counts one outcome and describes it.
    fn count(&mut self, outcome: &Result<Answer, Failure>) -> String {
        match outcome {
            Ok(answer) if answer.status.is_success() => {
                *self.status.entry(answer.status.as_u16()).or_default() += 1;
                format!("{} from {}", answer.status, version(answer))
            }
            Ok(answer) => {
                *self.status.entry(answer.status.as_u16()).or_default() += 1;
                format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body).trim())
            }
            Err(failure) => {
                *self.failures.entry(failure.word()).or_default() += 1;
                format!("no answer: {}", failure.word())
            }
        }
    }
}
