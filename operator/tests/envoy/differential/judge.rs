//! A real Envoy that receives one generated cluster after another over ADS, as a proxy of the mesh does: with the
//! server and the views of the product, unchanged.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use smidge::{
    documents::{self, Source},
    lower::lower,
};
use smidge_xds::{
    mesh::id::{ClusterId, ProxyId},
    snapshot::Snapshot,
    view::View,
};
use tempfile::TempDir;

use crate::differential::{
    caller::Authority,
    fixture::{self, Handles},
    generated::{SHOP, yaml},
    proxies::{self, Serving},
};

/// Proxy that receives every view in turn.
const PROXY: &str = "any";
/// Time limit of a step, far longer than any takes.
const LIMIT: Duration = Duration::from_mins(1);

/// The Envoy, its server, and the last published snapshot.
pub struct Judge {
    pub authority: Arc<Authority>,
    handles: Handles,
    snapshot: Option<Snapshot>,
    folder: TempDir,
    child: Child,
    // Serves until it is dropped.
    _serving: Serving,
}

impl Judge {
    pub fn start(binary: &Path) -> Self {
        let authority = Arc::new(Authority::generate());
        Self::start_as(Command::new(binary), authority, "spiffe://cluster.local/ns/shop/sa/api")
    }

    /// Starts an Envoy by a command, with the certificate of an identity.
    pub fn start_as(mut command: Command, authority: Arc<Authority>, identity: &str) -> Self {
        let leaf = authority.issue(identity);
        let folder = TempDir::new().unwrap();
        let (server, handles) = fixture::server(Some(leaf.pems()));
        let serving = Serving::start(server, folder.path());
        let config = folder.path().join("envoy.json");
        std::fs::write(&config, bootstrap(folder.path()).to_string()).unwrap();
        let child = command
            .args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warning"])
            // A TCP connection of a replaced filter chain lives this long: longer than any decision takes.
            .args(["--drain-time-s", "5", "--drain-strategy", "immediate", "-c"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { authority, handles, snapshot: None, folder, child, _serving: serving }
    }

    /// Serves the view of a workload of these objects, and waits until the Envoy has accepted it.
    pub async fn serve(&mut self, objects: &[Value], workload: &str) {
        let text = yaml(objects);
        let mut offline = documents::assemble(&[Source { name: "generated.yaml".to_owned(), text }]);
        offline.inputs.roots = BTreeSet::from([self.authority.pem.clone()]);
        let (mesh, _) = lower(&BTreeMap::from([(ClusterId::default(), offline.inputs)]));
        let next = Snapshot::next(Arc::new(mesh), self.snapshot.as_ref());
        let proxy = ProxyId {
            cluster: ClusterId::default(),
            namespace: SHOP.to_owned(),
            instance: format!("{workload}-0"),
        };
        let view = next.view(&proxy).unwrap();
        self.snapshot = Some(next);
        self.show(&view, || yaml(objects)).await;
    }

    /// Serves a view of what `written` returns, and waits until the Envoy has accepted it.
    pub async fn show(&mut self, view: &Arc<View>, written: impl Fn() -> String) {
        self.handles.publish(&[(PROXY, view)]);
        let handles = &self.handles;
        let has_taken = || {
            let connected = handles.proxies.list();
            let refused = connected.iter().any(|it| it.sent.values().any(|sent| sent[3] != 0));
            let complaints: Vec<_> = connected.iter().filter_map(|it| it.last_error.as_ref()).collect();
            assert!(!refused, "the Envoy refused:\n{}\n{complaints:#?}", written());
            connected.iter().any(|it| {
                it.settled && it.acknowledged.as_ref().is_some_and(|taken| Arc::ptr_eq(taken, view))
            })
        };
        self.until("the generated is acknowledged", has_taken).await;
        self.until("no listener is warming", || {
            let warming = "listener_manager.total_listeners_warming";
            self.stats(warming).get(warming) == Some(&0)
        })
        .await;
    }

    /// Waits for a condition, which `what` describes.
    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Log of the Envoy.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Number of requests that audit has let through against the policy, by counter.
    pub fn would_be_denied(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (name, count) in self.stats("rbac\\.shadow_denied$") {
            // The prefix depends on the Envoy's version, and on when the rules arrived.
            if let Some((at, by)) = name.find("inbound").zip(name.strip_suffix(".rbac.shadow_denied")) {
                *all.entry(by[at..].to_owned()).or_default() += count;
            }
        }
        all
    }

    /// Returns the Envoy's statistics whose names match `like`.
    fn stats(&self, like: &str) -> BTreeMap<String, u64> {
        let mut page = String::new();
        // Before it listens it has no statistics.
        if let Ok(mut stream) = UnixStream::connect(self.folder.path().join("admin")) {
            let head =
                format!("GET /stats?filter={like} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            stream.read_to_string(&mut page).unwrap();
        }
        let lines = page.lines().filter_map(|line| line.split_once(": "));
        lines.filter_map(|(name, number)| Some((name.to_owned(), number.trim().parse().ok()?))).collect()
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn bootstrap(folder: &Path) -> Value {
    let mut bootstrap = proxies::bootstrap(folder, PROXY);
    bootstrap["admin"] = json!({ "address": { "pipe": { "path": folder.join("admin") } } });
    // As in the product's bootstrap.
    bootstrap["layered_runtime"] = json!({ "layers": [{
        "name": "static",
        "static_layer": { "re2.max_program_size.error_level": 1_000_000 },
    }] });
    bootstrap
}
