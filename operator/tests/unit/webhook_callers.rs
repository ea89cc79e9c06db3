//! Access to the webhooks where the API server presents a client certificate: the server over TLS as the operator sets
//! it up, and callers of every kind.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde_json::json;
use smidge::{
    ca::{self, Authorities, Secrets, pem},
    clock::Clock,
    webhook::callers::Callers,
};
use smidge_testing::{
    api_server::ApiServer,
    tls::{Authority, ClientPair},
};
use smidge_xds::mesh::id::TrustDomain;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

const NAME: &str = "smidge-webhook.smidge-system.svc";
/// Time limit of a step, longer than any takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
const OK: &str = "HTTP/1.1 200 OK";
const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden";

/// The webhooks' port, which is open until the test ends.
struct Port {
    address: SocketAddr,
    roots: RootCertStore,
}

fn callers(authority: &Authority, names: &[&str]) -> Callers {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &authority.pem).unwrap();
    Callers::read(file.path(), names.iter().map(|&name| name.to_owned()).collect()).unwrap()
}

impl Port {
    async fn open(callers: Option<Callers>) -> Self {
        let server = ApiServer::start().await;
        let secrets = Secrets::new(server.client.clone(), "smidge-system");
        let opening =
            Authorities::open(secrets, TrustDomain::default(), Clock::system(), ca::Metrics::default());
        let authorities = Box::pin(opening).await.unwrap();
        let certificate = Arc::new(authorities.webhook_certificate(vec![NAME.to_owned()]).unwrap());
        let tls = match &callers {
            Some(callers) => certificate.tls_asking(&[b"http/1.1"], callers.verifier()).unwrap(),
            None => certificate.tls(&[b"http/1.1"]).unwrap(),
        };
        let address = smidge_testing::webhook::serve(tls, callers).await;
        let mut roots = RootCertStore::empty();
        for root in pem::certificates(authorities.webhook_ca_bundle().as_bytes()).unwrap() {
            roots.add(root).unwrap();
        }
        Self { address, roots }
    }

    /// Returns the answer to one request: its first line, and its text. An error if the connection is refused.
    async fn ask(
        &self,
        shown: Option<ClientPair>,
        path: &str,
        body: &str,
    ) -> Result<(String, String), String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_root_certificates(self.roots.clone());
        let config = match shown {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let said = |error: std::io::Error| error.to_string();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(said)?;
        let head = format!("POST {path} HTTP/1.1\r\nhost: w\r\ncontent-length: {}\r\n", body.len());
        let request = format!("{head}connection: close\r\n\r\n{body}");
        // In TLS 1.3 a client learns only now that its certificate was refused.
        stream.write_all(request.as_bytes()).await.map_err(said)?;
        let mut answer = String::new();
        let read = timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("no answer");
        let Some((head, text)) = answer.split_once("\r\n\r\n") else {
            return Err(format!("{:?}: {answer:?}", read.map_err(said)));
        };
        Ok((head.lines().next().unwrap_or_default().to_owned(), text.to_owned()))
    }

    /// Sends every request that this caller can; returns the first line of the answers to `/validate` and `/inject`,
    /// which is the same, with the text of the latter. Conversions are served to every caller that is admitted at all.
    async fn judges(&self, shown: impl Fn() -> Option<ClientPair>) -> (String, String) {
        let (convert, answer) = self.ask(shown(), "/convert", &conversion()).await.unwrap();
        assert_eq!(convert, OK);
        assert!(answer.contains("Success"), "{answer}");
        let (validate, _) = self.ask(shown(), "/validate", &review("TrafficSplit")).await.unwrap();
        let (inject, text) = self.ask(shown(), "/inject", &review("Pod")).await.unwrap();
        assert_eq!(validate, inject);
        (inject, text)
    }
}

fn conversion() -> String {
    let split = json!({
        "apiVersion": "split.smi-spec.io/v1alpha4", "kind": "TrafficSplit", "metadata": {"name": "a"},
        "spec": {"service": "a", "backends": [{"service": "b", "weight": 1}]},
    });
    let request = json!({"uid": "u", "desiredAPIVersion": "split.smi-spec.io/v1alpha2", "objects": [split]});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "request": request}).to_string()
}

fn review(kind: &str) -> String {
    let (group, object) = match kind {
        "Pod" => {
            ("", json!({"metadata": {"name": "a"}, "spec": {"containers": [{"name": "a", "image": "a"}]}}))
        }
        _ => (
            "split.smi-spec.io",
            json!({
                "apiVersion": "split.smi-spec.io/v1alpha4", "kind": kind, "metadata": {"name": "a"},
                "spec": {"service": "a", "backends": [{"service": "b", "weight": 1}]},
            }),
        ),
    };
    let kind = json!({"group": group, "version": "v1alpha4", "kind": kind});
    let request =
        json!({"uid": "u", "operation": "CREATE", "namespace": "shop", "kind": kind, "object": object});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string()
}

#[tokio::test]
async fn whoever_shows_no_certificate_hears_nothing_of_the_mesh() {
    let port = Port::open(Some(callers(&Authority::new("api servers"), &[]))).await;
    let (status, text) = port.judges(|| None).await;
    assert_eq!(status, FORBIDDEN);
    assert!(text.contains("webhook.clientCA") && text.contains("--webhook-client-ca"), "{text}");
    // The refusal comes before the body is read.
    let nonsense = port.ask(None, "/validate", "nonsense").await.unwrap();
    assert_eq!(nonsense.0, FORBIDDEN);
}

#[tokio::test]
async fn a_certificate_of_another_authority_ends_the_handshake() {
    let port = Port::open(Some(callers(&Authority::new("api servers"), &[]))).await;
    let same_name = Authority::new("api servers");
    for path in ["/validate", "/inject", "/convert"] {
        let shown = Some(same_name.client("kube-apiserver", &[]));
        port.ask(shown, path, &conversion()).await.expect_err(path);
    }
}

#[tokio::test]
async fn of_the_right_authority_those_are_heard_who_have_a_listed_name() {
    let authority = Authority::new("api servers");
    let any = Port::open(Some(callers(&authority, &[]))).await;
    let (status, text) = any.judges(|| Some(authority.client("whoever", &[]))).await;
    assert_eq!(status, OK, "{text}");
    assert!(text.contains("patch"), "{text}");

    let named = Port::open(Some(callers(&authority, &["kube-apiserver", "api.example.org"]))).await;
    for (common, dns) in [("kube-apiserver", vec![]), ("x", vec!["y.example.org", "api.example.org"])] {
        let (status, text) = named.judges(|| Some(authority.client(common, &dns))).await;
        assert_eq!(status, OK, "{common} {dns:?}: {text}");
    }
    for (common, dns) in [("kubelet", vec![]), ("kube-apiserver.", vec!["a.api.example.org"])] {
        let (status, text) = named.judges(|| Some(authority.client(common, &dns))).await;
        assert_eq!(status, FORBIDDEN, "{common} {dns:?}");
        assert!(text.contains("webhook.clientNames") && text.contains(common), "{text}");
    }
}

#[tokio::test]
async fn without_the_setting_everybody_is_heard_as_before() {
    let port = Port::open(None).await;
    let (status, text) = port.judges(|| None).await;
    assert_eq!(status, OK, "{text}");
    // The server does not request the certificate, so it does not see it.
    let stranger = Authority::new("strangers");
    assert_eq!(port.judges(|| Some(stranger.client("a", &[]))).await.0, OK);
}

/// Returns the error with which `smidge run` refuses to start.
fn complaint(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smidge"));
    command.args(["run", "--init-image=i"]).args(arguments).stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_file_that_names_no_authority_ends_the_operator_at_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let with = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let broken = "-----BEGIN CERTIFICATE-----\n@@\n-----END CERTIFICATE-----\n";
    let foreign = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let files = [
        folder.path().join("missing"),
        with("empty", ""),
        with("text", "a"),
        with("broken", broken),
        with("foreign", foreign),
    ];
    for file in &files {
        let path = Path::to_str(file).unwrap();
        let said = complaint(&["--webhook-client-ca", path]);
        for part in ["--webhook-client-ca", path, "expected PEM certificates of the authorities"] {
            assert!(said.contains(part), "{path}: {part:?} is not in: {said}");
        }
    }
    let missing = files.first().and_then(|file| file.to_str()).unwrap();
    let said = complaint(&["--webhook-client-ca", missing]);
    assert!(said.contains("No such file"), "what the system says: {said}");
    let said = complaint(&["--webhook-client-name", "kube-apiserver"]);
    assert!(said.contains("--webhook-client-ca"), "{said}");
}
