//! A token is valid only with its pod: looked up, compared, and watched until it ends.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use serde_json::{Value, json};
use smidge_xds::server::Admission;

use smidge_testing::tokens::{Harness, claims, pod};

fn changed(path: &str, value: Value) -> Value {
    let mut pod = pod();
    *pod.pointer_mut(path).unwrap() = value;
    pod
}

async fn admit(harness: &Harness) -> Admission {
    harness.admit(&harness.signer.sign(&claims())).await.unwrap()
}

/// Returns true if the streams of `admission` have received the signal to end.
async fn is_gone(admission: &mut Admission) -> bool {
    // The signal is sent before this check, so there is nothing to wait for.
    tokio::time::timeout(Duration::ZERO, &mut admission.gone).await.is_ok()
}

#[tokio::test]
async fn a_pod_that_the_watch_has_not_seen_is_looked_up() {
    let harness = Harness::new().await;
    harness.watch_sees(None);
    harness.api_server_has(pod());
    let mut admission = admit(&harness).await;
    assert_eq!(harness.server.objects.pod_reads.load(SeqCst), 1);
    harness.watch_sees(Some(pod()));
    assert!(!is_gone(&mut admission).await, "the watch has caught up");
    harness.watch_sees(None);
    assert!(is_gone(&mut admission).await);
}

#[tokio::test]
async fn a_pod_that_took_the_name_of_another_is_looked_up() {
    let harness = Harness::new().await;
    harness.watch_sees(Some(changed("/metadata/uid", json!("uid-of-the-one-before"))));
    harness.api_server_has(pod());
    admit(&harness).await;
}

#[tokio::test]
async fn a_pod_that_does_not_live_as_the_token_says_refuses() {
    let harness = Harness::new().await;
    let cases = [
        ("/metadata/uid", "uid-of-another", "UidMismatch"),
        ("/spec/serviceAccountName", "admin", "AccountMismatch"),
        ("/status/phase", "Succeeded", "PodEnded"),
        ("/status/phase", "Failed", "PodEnded"),
    ];
    for (path, value, reason) in cases {
        harness.watch_sees(Some(changed(path, json!(value))));
        harness.api_server_has(changed(path, json!(value)));
        assert_eq!(harness.reason(&harness.signer.sign(&claims())).await, reason);
    }
}

#[tokio::test]
async fn a_pod_nobody_can_tell_about_is_to_come_again() {
    let harness = Harness::new().await;
    admit(&harness).await;
    harness.watch_sees(None);
    harness.server.objects.down.store(true, SeqCst);
    tokio::time::pause();
    assert_eq!(harness.reason(&harness.signer.sign(&claims())).await, "Unavailable");
}

#[tokio::test]
async fn a_stream_ends_with_its_pod_and_not_before() {
    let harness = Harness::new().await;
    let (mut one, mut two) = (admit(&harness).await, admit(&harness).await);
    let mut draining = pod();
    draining["metadata"]["deletionTimestamp"] = json!("2027-01-15T08:00:00Z");
    harness.watch_sees(Some(draining));
    assert!(!is_gone(&mut one).await, "a pod that drains still serves");
    admit(&harness).await;
    harness.watch_sees(Some(changed("/status/phase", json!("Succeeded"))));
    assert!(is_gone(&mut one).await && is_gone(&mut two).await);
}

#[tokio::test]
async fn a_stream_ends_when_its_pods_name_is_taken_and_an_old_token_harms_nobody() {
    let harness = Harness::new().await;
    let mut old = admit(&harness).await;
    let next = changed("/metadata/uid", json!("uid-next"));
    harness.watch_sees(Some(next.clone()));
    harness.api_server_has(next);
    assert!(is_gone(&mut old).await);
    let mut claims_of_next = claims();
    claims_of_next["kubernetes.io"]["pod"]["uid"] = json!("uid-next");
    let mut new = harness.admit(&harness.signer.sign(&claims_of_next)).await.unwrap();
    assert_eq!(harness.reason(&harness.signer.sign(&claims())).await, "UidMismatch");
    assert!(!is_gone(&mut new).await);
}

#[tokio::test]
async fn a_stream_ends_when_a_new_list_lacks_its_pod() {
    let harness = Harness::new().await;
    let mut admission = admit(&harness).await;
    harness.pods.relisted();
    assert!(!is_gone(&mut admission).await);
    harness.watch_loses_all();
    harness.pods.relisted();
    assert!(is_gone(&mut admission).await);
}
