//! The pods of the proof, each a network namespace with the redirection of the product: a caller, two workloads that are
//! called, and a pod outside the mesh, which is the test's own namespace and routes between the others.
//!
//! A socket belongs to the namespace of the thread that made it, so one process is the application of every pod. The
//! proxies are processes of their own. No address of a Service exists but that of the one outside the mesh, which is
//! translated as by kube-proxy.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::Arc,
    thread,
};

use crate::differential::{
    caller::Authority,
    judge::Judge,
    network::{self, Hosts},
};

/// The pod that calls, those that are called through their proxies, and the one without a proxy.
pub const CALLER: &str = "web";
pub const CALLED: [&str; 2] = ["api", "store"];
pub const OUTSIDE: &str = "out";
/// Their addresses.
pub const CALLER_ADDRESS: &str = "198.19.2.1";
pub const CALLED_ADDRESSES: [&str; 2] = ["198.19.1.1", "198.19.1.2"];
pub const OUTSIDE_ADDRESS: &str = "198.19.1.3";
/// Address of the Service over the pod outside the mesh.
pub const OUTSIDE_SERVICE: &str = "198.18.1.9";
/// Ports on which every application listens.
pub const PORTS: [u16; 10] = [70, 80, 90, 6000, 7000, 7001, 8080, 8081, 9000, 9001];
/// The header with the pod that has answered.
pub const SERVED: &str = "x-served";

const RULES: &str = "table ip proof {
  chain prerouting {
    type nat hook prerouting priority -100;
    ip daddr 198.18.1.9 tcp dport 80 dnat to 198.19.1.3:8080
    ip daddr 198.18.1.9 tcp dport 90 dnat to 198.19.1.3:9000
}
}";

const COMMANDS: &str = r#"ip route add local 198.18.0.0/16 dev lo
nft -f - <<<"$RULES""#;

/// Runs `proof` where these pods are.
pub fn isolated(test: &str, proof: impl FnOnce()) {
    let [api, store] = CALLED;
    let hosts = Hosts {
        own: OUTSIDE_ADDRESS,
        all: &[(CALLER, CALLER_ADDRESS), (api, CALLED_ADDRESSES[0]), (store, CALLED_ADDRESSES[1])],
        commands: COMMANDS,
        variables: &[("RULES", RULES)],
    };
    network::isolated_among(&hosts, &format!("differential::{test}"), proof);
}

/// Runs `work` in a pod.
pub fn within<T: Send>(pod: &str, work: impl FnOnce() -> T + Send) -> T {
    if pod == OUTSIDE { work() } else { network::within(pod, work) }
}

/// Starts the proxy of a pod in its network.
pub fn proxy(binary: &Path, authority: &Arc<Authority>, pod: &str) -> Judge {
    let command = network::envoy_in(pod, binary);
    Judge::start_as(command, Arc::clone(authority), &format!("spiffe://cluster.local/ns/shop/sa/{pod}"))
}

/// Starts the applications.
pub fn applications() {
    for pod in CALLED.into_iter().chain([OUTSIDE]) {
        within(pod, || PORTS.into_iter().for_each(|port| listen(pod, port)));
    }
}

fn listen(pod: &'static str, port: u16) {
    // Nothing else of the pod outside answers: its namespace has the addresses of Services as well.
    let address = if pod == OUTSIDE { OUTSIDE_ADDRESS } else { "0.0.0.0" };
    let listener = TcpListener::bind((address, port)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            // A caller may close a connection at any time.
            thread::spawn(move || drop(serve(stream, pod)));
        }
    });
}

/// Answers every request with 200, and other text with a line. Either names the pod. TLS ends the connection.
fn serve(mut stream: TcpStream, pod: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut received, mut bytes) = (Vec::new(), [0; 4096]);
    while let count @ 1.. = stream.read(&mut bytes)? {
        received.extend_from_slice(&bytes[..count]);
        if !received[0].is_ascii_alphabetic() {
            break;
        }
        if received[0].is_ascii_lowercase() {
            received.clear();
            stream.write_all(format!("{pod}\n").as_bytes())?;
        } else if received.ends_with(b"\r\n\r\n") {
            received.clear();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{SERVED}: {pod}\r\n\r\n");
            stream.write_all(head.as_bytes())?;
        }
    }
    Ok(())
}
