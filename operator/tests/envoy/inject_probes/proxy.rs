//! A real Envoy as an injected pod's proxy, without a control plane: its answers on its own ports.

use std::{
    cell::RefCell,
    io::{Read, Write},
    net::TcpStream,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use smidge::injector::{self, Decision, Settings};
use smidge_xds_testing::{binaries, process::reserved_ports};
use tempfile::TempDir;

use super::{DEADLINE, envoy};

/// The proxy; it ends when this value is dropped.
pub struct Proxy {
    child: Child,
    readiness: u16,
    stats: u16,
    last: RefCell<String>,
    pod: Value,
    _credentials: TempDir,
}

impl Proxy {
    /// Injects the pod, and starts its proxy. Differences from a proxy in a pod: the ports and the admin socket, which
    /// tests that run side by side would fight over, and that it waits for no control plane.
    pub fn start(binary: &Path, pod: &Value) -> Self {
        Self::start_with(binary, pod, |_| {})
    }

    /// Does the same with a configuration that the test has changed.
    pub fn start_with(binary: &Path, pod: &Value, change: impl Fn(&mut Value)) -> Self {
        let settings = Settings { proxy_version: Some(binaries::version(binary)), ..Settings::default() };
        let decision = injector::inject(pod, "shop", None, &settings);
        let Decision::Inject { pod, .. } = decision else { panic!("{decision:?}") };
        let credentials = envoy::credentials("token");
        let mut config: Value = serde_json::from_str(&envoy::expanded(&pod, credentials.path())).unwrap();
        let [readiness, stats] = reserved_ports();
        // Both need the control plane.
        config
            .as_object_mut()
            .unwrap()
            .retain(|field, _| field != "dynamic_resources" && field != "stats_sinks");
        let pipe = json!({"pipe": {"path": format!("@smidge-probes-{readiness}")}});
        config["admin"]["address"] = pipe.clone();
        let clusters = config["static_resources"]["clusters"].as_array_mut().unwrap();
        clusters.retain(|cluster| cluster["name"] != "xds");
        for cluster in clusters.iter_mut().filter(|it| it["name"] == "readiness" || it["name"] == "metrics") {
            cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] =
                pipe.clone();
        }
        for listener in config["static_resources"]["listeners"].as_array_mut().unwrap() {
            let port = if listener["name"] == "stats" { stats } else { readiness };
            listener["address"]["socket_address"] = json!({"address": "127.0.0.1", "port_value": port});
            listener.as_object_mut().unwrap().remove("additional_addresses");
        }
        change(&mut config);
        let child = Command::new(binary)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "off"])
            .args(["--config-yaml", &config.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, readiness, stats, last: RefCell::default(), pod, _credentials: credentials }
    }

    /// Returns the status that the kubelet gets for a check, by its name.
    pub fn probe(&self, check: &str) -> Option<u16> {
        self.get(&self.path(check))
    }

    /// Returns the path that the kubelet reads in the pod for a check.
    pub fn path(&self, check: &str) -> String {
        let (container, place) = check.split_once('/').unwrap();
        let pointer = match place {
            "postStart" | "preStop" => format!("/lifecycle/{place}/httpGet/path"),
            _ => format!("/{place}Probe/httpGet/path"),
        };
        let containers = self.pod["spec"]["containers"].as_array().unwrap();
        let container = containers.iter().find(|it| it["name"] == container).unwrap();
        container.pointer(&pointer).and_then(Value::as_str).unwrap().to_owned()
    }

    /// Returns the status that any client gets for a path.
    pub fn get(&self, path: &str) -> Option<u16> {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: pod\r\nuser-agent: kube-probe/1.34"), "")
    }

    /// Returns the status that a request gets on the readiness port; `None` without an answer.
    pub fn send(&self, head: &str, body: &str) -> Option<u16> {
        let (status, answer) = exchange(self.readiness, head, body)?;
        self.last.replace(answer);
        Some(status)
    }

    /// The headers of the last answer on the readiness port, and any body that came with them.
    pub fn last_answer(&self) -> String {
        self.last.borrow().clone()
    }

    /// The status that a request gets on the metrics port.
    pub fn metrics(&self, head: &str) -> Option<u16> {
        status(self.stats, head)
    }

    /// Returns a whole answer of the readiness port.
    pub fn whole(&self, path: &str) -> String {
        whole(self.readiness, &format!("GET {path} HTTP/1.1\r\nhost: pod"))
    }

    /// Returns all metrics.
    pub fn metrics_text(&self) -> String {
        whole(self.stats, "GET /stats/prometheus HTTP/1.1\r\nhost: pod")
    }

    /// The metrics port.
    pub fn metrics_port(&self) -> u16 {
        self.stats
    }

    /// Returns a statistic, read from the admin interface directly.
    pub fn counted(&self, name: &str) -> Option<u64> {
        let address = SocketAddr::from_abstract_name(format!("smidge-probes-{}", self.readiness)).unwrap();
        let mut stream = UnixStream::connect_addr(&address).ok()?;
        write!(stream, "GET /stats?filter={name} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.lines().find_map(|line| line.split_once(&format!("{name}: "))?.1.parse().ok())
    }
}

/// Returns the status that a request gets on a port.
pub fn status(port: u16, head: &str) -> Option<u16> {
    exchange(port, &format!("{head}\r\nhost: pod"), "").map(|(status, _)| status)
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn whole(port: u16, head: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "{head}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn exchange(port: u16, head: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "{head}\r\nconnection: close\r\n\r\n{body}").ok()?;
    // The headers suffice, and Envoy waits a second for the caller to close first.
    let (mut answer, mut bytes) = (String::new(), [0; 4096]);
    while !answer.contains("\r\n\r\n") {
        match stream.read(&mut bytes).ok()? {
            0 => return None,
            count => answer.push_str(&String::from_utf8_lossy(&bytes[..count])),
        }
    }
    Some((answer.split(' ').nth(1)?.parse().ok()?, answer))
}

/// Waits for a condition by polling, as Envoy does not notify of its state.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}
