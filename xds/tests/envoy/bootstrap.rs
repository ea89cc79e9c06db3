//! A real Envoy with the bootstrap alone against a control plane of the test's: its node on a stream, the use of a new
//! token or client certificate, the servers that it refuses, and the time when it becomes ready.

mod control_plane;

use smidge_xds_testing::{binaries, process::reserved_ports};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::symlink,
            net::{SocketAddr, UnixStream},
        },
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use control_plane::{NAME, Server};
use rcgen::KeyPair;
use serde_json::json;
use smidge_xds::bootstrap::{
    BootstrapInput, CERTIFICATE_FILE, CERTIFICATE_SDS_FILE, CONNECTIONS, ControlPlane, Credential, Family,
    KEY_FILE, READINESS_PATH, TOKEN_FILE, TOKEN_SDS_FILE, bootstrap, certificate_sds, token_sds,
};
use smidge_xds::mesh::proxy::TrafficStats;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// Time limit of a step, longer than any takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// An Envoy with the bootstrap; only the addresses that two of them in one network namespace would fight over are its
/// own.
struct Proxy {
    child: Child,
    credentials: TempDir,
    readiness: u16,
    admin: String,
}

impl Proxy {
    fn start(binary: &Path, server: &Server, server_name: &str) -> Self {
        let credentials = TempDir::new().unwrap();
        let folder = credentials.path().to_str().unwrap().to_owned();
        fs::write(credentials.path().join(TOKEN_SDS_FILE), token_sds(&folder)).unwrap();
        swap_token(credentials.path(), "first");
        Self::start_with(binary, server, server_name, credentials, Credential::Token { folder })
    }

    fn start_with(
        binary: &Path,
        server: &Server,
        server_name: &str,
        credentials: TempDir,
        credential: Credential,
    ) -> Self {
        let input = BootstrapInput {
            connections: CONNECTIONS,
            socket_mark: None,
            traffic: TrafficStats::None,
            instance: "web-0".to_owned(),
            namespace: "shop".to_owned(),
            cluster: "local".to_owned(),
            address: "127.0.0.1".to_owned(),
            family: Family::V4,
            control_plane: ControlPlane {
                alternatives: Vec::new(),
                host: "127.0.0.1".to_owned(),
                port: server.port,
                server_name: server_name.to_owned(),
                roots: vec![control_plane::unrelated_root(), server.root.clone()],
                credential,
            },
            probes: Vec::new(),
        };
        let [readiness] = reserved_ports();
        let admin = format!("smidge-test-{readiness}");
        let mut config = bootstrap(&input);
        let pipe = json!({"pipe": {"path": format!("@{admin}")}});
        config["admin"]["address"] = pipe.clone();
        let clusters = config["static_resources"]["clusters"].as_array_mut().unwrap();
        for cluster in clusters.iter_mut().filter(|it| it["name"] == "readiness" || it["name"] == "metrics") {
            cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] =
                pipe.clone();
        }
        let listeners = config["static_resources"]["listeners"].as_array_mut().unwrap();
        listeners.retain(|listener| listener["name"] == "readiness");
        listeners[0]["address"]["socket_address"] = json!({"address": "127.0.0.1", "port_value": readiness});
        listeners[0].as_object_mut().unwrap().remove("additional_addresses");
        Self {
            child: Command::new(binary)
                .args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "off"])
                .args(["--config-yaml", &config.to_string()])
                .stdin(Stdio::null())
                .spawn()
                .unwrap(),
            credentials,
            readiness,
            admin,
        }
    }

    fn ready(&self) -> Option<u16> {
        let stream = TcpStream::connect(("127.0.0.1", self.readiness)).ok()?;
        get(stream, READINESS_PATH).map(|(status, _)| status)
    }

    fn admin(&self, page: &str) -> Option<(u16, String)> {
        let address = SocketAddr::from_abstract_name(&self.admin).unwrap();
        get(UnixStream::connect_addr(&address).ok()?, page)
    }

    fn statistic(&self, name: &str) -> Option<u64> {
        let (_, text) = self.admin("/stats")?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")?.parse().ok())
    }
}

/// Swaps the token as the kubelet does: a new folder, and a link that moves to it.
fn swap_token(folder: &Path, token: &str) {
    let data = folder.join(format!("..{token}"));
    fs::create_dir(&data).unwrap();
    fs::write(data.join(TOKEN_FILE), token).unwrap();
    symlink(format!("..{token}"), folder.join("..tmp")).unwrap();
    fs::rename(folder.join("..tmp"), folder.join("..data")).unwrap();
    if !folder.join(TOKEN_FILE).exists() {
        symlink(format!("..data/{TOKEN_FILE}"), folder.join(TOKEN_FILE)).unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(mut stream: impl Read + Write, path: &str) -> Option<(u16, String)> {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some((answer.split(' ').nth(1)?.parse().ok()?, answer))
}

/// Waits for a condition by polling, as an Envoy does not notify of its state.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, looking).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_carries_the_token_and_after_a_rotation_the_new_one() {
    for binary in binaries::envoys() {
        let mut server = Server::start(NAME).await;
        let proxy = Proxy::start(&binary, &server, NAME);
        let stream = server.stream(DEADLINE).await.expect("a stream");
        assert_eq!(stream.authorization.as_deref(), Some("Bearer first"), "{}", binary.display());
        assert_eq!(stream.node, "web-0.shop");

        // The file's change reaches Envoy with a delay; until then a stream has the previous token.
        swap_token(proxy.credentials.path(), "second");
        let renewed = timeout(DEADLINE, async {
            loop {
                server.end_streams();
                let stream = server.stream(DEADLINE).await.expect("a stream again");
                if stream.authorization.as_deref() == Some("Bearer second") {
                    return;
                }
                assert_eq!(stream.authorization.as_deref(), Some("Bearer first"));
            }
        });
        renewed.await.unwrap_or_else(|_| panic!("{}: the new token was never used", binary.display()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_ready_when_it_has_its_configuration() {
    for binary in binaries::envoys() {
        let mut server = Server::start(NAME).await;
        let proxy = Proxy::start(&binary, &server, NAME);
        server.stream(DEADLINE).await.expect("a stream");
        // Envoy opens no port before it has its first configuration; a refused connection is an answer to the kubelet.
        until("an answer of the admin interface", || proxy.admin("/ready").is_some()).await;
        let ready = (proxy.admin("/ready").map(|(status, _)| status), proxy.ready());
        assert_eq!(ready, (Some(503), None), "{}: ready without a configuration", binary.display());
        server.answer();
        until("ready", || proxy.ready() == Some(200)).await;
        // The traffic of a cluster is counted from its first connection on, and not lost before.
        until("the answer is counted", || proxy.statistic("cluster.readiness.upstream_rq_total") > Some(0))
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_with_another_name_is_refused() {
    for binary in binaries::envoys() {
        let mut server = Server::start("smidge.elsewhere.svc").await;
        let proxy = Proxy::start(&binary, &server, NAME);
        until("a refusal", || {
            proxy.statistic("cluster.xds.ssl.fail_verify_san").is_some_and(|count| count > 0)
        })
        .await;
        assert!(server.stream(Duration::ZERO).await.is_none(), "{}: a token was sent", binary.display());
    }
}

/// Puts a certificate in place as `smidge machine certificate` does: by moving a file to its name.
fn swap_certificate(folder: &Path, certificate: &rcgen::Certificate) {
    let next = folder.join("next");
    fs::write(&next, certificate.pem()).unwrap();
    fs::rename(next, folder.join(CERTIFICATE_FILE)).unwrap();
}

/// Returns the folder of a machine's credentials, and the proxy's reference to it.
fn machine(key: &KeyPair, certificate: &rcgen::Certificate) -> (TempDir, Credential) {
    let credentials = TempDir::new().unwrap();
    let folder = credentials.path().to_str().unwrap().to_owned();
    fs::write(credentials.path().join(KEY_FILE), key.serialize_pem()).unwrap();
    fs::write(credentials.path().join(CERTIFICATE_SDS_FILE), certificate_sds(&folder)).unwrap();
    swap_certificate(credentials.path(), certificate);
    (credentials, Credential::Certificate { folder })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_presents_the_certificate_and_after_a_renewal_the_new_one() {
    for binary in binaries::envoys() {
        let machines = control_plane::authority("the root of machines");
        let mut server = Server::start_with(NAME, Some(&machines)).await;
        let key = KeyPair::generate().unwrap();
        let [first, second] = [machines.client(&key), machines.client(&key)];
        let (credentials, credential) = machine(&key, &first);
        let proxy = Proxy::start_with(&binary, &server, NAME, credentials, credential);
        let stream = server.stream(DEADLINE).await.expect("a stream");
        assert_eq!(stream.certificate.as_deref(), Some(&**first.der()), "{}", binary.display());
        assert_eq!((stream.authorization, stream.node.as_str()), (None, "web-0.shop"));

        // The new file is used without a restart; the open stream stays until the server ends it.
        swap_certificate(proxy.credentials.path(), &second);
        let renewed = timeout(DEADLINE, async {
            loop {
                server.end_streams();
                let stream = server.stream(DEADLINE).await.expect("a stream again");
                if stream.certificate.as_deref() == Some(&**second.der()) {
                    return;
                }
                assert_eq!(stream.certificate.as_deref(), Some(&**first.der()));
            }
        });
        renewed.await.unwrap_or_else(|_| panic!("{}: the new certificate was never used", binary.display()));
        server.answer();
        until("ready", || proxy.ready() == Some(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_without_a_certificate_of_the_machines_gets_no_stream() {
    for binary in binaries::envoys() {
        let machines = control_plane::authority("the root of machines");
        let mut server = Server::start_with(NAME, Some(&machines)).await;
        let key = KeyPair::generate().unwrap();
        let foreign = control_plane::authority("the root of machines").client(&key);
        let (credentials, credential) = machine(&key, &foreign);
        let refused = [
            Proxy::start(&binary, &server, NAME),
            Proxy::start_with(&binary, &server, NAME, credentials, credential),
        ];
        for proxy in refused {
            // A client of TLS 1.3 has finished its handshake when the server refuses its certificate.
            until("a refusal", || {
                proxy.statistic("cluster.xds.upstream_cx_destroy_remote").is_some_and(|count| count > 1)
            })
            .await;
        }
        assert!(server.stream(Duration::ZERO).await.is_none(), "{}: a stream", binary.display());
    }
}
