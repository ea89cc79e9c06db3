//! Client `call`: sends HTTP requests at a bounded rate and reports the outcomes, as text or as JSON.
//!
//! Each of `--concurrency` workers holds one connection (or opens one per request) and never repeats a request, so
//! every loss is in the report. `tally` counts. Not a benchmark tool: it shares the machine with what it measures.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tokio::{sync::watch, time::Instant};

use crate::{
    connection::{Ask, Connection},
    doorbell::Doorbell,
};
use tally::Tally;

mod tally;

/// Arguments of the client.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address, as `http://HOST:PORT/PATH`.
    #[arg(long)]
    url: Uri,
    /// Method of the requests.
    #[arg(long, default_value = "GET")]
    method: Method,
    /// Request header, as NAME=VALUE; may be given many times, and a name more than once.
    #[arg(long = "header", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Number of requests in all; without it and without --duration: one.
    #[arg(long)]
    count: Option<u64>,
    /// Duration of the calls in seconds; with --count, whatever comes first.
    #[arg(long)]
    duration: Option<f64>,
    /// Maximum number of concurrent requests.
    #[arg(long, default_value = "1")]
    concurrency: NonZeroU32,
    /// Maximum number of requests per second over all workers; without it, as fast as the answers come.
    #[arg(long)]
    rate: Option<NonZeroU32>,
    /// Open a connection for every request. Without it a worker keeps its connection for as long as it may.
    #[arg(long)]
    new_connections: bool,
    /// Use HTTP/2 from the first byte.
    #[arg(long)]
    http2: bool,
    /// Time limit of an answer, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    timeout_ms: u64,
    #[command(flatten)]
    doorbell: Doorbell,
    /// Format of the report.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Output {
    /// Text for readers.
    Text,
    /// One line of JSON.
    Json,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once('=').ok_or("a header is given as NAME=VALUE")?;
    let name = name.parse().map_err(|error| format!("{name} is no header name: {error}"))?;
    let value = value.parse().map_err(|error| format!("{value:?} is no header value: {error}"))?;
    Ok((name, value))
}

/// Sends the requests, and prints the report. Fails only on invalid arguments.
pub async fn run(args: Args) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.url.host().is_some(),
        "{} has no host; an address looks like http://HOST:PORT/PATH",
        args.url
    );
    let output = args.output;
    let tally = load(args).await?;
    match output {
        Output::Text => print!("{tally}"),
        Output::Json => {
            println!("{}", serde_json::to_string(&tally.report()).context("failed to write the report")?);
        }
    }
    Ok(())
}

struct Plan {
    ask: Ask,
    new_connections: bool,
    doorbell: Doorbell,
    /// Number of requests that were handed out to workers.
    handed_out: AtomicU64,
    count: u64,
    deadline: Option<Instant>,
    rate: Option<NonZeroU32>,
    started: Instant,
    stop: watch::Receiver<bool>,
}

async fn load(args: Args) -> anyhow::Result<Tally> {
    let (stop, stopped) = watch::channel(false);
    let doorbell = args.doorbell;
    tokio::spawn(async move {
        doorbell.rung().await;
        // The receiver is gone when the count was reached first.
        let _ = stop.send(true);
    });
    let workers = args.concurrency.get();
    let plan = Arc::new(plan(args, stopped)?);
    let tally = Arc::new(Mutex::new(Tally::default()));
    let tasks: Vec<_> = (0..workers).map(|_| tokio::spawn(work(plan.clone(), tally.clone()))).collect();
    for task in tasks {
        task.await.context("a worker ended badly")?;
    }
    let mut tally = std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner));
    tally.took(plan.started.elapsed());
    Ok(tally)
}

fn plan(args: Args, stop: watch::Receiver<bool>) -> anyhow::Result<Plan> {
    let started = Instant::now();
    let duration =
        args.duration.map(Duration::try_from_secs_f64).transpose().context("--duration makes no sense")?;
    let endless = duration.is_some() || args.doorbell.until_line;
    let mut headers = HeaderMap::new();
    for (name, value) in args.headers {
        headers.append(name, value);
    }
    let timeout = Duration::from_millis(args.timeout_ms);
    Ok(Plan {
        ask: Ask { uri: args.url, method: args.method, headers, http2: args.http2, timeout },
        new_connections: args.new_connections,
        doorbell: args.doorbell,
        handed_out: AtomicU64::new(0),
        count: args.count.unwrap_or(if endless { u64::MAX } else { 1 }),
        deadline: duration.map(|duration| started + duration),
        rate: args.rate,
        started,
        stop,
    })
}

impl Plan {
    /// Waits until the next request is due; returns `None` when there is none left.
    async fn next(&self) -> Option<()> {
        let number = self.handed_out.fetch_add(1, Ordering::Relaxed);
        if number >= self.count || *self.stop.borrow() {
            return None;
        }
        if let Some(rate) = self.rate {
            let due = Duration::from_secs(1).mul_f64(precise(number)) / rate.get();
            let mut stop = self.stop.clone();
            tokio::select! {
                () = tokio::time::sleep_until(self.started + due) => {}
                Ok(_) = stop.wait_for(|stop| *stop) => return None,
            }
        }
        match self.deadline {
            Some(deadline) if Instant::now() >= deadline => None,
            _ => Some(()),
        }
    }
}

/// Converts a number of requests to a float; it stays below 2^52.
#[expect(clippy::cast_precision_loss, reason = "request numbers stay far below 2^52")]
fn precise(number: u64) -> f64 {
    number as f64
}

async fn work(plan: Arc<Plan>, tally: Arc<Mutex<Tally>>) {
    let mut held: Option<Connection> = None;
    while plan.next().await.is_some() {
        let began = Instant::now();
        let mut opened = false;
        let mut kept = held.take();
        if let Some(connection) = &mut kept
            && !connection.is_open().await
        {
            kept = None;
        }
        let mut connection = if let Some(connection) = kept {
            Ok(connection)
        } else {
            opened = true;
            Connection::open(&plan.ask).await
        };
        let outcome = match &mut connection {
            Ok(connection) => connection.send(&plan.ask).await,
            Err(failure) => Err(*failure),
        };
        if outcome.is_ok() && !plan.new_connections {
            held = connection.ok();
        }
        let first = {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.count(began.elapsed(), opened, outcome)
        };
        if first {
            plan.doorbell.announce();
        }
    }
}
