//! Runs real Envoys as clients, each in a network namespace of its own, with the server on a Unix socket.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use smidge_xds::server::{Authenticator, CertSource, Server};
use tokio::{net::UnixListener, sync::oneshot, task::JoinHandle};
use tokio_stream::wrappers::UnixListenerStream;

use crate::fixture::NAMESPACE;

/// Envoy process, which is killed when this value is dropped.
pub struct Envoy {
    child: Child,
    folder: PathBuf,
    name: String,
}

impl Envoy {
    /// Starts the proxy of an instance. Its listeners have the ports of a sidecar, hence the network namespace of its
    /// own.
    pub fn start(binary: &Path, folder: &Path, name: &str) -> Self {
        Self::start_with(binary, folder, name, &bootstrap(folder, name), 1)
    }

    /// Starts the proxy of an instance with the given bootstrap and number of workers.
    pub fn start_with(
        binary: &Path,
        folder: &Path,
        name: &str,
        bootstrap: &serde_json::Value,
        workers: u16,
    ) -> Self {
        let config = folder.join(format!("{name}.json"));
        fs::write(&config, bootstrap.to_string()).unwrap();
        let child = Command::new("unshare")
            .args(["--net", "sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
            .arg(binary)
            .args(["--use-dynamic-base-id", "--concurrency", &workers.to_string(), "--log-level", "warning"])
            .args(["--drain-time-s", "2", "--drain-strategy", "immediate", "-c"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join(format!("{name}.log"))).unwrap())
            .spawn()
            .unwrap();
        Self { child, folder: folder.to_owned(), name: name.to_owned() }
    }

    /// Returns the id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns its log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join(format!("{}.log", self.name))).unwrap_or_default()
    }

    /// Returns a page of its admin interface; empty as long as the interface does not exist.
    pub fn admin(&self, path: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = UnixStream::connect(self.folder.join(format!("{}.admin", self.name))) {
            let _ = write!(stream, "GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
            let _ = stream.read_to_string(&mut answer);
        }
        answer
    }

    /// Returns one of its statistics.
    pub fn stat(&self, name: &str) -> Option<u64> {
        let page = self.admin(&format!("/stats?filter=^{}$", name.replace('.', "\\.")));
        page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.trim().parse().ok())
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // The process may have exited by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the bootstrap of an Envoy that requests everything from the server on the socket `xds`.
pub fn bootstrap(folder: &Path, name: &str) -> serde_json::Value {
    let pipe = |file: &str| json!({ "pipe": { "path": folder.join(file) } });
    let ads = json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
    json!({
        "node": { "id": format!("{name}.{NAMESPACE}"), "cluster": "smidge" },
        "admin": { "address": pipe(&format!("{name}.admin")) },
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{
                    "envoy_grpc": { "cluster_name": "xds" },
                    "initial_metadata": [{ "key": "authorization", "value": format!("Bearer {name}") }],
                }],
            },
            "cds_config": ads,
            "lds_config": ads,
        },
        "static_resources": { "clusters": [{
            "name": "xds",
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": { "http2_protocol_options": {} },
                },
            },
            "load_assignment": { "cluster_name": "xds", "endpoints": [{
                "lb_endpoints": [{ "endpoint": { "address": pipe("xds") } }],
            }] },
        }] },
    })
}

/// Server on the socket `xds` of a folder.
pub struct Serving {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Serving {
    pub fn start<A, C, S>(server: Server<A, C, S>, folder: &Path) -> Self
    where
        A: Authenticator,
        C: CertSource,
        S: Send + Sync + 'static,
    {
        let socket = folder.join("xds");
        // The previous server may have left its socket.
        let _ = fs::remove_file(&socket);
        let incoming = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            server.serve(incoming, async { drop(stopped.await) }).await.unwrap();
        });
        Self { stop, task }
    }

    pub async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }
}

/// Waits until a condition is true, and returns the time that it took. Panics after `limit` with the condition and
/// `state`.
pub async fn until<T: std::fmt::Debug>(
    what: &str,
    limit: Duration,
    state: impl Fn() -> T,
    mut is_true: impl FnMut() -> bool,
) -> Duration {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}: {:#?}", state());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}
