//! The server of TrafficMetrics over TLS as the operator sets it up, with callers of every kind and a stand-in for the
//! API server.

mod api;
mod callers;
mod reviews;
mod spans;
mod stored;
mod watches;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde_json::{Value, json};
use smidge::{
    ca::{self, Authorities, Secrets, pem},
    clock::Clock,
    https,
    traffic_api::{self, Parts, front_proxy::Trusted, handshake::AnyCertificate},
};
use smidge_testing::{
    api_server::{ApiServer, Objects},
    tls::{Authority, ClientPair},
};
use smidge_traffic_metrics::traffic::{
    Direction, Edge, Figures, ObjectName, Peer, Question, Side, SourceError, Traffic, TrafficSource,
};
use smidge_xds::mesh::id::TrustDomain;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsConnector;

const NAME: &str = "smidge-traffic-api.smidge-system.svc";
const BASE: &str = "/apis/metrics.smi-spec.io/v1alpha2";
/// Time limit of a step, longer than any takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// Source of the traffic that a test has set; an error while there is none. While it is held, it does not answer.
#[derive(Clone)]
struct Fixed {
    traffic: watch::Receiver<Option<Traffic>>,
    failure: watch::Receiver<SourceError>,
    held: watch::Receiver<bool>,
}

impl TrafficSource for Fixed {
    async fn traffic(&self, _: &Question) -> Result<Traffic, SourceError> {
        drop(self.held.clone().wait_for(|held| !held).await);
        let traffic = self.traffic.borrow().clone();
        traffic.ok_or_else(|| self.failure.borrow().clone())
    }
}

/// The server, which is open until the test ends.
struct Port {
    address: SocketAddr,
    roots: RootCertStore,
    objects: Arc<Objects>,
    front_proxies: Authority,
    trusting: watch::Sender<Arc<Trusted>>,
    traffic: watch::Sender<Option<Traffic>>,
    failure: watch::Sender<SourceError>,
    held: watch::Sender<bool>,
}

/// Returns the data of the ConfigMap that kube-apiserver keeps.
fn configuration(authority: &Authority, names: &[&str]) -> BTreeMap<String, String> {
    let list = |names: &[&str]| json!(names).to_string();
    let pairs = [
        ("requestheader-client-ca-file", authority.pem.clone()),
        ("requestheader-allowed-names", list(names)),
        ("requestheader-username-headers", list(&["X-Remote-User"])),
        ("requestheader-group-headers", list(&["X-Remote-Group"])),
        ("requestheader-uid-headers", list(&["X-Remote-Uid"])),
        ("requestheader-extra-headers-prefix", list(&["X-Remote-Extra-"])),
    ];
    pairs.map(|(field, text)| (field.to_owned(), text)).into()
}

/// Returns the traffic of Deployment `shop/web`: this many calls.
fn calls(success: u64) -> Traffic {
    let peer = Peer {
        kind: "Deployment".to_owned(),
        namespace: "front".to_owned(),
        name: "gateway".to_owned(),
        ..Peer::default()
    };
    let edge = Edge { direction: Direction::From, side: Side::Server, peer, backend: None, route: None };
    let figures = Figures { success, ..Figures::default() };
    let name = ObjectName { namespace: "shop".to_owned(), name: "web".to_owned() };
    Traffic::from([(name, BTreeMap::from([(edge, figures)]))])
}

/// Returns a list of Deployments as the API server has it.
fn deployments(names: &[&str], metadata: &Value) -> Value {
    let item = |name: &&str| {
        json!({"metadata": {
            "name": name, "namespace": "shop", "labels": {"app": name}, "creationTimestamp": "2026-11-01T08:00:00Z",
        }})
    };
    let items: Vec<Value> = names.iter().map(item).collect();
    json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
}

impl Port {
    async fn open() -> Self {
        let server = ApiServer::start().await;
        server.objects.allowed.store(true, std::sync::atomic::Ordering::SeqCst);
        let list = deployments(&["idle", "web"], &json!({}));
        {
            let mut documents = server.objects.documents.lock().unwrap();
            let path = "/apis/apps/v1/namespaces/shop/deployments";
            documents.insert(path.to_owned(), list.clone());
            documents.insert("/apis/apps/v1/deployments".to_owned(), list.clone());
            documents.insert(format!("{path}/web"), list["items"][1].clone());
        }
        let secrets = Secrets::new(server.client.clone(), "smidge-system");
        let opening =
            Authorities::open(secrets, TrustDomain::default(), Clock::system(), ca::Metrics::default());
        let authorities = Box::pin(opening).await.unwrap();
        let certificate = Arc::new(authorities.webhook_certificate(vec![NAME.to_owned()]).unwrap());
        let tls = certificate.tls_asking(&[b"http/1.1"], AnyCertificate::verifier()).unwrap();
        let front_proxies = Authority::new("front proxies");
        let trusted = Trusted::parse(&configuration(&front_proxies, &["front-proxy-client"])).unwrap();
        let (trusting, trusted) = watch::channel(Arc::new(trusted));
        let (traffic, fixed) = watch::channel(Some(calls(7)));
        let refused = SourceError::Unavailable("10.0.0.7 refused the connection".to_owned());
        let (failure, failing) = watch::channel(refused);
        let (held, holding) = watch::channel(false);
        let parts = Parts {
            source: Fixed { traffic: fixed, failure: failing, held: holding },
            client: server.client,
            clock: Clock::system(),
            trusted,
            watch_period: Duration::from_millis(100),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(https::serve(listener, tls, traffic_api::router(parts), std::future::pending()));
        let mut roots = RootCertStore::empty();
        for root in pem::certificates(authorities.webhook_ca_bundle().as_bytes()).unwrap() {
            roots.add(root).unwrap();
        }
        Self { address, roots, objects: server.objects, front_proxies, trusting, traffic, failure, held }
    }

    /// Returns the client certificate of the API server.
    fn api_server(&self) -> ClientPair {
        self.front_proxies.client("front-proxy-client", &[])
    }

    /// Sends a request with a client certificate, or none, and these headers.
    async fn send(
        &self,
        shown: Option<ClientPair>,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Response<Incoming> {
        self.send_body(shown, ("GET", path), headers, "").await
    }

    /// Does the same with another method and a body.
    async fn send_body(
        &self,
        shown: Option<ClientPair>,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Incoming> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_root_certificates(self.roots.clone());
        let config = match shown {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", NAME);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let sending = sender.send_request(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap());
        timeout(DEADLINE, sending).await.expect("no answer").unwrap()
    }

    /// Returns status and document of the answer to a request of the API server for user `ann`.
    async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> (u16, Value) {
        let headers = [&[("x-remote-user", "ann")], headers].concat();
        read(self.send(Some(self.api_server()), path, &headers).await).await
    }
}

/// Reads an answer, which must be JSON.
async fn read(response: Response<Incoming>) -> (u16, Value) {
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = timeout(DEADLINE, response.into_body().collect()).await.expect("no end").unwrap().to_bytes();
    let document: Value = serde_json::from_slice(&body).unwrap();
    if ![200, 201].contains(&status) {
        assert_eq!((&document["kind"], &document["code"]), (&json!("Status"), &json!(status)), "{document}");
    }
    (status, document)
}
