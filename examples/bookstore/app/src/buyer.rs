//! The roles `bookbuyer` and `bookthief`: a caller that looks for books and takes one, again and again.
//!
//! Prints a line whenever the outcome changes and a count now and then; `/stats` has the counts as JSON. The two
//! roles differ in their name alone: who may buy is decided outside of the program.

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

/// How a caller is run.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The bookstore, as http://HOST:PORT.
    #[arg(long, default_value = "http://bookstore:14001")]
    bookstore: Uri,
    /// Milliseconds between two visits.
    #[arg(long, default_value_t = 500)]
    every_ms: u64,
    /// The port of `/stats`.
    #[arg(long, default_value_t = 14000)]
    port: u16,
}

/// What has happened so far.
#[derive(Debug, Clone, Default, Serialize)]
struct Stats {
    /// Books taken, by the version that gave them.
    books: BTreeMap<String, u64>,
    /// Answers by status, over both requests of a visit.
    status: BTreeMap<u16, u64>,
    /// Requests without an answer, by kind.
    failures: BTreeMap<&'static str, u64>,
    /// The latest outcome, in words.
    last: String,
}

/// Runs the caller until the process is told to end. `verb` is what it calls its success.
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
    /// Counts one outcome and puts it into words.
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
