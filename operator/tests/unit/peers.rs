//! Counts travel between replicas: at once, over TLS that is verified, and only to replicas.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use smidge::{
    auth::{Metrics, Settings, TokenAuthenticator},
    ca::{self, Authorities, Secrets},
    clock::Clock,
    finding::ObjectRef,
    https,
    lease::Leader,
    objects::KnownObjects,
    peers::{
        decode, encode,
        fetch::{PeerClient, PeerPoller},
        serve::{Replica, router},
    },
    publish::Published,
    status::programmed::{AckCount, AckCounts},
};
use smidge_testing::tokens::{self, Harness, claims};
use smidge_xds::{
    mesh::{
        Mesh,
        id::{ClusterId, TrustDomain},
    },
    snapshot::Snapshot,
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    time::timeout,
};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const TIMEOUT: Duration = Duration::from_secs(10);
pub const NAME: &str = "smidge.shop.svc";

fn object() -> ObjectRef {
    ObjectRef::new("TrafficTarget", "shop", "web")
}

fn ack_counts(acknowledged: usize) -> AckCounts {
    let acks = AckCount { uid: "u".to_owned(), generation: Some(3), acknowledged, ..AckCount::default() };
    AckCounts::unit(object(), Arc::new(acks))
}

/// Two replicas, of which one, `web-1`, serves on loopback. Their ServiceAccount is `web`.
pub struct Two {
    harness: Harness,
    own: watch::Sender<AckCounts>,
    pub published: watch::Sender<Option<Arc<Published>>>,
    pub address: SocketAddr,
    roots: Vec<String>,
    folder: TempDir,
    stop: oneshot::Sender<()>,
}

fn turn() -> Arc<Published> {
    let pod = |name: &str| (name.to_owned(), ("web".to_owned(), LOCALHOST));
    Arc::new(Published {
        objects: KnownObjects::default(),
        findings: Arc::default(),
        snapshot: Arc::new(Snapshot::next(Arc::new(Mesh::default()), None)),
        operator_pods: Arc::new(BTreeMap::from([pod("web-0"), pod("web-1")])),
    })
}

impl Two {
    async fn start() -> Self {
        Self::start_with(router).await
    }

    /// Starts with other paths than those of counts.
    pub async fn start_with(router: impl FnOnce(Replica) -> axum::Router) -> Self {
        let harness = Harness::new().await;
        let secrets = Secrets::new(harness.server.client.clone(), "smidge-system");
        let secrets =
            Authorities::open(secrets, TrustDomain::default(), Clock::system(), ca::Metrics::default());
        let authorities = Box::pin(secrets).await.unwrap();
        let certificate = Arc::new(authorities.control_plane_certificate(vec![NAME.to_owned()]).unwrap());
        let (own, counts) = watch::channel(ack_counts(1));
        let published = watch::Sender::new(Some(turn()));
        let authenticator = Arc::new(TokenAuthenticator::new(Settings {
            domain: TrustDomain::default(),
            cluster: ClusterId::default(),
            client: harness.server.client.clone(),
            pods: Arc::clone(&harness.pods),
            owner: |_| (String::new(), String::new()),
            clock: harness.hands.clock(),
            metrics: Metrics::default(),
        }));
        let replica = Replica {
            authenticator,
            counts,
            published: published.subscribe(),
            namespace: "shop".to_owned(),
            name: "web-1".to_owned(),
        };
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let tls = certificate.tls(&[b"http/1.1"]).unwrap();
        tokio::spawn(https::serve(listener, tls, router(replica), async { drop(stopped.await) }));
        let roots = authorities.control_plane_roots();
        Self { harness, own, published, address, roots, folder: tempfile::tempdir().unwrap(), stop }
    }

    /// Returns a client with a token of these claims, which accepts a server of this name.
    pub fn asker(&self, claims: &serde_json::Value, name: &str) -> PeerClient {
        let path = self.folder.path().join("token");
        std::fs::write(&path, self.harness.signer.sign(claims)).unwrap();
        PeerClient::new(&self.roots, name, path, self.address.port()).unwrap()
    }

    /// Returns the error of a query that fails.
    async fn failure(&self, asker: &PeerClient) -> String {
        let question = asker.ask(self.address, |counts| assert!(counts.is_empty(), "it was told"));
        let error = timeout(TIMEOUT, question).await.expect("the question is held").unwrap_err();
        format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default())
    }
}

pub fn replicas_claims() -> serde_json::Value {
    let mut claims = claims();
    claims["aud"] = json!(["smidge/cluster.local/local/replica"]);
    claims
}

#[test]
fn counts_read_as_they_were_written() {
    let all = ack_counts(2);
    let (body, tag) = encode(&all);
    assert_eq!(decode(&body).unwrap(), all);
    assert_eq!(tag, encode(&ack_counts(2)).1);
    assert_ne!(tag, encode(&ack_counts(1)).1);
    assert!(decode(&encode(&ack_counts(0)).0).unwrap().is_empty(), "silence is not told");
}

#[tokio::test]
async fn a_leader_hears_of_a_change_at_once() {
    let two = Two::start().await;
    let asker = two.asker(&replicas_claims(), NAME);
    let (reported, mut receives) = watch::channel(None);
    let address = two.address;
    tokio::spawn(async move { asker.ask(address, |counts| drop(reported.send_replace(Some(counts)))).await });
    for count in 1..4 {
        two.own.send_replace(ack_counts(count));
        let wanted = |received: &Option<AckCounts>| received.as_ref() == Some(&ack_counts(count));
        timeout(TIMEOUT, receives.wait_for(wanted)).await.expect("nothing was heard").unwrap();
    }
}

#[tokio::test]
async fn nobody_else_is_told() {
    let two = Two::start().await;
    // A proxy's token, even of the same pod, opens streams and nothing else.
    assert!(two.failure(&two.asker(&claims(), NAME)).await.contains("401"));
    let mut stranger = replicas_claims();
    stranger["sub"] = json!("system:serviceaccount:shop:thief");
    stranger["kubernetes.io"]["serviceaccount"]["name"] = json!("thief");
    assert!(two.failure(&two.asker(&stranger, NAME)).await.contains("401"), "its pod has another account");
    // A pod that has the account in the token, which is not the replicas' account.
    let mut pod = tokens::pod();
    pod["spec"]["serviceAccountName"] = json!("thief");
    two.harness.watch_sees(Some(pod));
    assert!(two.failure(&two.asker(&stranger, NAME)).await.contains("403"));
    two.harness.watch_sees(None);
    assert!(two.failure(&two.asker(&replicas_claims(), NAME)).await.contains("401"), "its pod is gone");
}

#[tokio::test]
async fn a_server_of_another_name_is_not_believed() {
    let two = Two::start().await;
    let error = two.failure(&two.asker(&replicas_claims(), "smidge.elsewhere.svc")).await;
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_replica_that_has_gone_counts_no_more_and_a_follower_asks_nobody() {
    let two = Two::start().await;
    let leader = watch::Sender::new(Leader::Other);
    let (replicas, mut others) = watch::channel(Arc::default());
    let late = replicas.clone();
    let fetcher = PeerPoller {
        published: two.published.subscribe(),
        leader: leader.subscribe(),
        name: "web-0".to_owned(),
        asker: Arc::new(two.asker(&replicas_claims(), NAME)),
        replicas,
        reporting: prometheus_client::metrics::gauge::Gauge::default(),
    };
    tokio::spawn(fetcher.run());
    leader.send_replace(Leader::Me);
    let known = |known: &Arc<BTreeMap<String, AckCounts>>| known.get("web-1") == Some(&ack_counts(1));
    timeout(TIMEOUT, others.wait_for(known)).await.expect("it was not asked").unwrap();
    leader.send_replace(Leader::Other);
    timeout(TIMEOUT, others.wait_for(|known| known.is_empty())).await.expect("it goes on asking").unwrap();
    // A query that was stopped still had counts to deliver.
    late.send_modify(|replicas: &mut Arc<BTreeMap<_, _>>| {
        Arc::make_mut(replicas).insert("web-1".to_owned(), ack_counts(1));
    });
    timeout(TIMEOUT, others.wait_for(|known| known.is_empty())).await.expect("it counts for ever").unwrap();
    leader.send_replace(Leader::Me);
    timeout(TIMEOUT, others.wait_for(known)).await.expect("it does not ask again").unwrap();
    two.stop.send(()).unwrap();
    // The server ends calls under way after 5 s.
    timeout(TIMEOUT * 2, others.wait_for(|known| known.is_empty())).await.expect("it still counts").unwrap();
}
