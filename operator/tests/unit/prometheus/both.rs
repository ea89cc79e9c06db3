//! Both sources of traffic, by the same pushes: a real Prometheus scrapes the pages of two replicas, and answers each
//! question as the replicas' own store does.
//!
//! Prometheus is `$PROMETHEUS`, else that of the cluster's tool cache; without one, the test prints so and passes, but with
//! `CI=true` it fails.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::{Router, body::Bytes, http::header::CONTENT_TYPE, routing::get};
use prometheus_client::encoding::text::encode;
use serde_json::json;
use smidge::traffic::{
    Metrics, Receiver, exposition,
    prometheus::{PrometheusSource, Settings},
};
use smidge_testing::control_plane::own_address;
use smidge_traffic_metrics::{
    answer,
    directory::{Instance, Owner, ProxyName},
    exchange,
    series::{ADDRESS, CODE, ENFORCED, FLAGS, GRPC, Metric, PEER_ID, PEER_SUBJECT, ROOT, ROUTE, SERVICE},
    store::Limits,
    traffic::{BUCKETS, Kind, Question, Traffic, TrafficSource as _},
};
use smidge_xds::{
    mesh::id::{ClusterId, ProxyId},
    server::Reports as _,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use super::super::traffic::otlp::{Sample, counter, histogram, push};

#[path = "../../../traffic-metrics/tests/unit/directory.rs"]
mod directory;

use directory::{Objects, ask, object, objects};

/// Length of the windows.
const WINDOW: u64 = 20;
/// Time since the first pushes after which they are in no window: a slot of the store is longer than the window's rest.
const PAST: u64 = 28;
/// Time limit of a step, longer than any takes on a busy machine.
const DEADLINE: Duration = Duration::from_mins(2);

/// A running Prometheus, which ends with its value.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Option<PathBuf> {
    let set = std::env::var_os("PROMETHEUS").map(PathBuf::from);
    let cached = || {
        Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/smidge/bin/prometheus-debian/prometheus"))
    };
    let found = set.or_else(cached).filter(|program| program.is_file());
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI needs Prometheus: e2e/cluster/cluster tools prometheus"
        );
        eprintln!("skipped: no Prometheus; set PROMETHEUS, or run e2e/cluster/cluster tools prometheus");
    }
    found
}

impl Prometheus {
    fn start(program: PathBuf, targets: &[SocketAddr]) -> Self {
        let folder = TempDir::new().unwrap();
        let address = SocketAddr::new(own_address().into(), 9090);
        let targets: Vec<String> = targets.iter().map(SocketAddr::to_string).collect();
        let config = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "scrape_configs": [{"job_name": "smidge", "static_configs": [{"targets": targets}]}],
        });
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, address, _folder: folder }
    }

    /// Returns true if a query has a sample.
    async fn has(&self, query: &str) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.address).await else { return false };
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
        let request = format!("GET /api/v1/query?{query} HTTP/1.1\r\nhost: p\r\nconnection: close\r\n\r\n");
        let mut answer = String::new();
        let sent = stream.write_all(request.as_bytes()).await;
        sent.is_ok() && stream.read_to_string(&mut answer).await.is_ok() && answer.contains("\"value\"")
    }
}

/// Waits for a condition, up to the deadline.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> Result<(), String>) {
    let mut last = String::new();
    let mut ticks = interval(Duration::from_millis(250));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let waiting = timeout(DEADLINE, async {
        while let Err(state) = holds().await {
            last = state;
            ticks.tick().await;
        }
    });
    assert!(waiting.await.is_ok(), "not within {DEADLINE:?}: {what}: {last}");
}

/// A replica with its page.
struct Replica {
    receiver: Arc<Receiver>,
    address: SocketAddr,
    page: JoinHandle<()>,
}

impl Replica {
    async fn start() -> Self {
        let limits = Limits::with_pod_counters();
        let receiver = Arc::new(Receiver::new(limits, known(), Metrics::default()));
        let names = "smidge,osm,istio,linkerd".parse().unwrap();
        let registry = exposition::registry(Arc::clone(&receiver), names, "cluster.local".to_owned());
        let registry = Arc::new(registry);
        let page = get(async move || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = axum::serve(listener, Router::new().route("/metrics", page));
        let page = tokio::spawn(async move { served.await.unwrap() });
        Self { receiver, address, page }
    }

    fn report(&self, pod: &str, (start, time): (u64, u64), samples: &[Sample]) {
        let namespace = if pod == "other" { "tools" } else { "shop" };
        let proxy = ProxyId {
            cluster: ClusterId::default(),
            namespace: namespace.to_owned(),
            instance: pod.to_owned(),
        };
        self.receiver.report(&proxy, Bytes::from(push(start, time, samples)));
    }
}

/// The objects of the other crate's tests, and a pod of each other kind of workload.
fn known() -> Objects {
    let mut objects = objects();
    for (kind, name) in [
        ("Job", "import"),
        ("DaemonSet", "agent"),
        ("ReplicationController", "old"),
        ("ReplicaSet", "bare"),
        ("Deployment", "other"),
    ] {
        let owner = Owner { kind: kind.to_owned(), name: name.to_owned() };
        let namespace = if name == "other" { "tools" } else { "shop" }.to_owned();
        let instance = Instance {
            namespace: namespace.clone(),
            pod: name.to_owned(),
            node: "n3".to_owned(),
            service_account: "data".to_owned(),
            controller: Some(owner.clone()),
            workload: owner,
        };
        let proxy = ProxyName { cluster: "local".to_owned(), namespace, instance: name.to_owned() };
        objects.instances.insert(proxy, instance);
    }
    objects
}

const FRONT: [(&str, &str); 2] =
    [(PEER_ID, "spiffe://cluster.local/ns/shop/sa/web"), (PEER_SUBJECT, "CN=front,OU=Deployment")];
const DB: [(&str, &str); 2] =
    [(PEER_ID, "spiffe://cluster.local/ns/shop/sa/data"), (PEER_SUBJECT, "CN=db,OU=StatefulSet")];

fn buckets(counts: &[(usize, u64)]) -> [u64; BUCKETS] {
    let mut buckets = [0; BUCKETS];
    for (index, count) in counts {
        buckets[*index] = *count;
    }
    buckets
}

/// Returns what the proxy of a server has counted so far: `more` calls more than at the beginning.
fn received(more: u64) -> Vec<Sample> {
    let with = |labels: &[(&'static str, &'static str)]| [&FRONT[..], labels].concat();
    let mut samples = vec![
        counter(Metric::InboundRequests, &with(&[(CODE, "200"), (FLAGS, "-")]), 100 + more),
        counter(Metric::InboundRequests, &[(CODE, "403"), (ENFORCED, "denied")], 5),
        counter(Metric::InboundConnections, &with(&[]), 2 + more),
        histogram(Metric::InboundLatency, &FRONT, buckets(&[(3, 60), (5, 40 + more)])),
        counter(Metric::InboundRequests, &with(&[(CODE, "200"), (ROUTE, "shop/books/look")]), 10 + more),
        histogram(Metric::InboundLatency, &with(&[(ROUTE, "shop/books/look")]), buckets(&[(1, 10 + more)])),
    ];
    if more > 0 {
        // Series that begin within the window.
        samples.extend([
            counter(Metric::InboundRequests, &with(&[(CODE, "503"), (FLAGS, "UF,URX")]), 4),
            counter(Metric::InboundRequests, &with(&[(CODE, "200"), (GRPC, "14")]), 1),
            counter(Metric::InboundRequests, &[(CODE, "200")], 3),
            histogram(Metric::InboundLatency, &[], buckets(&[(BUCKETS - 1, 3)])),
        ]);
    }
    samples
}

/// Returns the same of a caller, which calls a Service that is split, one that does not answer, and addresses that its
/// proxy refuses.
fn sent(more: u64) -> Vec<Sample> {
    let to = |service: &'static str, labels: &[(&'static str, &'static str)]| {
        [&[(SERVICE, service), (ROOT, "shop/db/80")], labels].concat()
    };
    let answered = [&DB[..], &[(CODE, "200"), (FLAGS, "-")]].concat();
    let cache = [(SERVICE, "shop/cache/80"), (ROOT, "shop/cache/80"), (CODE, "503"), (FLAGS, "UF")];
    let mut samples = vec![
        counter(Metric::OutboundRequests, &to("shop/db-v1/80", &answered), 50 + more),
        histogram(Metric::OutboundLatency, &to("shop/db-v1/80", &DB), buckets(&[(2, 50 + more)])),
        counter(Metric::OutboundRefused, &[(ADDRESS, "10.0.0.1:80")], more),
    ];
    if more > 0 {
        samples.extend([
            counter(Metric::OutboundRequests, &to("shop/db-v2/80", &answered), 6),
            counter(Metric::OutboundRequests, &cache, 7),
            counter(Metric::OutboundRefused, &[(ADDRESS, "nowhere")], 8),
        ]);
    }
    samples
}

fn questions() -> Vec<Question> {
    let kinds = [
        (Kind::Namespace, Some("shop")),
        (Kind::Node, Some("n2")),
        (Kind::Pod, Some("db-0")),
        (Kind::ReplicationController, Some("old")),
        (Kind::Service, Some("db")),
        (Kind::DaemonSet, Some("agent")),
        (Kind::Deployment, Some("front")),
        (Kind::ReplicaSet, Some("front-7d9")),
        (Kind::StatefulSet, Some("db")),
        (Kind::Job, Some("import")),
        (Kind::TrafficSplit, Some("canary")),
    ];
    let of = |(kind, name)| {
        let scopes = [(None, None), (Some("shop"), None), (Some("shop"), name), (Some("tools"), None)];
        scopes.map(|(namespace, name)| ask(kind, namespace, name, WINDOW))
    };
    kinds.into_iter().flat_map(of).chain([ask(Kind::Service, Some("shop"), Some("db-v2"), WINDOW)]).collect()
}

/// Returns what the store of both replicas answers.
fn embedded(replicas: &[Replica], question: &Question) -> Traffic {
    let parts = replicas.iter().map(|replica| replica.receiver.part(question));
    answer::traffic(question, exchange::combine(parts), &known())
}

fn success(traffic: &Traffic, (namespace, name): (&str, &str)) -> u64 {
    let edges = traffic.get(&object(namespace, name)).into_iter().flatten();
    edges.map(|(_, figures)| figures.success).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sources_answer_the_same() {
    let Some(program) = program() else { return };
    let replicas = [Replica::start().await, Replica::start().await];
    let [one, other] = &replicas;
    let prometheus = Prometheus::start(program, &[one.address, other.address]);
    until("Prometheus to read both pages", async || {
        let up = prometheus.has("sum(up) == 2").await;
        up.then_some(()).ok_or_else(|| "not both".to_owned())
    })
    .await;

    // The first pushes: of young proxies, and of one that has counted for long.
    let of_one = ["db-0", "import", "old", "front-7d9-a"];
    let of_other = ["agent", "bare", "other"];
    let report = |replica: &Replica, pods: &[&str], start: u64, time: u64, more: u64| {
        for pod in pods {
            let samples = if *pod == "front-7d9-a" { sent(more) } else { received(more) };
            replica.report(pod, (start, time), &samples);
        }
    };
    for time in [1_000, 1_010, 1_020] {
        report(one, &of_one, 990, time, 0);
        report(other, &of_other, 1, time, 0);
    }
    until("the first pushes to leave the window", async || {
        let scraped =
            format!("sum(smidge_requests_total offset {PAST}s) > 0 and sum(up offset {PAST}s) == 2");
        let past = prometheus.has(&scraped).await;
        past.then_some(()).ok_or_else(|| "not yet".to_owned())
    })
    .await;

    report(one, &of_one, 990, 1_030, 10);
    report(other, &of_other, 1, 1_030, 20);
    // A proxy restarts, and has counted less than before.
    one.report("import", (1_035, 1_040), &received(0)[..1]);
    until("Prometheus to have the last push", async || {
        let scraped = prometheus.has(r#"smidge_pod_requests_total{destination_pod="import"} > 200"#).await
            && prometheus.has(r#"smidge_pod_requests_total{destination_pod="other"} >= 20"#).await;
        scraped.then_some(()).ok_or_else(|| "not yet".to_owned())
    })
    .await;
    // A replica ends; what it has counted stays in the window.
    other.page.abort();
    until("Prometheus to miss the replica", async || {
        let missed = prometheus.has("sum(up) == 1").await;
        missed.then_some(()).ok_or_else(|| "not yet".to_owned())
    })
    .await;

    let url = format!("http://{}", prometheus.address).parse().unwrap();
    let settings = Settings { url, token: None, ca: None, pods: true, cluster: "local".to_owned() };
    let source = PrometheusSource::new(settings, Arc::clone(&one.receiver));
    let mut kinds = BTreeSet::new();
    for question in questions() {
        let (own, read) = (embedded(&replicas, &question), source.traffic(&question).await.unwrap());
        assert_eq!(read, own, "{question:?}: left is Prometheus");
        if !own.is_empty() {
            kinds.insert(question.kind);
        }
    }
    assert_eq!(kinds.len(), 11, "each kind has traffic: {kinds:?}");
    // What was pushed, in numbers, and still within the window.
    let of = |kind, name| success(&embedded(&replicas, &ask(kind, None, None, WINDOW)), name);
    assert_eq!(of(Kind::StatefulSet, ("shop", "db")), 10 + 10 + 10 + 3);
    assert_eq!(of(Kind::Job, ("shop", "import")), 10 + 10 + 10 + 3 + 100);
    assert_eq!(of(Kind::TrafficSplit, ("shop", "canary")), 10 + 6);
}
