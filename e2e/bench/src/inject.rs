//! Measures the time of the webhook to inject a pod, as the API server sees it.
//!
//! One connection over TLS, one review after the other, as the API server keeps its connection: the time includes TLS,
//! HTTP and the loopback, and so is more than the handler needs.

use std::{
    io::{BufReader, Write as _},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::{
    bench::{Bench, roots},
    figures::{Row, in_millis},
    review::review,
    tls,
};

/// Number of reviews.
const CALLS: usize = 3000;
/// Time limit of a review.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Injects the same pod repeatedly.
pub async fn measure(bench: &Bench) -> anyhow::Result<Row> {
    eprintln!("==> injection");
    let mut row = Row::new("inject", "injection of a pod, TLS and HTTP included");
    let mut config = tls::client(&roots(&bench.cluster, "webhooks").await?)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut failed = None;
    for name in ["smidge.smidge-system.svc", "smidge-webhook.smidge-system.svc"] {
        match calls(bench, config.clone(), name) {
            Ok((times, cpu)) => {
                row.quantiles("answer", &times);
                row.set("cpu_ms", cpu / CALLS as f64);
                return Ok(row);
            }
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.context("no name")?)
}

/// Returns the times of the calls in milliseconds, and the CPU time of all of them.
fn calls(bench: &Bench, config: rustls::ClientConfig, name: &'static str) -> anyhow::Result<(Vec<f64>, f64)> {
    let socket = TcpStream::connect(bench.plan.webhook())?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    let tls = ClientConnection::new(Arc::new(config), ServerName::try_from(name)?)?;
    let mut stream = BufReader::new(StreamOwned::new(tls, socket));
    let body = review().to_string();
    let request = format!(
        "POST /inject HTTP/1.1\r\nhost: {name}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut times = Vec::with_capacity(CALLS);
    let warm = 200;
    let mut cpu = None;
    for number in 0..warm + CALLS {
        if number == warm {
            cpu = Some(bench.operator.cpu());
        }
        let started = Instant::now();
        stream.get_mut().write_all(request.as_bytes())?;
        let answer = answer(&mut stream).context("the webhook does not answer")?;
        if number >= warm {
            times.push(in_millis(started.elapsed()));
        }
        anyhow::ensure!(answer.contains("\"patch\""), "the webhook has injected nothing: {answer}");
    }
    let used = bench.operator.cpu().saturating_sub(cpu.context("no call")?);
    Ok((times, in_millis(used)))
}

fn answer(stream: &mut impl std::io::BufRead) -> anyhow::Result<String> {
    let mut len = None;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            len = Some(value.trim().parse::<usize>()?);
        }
    }
    let mut body = vec![0; len.context("an answer without a length")?];
    stream.read_exact(&mut body)?;
    Ok(String::from_utf8(body)?)
}
