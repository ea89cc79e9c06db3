//! The program with a collector: the way of a change, log records, and the end.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use smidge_testing::control_plane::{ControlPlane, Start, own_address, put, until};
use smidge_xds_testing::collector::{Collector, Span};
use tempfile::TempDir;

/// Maximum time of the end with a collector that hangs.
const END: Duration = Duration::from_secs(7);

fn machine(name: &str, number: u8) -> String {
    format!(
        "---\napiVersion: smidge.mesh/v1alpha1\nkind: ExternalWorkload\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{serviceAccount: {name}, addresses: [10.9.0.{number}]}}\n"
    )
}

/// Starts the program over a folder with one manifest.
fn started(collector: SocketAddr, flags: &[&str]) -> (TempDir, ControlPlane) {
    let place = TempDir::new().unwrap();
    let path = |name: &str| place.path().join(name);
    let address = own_address();
    let flags = flags.iter().map(ToString::to_string);
    let start = Start {
        program: env!("CARGO_BIN_EXE_smidge").into(),
        dir: path("mesh"),
        state: path("state"),
        xds: (address, 15_012).into(),
        pages: (address, 15_014).into(),
        log: path("log"),
        flags: flags.chain([format!("--tracing-endpoint=http://{collector}")]).collect(),
        user: None,
    };
    fs::create_dir(&start.dir).unwrap();
    put(&start.dir, "a.yaml", &machine("one", 1));
    let control_plane = start.run();
    control_plane.ready();
    (place, control_plane)
}

/// Asks the program to stop; returns the time until it has ended.
fn stop(mut control_plane: ControlPlane) -> Duration {
    let pid = Pid::from_raw(control_plane.pid().try_into().unwrap()).unwrap();
    let started = Instant::now();
    kill_process(pid, Signal::TERM).unwrap();
    let status = control_plane.ended();
    let took = started.elapsed();
    assert!(status.success(), "{status}: {}", control_plane.log_end());
    took
}

#[test]
fn a_change_is_one_trace_from_reading_to_the_notification_of_proxies() {
    let collector = Collector::start();
    let (place, control_plane) = started(collector.address, &["--operator-traces", "--operator-logs"]);
    put(&place.path().join("mesh"), "b.yaml", &machine("two", 2));
    let of = |name: &str| collector.spans().into_iter().filter(|it| it.name == name).collect::<Vec<_>>();
    let state = || format!("{:#?}\n{}", collector.spans(), control_plane.log_end());
    until("the second change arrives", state, || of("change").len() == 2);
    let changes = of("change");
    for change in &changes {
        let children = ["read", "lower", "publish", "push"].map(|name| {
            of(name).into_iter().find(|it| it.parent == change.id).unwrap_or_else(|| panic!("{name}"))
        });
        assert!(change.parent.is_empty() && children.iter().all(|it| it.trace == change.trace));
        assert_eq!(change.value("smidge.outcome"), Some("published"), "{change:#?}");
        let number = |span: &Span, key: &str| span.value(key).unwrap().parse::<u64>().unwrap();
        let [_, lower, publish, push] = children;
        assert!(number(&lower, "smidge.nodes.recomputed") > 0, "{lower:#?}");
        assert!(number(&publish, "smidge.resources.encoded") > 0, "{publish:#?}");
        assert_eq!(number(&push, "smidge.proxies.notified"), 0);
        assert!(number(change, "smidge.edits") > 0);
    }
    assert_eq!(changes[1].value("smidge.first"), Some("ExternalWorkload shop/two"));
    let version = ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    assert!(changes[0].service == "smidge" && changes[0].resource.contains(&version), "{:#?}", changes[0]);

    assert!(control_plane.log().contains("every object was read"));
    // Log lines are as they are without a collector.
    assert!(!control_plane.log().contains("smidge.first"), "{}", control_plane.log());
    let log = control_plane.start.log.clone();
    assert!(stop(control_plane) < END);
    let messages: Vec<String> = collector.records().into_iter().map(|it| it.message).collect();
    for message in ["starting", "every object was read, serving", "stopping"] {
        assert!(messages.iter().any(|it| it == message), "{message} is not in {messages:#?}");
    }
    let lines = fs::read_to_string(log).unwrap().lines().count();
    assert_eq!(messages.len(), lines, "{messages:#?}");
}

#[test]
fn nothing_is_sent_unless_it_is_asked_for() {
    let collector = Collector::start();
    let (_place, control_plane) = started(collector.address, &[]);
    stop(control_plane);
    assert!(collector.spans().is_empty() && collector.records().is_empty());
}

#[test]
fn the_end_does_not_wait_for_a_collector_that_hangs() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let flags = ["--operator-traces", "--operator-logs"];
    let (place, control_plane) = started(silent.local_addr().unwrap(), &flags);
    let published = || control_plane.metric("smidge_publishes_total").unwrap_or_default();
    for number in 2..8 {
        let before = published();
        put(&place.path().join("mesh"), &format!("{number}.yaml"), &machine(&format!("m-{number}"), number));
        until("a change is published", || control_plane.log_end(), || published() > before);
    }
    let took = stop(control_plane);
    assert!(took < END, "{took:?}");
}

#[test]
fn an_absent_collector_is_reported_once() {
    let [closed] = smidge_xds_testing::process::reserved_ports();
    let flags = ["--operator-traces", "--log-format=json"];
    let (place, control_plane) = started((Ipv4Addr::LOCALHOST, closed).into(), &flags);
    control_plane.logs(&["lost spans", "--tracing-endpoint"]);
    let published = || control_plane.metric("smidge_publishes_total").unwrap_or_default();
    for number in 2..5 {
        let before = published();
        put(&place.path().join("mesh"), &format!("{number}.yaml"), &machine(&format!("m-{number}"), number));
        until("a change is published", || control_plane.log_end(), || published() > before);
    }
    let log = control_plane.start.log.clone();
    assert!(stop(control_plane) < END);
    let log = fs::read_to_string(log).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("lost spans")).count(), 1, "{log}");
    assert!(!log.contains("OTLP") && !log.contains("BatchSpanProcessor"), "{log}");
}
