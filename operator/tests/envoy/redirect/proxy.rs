//! A real Envoy as the proxy of the pod that a process is in: its own ports, and outbound calls.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use smidge::injector::{self, Decision, Settings};
use smidge_xds::{mesh::proxy::Families, render, resources::ResourceType, snapshot::Snapshot};
use smidge_xds_testing::{binaries, meshes};

use super::{envoy, pod::Running};

/// The user and group of a proxy.
const PROXY: u32 = 1337;

/// Starts it, and waits until it accepts the application's calls.
pub fn start(binary: &Path, address: &str) -> Running {
    start_in(binary, address, Families::V4)
}

/// Starts the proxy of a pod with these families, and waits until it accepts the application's calls.
pub fn start_in(binary: &Path, address: &str, families: Families) -> Running {
    // A place where its user may run it.
    fs::copy(binary, "/run/envoy").unwrap();
    fs::set_permissions("/run/envoy", fs::Permissions::from_mode(0o755)).unwrap();
    let pod =
        json!({"metadata": {"name": "web-0"}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}});
    let settings = Settings { proxy_version: Some(binaries::version(binary)), ..Settings::default() };
    let Decision::Inject { pod, .. } = injector::inject(&pod, "shop", None, &settings) else {
        panic!("not injected")
    };
    let credentials = envoy::credentials("token");
    let mut config: Value = serde_json::from_str(&envoy::expanded(&pod, credentials.path())).unwrap();
    // Both need the control plane.
    config.as_object_mut().unwrap().retain(|field, _| field != "dynamic_resources" && field != "stats_sinks");
    for listener in config["static_resources"]["listeners"].as_array_mut().unwrap() {
        listener["address"]["socket_address"]["address"] = json!(address);
    }
    let view =
        Snapshot::next(Arc::new(meshes::families::mesh(families)), None).view(&meshes::proxy("web")).unwrap();
    let printed = |kind, name| render::resource(view.get(kind, name).unwrap()).unwrap();
    let clusters = config["static_resources"]["clusters"].as_array_mut().unwrap();
    clusters.retain(|cluster| cluster["name"] != "xds");
    clusters.extend(["passthrough", "blackhole"].map(|name| printed(ResourceType::Cluster, name)));
    let listeners = config["static_resources"]["listeners"].as_array_mut().unwrap();
    listeners.push(printed(ResourceType::Listener, "outbound"));
    let mut command = Command::new("/run/envoy");
    command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
    command.args(["--config-yaml", &config.to_string()]).stdin(Stdio::null()).uid(PROXY).gid(PROXY);
    let running = Running(command.spawn().unwrap());
    let takes_calls = |loopback| TcpStream::connect((loopback, 15001)).is_ok();
    within("the proxy takes calls", || families.loopback().all(takes_calls));
    running
}

/// Waits until the proxy answers at that address that it is ready.
pub fn is_ready(address: &str) {
    within("the proxy is ready", || {
        let ask = || -> std::io::Result<[u8; 12]> {
            let mut stream = TcpStream::connect((address, 15021))?;
            write!(stream, "GET /healthz/ready HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n")?;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer == *b"HTTP/1.1 200")
    });
}

fn within(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}
