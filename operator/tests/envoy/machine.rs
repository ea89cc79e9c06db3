//! A machine from its certificate to its stream: the commands write what a real Envoy needs to be admitted by a control
//! plane over the same folder, and the end of its object ends the stream.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use smidge::{
    auth::{
        self,
        machines::{MachineAuthenticator, Settings},
    },
    ca::{self, Authorities, STANDALONE_SERVER_NAME, Secrets},
    clock::Clock,
    inputs::Inputs,
    lower::machine::Machine,
    tls,
};
use smidge_crds::config::ExternalWorkload;
use smidge_xds::{
    mesh::id::{ClusterId, TrustDomain},
    server::{Proxies, Server},
};
use smidge_xds_testing::{binaries, fixture};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

/// Time limit of a step, longer than any takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

fn smidge(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_smidge")).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// A control plane over the folder, which admits the machines among `objects`.
async fn serve(state: &Path, objects: watch::Receiver<Inputs>) -> (SocketAddr, fixture::Handles) {
    let secrets = Secrets::folder(state).await.unwrap();
    let (domain, metrics) = (TrustDomain::default(), ca::Metrics::default());
    let opening = Authorities::open_with_machines(secrets, domain, Clock::system(), metrics);
    let authorities = Box::pin(opening).await.unwrap();
    let names = vec![STANDALONE_SERVER_NAME.to_owned()];
    let certificate = Arc::new(authorities.control_plane_certificate(names).unwrap());
    let config = certificate.tls_asking(&[b"h2"], authorities.machine_verifier().unwrap()).unwrap();
    let (server, handles) = fixture::server(None);
    let Server {
        authenticator: _,
        certificates,
        hub,
        metrics,
        proxies,
        reports,
        nacks,
        compute_limiter,
        settings,
    } = server;
    let authenticator = MachineAuthenticator::new(Settings {
        domain: TrustDomain::default(),
        cluster: ClusterId::default(),
        objects,
        lookup: Machine::find,
        clock: Clock::system(),
        metrics: auth::Metrics::default(),
    });
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, connections) = mpsc::channel(64);
    tokio::spawn(tls::accept(listener, config, compute_limiter.clone(), 100, accepted));
    let server = Server {
        authenticator,
        certificates,
        hub,
        metrics,
        proxies,
        reports,
        nacks,
        compute_limiter,
        settings,
    };
    tokio::spawn(server.serve(ReceiverStream::new(connections), std::future::pending()));
    (address, handles)
}

/// An Envoy with the bootstrap, without what two of them in one network namespace would fight over.
struct Proxy(Child);

impl Proxy {
    fn start(binary: &Path, bootstrap: &str) -> Self {
        let mut config: Value = serde_json::from_str(bootstrap).unwrap();
        config["admin"] = json!({});
        config["static_resources"]["listeners"] = json!([]);
        let arguments =
            ["--disable-hot-restart", "--concurrency", "1", "--log-level", "off", "--config-yaml"];
        let child = Command::new(binary)
            .args(arguments)
            .arg(config.to_string())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn inputs(pin: Option<&str>) -> Inputs {
    let mut inputs = Inputs::default();
    if let Some(pin) = pin {
        let object = json!({
            "apiVersion": "smidge.mesh/v1alpha1",
            "kind": "ExternalWorkload",
            "metadata": {"name": "db-1", "namespace": "shop"},
            "spec": {"serviceAccount": "db", "addresses": ["10.9.0.7"], "credential": {"publicKey": pin}},
        });
        let object: ExternalWorkload = serde_json::from_value(object).unwrap();
        inputs.external_workloads.insert(("shop".to_owned(), "db-1".to_owned()), object.into());
    }
    inputs
}

async fn until(what: &str, proxies: &Proxies, is_connected: bool) {
    let waiting = async {
        while proxies.is_empty() == is_connected {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_connects_with_what_the_commands_wrote_and_while_its_object_exists() {
    for binary in binaries::envoys() {
        let folder = TempDir::new().unwrap();
        let [state, machine] = ["state", "machine"].map(|name| folder.path().join(name));
        let [state_text, machine_text] = [&state, &machine].map(|path| path.to_str().unwrap());
        let (objects, reader) = watch::channel(inputs(None));
        let (address, handles) = serve(&state, reader).await;
        let issue = ["machine", "certificate", "shop/db-1", "--state", state_text, "--out", machine_text];
        let report: Value = serde_json::from_str(&smidge(&[&issue[..], &["-o", "json"]].concat())).unwrap();
        let pin = report["publicKey"].as_str().unwrap();
        let bootstrap = smidge(&[
            "machine",
            "bootstrap",
            "shop/db-1",
            "--control-plane",
            &address.to_string(),
            "--address",
            "127.0.0.1",
            "--state",
            state_text,
            "--credentials",
            fs::canonicalize(&machine).unwrap().to_str().unwrap(),
        ]);
        let _proxy = Proxy::start(&binary, &bootstrap);
        // Refused until its object comes, and it does not give up.
        let is_refused = || {
            let metrics = handles.scrape();
            metrics.lines().any(|line| line.contains("WorkloadNotFound") && !line.ends_with(" 0"))
        };
        let asking = async {
            while !is_refused() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, asking).await.unwrap_or_else(|_| panic!("it did not ask: {}", handles.scrape()));
        assert!(handles.proxies.is_empty(), "admitted without an object");
        objects.send_replace(inputs(Some(pin)));
        until("a stream", &handles.proxies, true).await;
        objects.send_replace(inputs(None));
        until("the end of the stream", &handles.proxies, false).await;
        // A renewal keeps the key, so the same object admits the machine.
        smidge(&issue);
        objects.send_replace(inputs(Some(pin)));
        until("a stream after the renewal", &handles.proxies, true).await;
    }
}
