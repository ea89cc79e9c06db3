//! Running Envoy with the inbound side of the workload `api`, whose listener is at ports of this machine instead of
//! behind a redirection, and a workload that responds behind it.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use smidge_xds::{render, resources::ResourceType, snapshot::Snapshot};

use crate::{
    caller::{Authority, plain},
    meshes,
    process::{Envoy, fixed, put},
};

/// Running Envoy, and the authority of its callers' certificates.
pub struct Inbound {
    pub authority: Authority,
    pub envoy: Envoy,
    ports: Vec<u16>,
}

impl Inbound {
    /// Starts an Envoy that listens at `ports`, which are the workload's own.
    pub fn start(
        binary: &Path,
        authority: Authority,
        ports: &[u16],
        snapshot: &Snapshot,
        workload: SocketAddr,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = authority.issue(&spiffe("api")).pems();
        let identity = json!({ "name": "identity", "tls_certificate": {
            "certificate_chain": { "inline_string": certificate }, "private_key": { "inline_string": key } } });
        put(folder.path(), "identity", ResourceType::Secret.type_url(), vec![identity]);
        write(folder.path(), ports, snapshot);
        let view = snapshot.view(&meshes::proxy("api")).unwrap();
        let cluster = |name: &str, to: &[SocketAddr]| {
            let cluster = view.get(ResourceType::Cluster, name).unwrap();
            fixed(render::resource(cluster).unwrap(), to)
        };
        // The collector of spans is at its own address.
        let collector = view.get(ResourceType::Cluster, "tracing").map(|it| render::resource(it).unwrap());
        let clusters = [cluster("inbound", &[workload]), cluster("blackhole", &[])];
        let clusters: Vec<Value> = clusters.into_iter().chain(collector).collect();
        let envoy = Envoy::start(binary, folder, &json!(clusters));
        within("Envoy listens", || plain(at(ports[0])).is_ok());
        Self { authority, envoy, ports: ports.to_vec() }
    }

    /// Serves the view of the workload in `snapshot`.
    pub fn put(&self, snapshot: &Snapshot) {
        write(self.envoy.folder(), &self.ports, snapshot);
    }
}

fn write(folder: &Path, ports: &[u16], snapshot: &Snapshot) {
    let view = snapshot.view(&meshes::proxy("api")).unwrap();
    for resource in view.resources.values() {
        let printed = || render::resource(resource).unwrap();
        match resource.kind {
            ResourceType::Listener if &*resource.name == "inbound" => {
                let listener = at_ports(printed(), ports);
                put(folder, "listeners", resource.kind.type_url(), vec![listener]);
            }
            ResourceType::Extension | ResourceType::Secret => {
                put(folder, &resource.name, resource.kind.type_url(), vec![printed()]);
            }
            _ => {}
        }
    }
}

fn at_ports(mut listener: Value, ports: &[u16]) -> Value {
    let address = |port: &u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    listener["address"] = address(&ports[0]);
    let more: Vec<Value> = ports[1..].iter().map(|port| json!({ "address": address(port) })).collect();
    listener["additional_addresses"] = json!(more);
    let filters = listener["listener_filters"].as_array_mut().unwrap();
    filters.retain(|filter| filter["name"] != "envoy.filters.listener.original_dst");
    // Intervals and timeouts are a tenth of the real ones, to keep the tests short.
    let hurried = [
        ("\"access_log_flush_interval\":\"10s\"", "\"access_log_flush_interval\":\"1s\""),
        ("\"default_value\":15000", "\"default_value\":1500"),
        ("\"listener_filters_timeout\":\"1s\"", "\"listener_filters_timeout\":\"0.5s\""),
    ];
    let hurry = |text: String, (slow, fast): (&str, &str)| text.replace(slow, fast);
    serde_json::from_str(&hurried.into_iter().fold(listener.to_string(), hurry)).unwrap()
}

/// Starts a workload that sends `greeting` first. It responds to a line that ends in `HTTP/1.1` with 200, and echoes
/// everything else.
pub fn echo_server(greeting: &'static str) -> SocketAddr {
    server(move |mut stream| {
        let mut bytes = [0; 4096];
        if stream.write_all(greeting.as_bytes()).is_err() {
            return;
        }
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            let said = &bytes[..count];
            let http = said.windows(10).any(|window| window == b" HTTP/1.1\r");
            let answer = if http { b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" } else { said };
            if stream.write_all(answer).is_err() {
                break;
            }
        }
    })
}

/// Starts a workload that responds to each request with 200 and the head of the request. It ends connections of HTTP/2.
pub fn mirror_server() -> SocketAddr {
    server(|mut stream| {
        let (mut head, mut bytes) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            head.extend_from_slice(&bytes[..count]);
            if head.starts_with(b"PRI ") {
                break;
            }
            if head.ends_with(b"\r\n\r\n") {
                let status = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", head.len());
                let answer = [status.into_bytes(), std::mem::take(&mut head)].concat();
                if stream.write_all(&answer).is_err() {
                    break;
                }
            }
        }
    })
}

/// Starts a server that handles each connection on a thread of its own.
pub fn server(handle: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, handle) = (stream.unwrap(), handle.clone());
            thread::spawn(move || handle(stream));
        }
    });
    address
}

/// Sends some bytes, checks that they are echoed, and returns the connection.
pub fn echo<S: Read + Write>(mut stream: S) -> io::Result<S> {
    stream.write_all(b"ping")?;
    let mut heard = [0; 4];
    stream.read_exact(&mut heard)?;
    assert_eq!(&heard, b"ping");
    Ok(stream)
}

/// Returns the local address with this port.
pub fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Returns the SPIFFE identity of the ServiceAccount of that name.
pub fn spiffe(name: &str) -> String {
    meshes::account(name).to_string()
}

/// Waits for a condition, and fails with its name after 20 seconds.
pub fn within(condition: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "not within 20 s: {condition}");
        thread::yield_now();
    }
}
