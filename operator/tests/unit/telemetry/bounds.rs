//! Bounds of the effect of a collector that is absent, hangs, or is slow.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use smidge::telemetry::{self, Settings, TARGET, Telemetry};
use smidge_xds::mesh::settings::Share;
use smidge_xds_testing::collector::Collector;
use tracing::{info_span, subscriber::with_default};
use tracing_subscriber::{Layer as _, filter::filter_fn, layer::SubscriberExt as _};

/// Maximum time of the end.
const END: Duration = Duration::from_secs(6);
/// Number of spans, more than ever wait.
const SPANS: usize = 20_000;

/// Log lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Makes more spans than ever wait for a collector, and ends. Returns the log.
fn flood(collector: SocketAddr) -> String {
    let endpoint = format!("http://{collector}");
    let settings = Settings { endpoint, traces: Some(Share::ALL), logs: false, resource: Vec::new() };
    let telemetry = Telemetry::start(&settings).unwrap();
    let lines = Lines::default();
    let writer = lines.clone();
    let log = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    let subscriber = tracing_subscriber::registry()
        .with(log.with_filter(filter_fn(telemetry::is_for_lines)))
        .with(telemetry.span_layer());
    with_default(subscriber, || {
        let started = Instant::now();
        for number in 0..SPANS {
            info_span!(target: TARGET, "flood", number).in_scope(|| ());
        }
        let took = started.elapsed();
        assert!(took < END, "spans wait for the collector: {took:?}");
        let started = Instant::now();
        telemetry.stop();
        let took = started.elapsed();
        assert!(took < END, "the end waits for the collector: {took:?}");
    });
    String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
}

/// Checks that what had no place was dropped and counted, by a few lines.
fn is_bounded(log: &str) {
    let count = |line: &str| line.split_once("dropped_span_count=")?.1.split(' ').next()?.parse().ok();
    let dropped: usize = log.lines().find_map(count).unwrap_or_else(|| panic!("nothing was dropped: {log}"));
    // The queue, and batches that were sent meanwhile.
    assert!(dropped > SPANS / 2, "{dropped} of {SPANS}");
    assert!(log.lines().count() < 6, "{log}");
    assert!(!log.contains("flood"), "{log}");
}

#[test]
fn a_collector_that_never_answers_holds_up_nothing() {
    // Connections are made, and what is sent to them is never read.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    is_bounded(&flood(silent.local_addr().unwrap()));
}

#[test]
fn a_collector_whose_answers_never_end_holds_up_nothing() {
    let stalling = Collector::stalling();
    is_bounded(&flood(stalling.address));
    assert!(!stalling.spans().is_empty(), "nothing was sent");
}

#[test]
fn an_absent_collector_holds_up_nothing() {
    let [closed] = smidge_xds_testing::process::reserved_ports();
    let log = flood((Ipv4Addr::LOCALHOST, closed).into());
    assert!(log.lines().count() < 6, "{log}");
}
