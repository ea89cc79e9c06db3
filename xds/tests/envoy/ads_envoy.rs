//! Real Envoys over ADS: every golden mesh without a refusal, changes without the stall of a cluster that warms alone,
//! a new server that sends nothing to a proxy that has everything, and one bad policy that harms no other.

use smidge_xds_testing::{binaries, fixture, meshes, proxies};
use std::{path::Path, sync::Arc, time::Duration};

use envoy_types::pb::{envoy::config::cluster::v3::Cluster, google::protobuf::Duration as Seconds};
use fixture::Handles;
use prost::Message;
use proxies::{Envoy, Serving, until};
use rcgen::{CertificateParams, KeyPair, KeyUsagePurpose, SanType};
use smidge_xds::{
    mesh::{Mesh, access::Payload, access::Ports},
    resources::{Resource, ResourceType, Version},
    snapshot::Snapshot,
    view::View,
};
use tempfile::TempDir;

/// Time limit well below the 15 s after which Envoy accepts a cluster without its endpoints.
const TIMEOUT: Duration = Duration::from_secs(8);

/// The proxies in every golden mesh.
const EVERYBODY: [&str; 3] = ["web", "api", "db"];

#[tokio::test]
async fn every_golden_mesh_is_taken() {
    for binary in binaries::envoys() {
        let scenario = Scenario::start(&binary, &EVERYBODY);
        let mut before = None;
        let has = binaries::traffic(&binary);
        // A mesh that counts traffic is for proxies that can.
        let is_for = |mesh: &Mesh| mesh.classes.values().all(|it| it.traffic.is_none() || it.traffic == has);
        for (name, mesh) in meshes::all().into_iter().filter(|(_, mesh)| is_for(mesh)) {
            let snapshot = Snapshot::next(Arc::new(mesh), before.as_ref());
            println!("{}: {name}", binary.display());
            scenario.publish(&EVERYBODY.map(|proxy| snapshot.view(&meshes::proxy(proxy)).unwrap()));
            scenario.settle(name).await;
            before = Some(snapshot);
        }
    }
}

#[tokio::test]
async fn a_changed_cluster_is_warm_at_once() {
    for binary in binaries::envoys() {
        let scenario = Scenario::start(&binary, &["web"]);
        let view = view_of("web", meshes::http());
        scenario.publish(&[Arc::clone(&view)]);
        scenario.settle("at first").await;
        let changed = with(&view, ResourceType::Cluster, "shop/api/80", |body| {
            let mut cluster = Cluster::decode(body).unwrap();
            cluster.connect_timeout = Some(Seconds { seconds: 7, nanos: 0 });
            cluster.encode_to_vec()
        });
        scenario.publish(&[changed]);
        scenario.settle("with a changed cluster").await;
        let sent = scenario.handles.proxies.list()[0].sent.clone();
        assert_eq!(sent["eds"][1], 2, "the endpoints were sent again, once: {sent:?}");
        assert_eq!(scenario.envoys[0].stat("cluster.shop/api/80.init_fetch_timeout"), Some(0));
        assert!(scenario.envoys[0].admin("/config_dump").contains("\"connect_timeout\": \"7s\""));
    }
}

#[tokio::test]
async fn a_new_server_sends_nothing_to_whoever_has_everything() {
    for binary in binaries::envoys() {
        let mut scenario = Scenario::start(&binary, &EVERYBODY);
        let views = || EVERYBODY.map(|proxy| view_of(proxy, meshes::http_split(&[90, 10, 0])));
        scenario.publish(&views());
        scenario.settle("at first").await;
        assert!(scenario.handles.metrics.resources_sent() > 30);
        scenario.replace_server().await;
        scenario.publish(&views());
        scenario.settle("after the new server came").await;
        assert_eq!(scenario.handles.metrics.resources_sent(), 0, "{:#?}", scenario.handles.proxies.list());
        // The next change is sent as usual: only `web` calls the Service, and only its route changes.
        scenario.publish(&EVERYBODY.map(|proxy| view_of(proxy, meshes::http_split(&[10, 90, 0]))));
        scenario.settle("after the change").await;
        assert_eq!(scenario.handles.metrics.resources_sent(), 1, "{:#?}", scenario.handles.proxies.list());
        assert_eq!(scenario.handles.leaves.issued.load(std::sync::atomic::Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn a_bad_policy_is_refused_alone() {
    for binary in binaries::envoys() {
        let mut scenario = Scenario::start(&binary, &["api"]);
        let mut mesh = meshes::http();
        let ports = [8080, 8081].map(|port| (port, smidge_xds::mesh::service::Protocol::Http));
        meshes::workload(&mut mesh, "api", 10, &ports);
        let before = view_of("api", mesh.clone());
        scenario.publish(&[Arc::clone(&before)]);
        scenario.settle("at first").await;
        meshes::grant(&mut mesh, "api", &["cron"], Ports::All, Payload::Any);
        let good = view_of("api", mesh);
        let bad = with(&good, ResourceType::Extension, "inbound/8080/http", |body| {
            body.windows(4).position(|four| four == b"cron").map_or_else(Vec::new, |at| body[..at].to_vec())
        });
        scenario.publish(&[bad]);
        let nack = tokio::time::timeout(TIMEOUT, scenario.handles.nacks.recv()).await.unwrap().unwrap();
        assert_eq!(nack.refused.names, ["inbound/8080/http".into()], "{nack:?}");
        let dump = || scenario.envoys[0].admin("/config_dump");
        until("the other port's policy is there", TIMEOUT, dump, || dump().contains("sa/cron")).await;
        let sent = scenario.handles.proxies.list()[0].sent["ecds"];
        assert_eq!(sent[3], 1, "refused more than once: {sent:?}");
        scenario.publish(&[good]);
        until("the mended policy is there", TIMEOUT, dump, || dump().matches("sa/cron").count() == 2).await;
    }
}

/// Proxies and their server.
struct Scenario {
    handles: Handles,
    serving: Option<Serving>,
    envoys: Vec<Envoy>,
    names: Vec<&'static str>,
    views: std::sync::Mutex<Vec<Arc<View>>>,
    folder: TempDir,
}

impl Scenario {
    fn start(binary: &Path, names: &[&'static str]) -> Self {
        let folder = TempDir::new().unwrap();
        let (server, handles) = fixture::server(Some(leaf()));
        let serving = Some(Serving::start(server, folder.path()));
        let envoys = names.iter().map(|name| Envoy::start(binary, folder.path(), name)).collect();
        Self { handles, serving, envoys, names: names.to_vec(), views: std::sync::Mutex::default(), folder }
    }

    fn publish(&self, views: &[Arc<View>]) {
        let named: Vec<_> = self.names.iter().copied().zip(views).collect();
        self.handles.publish(&named);
        *self.views.lock().unwrap() = views.to_vec();
    }

    async fn replace_server(&mut self) {
        self.serving.take().unwrap().stop().await;
        let (server, handles) = fixture::server(Some(leaf()));
        self.handles = handles;
        self.serving = Some(Serving::start(server, self.folder.path()));
    }

    /// Waits until every proxy has accepted its view, in time, and then checks for anything that went wrong.
    async fn settle(&self, when: &str) {
        let views = self.views.lock().unwrap().clone();
        for ((envoy, name), view) in self.envoys.iter().zip(&self.names).zip(&views) {
            let state = || (self.handles.proxies.list(), envoy.log());
            let limit = if envoy.stat("server.live") == Some(1) { TIMEOUT } else { 4 * TIMEOUT };
            until(&format!("{name} has taken its view {when}"), limit, state, || {
                self.handles.proxies.list().iter().any(|it| {
                    let same =
                        it.acknowledged.as_ref().is_some_and(|acknowledged| Arc::ptr_eq(acknowledged, view));
                    it.proxy.instance == *name && it.settled && same
                })
            })
            .await;
            let count = |kind| view.resources.keys().filter(|(of, _)| *of == kind).count() as u64;
            for (stat, expected) in [
                ("cluster_manager.warming_clusters", 0),
                // One more: the cluster of the control plane.
                ("cluster_manager.active_clusters", count(ResourceType::Cluster) + 1),
                ("listener_manager.total_listeners_warming", 0),
                ("listener_manager.total_listeners_active", count(ResourceType::Listener)),
                ("listener_manager.listener_create_failure", 0),
            ] {
                let state = || (envoy.stat(stat), envoy.log());
                let what = format!("{name} has {stat} {expected} {when}");
                until(&what, TIMEOUT, state, || envoy.stat(stat) == Some(expected)).await;
            }
        }
        for connected in self.handles.proxies.list() {
            assert!(connected.sent.values().all(|sent| sent[3] == 0), "refused {when}: {connected:#?}");
        }
    }
}

fn view_of(proxy: &str, mesh: Mesh) -> Arc<View> {
    Snapshot::next(Arc::new(mesh), None).view(&meshes::proxy(proxy)).unwrap()
}

/// Returns the view with another content under one name.
fn with(view: &View, kind: ResourceType, name: &str, change: impl Fn(&[u8]) -> Vec<u8>) -> Arc<View> {
    let mut view = view.clone();
    let old = Arc::clone(view.get(kind, name).unwrap());
    let body = change(&old.body).into();
    let changed = Resource { version: Version::new("changed"), body, kind, name: Arc::clone(&old.name) };
    view.resources.insert((kind, Arc::clone(&old.name)), Arc::new(changed));
    Arc::new(view)
}

/// A certificate and a key that Envoy can load.
fn leaf() -> (String, String) {
    let mut params = CertificateParams::default();
    let name = "spiffe://cluster.local/ns/shop/sa/any";
    params.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}
