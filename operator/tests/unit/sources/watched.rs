//! Metrics of the watches of an API server that answers, and of one that does not.

use std::time::Duration;

use futures::{StreamExt as _, stream::FuturesUnordered};
use prometheus_client::{encoding::text::encode, registry::Registry};
use smidge::{clock::Clock, runtime::watches, source::kubernetes::Metrics};
use smidge_xds::mesh::id::ClusterId;
use time::OffsetDateTime;
use tokio::{sync::mpsc, time::timeout};

use super::api_server::ApiServer;

const DEADLINE: Duration = Duration::from_secs(20);
const NOW: i64 = 1_790_000_000;

/// Watches all kinds until the sum of a metric over all of them is as wanted; returns the page.
async fn watched(client: &kube::Client, name: &str, wanted: impl Fn(i64, i64) -> bool) -> String {
    let mut registry = Registry::default();
    let clock = Clock::new(|| OffsetDateTime::from_unix_timestamp(NOW).unwrap());
    let metrics = Metrics::register(&mut registry, clock);
    let (sender, mut edits) = mpsc::channel(64);
    let mut tasks = FuturesUnordered::new();
    let spawn = |_, watch| tasks.push(watch);
    let kinds = watches::spawn(&ClusterId::default(), client, (&sender, &metrics), spawn).kinds;
    let kinds = i64::try_from(kinds.len()).unwrap();
    let page = || {
        let mut page = String::new();
        encode(&mut page, &registry).unwrap();
        page
    };
    let reached = async {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = edits.recv() => {}
                _ = tasks.next() => panic!("a watch has ended"),
            }
            if wanted(sum(&page(), name), kinds) {
                return page();
            }
        }
    };
    timeout(DEADLINE, reached).await.unwrap_or_else(|_| panic!("{name} is not as wanted: {}", page()))
}

fn sum(page: &str, name: &str) -> i64 {
    let samples =
        page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix("{kind=")?.split_once(' '));
    samples.map(|(_, value)| value.parse::<i64>().unwrap()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_complete_list_has_its_time() {
    let server = ApiServer::start().await;
    server.store(Vec::new());
    let all = |sum: i64, kinds: i64| sum == kinds * NOW;
    let page = watched(&server.client, "last_list_timestamp_seconds", all).await;
    assert_eq!(sum(&page, "failures_total"), 0, "{page}");
    assert_eq!(sum(&page, "last_event_timestamp_seconds"), sum(&page, "last_list_timestamp_seconds"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_fails_is_counted_and_has_no_time() {
    // No program listens there.
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let client = kube::Client::try_from(config).unwrap();
    let page = watched(&client, "failures_total", |sum, kinds| sum >= kinds).await;
    assert_eq!(sum(&page, "last_list_timestamp_seconds"), 0, "{page}");
    assert_eq!(sum(&page, "events_total"), 0, "{page}");
}
