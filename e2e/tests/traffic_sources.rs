//! Tests the figures of TrafficMetrics for every kind of object, from the store and from Prometheus, against those of a
//! generator; and that a watch goes on when a replica is lost.
//!
//! These tests change the operator itself, so `make test` runs them one at a time, after all others.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    pin::pin,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::StreamExt as _;
use kube::{
    Client,
    api::{DynamicObject, WatchEvent},
};
use serde_json::{Value, json};
use smidge_e2e::{
    Namespace, Pod,
    bookstore::{EVERYTHING, HTTP, caller, everything, service, shop, split, target},
    exclusive,
    operator::Operator,
    prometheus::Prometheus,
    report::Calls,
    until, with_temp_ns,
};

const BASE: &str = "/apis/metrics.smi-spec.io/v1alpha2";
/// Port and path of the operator's metrics.
const METRICS: (u16, &str) = (15014, "/metrics");
/// Time limit for figures to arrive: a few pushes, on a machine with other load.
const COUNTED: Duration = Duration::from_mins(1);
/// Time limit for a caller to see the effect of an edit.
const EFFECT: Duration = Duration::from_secs(20);
/// Time limit for a watch to have new figures: a push and a period of 10 s each, the start of a new watch, and 10 s more
/// on a machine with other load.
const WATCHED: Duration = Duration::from_secs(40);
/// Upper bounds of the histogram's buckets, in milliseconds.
const BOUNDS: [f64; 13] =
    [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0];

/// Server of a kind: its delay in milliseconds, and the number of its calls of which one fails; 0 for none.
struct Server {
    kind: &'static str,
    app: &'static str,
    delay: u64,
    fail_every: u64,
    /// Number of calls that it gets directly.
    calls: u64,
}

const SERVERS: [Server; 6] = [
    Server { kind: "Deployment", app: "deployed", delay: 70, fail_every: 4, calls: 400 },
    Server { kind: "StatefulSet", app: "stateful", delay: 150, fail_every: 0, calls: 200 },
    Server { kind: "DaemonSet", app: "everywhere", delay: 300, fail_every: 5, calls: 100 },
    Server { kind: "Job", app: "batch", delay: 70, fail_every: 10, calls: 300 },
    Server { kind: "ReplicationController", app: "replicated", delay: 30, fail_every: 0, calls: 200 },
    Server { kind: "Pod", app: "single", delay: 150, fail_every: 2, calls: 100 },
];
/// Backends of the split, of which none fails.
const BACKENDS: [(&str, u32); 2] = [("stateful", 3), ("replicated", 1)];
/// Number of calls of the split.
const SPLIT_CALLS: u64 = 400;

impl Server {
    /// Builds the workload and its Service.
    fn manifest(&self) -> String {
        let Self { kind, app, .. } = *self;
        let args = [
            "bookstore".to_owned(),
            format!("--name={app}"),
            format!("--delay-ms={}", self.delay),
            format!("--fail-every={}", self.fail_every),
        ];
        let pod = json!({
            "serviceAccountName": "shop",
            "restartPolicy": if kind == "Job" { "Never" } else { "Always" },
            "terminationGracePeriodSeconds": 2,
            "containers": [{
                "name": app,
                "image": "smidge.local/bookstore:dev",
                "imagePullPolicy": "IfNotPresent",
                "args": args,
                "ports": [{"containerPort": HTTP}],
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": HTTP}, "periodSeconds": 1},
            }],
        });
        let labels = json!({"app": app});
        let template = json!({"metadata": {"labels": labels}, "spec": pod});
        let selector = json!({"matchLabels": labels});
        let (version, spec) = match kind {
            "Pod" => ("v1", pod),
            "ReplicationController" => ("v1", json!({"selector": labels, "template": template})),
            "Job" => ("batch/v1", json!({"template": template})),
            "StatefulSet" => {
                ("apps/v1", json!({"selector": selector, "serviceName": app, "template": template}))
            }
            _ => ("apps/v1", json!({"selector": selector, "template": template})),
        };
        let metadata = json!({"name": app, "labels": labels});
        let object = json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec});
        format!("{object}\n---\n{}", service(app, app, HTTP))
    }
}

/// Figures that an object must have: the calls that it got, and the latencies that the generator recorded for these.
#[derive(Default, Debug, Clone)]
struct Expected {
    success: u64,
    failure: u64,
    latency: Vec<BTreeMap<String, f64>>,
}

impl Expected {
    fn of(calls: &Calls) -> Self {
        let count = |status: u16| calls.status.get(&status).copied().unwrap_or_default();
        Self { success: count(200), failure: count(500), latency: vec![calls.latency_ms.clone()] }
    }

    /// Adds calls of a split: those that the server answered, none of which failed.
    fn add(&mut self, app: &str, calls: &Calls) {
        self.success += calls.served_by.get(app).copied().unwrap_or_default();
        self.latency.push(calls.latency_ms.clone());
    }

    /// Checks figures: counts exactly, and percentiles within one bucket of those that the generator recorded.
    fn check(&self, path: &str, item: &Value) -> anyhow::Result<()> {
        let counted = ["success_count", "failure_count", "refused_count"].map(|name| count(item, name));
        let expected = [Some(self.success), Some(self.failure), Some(0)];
        anyhow::ensure!(counted == expected, "{path}: {counted:?}, expected {expected:?}");
        for percentile in ["p50", "p90", "p99"] {
            let found = latency(item, &format!("{percentile}_response_latency")).context("no latency")?;
            let recorded: Vec<usize> =
                self.latency.iter().filter_map(|it| it.get(percentile)).map(|ms| bucket(*ms)).collect();
            let (least, most) = (recorded.iter().min(), recorded.iter().max());
            let (least, most) = (*least.context("nothing recorded")?, *most.context("nothing recorded")?);
            anyhow::ensure!(
                (least.saturating_sub(1)..=most + 1).contains(&bucket(found)),
                "{path}: {percentile} is {found} ms, recorded were {:?}",
                self.latency
            );
        }
        Ok(())
    }
}

fn bucket(ms: f64) -> usize {
    BOUNDS.iter().position(|bound| ms <= *bound).unwrap_or(BOUNDS.len())
}

/// Returns the value of a metric.
fn value<'a>(item: &'a Value, name: &str) -> Option<&'a str> {
    let metric = item.get("metrics")?.as_array()?.iter().find(|it| it["name"] == name)?;
    metric.get("value")?.as_str()
}

/// Returns a number of calls.
fn count(item: &Value, name: &str) -> Option<u64> {
    value(item, name)?.parse().ok()
}

/// Returns a latency in milliseconds: a Quantity of these.
fn latency(item: &Value, name: &str) -> Option<f64> {
    let text = value(item, name)?;
    let (number, scale) = text.strip_suffix('m').map_or((text, 1.0), |number| (number, 1_000.0));
    number.parse::<f64>().ok().map(|number| number / scale)
}

/// Creates the servers, a split of two of them, and a caller that may call all.
async fn servers(namespace: &Namespace) -> anyhow::Result<Pod> {
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: shop}\n---\n".to_owned();
    let manifests: String = SERVERS.iter().map(Server::manifest).collect();
    let policy = everything() + &target("shop", "shop", &["buyer"], EVERYTHING);
    namespace.apply(&(account + &policy + &caller("buyer") + &service("shop", BACKENDS[0].0, HTTP))).await?;
    namespace.apply(&manifests).await?;
    namespace.apply(&split("v1alpha4", "shop", &BACKENDS)).await?;
    for server in &SERVERS {
        Pod::one(namespace, server.app).await?;
    }
    Pod::one(namespace, "buyer").await
}

/// Returns the figures of a path within a window.
async fn figures(namespace: &Namespace, path: &str, window: u64) -> anyhow::Result<Value> {
    let text = namespace.kubectl(&format!("get --raw {BASE}/{path}?window={window}s")).await?;
    serde_json::from_str(&text).with_context(|| format!("{path} is not JSON: {text}"))
}

/// Calls every server until the caller may, and waits until these calls are counted, and are not of the last seconds.
async fn warm_up(namespace: &Namespace, buyer: &Pod) -> anyhow::Result<()> {
    until("the buyer to be allowed everywhere", EFFECT, async || {
        for Server { app, .. } in &SERVERS {
            buyer.call(&format!("http://{app}:{HTTP}/healthz"), &[]).await?.must_all_be(200)?;
        }
        Ok(())
    })
    .await?;
    let own = format!("namespaces/{}", namespace.name);
    until("the first calls to be counted, and past", COUNTED, async || {
        let (all, last) = (figures(namespace, &own, 1_800).await?, figures(namespace, &own, 20).await?);
        let [all, last] = [all, last].map(|item| count(&item, "success_count").unwrap_or_default());
        anyhow::ensure!(all >= u64::try_from(SERVERS.len())? && last == 0, "{all}, {last} within 20 s");
        Ok(())
    })
    .await
}

/// Calls the servers and the split, and returns what each object must show, by path.
async fn load(namespace: &Namespace, buyer: &Pod) -> anyhow::Result<BTreeMap<String, Expected>> {
    let url = |app: &str| format!("http://{app}:{HTTP}/books");
    let count = |calls: u64| format!("--count={calls}");
    let mut of_servers = BTreeMap::new();
    for Server { app, calls, .. } in &SERVERS {
        let calls = buyer.call(&url(app), &[&count(*calls), "--concurrency=4"]).await?;
        anyhow::ensure!(calls.failures.is_empty(), "{app}: {calls:?}");
        of_servers.insert(*app, Expected::of(&calls));
    }
    let calls = buyer.call(&url("shop"), &[&count(SPLIT_CALLS), "--concurrency=4"]).await?;
    calls.must_all_be(200)?;
    for (app, _) in BACKENDS {
        of_servers.entry(app).or_default().add(app, &calls);
    }
    let own = format!("namespaces/{}", namespace.name);
    let mut expected = BTreeMap::from([(format!("{own}/services/shop"), Expected::of(&calls))]);
    let mut all = Expected::default();
    for Server { app, kind, .. } in &SERVERS {
        let of = of_servers.remove(app).context("a server without calls")?;
        all.success += of.success;
        all.failure += of.failure;
        all.latency.extend(of.latency.clone());
        let pod = Pod::one(namespace, app).await?;
        for path in [
            format!("{own}/pods/{}", pod.name),
            format!("{own}/services/{app}"),
            format!("{own}/{}s/{app}", kind.to_lowercase()),
        ] {
            expected.insert(path, of.clone());
        }
        if *kind == "Deployment" {
            let set = namespace.kubectl(&format!("get replicasets -l app={app} -o name")).await?;
            let (_, set) = set.rsplit_once('/').context("no ReplicaSet")?;
            expected.insert(format!("{own}/replicasets/{set}"), of);
        }
    }
    expected.remove(&format!("{own}/pods/single"));
    let single = Pod::one(namespace, "single").await?;
    anyhow::ensure!(single.name == "single", "the pod is {}", single.name);
    let node = single.object().await?.spec.and_then(|spec| spec.node_name).context("a pod without a node")?;
    expected.insert(format!("nodes/{node}"), all.clone());
    expected.insert(own, all);
    Ok(expected)
}

/// Waits until every object has the figures of the calls since `began`.
async fn verify(
    namespace: &Namespace,
    source: &str,
    began: Instant,
    expected: &BTreeMap<String, Expected>,
) -> anyhow::Result<()> {
    // From a little before the calls until now.
    let get = async |path: &str| figures(namespace, path, began.elapsed().as_secs() + 5).await;
    for (path, expected) in expected {
        until(&format!("the figures of {path} from {source}"), COUNTED, async || {
            expected.check(path, &get(path).await?)
        })
        .await?;
    }
    // A split has an item for each backend.
    let split = get(&format!("namespaces/{}/trafficsplits/shop", namespace.name)).await?;
    let items = split.get("items").and_then(Value::as_array).context("no items")?;
    let shares: Vec<u64> = items.iter().filter_map(|item| count(item, "success_count")).collect();
    let sum: u64 = shares.iter().sum();
    anyhow::ensure!(shares.len() == 2 && sum == SPLIT_CALLS, "{source}: {split}");
    let most = shares.iter().max().map_or(0, |most| most * 100 / SPLIT_CALLS);
    anyhow::ensure!((65..=85).contains(&most), "{source}: {most} % of the calls, expected 75");
    println!("{source}: {} objects and a split ({shares:?}) have the generator's figures", expected.len());
    Ok(())
}

#[tokio::test]
async fn every_kind_has_the_figures_of_its_calls_from_both_sources() -> anyhow::Result<()> {
    let Ok(host) = std::env::var("CLUSTER_HOST_IP") else {
        eprintln!("skipped: the operator's pods may not reach this machine (CLUSTER_HOST_IP)");
        return Ok(());
    };
    let host: IpAddr = host.parse().context("CLUSTER_HOST_IP")?;
    with_temp_ns(&[], async |namespace| {
        exclusive(&namespace.cluster, &namespace.name).await?;
        let operator = Operator::of(&namespace.cluster);
        let before = operator.arguments().await?;
        let tested = async {
            let counted = [&before[..], &["--prometheus-pods".to_owned()]].concat();
            operator.set_arguments(&counted).await?;
            let buyer = servers(namespace).await?;
            let replicas = operator.replicas().await?;
            let prometheus =
                Prometheus::scrape_at(host, &namespace.name, &replicas, METRICS.0, METRICS.1).await?;
            warm_up(namespace, &buyer).await?;
            let began = Instant::now();
            let expected = load(namespace, &buyer).await?;
            verify(namespace, "the store", began, &expected).await?;
            let url = format!("--prometheus-url=http://{}", prometheus.address());
            operator.set_arguments(&[&counted[..], &[url]].concat()).await?;
            verify(namespace, "Prometheus", began, &expected).await
        };
        let outcome = tested.await;
        let restored = operator.set_arguments(&before).await;
        outcome?;
        restored
    })
    .await
}

/// Watches the figures of a Deployment, and passes on the number of calls that succeeded. A watch that ends is followed by
/// another one, as every client does it.
async fn watch(client: Client, path: String, successes: tokio::sync::watch::Sender<u64>) {
    let mut rhythm = tokio::time::interval(Duration::from_millis(500));
    loop {
        rhythm.tick().await;
        let Ok(request) = hyper::Request::get(&path).body(Vec::new()) else { return };
        let Ok(events) = client.request_events::<DynamicObject>(request).await else { continue };
        let mut events = pin!(events);
        while let Some(Ok(event)) = events.next().await {
            if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event
                && let Some(success) = count(&object.data, "success_count")
            {
                let _ = successes.send(success);
            }
        }
    }
}

#[tokio::test]
async fn a_watch_goes_on_when_a_replica_is_lost() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        exclusive(&namespace.cluster, &namespace.name).await?;
        let operator = Operator::of(&namespace.cluster);
        let before = operator.replicas().await?.len();
        operator.scale(2).await?;
        let tested = async {
            let policy = everything() + &target("shop", "shop", &["buyer"], EVERYTHING);
            namespace.apply(&(shop("shop", "shop", "v1") + &caller("buyer") + &policy)).await?;
            Pod::one(namespace, "shop").await?;
            let buyer = Pod::one(namespace, "buyer").await?;
            let url = format!("http://shop:{HTTP}/books");
            until("the buyer to be allowed", EFFECT, async || {
                buyer.call(&format!("http://shop:{HTTP}/healthz"), &[]).await?.must_all_be(200)
            })
            .await?;
            let path = format!(
                "{BASE}/namespaces/{}/deployments?watch=true&window=30m&fieldSelector=metadata.name%3Dshop",
                namespace.name
            );
            let (sender, mut successes) = tokio::sync::watch::channel(0);
            let watching = tokio::spawn(watch(namespace.cluster.client(), path, sender));
            let mut made = None;
            let replicas = operator.replicas().await?;
            anyhow::ensure!(replicas.len() == 2, "{} replicas", replicas.len());
            // One of the two serves the watch, and one has the proxy.
            for lost in [None, replicas.first(), replicas.last()] {
                if let Some(lost) = lost {
                    lost.kill().await?;
                }
                let started = Instant::now();
                buyer.call(&url, &["--count=50"]).await?.must_all_be(200)?;
                let first = made.is_none();
                let expected = made.unwrap_or(0) + 50;
                let seen = async {
                    // What the wait for the permission called is counted, too.
                    let counted = |now: &u64| if first { *now >= expected } else { *now == expected };
                    successes.wait_for(counted).await.map(|now| *now)
                };
                let seen = tokio::time::timeout(WATCHED, seen).await;
                let state = *successes.borrow();
                let seen = seen.with_context(|| format!("the watch has {state}, expected {expected}"))??;
                made = Some(seen);
                let lost = lost.map_or("none", |lost| &lost.name);
                println!(
                    "{seen} calls, lost: {lost}; {:.1} s until the watch had them",
                    started.elapsed().as_secs_f64()
                );
                operator.replicas().await?;
            }
            watching.abort();
            anyhow::Ok(())
        };
        let outcome = tested.await;
        operator.scale(u32::try_from(before)?).await?;
        operator.replicas().await?;
        outcome
    })
    .await
}
