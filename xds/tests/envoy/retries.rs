//! Requests to a server that ends, through real Envoys of both sides: what did not reach it goes to another one, once, and
//! nothing that tells the proxies so reaches an application.

use std::{
    io::{BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use smidge_xds::{
    mesh::{
        Mesh,
        access::{AccessMode, MtlsMode, Payload, Ports},
        service::Protocol,
    },
    snapshot::Snapshot,
};
use smidge_xds_testing::{
    binaries,
    caller::{Authority, plain, request},
    counting::{Answer, Counting},
    http1::{Message, read_response},
    http2,
    inbound::{Inbound, at, echo, echo_server, spiffe, within},
    meshes,
    outbound::Outbound,
    process, trust,
};

/// The header by which the server's proxy asks for another attempt.
const MARK: &str = "x-smidge-retry";
/// Answer of an application that sets the header itself.
const FORGED: &str =
    "HTTP/1.1 503 Busy\r\nx-smidge-retry: 1\r\nX-Smidge-Retry: 1\r\ncontent-length: 0\r\n\r\n";
const UNAVAILABLE: &str = "smidge: the workload's proxy answers 503 (upstream_reset_before_response_started{";

/// `grpc-status` in the Huffman code of HPACK.
const GRPC_STATUS: [u8; 8] = [154, 202, 200, 178, 18, 52, 218, 143];

/// The sidecar of `web`, which calls, and one for each workload `api`.
struct Sidecars {
    outbound: Outbound,
    inbounds: Vec<Inbound>,
    ports: [u16; 2],
}

impl Sidecars {
    fn start(binary: &Path, workloads: &[SocketAddr]) -> Self {
        let [first, second, outer] = process::reserved_ports();
        let authority = Authority::generate();
        let mut mesh = trust::pair(&authority, &[(first, Protocol::Http), (second, Protocol::Http)]);
        meshes::grant(&mut mesh, "api", &["web"], Ports::All, Payload::Any);
        let snapshot = Snapshot::next(Arc::new(mesh), None);
        let ports = [first, second];
        let servers: Vec<SocketAddr> = ports.map(at).into_iter().take(workloads.len()).collect();
        let listener = ("outbound/10.96.0.10:80", outer);
        let outbound = Outbound::start_with(binary, &authority, listener, &snapshot, &servers);
        let inbounds = ports.iter().zip(workloads).map(|(port, workload)| {
            Inbound::start(binary, authority.clone(), &[*port], &snapshot, *workload)
        });
        let inbounds = inbounds.collect();
        Self { outbound, inbounds, ports }
    }

    /// Sends a request with a body of this length, and returns the answer.
    fn call(&self, method: &str, id: &str, length: usize) -> Message {
        exchange(&plain(self.outbound.address()).unwrap(), method, id, length)
    }

    /// Returns the number of requests that all servers' proxies have answered.
    fn received(&self) -> u64 {
        let count = |(inbound, port): (&Inbound, &u16)| {
            inbound.envoy.stat(&format!("http.inbound/{port}/http.downstream_rq_completed")).unwrap_or(0)
        };
        self.inbounds.iter().zip(&self.ports).map(count).sum()
    }
}

fn exchange(mut stream: &TcpStream, method: &str, id: &str, length: usize) -> Message {
    exchange_with(&mut stream, method, id, length)
}

fn exchange_with(stream: &mut (impl Read + Write), method: &str, id: &str, length: usize) -> Message {
    let head =
        format!("{method} /books HTTP/1.1\r\nhost: api\r\nid: {id}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // A proxy that answers early closes the connection while the body is written.
    let _ = stream.write_all(&vec![b'b'; length]);
    read_response(&mut BufReader::new(stream), method).unwrap().unwrap()
}

/// Fails if the mark is in a message, as a header or as text.
fn assert_unmarked(message: &Message) {
    let lines = message.headers.join("\n").to_lowercase();
    assert!(!lines.contains(MARK) && !message.text().to_lowercase().contains(MARK), "{message:?}");
}

#[test]
fn no_request_fails_when_a_server_closes_its_port() {
    for binary in binaries::envoys() {
        let (mut ends, stays) = (Counting::start(Answer::Mirror), Counting::start(Answer::Mirror));
        let sidecars = Sidecars::start(&binary, &[ends.address, stays.address]);
        let client = plain(sidecars.outbound.address()).unwrap();
        let mut sent = Vec::new();
        let mut call = |number: usize| {
            let (method, length) = [("GET", 0), ("POST", 300), ("PUT", 500_000)][number % 3];
            sent.push(number.to_string());
            let answer = exchange(&client, method, &number.to_string(), length);
            assert_eq!(answer.status(), 200, "{number}: {answer:?}");
            assert!(method == "HEAD" || answer.text().contains(&format!("{length} bytes")), "{answer:?}");
            assert_unmarked(&answer);
        };
        (0..30).for_each(&mut call);
        assert!(!ends.ids().is_empty() && !stays.ids().is_empty());
        ends.end();
        let before = ends.ids().len();
        let idle = || sidecars.inbounds[0].envoy.stat("cluster.inbound.upstream_cx_active") == Some(0);
        within("the proxy knows that its connections have ended", idle);
        (30..330).for_each(&mut call);
        assert_eq!(ends.ids().len(), before, "it has ended");
        assert!(sidecars.received() > 330 + 20, "some requests had two attempts");
        let mut executed = [ends.ids(), stays.ids()].concat();
        executed.sort_by_key(|id| id.parse::<usize>().unwrap());
        assert_eq!(executed, sent, "each was executed once");
    }
}

#[test]
fn the_last_endpoint_answers_as_before() {
    for binary in binaries::envoys() {
        let [closed] = process::reserved_ports();
        let sidecars = Sidecars::start(&binary, &[at(closed)]);
        for (number, (method, length)) in [("GET", 0), ("POST", 10)].into_iter().enumerate() {
            let answer = sidecars.call(method, "1", length);
            assert_eq!(answer.status(), 503);
            assert!(answer.text().starts_with(UNAVAILABLE), "{answer:?}");
            assert_unmarked(&answer);
            let attempts = 3 * (u64::try_from(number).unwrap() + 1);
            within("three attempts at each", || sidecars.received() == attempts);
        }
    }
}

#[test]
fn a_body_beyond_the_buffer_is_sent_at_most_once() {
    for binary in binaries::envoys() {
        let [closed] = process::reserved_ports();
        let stays = Counting::start(Answer::Mirror);
        let sidecars = Sidecars::start(&binary, &[at(closed), stays.address]);
        for number in 0..20 {
            let answer = sidecars.call("POST", &number.to_string(), 8_000_000);
            assert!([200, 503].contains(&answer.status()), "{answer:?}");
            assert_unmarked(&answer);
            let executed = stays.ids().iter().filter(|id| **id == number.to_string()).count();
            assert_eq!(executed, usize::from(answer.status() == 200), "{number}: {answer:?}");
        }
    }
}

#[test]
fn a_safe_request_without_an_answer_is_sent_once_more() {
    for binary in binaries::envoys() {
        let (closes, stays) = (Counting::start(Answer::Close), Counting::start(Answer::Mirror));
        let sidecars = Sidecars::start(&binary, &[closes.address, stays.address]);
        for number in 0..40 {
            let method = ["GET", "HEAD", "OPTIONS", "GET"][number % 4];
            let answer = sidecars.call(method, &number.to_string(), 0);
            assert_eq!(answer.status(), 200, "{number}: {answer:?}");
            assert_unmarked(&answer);
        }
        assert!(!closes.ids().is_empty());
        // Others may have been executed.
        let answers: Vec<_> = (0..20).map(|number| sidecars.call("POST", &format!("p{number}"), 5)).collect();
        assert!(answers.iter().any(|answer| answer.status() == 503), "{answers:?}");
        answers.iter().for_each(assert_unmarked);
        let both = [closes.ids(), stays.ids()].concat();
        let posts: Vec<&String> = both.iter().filter(|id| id.starts_with('p')).collect();
        assert_eq!(posts.len(), 20, "each once: {posts:?}");
    }
}

#[test]
fn a_request_that_ends_servers_ends_two() {
    for binary in binaries::envoys() {
        let (one, two) = (Counting::start(Answer::Close), Counting::start(Answer::Close));
        let sidecars = Sidecars::start(&binary, &[one.address, two.address]);
        let answer = sidecars.call("GET", "1", 0);
        assert_eq!(answer.status(), 503);
        assert!(answer.text().starts_with(UNAVAILABLE), "{answer:?}");
        assert_unmarked(&answer);
        assert_eq!((one.ids().len(), two.ids().len()), (1, 1));
    }
}

#[test]
fn an_application_cannot_ask_for_another_attempt() {
    for binary in binaries::envoys() {
        let forges = || Counting::start(Answer::Bytes(FORGED.to_owned()));
        let (one, two) = (forges(), forges());
        let sidecars = Sidecars::start(&binary, &[one.address, two.address]);
        for number in 1..=20 {
            let answer = sidecars.call("GET", &number.to_string(), 0);
            assert_eq!(answer.status(), 503);
            assert_unmarked(&answer);
            assert_eq!(one.ids().len() + two.ids().len(), number, "one attempt at each");
        }
    }
}

#[test]
fn callers_without_a_proxy_see_no_mark() {
    for binary in binaries::envoys() {
        let [port, closed] = process::reserved_ports();
        let authority = Authority::generate();
        let mut mesh = trust::http_trusting(&authority);
        meshes::workload(&mut mesh, "api", 10, &[(port, Protocol::Http)]);
        meshes::grant(&mut mesh, "api", &["web"], Ports::All, Payload::Any);
        meshes::each_class(&mut mesh, |class| {
            class.mtls = MtlsMode::Permissive;
            class.access = AccessMode::Permissive;
        });
        let snapshot = Snapshot::next(Arc::new(mesh), None);
        let inbound = Inbound::start(&binary, authority, &[port], &snapshot, at(closed));
        let leaf = inbound.authority.issue(&spiffe("web"));
        for claim in ["", "x-envoy-attempt-count: 1\n", "x-envoy-attempt-count: 9\n"] {
            let head = format!("GET /books HTTP/1.1\nHost: api\n{claim}");
            let (status, answer) = request(plain(at(port)).unwrap(), &head).unwrap();
            assert!(status == 503 && !answer.to_lowercase().contains(MARK), "{answer}");
            let (status, answer) = request(leaf.connect(at(port)).unwrap(), &head).unwrap();
            // A caller with a certificate that states the number of an attempt is a proxy.
            assert_eq!((status, answer.contains(MARK)), (503, claim.ends_with(" 1\n")), "{answer}");
        }
    }
}

#[test]
fn a_stream_that_a_server_does_not_take_goes_to_another() {
    for binary in binaries::envoys() {
        for refusal in [http2::Refusal::Stream, http2::Refusal::Goaway] {
            let (refuses, takes) = (http2::refusing_server(refusal), http2::mirror_server());
            let sidecars = Sidecars::start(&binary, &[refuses, takes]);
            for _ in 0..10 {
                let stream = plain(sidecars.outbound.address()).unwrap();
                let frames = http2::get(stream, &[], &[]).unwrap();
                let text: Vec<u8> =
                    frames.iter().filter(|it| it.0 == http2::DATA).flat_map(|it| it.1.clone()).collect();
                let text = String::from_utf8_lossy(&text).into_owned();
                assert!(text.contains("x-forwarded-proto"), "{refusal:?}: {frames:?}");
            }
            assert!(sidecars.received() > 10, "some had two attempts");
        }
    }
}

#[test]
fn connections_that_a_server_ends_with_an_answer_cost_no_request() {
    for binary in binaries::envoys() {
        let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let server = Counting::start(Answer::Bytes(answer.to_owned()));
        let sidecars = Sidecars::start(&binary, &[server.address]);
        let client = plain(sidecars.outbound.address()).unwrap();
        for number in 0..200 {
            assert_eq!(exchange(&client, "POST", &number.to_string(), 20).status(), 200);
        }
        assert_eq!(server.ids().len(), 200);
    }
}

#[test]
fn a_deadline_of_grpc_ends_as_such() {
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    for binary in binaries::envoys() {
        // It resets each stream a moment after its deadline, as servers of gRPC do.
        let sidecars = Sidecars::start(&binary, &[http2::resetting_server(Duration::from_millis(60))]);
        for _ in 0..10 {
            let headers = [&grpc[..], &[("grpc-timeout", "50m")]].concat();
            let start = Instant::now();
            let frames = http2::get(plain(sidecars.outbound.address()).unwrap(), &headers, &[]).unwrap();
            // Envoy counts from the moment at which its event loop woke, which is some milliseconds ago where it is late.
            assert!(start.elapsed() >= Duration::from_millis(30), "the call ended before its deadline");
            let is_exceeded = [&GRPC_STATUS[..], &[1, b'4']].concat();
            assert!(frames[0].1.windows(10).any(|window| window == is_exceeded), "{frames:?}");
        }
    }
}

#[test]
fn callers_without_a_proxy_are_asked_to_connect_elsewhere() {
    for binary in binaries::envoys() {
        let [port] = process::reserved_ports();
        let authority = Authority::generate();
        let mut mesh = trust::http_trusting(&authority);
        meshes::workload(&mut mesh, "api", 10, &[(port, Protocol::Http)]);
        meshes::each_class(&mut mesh, |class| {
            class.mtls = MtlsMode::Permissive;
            class.access = AccessMode::Permissive;
        });
        let snapshot = |mesh: &Mesh| Snapshot::next(Arc::new(mesh.clone()), None);
        let server = Counting::start(Answer::Mirror);
        let inbound = Inbound::start(&binary, authority, &[port], &snapshot(&mesh), server.address);
        let (outside, leaf) = (plain(at(port)).unwrap(), inbound.authority.issue(&spiffe("web")));
        let mut inside = leaf.connect(at(port)).unwrap();
        let is_asked = |answer: &Message| answer.value("connection") == Some("close");
        assert!(!is_asked(&exchange(&outside, "GET", "1", 0)));
        assert!(!is_asked(&exchange_with(&mut inside, "GET", "2", 0)));
        meshes::each_class(&mut mesh, |class| class.ends = true);
        inbound.put(&snapshot(&mesh));
        within("the caller is asked", || is_asked(&exchange(&outside, "GET", "3", 0)));
        assert_eq!(exchange(&plain(at(port)).unwrap(), "GET", "4", 0).status(), 200, "new ones are served");
        assert!(!is_asked(&exchange_with(&mut inside, "GET", "5", 0)), "those inside are kept");
    }
}

/// A connection of bytes is not made whole by repeating requests; but nothing of it was sent before it is established.
#[test]
fn a_connection_that_a_server_does_not_take_goes_to_another() {
    for binary in binaries::envoys() {
        let [gone, port, outer] = process::reserved_ports();
        let authority = Authority::generate();
        let mut mesh = trust::http_trusting(&authority);
        meshes::workload(&mut mesh, "api", 10, &[(port, Protocol::Tcp)]);
        meshes::service(&mut mesh, "api", 80, Protocol::Tcp, &[("api", port)]);
        meshes::grant(&mut mesh, "api", &["web"], Ports::All, Payload::Any);
        let snapshot = Snapshot::next(Arc::new(mesh), None);
        let listener = ("outbound/10.96.0.10:80", outer);
        let servers = [at(gone), at(port)];
        let outbound = Outbound::start_with(&binary, &authority, listener, &snapshot, &servers);
        let inbound = Inbound::start(&binary, authority, &[port], &snapshot, echo_server(""));
        let answered = (0..60).filter(|_| echo(plain(outbound.address()).unwrap()).is_ok()).count();
        // One of 18 draws the server that is gone in each of its ten attempts; with one attempt it were at least half.
        assert!(answered >= 45, "{}: {answered} of 60", binary.display());
        drop(inbound);
    }
}
