//! A real Envoy as an injected pod's proxy, without a control plane: what it answers on its own ports.

use std::{
    cell::RefCell,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use smidge::injector::{self, Decision, Settings};
use tempfile::TempDir;

use super::{DEADLINE, envoy};

/// The proxy; it ends with this value.
pub struct Proxy {
    child: Child,
    readiness: u16,
    stats: u16,
    last: RefCell<String>,
    _credentials: TempDir,
}

impl Proxy {
    /// Injects the pod, and starts its proxy. What differs from a pod's: the ports and the admin socket, which tests that
    /// run side by side would fight over, and that it waits for no control plane.
    pub fn start(binary: &Path, pod: &Value) -> Self {
        let decision = injector::inject(pod, "shop", None, &Settings::default());
        let Decision::Inject { pod, .. } = decision else { panic!("{decision:?}") };
        let credentials = envoy::credentials("token");
        let mut config: Value = serde_json::from_str(&envoy::expanded(&pod, credentials.path())).unwrap();
        let (readiness, stats) = (free_port(), free_port());
        config.as_object_mut().unwrap().remove("dynamic_resources");
        let pipe = json!({"pipe": {"path": format!("@smidge-probes-{readiness}")}});
        config["admin"]["address"] = pipe.clone();
        let clusters = config["static_resources"]["clusters"].as_array_mut().unwrap();
        clusters.retain(|cluster| cluster["name"] != "xds");
        let admin = clusters.iter_mut().find(|cluster| cluster["name"] == "admin").unwrap();
        admin["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = pipe;
        for listener in config["static_resources"]["listeners"].as_array_mut().unwrap() {
            let port = if listener["name"] == "stats" { stats } else { readiness };
            listener["address"]["socket_address"] = json!({"address": "127.0.0.1", "port_value": port});
        }
        let child = Command::new(binary)
            .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "off"])
            .args(["--config-yaml", &config.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, readiness, stats, last: RefCell::default(), _credentials: credentials }
    }

    /// What the kubelet gets.
    pub fn get(&self, path: &str) -> Option<u16> {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: pod\r\nuser-agent: kube-probe/1.34"), "")
    }

    /// The status that a request gets on the readiness port; none without an answer.
    pub fn send(&self, head: &str, body: &str) -> Option<u16> {
        let (status, answer) = exchange(self.readiness, head, body)?;
        self.last.replace(answer);
        Some(status)
    }

    /// The last answer on the readiness port.
    pub fn last_answer(&self) -> String {
        self.last.borrow().clone()
    }

    /// The status that a request gets on the metrics port.
    pub fn metrics(&self, head: &str) -> Option<u16> {
        exchange(self.stats, &format!("{head}\r\nhost: pod"), "").map(|(status, _)| status)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn exchange(port: u16, head: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "{head}\r\nconnection: close\r\n\r\n{body}").ok()?;
    // The headers will do, and Envoy waits a second for the caller to close first.
    let (mut answer, mut bytes) = (String::new(), [0; 4096]);
    while !answer.contains("\r\n\r\n") {
        match stream.read(&mut bytes).ok()? {
            0 => return None,
            count => answer.push_str(&String::from_utf8_lossy(&bytes[..count])),
        }
    }
    Some((answer.split(' ').nth(1)?.parse().ok()?, answer))
}

/// Waits for a condition, looking often: nobody tells when an Envoy's state changes.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}
