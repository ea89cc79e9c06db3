//! Real Envoys accept every golden case over ADS, one after another on the same stream, and refuse nothing.
//!
//! In `golden` they validate files; here they receive differences, as in a cluster. The server is the product's, with
//! made-up proxies and certificates.

use smidge_xds_testing::{binaries, fixture, proxies};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    time::Duration,
};

use fixture::Handles;
use proxies::{Envoy, Serving, until};
use rcgen::{CertificateParams, KeyPair, KeyUsagePurpose, SanType};
use smidge::{
    documents::{self, Source},
    lower::lower,
};
use smidge_xds::{
    mesh::{id::ClusterId, proxy::TrafficStats},
    snapshot::Snapshot,
    view::View,
};
use tempfile::TempDir;

/// Proxy that receives every view in turn.
const PROXY: &str = "any";
/// Time limit well below the 15 s after which Envoy accepts a cluster without its endpoints.
const TIMEOUT: Duration = Duration::from_secs(8);

/// A certificate and a key that Envoy can load.
fn leaf() -> (String, String) {
    let mut params = CertificateParams::default();
    let name = "spiffe://cluster.local/ns/shop/sa/any";
    params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// The view of every workload of every case, by case and workload.
fn views(root: &str) -> Vec<(String, Arc<View>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let cases: BTreeSet<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut views = Vec::new();
    for case in cases {
        let text = fs::read_to_string(case.join("in.yaml")).unwrap();
        let mut offline = documents::assemble(&[Source { name: "in.yaml".to_owned(), text }]);
        offline.inputs.roots = BTreeSet::from([root.to_owned()]);
        let (mesh, _) = lower(&BTreeMap::from([(ClusterId::default(), offline.inputs)]));
        let proxies: Vec<_> = mesh.workloads.keys().cloned().collect();
        let snapshot = Snapshot::next(Arc::new(mesh), None);
        let case = case.file_name().unwrap().to_string_lossy().into_owned();
        views.extend(proxies.iter().map(|proxy| (format!("{case}: {proxy}"), snapshot.view(proxy).unwrap())));
    }
    assert!(views.len() > 50, "the cases are not where they were");
    views
}

#[tokio::test]
async fn every_envoy_takes_every_golden_case_over_ads() {
    let leaf = leaf();
    let views = views(include_str!("../../../xds/tests/golden/roots/cluster.local.pem"));
    for binary in binaries::envoys() {
        let folder = TempDir::new().unwrap();
        let (server, handles) = fixture::server(Some(leaf.clone()));
        let serving = Serving::start(server, folder.path());
        let envoy = Envoy::start(&binary, folder.path(), PROXY);
        let mut limit = 4 * TIMEOUT;
        let counts = binaries::traffic(&binary) == TrafficStats::Bounded;
        for (what, view) in views.iter().filter(|(_, view)| counts || !has_statistics(view)) {
            handles.publish(&[(PROXY, view)]);
            settle(&handles, &envoy, view, what, limit).await;
            limit = TIMEOUT;
        }
        println!("{}: {} views", binary.display(), views.len());
        serving.stop().await;
    }
}

/// Returns true if proxies of this view count their traffic, which only the latest versions can.
fn has_statistics(view: &View) -> bool {
    let name = b"envoy.access_loggers.stats";
    view.resources.values().any(|resource| resource.body.windows(name.len()).any(|it| it == name))
}

/// Waits until the proxy has acknowledged `view` and nothing of it is still warming; panics on a refusal.
async fn settle(handles: &Handles, envoy: &Envoy, view: &Arc<View>, what: &str, limit: Duration) {
    let state = || (handles.proxies.list(), envoy.log());
    let has_taken = || {
        let connected = handles.proxies.list();
        let refused = connected.iter().any(|it| it.sent.values().any(|sent| sent[3] != 0));
        assert!(!refused, "{what}: refused: {connected:#?}");
        connected.iter().any(|it| {
            it.settled && it.acknowledged.as_ref().is_some_and(|acknowledged| Arc::ptr_eq(acknowledged, view))
        })
    };
    until(&format!("{what} is taken"), limit, state, has_taken).await;
    for stat in ["cluster_manager.warming_clusters", "listener_manager.total_listeners_warming"] {
        let state = || (envoy.stat(stat), envoy.log());
        until(&format!("{what}: {stat} is 0"), TIMEOUT, state, || envoy.stat(stat) == Some(0)).await;
    }
}
