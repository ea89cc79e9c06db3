//! Measures the cost of one real Envoy that sees a whole mesh, as every proxy does in permissive mode.
//!
//! `permissive ENVOY SERVICES...` serves meshes of these sizes, with ten endpoints per Service, from the product's
//! server to an Envoy with the product's bootstrap, and prints a row for each: memory, CPU time, time until
//! everything is accepted, number of statistics, bytes on the wire. The connection is a Unix socket without TLS; both
//! processes share the CPUs of the machine. Further arguments help to find the causes: `statistics` has the proxy count its
//! traffic, `only=Cluster,Endpoints,Secret` sends no other kinds, and one that begins with `{` is merged into the
//! bootstrap (RFC 7396). Asserts nothing about the figures.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    missing_docs,
    reason = "figures are for people, and it ends where it goes wrong"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use smidge_xds::{
    mesh::{proxy::TrafficStats, service::Protocol},
    resources::ResourceType,
    snapshot::Snapshot,
    view::{Named, View},
};
use smidge_xds_testing::{
    binaries, fixture, meshes,
    proxies::{self, Envoy, Serving},
    wide::{self, PROXY},
};

/// Time limit for an Envoy to accept a mesh.
const TIMEOUT: Duration = Duration::from_mins(10);
/// Number of workers of an injected proxy.
const WORKERS: u16 = 2;

/// Changes to the configuration that a proxy would get.
struct Changed {
    only: Option<String>,
    bootstrap: Option<Value>,
    traffic: TrafficStats,
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let binary = PathBuf::from(arguments.next().expect("the first argument is an Envoy"));
    let mut sizes = Vec::new();
    let mut changed = Changed { only: None, bootstrap: None, traffic: TrafficStats::None };
    for argument in arguments {
        if argument == "statistics" {
            changed.traffic = binaries::traffic(&binary);
        } else if let Some(kinds) = argument.strip_prefix("only=") {
            changed.only = Some(kinds.to_owned());
        } else if argument.starts_with('{') {
            changed.bootstrap = Some(serde_json::from_str(&argument).expect("JSON"));
        } else {
            sizes.push(argument.parse().expect("a number of Services"));
        }
    }
    println!(
        "services\tresources\tallocated MiB\tRSS MiB\tCPU s\tsettled s\tstatistics\tscrape MiB\twire MiB"
    );
    for services in sizes {
        measure(&binary, services, &changed).await;
    }
}

async fn measure(binary: &Path, services: usize, changed: &Changed) {
    let mut mesh = wide::mesh(services, Protocol::Http);
    meshes::each_class(&mut mesh, |class| class.traffic = changed.traffic);
    let snapshot = Snapshot::next(Arc::new(mesh), None);
    let mut view = snapshot.view(&fixture::proxy(PROXY)).unwrap();
    if let Some(kinds) = &changed.only {
        let is_kept = |kind: &ResourceType| kinds.split(',').any(|it| it == format!("{kind:?}"));
        let kept = view.resources.iter().filter(|((kind, _), _)| is_kept(kind));
        view = Arc::new(View::from(kept.map(|(key, it)| (key.clone(), Arc::clone(it))).collect::<Named>()));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut bootstrap = wide::injected(folder.path(), changed.traffic);
    if let Some(patch) = &changed.bootstrap {
        merge(&mut bootstrap, patch);
    }
    let (server, handles) = fixture::server(Some(wide::leaf()));
    let serving = Serving::start(server, folder.path());
    handles.publish(&[(PROXY, &view)]);
    let started = Instant::now();
    let envoy = Envoy::start_with(binary, folder.path(), PROXY, &bootstrap, WORKERS);
    let has_all = || {
        let connected = handles.proxies.list();
        assert!(connected.iter().all(|it| it.last_error.is_none()), "refused:\n{}", envoy.log());
        let has_taken = connected.iter().any(|it| it.settled && it.acknowledged.is_some());
        has_taken && envoy.admin("/ready").contains("LIVE")
    };
    proxies::until("the proxy has all", TIMEOUT, || envoy.log(), has_all).await;
    let settled = started.elapsed();
    // The workers still receive the last updates; allocators return memory that loading used.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let allocated = allocated(&envoy);
    let (resident, processor) = used(envoy.pid());
    for warming in ["cluster_manager.warming_clusters", "listener_manager.total_listeners_warming"] {
        assert_eq!(envoy.stat(warming), Some(0), "{warming}");
    }
    let statistics = envoy.admin("/stats").lines().filter(|line| line.contains(": ")).count();
    let scrape = envoy.admin("/stats/prometheus").len() as u64;
    let sent = handles.scrape();
    let sent = sent.lines().filter_map(|line| line.strip_prefix("response_bytes_total")?.rsplit(' ').next());
    let sent: u64 = sent.map(|number| number.parse::<u64>().unwrap()).sum();
    println!(
        "{services}\t{}\t{:.1}\t{:.1}\t{processor:.2}\t{:.2}\t{statistics}\t{:.2}\t{:.2}",
        view.resources.len(),
        mib(allocated),
        mib(resident),
        settled.as_secs_f64(),
        mib(scrape),
        mib(sent),
    );
    drop(envoy);
    serving.stop().await;
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Returns the number of bytes that Envoy reports as allocated.
fn allocated(envoy: &Envoy) -> u64 {
    let page = envoy.admin("/memory");
    let (_, after) = page.split_once("\"allocated\": \"").expect("a page that says what is allocated");
    after.split('"').next().unwrap().parse().unwrap()
}

/// Returns the resident memory in bytes, and the CPU time so far in seconds.
fn used(pid: u32) -> (u64, f64) {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    let status = read("status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB")).unwrap();
    let resident = resident.trim().parse::<u64>().unwrap() * 1024;
    // Ticks of a hundredth of a second, in fields after the name, which may contain spaces.
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: f64 = fields[11..=12].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    (resident, ticks / 100.0)
}

/// Merges a patch into a JSON document (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut target[name], value);
        }
    }
}
