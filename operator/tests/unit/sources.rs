//! A folder and an API server with the same objects give the same mesh, and every proxy the same bytes.
//!
//! Each golden case of lowering and each file of the corpus is served twice: by a stand-in for the API server to the
//! watches of the operator, in the form in which an API server stores it, and in a folder as it was written; once with
//! the objects as they are, and once with what a cluster would add to them: pods, labels and EndpointSlices. `real` does
//! the same with a real API server.

mod api_server;
mod cases;
mod real;
mod stored;
mod watched;

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use api_server::ApiServer;
use futures::{StreamExt as _, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::Pod;
use prometheus_client::registry::Registry;
use serde_json::Value;
use smidge::{
    clock::Clock,
    documents,
    inputs::Inputs,
    lower::{finding::Reason, lower},
    runtime::{trim, watches},
    source::{
        Edit,
        folder::{self, Limits, Source},
        kubernetes::Metrics,
    },
};
use smidge_xds::{
    mesh::{Mesh, id::ClusterId},
    resources::Resource,
    snapshot::Snapshot,
};
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};

const DEADLINE: Duration = Duration::from_secs(20);

/// Returns the inputs that the operator reads of an API server.
async fn of_api_server(client: &kube::Client) -> Inputs {
    let (sender, edits) = mpsc::channel(64);
    let mut tasks = FuturesUnordered::new();
    let metrics = Metrics::register(&mut Registry::default(), Clock::system());
    let spawn = |_, watch| tasks.push(watch);
    let watches = watches::spawn(&ClusterId::default(), client, (&sender, &metrics), spawn);
    drop(sender);
    let mut awaited = watches.kinds.clone();
    let read = applied(edits, |completed| {
        awaited.remove(completed);
        awaited.is_empty()
    });
    tokio::select! {
        inputs = read => inputs,
        () = async { while tasks.next().await.is_some() {} } => panic!("the watches ended"),
    }
}

/// Returns the inputs that the operator reads of a folder.
async fn of_folder(path: &Path) -> Inputs {
    let metrics = folder::Metrics::register(&mut Registry::default());
    let source =
        Source::open(path, ClusterId::default(), documents::DEFAULT_NAMESPACE, Limits::default(), metrics);
    let (sender, edits) = mpsc::channel(64);
    let task = tokio::spawn(source.unwrap().run(sender));
    let inputs = applied(edits, |completed| completed == folder::LIST).await;
    task.abort();
    inputs
}

/// Applies edits until the lists are complete.
async fn applied(mut edits: mpsc::Receiver<Edit>, mut is_complete: impl FnMut(&str) -> bool) -> Inputs {
    let mut inputs = Inputs::default();
    let applying = async {
        loop {
            let Edit { apply, completes, .. } = edits.recv().await.unwrap();
            apply(&mut inputs);
            if completes.is_some_and(&mut is_complete) {
                return;
            }
        }
    };
    timeout(DEADLINE, applying).await.expect("the lists are not complete in time");
    inputs
}

/// Mesh and bytes that come of some inputs.
struct Served {
    mesh: Mesh,
    pool: Bytes,
    /// The resources of each proxy.
    views: BTreeMap<String, Bytes>,
}

/// Version and content of each resource, by class (where it has one), type and name.
type Bytes = BTreeMap<String, (String, Vec<u8>)>;

fn entry(class: &str, resource: &Resource) -> (String, (String, Vec<u8>)) {
    let Resource { kind, name, version, body } = resource;
    (format!("{class} {kind:?} {name}"), (version.to_string(), body.to_vec()))
}

impl Served {
    fn of(inputs: Inputs) -> Self {
        let (mesh, _) = lower(&BTreeMap::from([(ClusterId::default(), inputs)]));
        let snapshot = Snapshot::next(Arc::new(mesh.clone()), None);
        let pool = snapshot.resources().iter();
        let pool = pool.map(|(class, resource)| entry(&format!("{class:?}"), resource)).collect();
        let views = mesh.workloads.keys().map(|proxy| {
            let view = snapshot.view(proxy).unwrap();
            (proxy.to_string(), view.resources.values().map(|resource| entry("", resource)).collect())
        });
        Self { views: views.collect(), mesh, pool }
    }
}

/// Names of the resources that differ or that only one side has.
fn differing<'a>(one: &'a Bytes, other: &'a Bytes) -> Vec<&'a String> {
    one.keys().chain(other.keys()).filter(|name| one.get(*name) != other.get(*name)).collect()
}

/// A comparison, by the sizes of what was compared.
#[derive(Default)]
struct Comparison {
    sizes: Sizes,
}

#[derive(Debug, Default)]
struct Sizes {
    objects: usize,
    proxies: usize,
    resources: usize,
}

impl Comparison {
    /// Compares a folder with a stand-in for an API server that has these objects.
    async fn compare_stored(&mut self, case: &str, folder: &Path, server: &ApiServer, objects: Vec<Value>) {
        self.sizes.objects += objects.len();
        server.store(objects);
        self.compare(case, folder, &server.client).await;
    }

    /// Compares what proxies get of a folder and of an API server.
    async fn compare(&mut self, case: &str, folder: &Path, client: &kube::Client) {
        let by_folder = Served::of(of_folder(folder).await);
        let by_server = Served::of(of_api_server(client).await);
        if by_folder.mesh != by_server.mesh {
            let [one, other] = [&by_folder.mesh, &by_server.mesh].map(|mesh| format!("{mesh:#?}"));
            let first = one.lines().zip(other.lines()).position(|(one, other)| one != other).unwrap_or(0);
            let [one, other] =
                [&one, &other].map(|text| text.lines().skip(first).take(12).collect::<Vec<_>>());
            panic!("{case}: the meshes differ\nfolder: {one:#?}\nAPI server: {other:#?}");
        }
        assert_eq!(differing(&by_folder.pool, &by_server.pool), Vec::<&String>::new(), "{case}: pool");
        let [one, other] = [&by_folder.views, &by_server.views];
        assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>(), "{case}");
        for (proxy, view) in one {
            let differing = differing(view, &other[proxy]);
            assert!(differing.is_empty(), "{case}: the view of {proxy} differs in {differing:#?}");
            assert!(!view.is_empty(), "{case}: the view of {proxy} is empty");
        }
        self.sizes.proxies += one.len();
        self.sizes.resources += by_folder.pool.len();
    }
}

/// Compares the cases as they are written.
async fn compare_as_written(cases: BTreeMap<String, String>) -> Sizes {
    let (server, mut comparison) = (ApiServer::start().await, Comparison::default());
    for (case, text) in cases {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("in.yaml"), &text).unwrap();
        comparison.compare_stored(&case, folder.path(), &server, stored::as_written(&text)).await;
    }
    comparison.sizes
}

/// Compares the cases with what a cluster would add, spread over files of a folder.
async fn compare_as_running(cases: BTreeMap<String, String>) -> Sizes {
    let (server, mut comparison) = (ApiServer::start().await, Comparison::default());
    for (case, text) in cases {
        let folder = TempDir::new().unwrap();
        let objects = cases::running(&text);
        // Without a file there would be no folder to serve.
        fs::write(folder.path().join("0.yaml"), "# one of several files\n").unwrap();
        write(folder.path(), &objects);
        let objects = objects.into_iter().filter_map(stored::stored).collect();
        comparison.compare_stored(&case, folder.path(), &server, objects).await;
    }
    comparison.sizes
}

/// Writes objects into several files.
fn write(folder: &Path, objects: &[Value]) {
    // In the order of their names: of two objects with the same name, the one in the later file counts.
    for (number, objects) in objects.chunks(3).enumerate() {
        let documents: Vec<_> = objects.iter().map(|object| documents::print(object).unwrap()).collect();
        fs::write(folder.join(format!("{number:04}.yaml")), documents.join("\n---\n")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn golden_cases_are_the_same_from_a_folder_and_from_an_api_server() {
    let written = compare_as_written(cases::golden()).await;
    let running = compare_as_running(cases::golden()).await;
    println!("as written: {written:?}; as running: {running:?}");
    assert!(running.objects > 1000 && running.proxies > 250 && running.resources > 2000, "{running:?}");
    assert!(written.objects > 500 && written.proxies > 10, "{written:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_corpus_is_the_same_from_a_folder_and_from_an_api_server() {
    let Some(cases) = cases::corpus() else { return };
    let written = compare_as_written(cases.clone()).await;
    let running = compare_as_running(cases).await;
    println!("as written: {written:?}; as running: {running:?}");
    assert!(written.objects > 100 && running.proxies > 20, "{written:?}, {running:?}");
}

/// Fields that the watches remove of pods are not read by lowering: mesh and findings are those of whole pods.
#[test]
fn pods_mean_the_same_once_they_are_trimmed() {
    let mut bypassed = 0;
    for (case, text) in cases::golden().into_iter().chain(cases::corpus().unwrap_or_default()) {
        let whole = cases::inputs(&text);
        let mut trimmed = whole.clone();
        for (key, pod) in &whole.pods {
            let mut pod = Pod::clone(pod);
            trim::pod(&mut pod);
            trimmed.pods.insert(key.clone(), pod.into());
        }
        let of = |inputs| lower(&BTreeMap::from([(ClusterId::default(), inputs)]));
        let ((mesh, findings), trimmed) = (of(whole), of(trimmed));
        assert_eq!(findings, trimmed.1, "{case}");
        assert!(mesh == trimmed.0, "{case}: the meshes differ");
        bypassed += findings.iter().filter(|finding| finding.reason == Reason::CanBypassSidecar).count();
    }
    assert!(bypassed > 5, "{bypassed} findings about security contexts and ports");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_corpus_is_the_same_from_a_folder_and_from_an_api_server() {
    let Some(cases) = cases::corpus() else { return };
    let (server, mut comparison) = (ApiServer::start().await, Comparison::default());
    let folder = TempDir::new().unwrap();
    for (number, text) in cases.values().enumerate() {
        fs::write(folder.path().join(format!("{number:04}.yaml")), text).unwrap();
    }
    let objects = cases.values().flat_map(|text| stored::as_written(text)).collect();
    comparison.compare_stored("the corpus", folder.path(), &server, objects).await;
    assert!(comparison.sizes.objects > 100, "{:?}", comparison.sizes);
}
