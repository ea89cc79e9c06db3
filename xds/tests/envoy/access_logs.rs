//! Access logs of a real Envoy: which calls leave a line, what the line states, and that no caller can forge a part of it.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::SocketAddr,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use smidge_xds::{
    mesh::{
        Mesh,
        access::{AccessMode, MtlsMode, Payload, Ports},
        service::Protocol,
        settings::AccessLogs,
    },
    snapshot::Snapshot,
};
use smidge_xds_testing::{
    binaries,
    caller::{Authority, Leaf, plain, request},
    inbound::{Inbound, at, echo, echo_server, server, spiffe, within},
    meshes,
    process::{self, Envoy},
    trust,
};

mod outbound;

const AUDIT: (AccessMode, MtlsMode) = (AccessMode::Audit, MtlsMode::Permissive);
const STRICT: (AccessMode, MtlsMode) = (AccessMode::Enforce, MtlsMode::Strict);

/// The workload `api`, whose ports `web` may call.
struct Scenario {
    http: u16,
    tcp: u16,
    it: Inbound,
}

impl Scenario {
    fn start(binary: &Path, logs: AccessLogs, workload: SocketAddr) -> Self {
        Self::start_in((AccessMode::Enforce, MtlsMode::Permissive), binary, logs, workload)
    }

    fn start_in(
        modes: (AccessMode, MtlsMode),
        binary: &Path,
        logs: AccessLogs,
        workload: SocketAddr,
    ) -> Self {
        let [http, tcp] = process::reserved_ports();
        let authority = Authority::generate();
        let mut mesh = mesh(&authority, logs);
        meshes::workload(&mut mesh, "api", 10, &[(http, Protocol::Http), (tcp, Protocol::Tcp)]);
        meshes::grant(&mut mesh, "api", &["web"], Ports::All, Payload::Any);
        meshes::each_class(&mut mesh, |class| (class.access, class.mtls) = modes);
        let snapshot = Snapshot::next(Arc::new(mesh), None);
        let it = Inbound::start(binary, authority, &[http, tcp], &snapshot, workload);
        Self { http, tcp, it }
    }

    fn leaf(&self, name: &str) -> Leaf {
        self.it.authority.issue(&spiffe(name))
    }

    /// Sends a request as a workload, and returns the status.
    fn call(&self, name: &str, head: &str) -> u16 {
        request(self.leaf(name).connect(at(self.http)).unwrap(), head).unwrap().0
    }
}

#[test]
fn what_failed_or_was_refused_leaves_a_line() {
    for binary in binaries::envoys() {
        let it = Scenario::start(&binary, AccessLogs::Errors, failing_server());
        assert_eq!(it.call("web", "GET /books HTTP/1.1\nHost: api"), 200);
        let head = "GET /books?token=x HTTP/1.1\nHost: api\nuser-agent: me\nx-request-id: 7";
        assert_eq!(it.call("cron", head), 403);
        assert_eq!(it.call("web", "GET /fail HTTP/1.1\nHost: api"), 503);
        let lines = lines(&it.it.envoy, 2);
        let denied = json!({
            "reporter": "destination", "source": spiffe("cron"), "destination": spiffe("api"),
            "source_subject": "CN=rcgen self signed cert", "destination_subject": "CN=rcgen self signed cert",
            "destination_address": at(it.http).to_string(), "server_name": "80.api.shop.smidge",
            "method": "GET", "path": "/books", "authority": "api", "user_agent": "me", "request_id": "7",
            "protocol": "HTTP/1.1", "status": 403, "grpc_status": null, "traceparent": null,
            "policy": "denied", "audit": null, "audit_policies": null, "route": null,
            "tls": "TLSv1.3", "flags": "-",
        });
        expect(&lines[0], &denied);
        assert!(lines[0]["source_address"].as_str().unwrap().starts_with("127.0.0.1:"), "{}", lines[0]);
        assert!(lines[0]["time"].as_str().unwrap().ends_with('Z'), "{}", lines[0]);
        for number in ["duration_ms", "bytes_sent", "bytes_received"] {
            assert!(lines[0][number].is_u64(), "{number}: {}", lines[0]);
        }
        let failed = json!({
            "source": spiffe("web"), "path": "/fail", "status": 503, "policy": "allowed",
            "status_details": "via_upstream", "user_agent": null, "bytes_sent": 4, "bytes_received": 0,
        });
        expect(&lines[1], &failed);
    }
}

#[test]
fn what_audit_mode_would_refuse_leaves_a_line_beside_that_of_the_audit() {
    for binary in binaries::envoys() {
        let logs = AccessLogs::Errors;
        let it = Scenario::start_in(AUDIT, &binary, logs, failing_server());
        assert_eq!(it.call("web", "GET /books HTTP/1.1\nHost: api"), 200);
        assert_eq!(it.call("cron", "GET /books?q HTTP/1.1\nHost: api"), 200);
        drop(echo(it.leaf("cron").connect(at(it.tcp)).unwrap()).unwrap());
        drop(echo(plain(at(it.tcp)).unwrap()).unwrap());
        let lines = lines(&it.it.envoy, 3);
        for line in &lines {
            // As in the line of the audit: none for a caller without an identity.
            let policies = line["source"].is_string().then_some("shop/api-0,shop/api-1");
            expect(line, &json!({ "audit": "denied", "audit_policies": policies }));
        }
        let request = json!({ "path": "/books", "status": 200, "source": spiffe("cron"), "policy": null });
        expect(lines.iter().find(|line| line["protocol"] == "HTTP/1.1").unwrap(), &request);
        let sources: BTreeSet<_> = lines
            .iter()
            .filter(|line| line["protocol"] == "TCP")
            .map(|line| line["source"].to_string())
            .collect();
        assert_eq!(sources, BTreeSet::from(["null".to_owned(), format!("\"{}\"", spiffe("cron"))]));
        let written = it.it.envoy.said();
        let audited = written.lines().filter(|line| line.starts_with("smidge: audit: would be denied: "));
        assert_eq!(audited.count(), 3, "{written}");
    }
}

#[test]
fn a_failure_of_grpc_leaves_a_line() {
    for binary in binaries::envoys() {
        let it = Scenario::start(&binary, AccessLogs::Errors, failing_server());
        for (path, kind) in
            [("/14", "application/grpc"), ("/5", "application/grpc+proto"), ("/14", "text/plain")]
        {
            let head = format!("POST {path} HTTP/1.1\nHost: api\ncontent-length: 0\ncontent-type: {kind}");
            assert_eq!(it.call("web", &head), 200);
        }
        let failed = json!({ "status": 200, "grpc_status": 14, "path": "/14", "flags": "-" });
        expect(&lines(&it.it.envoy, 1)[0], &failed);
    }
}

#[test]
fn refused_connections_leave_a_line() {
    for binary in binaries::envoys() {
        let it = Scenario::start(&binary, AccessLogs::Errors, echo_server(""));
        drop(echo(it.leaf("web").connect(at(it.tcp)).unwrap()).unwrap());
        assert!(it.leaf("cron").connect(at(it.tcp)).and_then(echo).is_err());
        assert!(plain(at(it.tcp)).and_then(echo).is_err());
        let lines = lines(&it.it.envoy, 2);
        let address = at(it.tcp).to_string();
        let [handshake, plain] = lines.as_slice() else { panic!("{lines:#?}") };
        let common = json!({ "reporter": "destination", "destination_address": address, "protocol": "TCP" });
        expect(handshake, &common);
        expect(plain, &common);
        expect(plain, &json!({ "policy": "denied", "tls": null, "source": null }));
        expect(handshake, &json!({ "server_name": "80.api.shop.smidge" }));
        let failure = handshake["tls_failure"].as_str().unwrap();
        assert!(failure.contains("CERTIFICATE_VERIFY_FAILED"), "{failure}");
    }
}

#[test]
fn plaintext_where_mtls_is_required_leaves_a_line() {
    for binary in binaries::envoys() {
        let it = Scenario::start_in(STRICT, &binary, AccessLogs::Errors, failing_server());
        assert!(request(plain(at(it.http)).unwrap(), "GET / HTTP/1.1\nHost: api").is_err());
        let refused = json!({
            "reporter": "destination", "destination_address": at(it.http).to_string(), "tls": null,
            "flags": "NR", "status_details": "filter_chain_not_found", "source": null,
        });
        expect(&lines(&it.it.envoy, 1)[0], &refused);
    }
}

#[test]
fn every_call_leaves_a_line_or_a_share_of_those_that_succeed() {
    for binary in binaries::envoys() {
        for (percent, count) in [("100", 4), ("0", 1)] {
            let logs = AccessLogs::All(percent.parse().unwrap());
            let it = Scenario::start(&binary, logs, failing_server());
            for _ in 0..2 {
                assert_eq!(it.call("web", "GET /books HTTP/1.1\nHost: api"), 200);
            }
            drop(echo(it.leaf("web").connect(at(it.tcp)).unwrap()).unwrap());
            // A caller cannot choose by its request's id whether it is logged.
            assert_eq!(it.call("cron", "GET /last HTTP/1.1\nHost: api\nx-request-id: 0"), 403);
            let is_last = |line: &Value| line["path"] == "/last";
            let of = |path: &str| json!({ "path": path, "status": 200, "policy": "allowed" });
            within("the last line", || read(&it.it.envoy).iter().any(is_last));
            within("all lines", || read(&it.it.envoy).len() == count);
            let lines = read(&it.it.envoy);
            let served = lines.iter().filter(|line| line["path"] == "/books");
            for line in served {
                expect(line, &of("/books"));
            }
            let connections: Vec<_> = lines.iter().filter(|line| line["protocol"] == "TCP").collect();
            for line in &connections {
                let seen = json!({ "source": spiffe("web"), "bytes_received": 4, "bytes_sent": 4, "tls": "TLSv1.3" });
                expect(line, &seen);
            }
            assert_eq!(connections.len(), usize::from(count > 1));
        }
    }
}

#[test]
fn a_caller_can_forge_no_field_and_no_length() {
    let hostile = "\",\"policy\":\"allowed\",\"x\":\"\\";
    for binary in binaries::envoys() {
        let it = Scenario::start(&binary, AccessLogs::Errors, failing_server());
        let long = "a".repeat(4000);
        let agent = [hostile.as_bytes(), b"\xff\xfe\t\xe2\x80\xa8{}"].concat();
        let heads: [Vec<u8>; 4] = [
            format!("GET /{hostile}%22%0a?q={hostile} HTTP/1.1\r\nHost: api\r\n").into_bytes(),
            [b"GET /agent HTTP/1.1\r\nHost: api\r\nuser-agent: ", &agent[..], b"\r\n"].concat(),
            [
                format!("GET /{long} HTTP/1.1\r\nHost: {long}").as_bytes(),
                &["\r\nuser-agent: ", "\r\nx-request-id: ", "\r\ntraceparent: "]
                    .map(|name| [name.as_bytes(), &b"\xff".repeat(4000)].concat())
                    .concat(),
                b"\r\n",
            ]
            .concat(),
            format!("GET /authority HTTP/1.1\r\nHost: {hostile}\r\n").into_bytes(),
        ];
        let statuses = heads.map(|head| raw(it.leaf("cron").connect(at(it.http)).unwrap(), &head));
        let [forbidden, bad] = ["HTTP/1.1 403", "HTTP/1.1 400"];
        // Envoy takes no authority that could end a field.
        assert_eq!(statuses, [forbidden, forbidden, forbidden, bad]);
        let lines = lines(&it.it.envoy, 4);
        for (number, line) in lines.iter().enumerate() {
            let policy = (number < 3).then_some("denied");
            expect(line, &json!({ "policy": policy, "source": spiffe("cron"), "x": null }));
        }
        for line in it.it.envoy.said().lines() {
            assert!(line.len() < 4096, "{}: {line}", line.len());
        }
        // Envoy has escaped the path, and taken the backslash for a slash.
        let path = "/%22,%22policy%22:%22allowed%22,%22x%22:%22/%22%0a";
        expect(&lines[0], &json!({ "path": path }));
        assert!(lines[1]["user_agent"].as_str().unwrap().starts_with(hostile), "{}", lines[1]);
        for (field, length) in
            [("path", 512), ("authority", 256), ("user_agent", 128), ("request_id", 64), ("traceparent", 64)]
        {
            assert_eq!(lines[2][field].as_str().unwrap().chars().count(), length, "{field}");
        }
    }
}

fn mesh(authority: &Authority, logs: AccessLogs) -> Mesh {
    let mut mesh = trust::http_trusting(authority);
    mesh.settings.access_logs = logs;
    mesh
}

/// Starts a workload that answers requests for `/fail` with 503, for `/14` and `/5` with that status of gRPC, other requests
/// with 200, and echoes everything else.
fn failing_server() -> SocketAddr {
    server(|mut stream| {
        let mut bytes = [0; 8192];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            let received = String::from_utf8_lossy(&bytes[..count]);
            let answer = match received.as_ref() {
                text if text.contains("GET /fail") => {
                    "HTTP/1.1 503 no\r\ncontent-length: 4\r\n\r\nfail".to_owned()
                }
                text if text.contains("POST /14") => grpc(14),
                text if text.contains("POST /5") => grpc(5),
                text if text.contains(" HTTP/1.1\r") => {
                    "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned()
                }
                text => text.to_owned(),
            };
            if stream.write_all(answer.as_bytes()).is_err() {
                break;
            }
        }
    })
}

fn grpc(status: u8) -> String {
    format!("HTTP/1.1 200 OK\r\ngrpc-status: {status}\r\ncontent-length: 0\r\n\r\n")
}

/// Sends the bytes of a head, and returns the begin of the answer.
fn raw(mut stream: impl Read + Write, head: &[u8]) -> String {
    stream.write_all(&[head, b"connection: close\r\n\r\n"].concat()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// Waits for this number of lines, and returns them in order.
fn lines(envoy: &Envoy, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while read(envoy).len() < count {
        assert!(Instant::now() < deadline, "not {count} lines:\n{}\n{}", envoy.said(), envoy.log());
        thread::yield_now();
    }
    let lines = read(envoy);
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

/// Returns the lines that are whole, without those of the audit. Each is one JSON object.
fn read(envoy: &Envoy) -> Vec<Value> {
    let text = envoy.said();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    whole.lines().filter(|line| !line.starts_with("smidge: audit: ")).map(read).collect()
}

/// Checks the fields that are in `expected`; one that is null there may be absent.
fn expect(line: &Value, expected: &Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(line.get(name).unwrap_or(&Value::Null), value, "{name} of {line:#}");
    }
}
