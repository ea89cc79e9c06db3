//! The authorities against the Secrets of an API server: created once, read by every replica, renewed, never replaced
//! because they are broken; and what they issue, judged by other implementations of X.509 and TLS.

mod folder;
mod leaves;
mod machines;
mod serving;

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use serde_json::json;
use smidge::ca::{Authorities, Metrics, Secrets, root::RootError};
use smidge_testing::api_server::{ApiServer, Hands};
use smidge_xds::{
    mesh::id::{ClusterId, ProxyId, TrustDomain},
    server::{CertSource as _, Credentials, Holder},
};

const NOW: i64 = 1_800_000_000;

async fn open(server: &ApiServer, hands: &Hands) -> Result<Authorities, RootError> {
    let secrets = Secrets::new(server.client.clone(), "smidge-system");
    Box::pin(Authorities::open(secrets, TrustDomain::default(), hands.clock(), Metrics::default())).await
}

fn holder(account: &str) -> Holder {
    Holder {
        proxy: ProxyId {
            cluster: ClusterId::default(),
            namespace: "shop".to_owned(),
            instance: format!("{account}-0"),
        },
        identity: format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap(),
        workload_kind: "Deployment".to_owned(),
        workload_name: format!("{account}-v1"),
    }
}

async fn leaf(authorities: &Authorities) -> Credentials {
    authorities.leaves().issue(&holder("web")).await.unwrap()
}

#[tokio::test]
async fn replicas_that_start_together_share_one_set_of_authorities() {
    let (server, hands) = (ApiServer::racing(2).await, Hands::at(NOW));
    let (one, two) = tokio::join!(open(&server, &hands), open(&server, &hands));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.control_plane_roots(), two.control_plane_roots());
    assert_eq!(one.workload_bundle(), two.workload_bundle());
    assert_eq!(one.webhook_ca_bundle(), two.webhook_ca_bundle());
    // The other replica has never seen the leaf certificate and still recognises it as valid.
    let issued = leaf(&one).await;
    assert!(two.leaves().renew_in(&holder("web"), &issued.version).is_some());
    assert_eq!(server.objects.secret_writes.load(SeqCst), 7, "three roots, three intermediates, one key");
}

#[tokio::test]
async fn authorities_are_three_and_the_control_planes_next_root_is_trusted_already() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    let authorities = open(&server, &hands).await.unwrap();
    assert_eq!(authorities.control_plane_roots().len(), 2);
    let mut roots = authorities.control_plane_roots();
    roots.extend(authorities.workload_bundle().roots);
    roots.push(authorities.webhook_ca_bundle());
    roots.sort();
    roots.dedup();
    assert_eq!(roots.len(), 4);
}

#[tokio::test]
async fn a_restart_writes_nothing() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    let first = open(&server, &hands).await.unwrap();
    let issued = leaf(&first).await;
    let writes = server.objects.secret_writes.load(SeqCst);
    let second = open(&server, &hands).await.unwrap();
    assert_eq!(server.objects.secret_writes.load(SeqCst), writes);
    assert_eq!(first.workload_bundle(), second.workload_bundle());
    assert!(second.leaves().renew_in(&holder("web"), &issued.version).is_some());
}

#[tokio::test]
async fn a_broken_secret_is_named_and_left_alone() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    open(&server, &hands).await.unwrap();
    let other = server.objects.secrets.lock().unwrap()["smidge-root-webhooks"]["data"]["active.key"].clone();
    let cases = [
        ("smidge-root-workloads", "active.crt", None),
        ("smidge-root-workloads", "active.crt", Some(json!("bm90IFBFTQ=="))),
        ("smidge-root-workloads", "active.key", None),
        ("smidge-root-workloads", "active.key", Some(json!("bm90IFBFTQ=="))),
        ("smidge-root-control-plane", "standby.key", None),
        ("smidge-issuer-webhooks", "issuer.crt", Some(json!(""))),
        ("smidge-mesh-key", "key", Some(json!("c2hvcnQ="))),
        ("smidge-mesh-key", "key", None),
    ];
    for (secret, field, value) in cases {
        expect_broken(&server, &hands, (secret, field, value), field).await;
    }
    // A valid key that belongs to another certificate.
    expect_broken(&server, &hands, ("smidge-root-workloads", "active.key", Some(other)), "active.crt").await;
    open(&server, &hands).await.expect("everything is whole again");
}

async fn expect_broken(
    server: &ApiServer,
    hands: &Hands,
    (secret, field, value): (&str, &str, Option<serde_json::Value>),
    blamed: &str,
) {
    let whole = server.objects.secrets.lock().unwrap().clone();
    server.edit_secret(secret, |data| match value {
        Some(value) => drop(data.insert(field.to_owned(), value)),
        None => drop(data.remove(field)),
    });
    let broken = server.objects.secrets.lock().unwrap().clone();
    let error = open(server, hands).await.expect_err(secret).to_string();
    assert!(error.contains(secret) && error.contains(blamed), "{secret} {field}: {error}");
    assert_eq!(*server.objects.secrets.lock().unwrap(), broken, "{secret} was touched");
    *server.objects.secrets.lock().unwrap() = whole;
}

#[tokio::test]
async fn a_mesh_that_was_renamed_does_not_go_on_under_the_old_root() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    open(&server, &hands).await.unwrap();
    let secrets = Secrets::new(server.client.clone(), "smidge-system");
    let domain = TrustDomain("other.domain".to_owned());
    let opening = Authorities::open(secrets, domain, hands.clock(), Metrics::default());
    let error = Box::pin(opening).await.unwrap_err().to_string();
    assert!(error.contains("smidge-root-workloads") && error.contains("trust domain"), "{error}");
}

#[tokio::test]
async fn an_intermediate_of_a_foreign_root_is_refused() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    open(&server, &hands).await.unwrap();
    let foreign = server.objects.secrets.lock().unwrap()["smidge-issuer-webhooks"]["data"].clone();
    server.edit_secret("smidge-issuer-workloads", |data| *data = foreign.as_object().unwrap().clone());
    let error = open(&server, &hands).await.unwrap_err().to_string();
    assert!(error.contains("smidge-issuer-workloads") && error.contains("root"), "{error}");
}

#[tokio::test]
async fn intermediates_are_renewed_once_and_leaves_of_the_old_one_stay_good() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    let one = open(&server, &hands).await.unwrap();
    let two = open(&server, &hands).await.unwrap();
    let writes = server.objects.secret_writes.load(SeqCst);
    hands.advance(time::Duration::days(182));
    one.refresh().await.unwrap();
    assert_eq!(server.objects.secret_writes.load(SeqCst), writes, "not due yet");
    hands.advance(time::Duration::days(1));
    let old = leaf(&one).await;
    let leaves = one.leaves();
    let mut issuers = leaves.issuers();
    let (first, second) = tokio::join!(one.refresh(), two.refresh());
    first.unwrap();
    second.unwrap();
    assert_eq!(server.objects.secret_writes.load(SeqCst), writes + 3, "one write per authority");
    assert!(issuers.has_changed().unwrap(), "the server must judge its leaves again");
    issuers.mark_unchanged();
    let (next, other) = (leaf(&one).await, leaf(&two).await);
    let issuer = |of: &Credentials| of.version.as_str().split('.').next().unwrap().to_owned();
    assert_ne!(issuer(&old), issuer(&next));
    assert_eq!(issuer(&next), issuer(&other));
    for held in [&old, &next, &other] {
        assert!(leaves.renew_in(&holder("web"), &held.version).is_some());
        assert!(two.leaves().renew_in(&holder("web"), &held.version).is_some());
    }
}

#[tokio::test]
async fn a_failed_renewal_keeps_the_old_intermediate_signing() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    let authorities = open(&server, &hands).await.unwrap();
    hands.advance(time::Duration::days(300));
    server.objects.down.store(true, SeqCst);
    authorities.refresh().await.unwrap_err();
    leaf(&authorities).await;
    // The last hour of the intermediate is too short for a leaf; the proxy keeps its certificate, and the server tries
    // again.
    hands.advance(time::Duration::days(65) - time::Duration::minutes(10));
    let leaves = authorities.leaves();
    leaves.issue(&holder("web")).await.unwrap_err();
    server.objects.down.store(false, SeqCst);
    authorities.refresh().await.unwrap();
    leaves.issue(&holder("web")).await.unwrap();
}

#[tokio::test]
async fn an_operator_that_was_away_for_years_renews_what_expired() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    open(&server, &hands).await.unwrap();
    hands.advance(time::Duration::days(800));
    leaf(&open(&server, &hands).await.unwrap()).await;
    hands.advance(time::Duration::days(3000));
    let error = open(&server, &hands).await.unwrap_err().to_string();
    assert!(error.contains("smidge-root-") && error.contains("expired"), "{error}");
}

#[tokio::test]
async fn maintenance_renews_when_it_is_due_and_tries_again_after_failures() {
    let (server, hands) = (ApiServer::start().await, Hands::at(NOW));
    let authorities = Arc::new(open(&server, &hands).await.unwrap());
    let mut issuers = authorities.leaves().issuers();
    server.objects.down.store(true, SeqCst);
    tokio::time::pause();
    let task = tokio::spawn({
        let authorities = Arc::clone(&authorities);
        async move { authorities.run().await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    hands.advance(time::Duration::days(200));
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert!(!issuers.has_changed().unwrap());
    server.objects.down.store(false, SeqCst);
    tokio::time::timeout(Duration::from_hours(1), issuers.changed()).await.unwrap().unwrap();
    leaf(&authorities).await;
    task.abort();
}
