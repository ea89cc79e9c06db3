//! The operator's pages and unauthenticated peers: their connections are bounded and keep no other client out, and the
//! debug pages are for users whom the cluster's RBAC lets read them.

mod connections;
mod readers;

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock, atomic::Ordering::SeqCst},
    time::Duration,
};

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use serde_json::{Value, json};
use smidge::{
    admin::{self, Pages, PrometheusReaders, Readers},
    auth::issuer::Issuer,
};
use smidge_testing::{
    api_server::ApiServer,
    tokens::{ISSUER, Signer, claims},
};
use smidge_xds::{
    mesh::{
        id::{ClusterId, TrustDomain},
        service::Protocol,
    },
    server::Proxies,
    snapshot::Snapshot,
};
use smidge_xds_testing::wide;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::{oneshot, watch},
    task::JoinHandle,
};

/// Time limit of a step, longer than any takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);
/// Source address that no other client of the tests uses.
const KUBELET: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The cluster's key.
static SIGNER: LazyLock<Signer> = LazyLock::new(|| Signer::new("first"));

struct Served {
    api: ApiServer,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

/// Serves the real pages with a mesh of `services` Services, in a cluster where every user may read.
async fn serve(services: usize) -> Served {
    serve_traffic(services, PrometheusReaders::Network).await
}

/// Serves the same with metrics of the traffic for these readers.
async fn serve_traffic(services: usize, traffic_readers: PrometheusReaders) -> Served {
    let mut traffic = Registry::default();
    traffic.register("calls", "Calls of the mesh", Gauge::<i64>::default());
    let api = ApiServer::start().await;
    *api.objects.review.lock().unwrap() = Some(reviewed());
    api.objects.allowed.store(true, SeqCst);
    ISSUER.clone_into(&mut api.objects.issuer.lock().unwrap());
    *api.objects.jwks.lock().unwrap() = json!({"keys": [SIGNER.jwk()]});
    let mesh = wide::mesh(services, Protocol::Http);
    let snapshot = Arc::new(Snapshot::next(Arc::new(mesh), None));
    let issuer = Arc::new(Issuer::new(api.client.clone()));
    issuer.refresh().await;
    let readers =
        Readers::of_cluster(api.client.clone(), issuer, &TrustDomain::default(), &ClusterId::default());
    let router = admin::router(Pages {
        awaited: watch::channel(BTreeSet::new()).1,
        snapshots: watch::channel(Some(snapshot)).1,
        findings: watch::channel(Arc::default()).1,
        published: watch::channel(None).1,
        proxies: Proxies::default(),
        registry: Arc::new(Registry::default()),
        traffic: Arc::new(traffic),
        traffic_readers,
        readers: Arc::new(readers),
    });
    let listener = admin::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let ended = tokio::spawn(admin::serve(listener, router, async { drop(stopped.await) }));
    Served { api, address, stop, ended }
}

/// The API server's review of the token of a user.
fn reviewed() -> Value {
    json!({"authenticated": true, "audiences": ["smidge/cluster.local/local/debug"], "user": {
        "username": "system:serviceaccount:ops:ada", "uid": "uid-ada",
        "groups": ["system:serviceaccounts"], "extra": {"a": ["b"]},
    }})
}

/// Returns a token for the debug pages; each `id` gives another one.
fn token(id: &str) -> String {
    let mut claims = claims();
    claims["aud"] = json!(["smidge/cluster.local/local/debug"]);
    claims["jti"] = json!(id);
    SIGNER.sign(&claims)
}

async fn connect(served: &Served, from: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // Unread bytes must not fit into the kernel's buffers.
    socket.set_recv_buffer_size(64 << 10).unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect(served.address).await.unwrap()
}

fn request(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: smidge\r\n{more}\r\n")
}

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}\r\n")
}

/// Returns status line, headers and body.
async fn get(served: &Served, from: Ipv4Addr, path: &str, more: &str) -> String {
    let asked = async {
        let mut stream = connect(served, from).await;
        let request = request(path, &format!("connection: close\r\n{more}"));
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };
    tokio::time::timeout(DEADLINE, asked).await.expect("an answer")
}
