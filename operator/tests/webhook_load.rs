//! Load on the webhooks' port by clients that can reach it: it keeps no other client waiting, and takes little memory.
//!
//! The real server over TLS, in this program, with its clients: the memory counted is that of both. Each attack comes
//! from an address of its own; the API server sends requests from another one all the while. `SMIDGE_LOAD_SECONDS` sets
//! the duration of each attack.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test ends where it goes wrong"
)]

use std::{
    env,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use http_body_util::{BodyExt as _, Full};
use hyper::{StatusCode, body::Bytes, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use peak_alloc::PeakAlloc;
use smidge_testing::{
    attack::{Attack, Target},
    reviews::{echo, pod},
    tls,
    webhook::{Body, NAME, Webhook, post, serve},
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Time limit for an answer to the API server, on a busy machine with a program that is not optimised.
const DEADLINE: Duration = Duration::from_secs(10);
/// Maximum memory of client and server together, in bytes, of which 280 MiB were measured. The operator's limit is 1
/// GiB.
const MOST: usize = 400 << 20;
/// Maximum memory when the attack has ended, in bytes.
const QUIET: usize = 40 << 20;
/// Source address of the API server.
const API_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Number of concurrent reviews of the API server, each on a connection of its own.
const BURST: usize = 8;

/// Sends requests as the API server does while `attack` goes on; prints the measurements.
async fn held_out(webhook: &Webhook, what: &str, attack: JoinSet<()>) {
    let seconds = env::var("SMIDGE_LOAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut answers, mut slowest) = (0, Duration::ZERO);
    MEMORY.reset_peak_usage();
    while Instant::now() < end {
        let start = Instant::now();
        let asked = (0..BURST).map(|_| webhook.ask_over_http1(API_SERVER, "/inject", pod()));
        let burst = timeout(DEADLINE, join_all(asked)).await;
        for answer in burst.unwrap_or_else(|_| panic!("{what}: no answer after {answers}")) {
            let (status, body) =
                answer.unwrap_or_else(|| panic!("{what}: the connection broke after {answers}"));
            assert_eq!(status, StatusCode::OK, "{what}: {}", String::from_utf8_lossy(&body));
            answers += 1;
        }
        slowest = slowest.max(start.elapsed());
        // In bursts, as pods are created.
        sleep(Duration::from_millis(50)).await;
    }
    let peak = MEMORY.peak_usage();
    println!(
        "{what}: {answers} answers, the slowest {BURST} after {slowest:?}; {} MiB at the peak",
        peak >> 20
    );
    drop(attack);
    let ended = async {
        while MEMORY.current_usage() > QUIET {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let held = || MEMORY.current_usage() >> 20;
    timeout(3 * DEADLINE, ended).await.unwrap_or_else(|_| panic!("{what}: {} MiB stay", held()));
    assert!(peak < MOST, "{what}: {} MiB", peak >> 20);
}

/// Answers to a peer that opens no window take room; without room the peer gets no others, until its connection ends.
async fn unread_answers_take_room(webhook: &Webhook) {
    let from = Ipv4Addr::new(127, 0, 0, 9);
    let stream = TokioIo::new(webhook.connection(from).await.unwrap());
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) =
        builder.initial_stream_window_size(0).handshake::<_, Body>(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..8 {
        let asked = sender.send_request(post("/convert", Full::new(echo()).boxed()));
        answers.push(timeout(DEADLINE, asked).await.expect("no answer").expect("the connection broke"));
    }
    let statuses: Vec<StatusCode> = answers.iter().map(hyper::Response::status).collect();
    let count = |status| statuses.iter().filter(|it| **it == status).count();
    assert!(count(StatusCode::OK) >= 1 && count(StatusCode::SERVICE_UNAVAILABLE) >= 3, "{statuses:?}");
    let other = webhook.ask(API_SERVER, "/convert", echo()).await.expect("others are served");
    assert_eq!(other.0, StatusCode::OK);
    drop((answers, sender));
    connection.abort();
    let again = async {
        while webhook.ask(from, "/convert", echo()).await.is_none_or(|(status, _)| status != StatusCode::OK) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, again).await.expect("what ended makes room");
}

/// Checks that a refusal reaches a client over HTTP/1.1 that writes all of its body before it reads.
async fn a_refusal_is_read_over_http1(webhook: &Webhook) {
    let from = Ipv4Addr::new(127, 0, 0, 10);
    let body = Bytes::from(vec![b' '; 16 << 20]);
    let asked = timeout(DEADLINE, webhook.ask_over_http1(from, "/convert", body)).await;
    let (status, words) = asked.expect("no answer").expect("the connection broke");
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{words:?}");
}

/// A single test, as it measures memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_keep_nobody_waiting() {
    let (tls, roots) = tls::self_signed(NAME);
    let webhook = Webhook::new(serve(Arc::new(tls), None).await, roots);
    held_out(&webhook, "nothing", JoinSet::new()).await;
    for (attack, last) in Attack::WEBHOOKS.into_iter().zip(20..) {
        let from = Ipv4Addr::new(127, 0, 0, last);
        let target = Target { webhook: webhook.clone(), pages: webhook.address, from };
        held_out(&webhook, &attack.to_string(), attack.start(&target)).await;
    }
    unread_answers_take_room(&webhook).await;
    a_refusal_is_read_over_http1(&webhook).await;
}
