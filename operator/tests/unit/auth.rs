//! Streams are admitted by the token of their pod and by nothing else: the good case, and each reason of refusal.

mod keys;
mod machines;
mod pods;

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use smidge::auth::reason::Reason;
use smidge_testing::tokens::{self, Harness, NOW, Signer, claims};
use smidge_xds::server::{Authenticator as _, Presented, RefusalReason};
use tonic::metadata::MetadataMap;

/// `claims` with the value at `path` replaced, or removed.
fn with(path: &str, value: impl Into<Option<Value>>) -> Value {
    let mut claims = claims();
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = claims.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value.into() {
        Some(value) => drop(parent.insert(name.to_owned(), value)),
        None => drop(parent.remove(name)),
    }
    claims
}

#[tokio::test]
async fn the_token_of_a_living_pod_is_admitted_without_asking_about_it() {
    let harness = Harness::new().await;
    let admission = harness.admit(&harness.signer.sign(&claims())).await.unwrap();
    assert_eq!(admission.proxy.to_string(), "local/shop/web-0");
    assert_eq!(admission.identity.to_string(), "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(
        (admission.workload_kind.as_str(), admission.workload_name.as_str()),
        ("Deployment", "web-v1")
    );
    assert_eq!(admission.expires_in, Duration::from_hours(1));
    assert_eq!(harness.counted("Admitted"), 1);
    let objects = &harness.server.objects;
    assert_eq!((objects.reviews.load(SeqCst), objects.pod_reads.load(SeqCst)), (0, 0));
}

#[tokio::test]
async fn every_claim_that_does_not_hold_refuses() {
    let harness = Harness::new().await;
    let cases = [
        (with("/aud", json!(["smidge/other.domain/local"])), Reason::WrongAudience),
        (with("/aud", json!("https://kubernetes.default.svc.cluster.local")), Reason::WrongAudience),
        (with("/aud", None), Reason::WrongAudience),
        (with("/exp", json!(NOW - 31)), Reason::Expired),
        (with("/exp", json!(i64::MIN)), Reason::Expired),
        (with("/exp", None), Reason::Malformed),
        (with("/exp", json!("tomorrow")), Reason::Malformed),
        (with("/nbf", json!(NOW + 31)), Reason::NotYetValid),
        (with("/kubernetes.io", None), Reason::NotPodBound),
        (with("/kubernetes.io/pod", None), Reason::NotPodBound),
        (with("/kubernetes.io/pod/uid", json!("")), Reason::Malformed),
        (with("/kubernetes.io/namespace", json!("shop/sa/admin")), Reason::Malformed),
        (with("/kubernetes.io/serviceaccount/name", json!("admin")), Reason::Malformed),
        (with("/sub", json!("system:serviceaccount:shop:admin")), Reason::Malformed),
        (with("/kubernetes.io/pod/name", json!("web-1")), Reason::PodUnknown),
        (with("/kubernetes.io/pod/uid", json!("uid-of-another")), Reason::UidMismatch),
    ];
    harness.api_server_has(tokens::pod());
    for (claims, reason) in cases {
        assert_eq!(harness.reason(&harness.signer.sign(&claims)).await, reason.as_str(), "{claims}");
        assert!(harness.counted(reason.as_str()) > 0, "{claims}");
    }
    assert_eq!(harness.counted("Admitted"), 0);
    assert_eq!(harness.server.objects.reviews.load(SeqCst), 0, "our own keys judged all of these");
}

#[tokio::test]
async fn clocks_may_differ_a_little() {
    let harness = Harness::new().await;
    let expired = harness.admit(&harness.signer.sign(&with("/exp", json!(NOW - 29)))).await.unwrap();
    assert_eq!(expired.expires_in, Duration::ZERO);
    harness.admit(&harness.signer.sign(&with("/nbf", json!(NOW + 29)))).await.unwrap();
}

#[tokio::test]
async fn a_signature_that_is_not_the_keys_refuses() {
    let harness = Harness::new().await;
    let token = harness.signer.sign(&claims());
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let forged = Signer::new("first").sign(&claims());
    let other = harness.signer.sign(&with("/kubernetes.io/pod/name", json!("db-0")));
    let swapped = format!("{}.{signature}", other.rsplit_once('.').unwrap().0);
    for token in [format!("{signed}."), format!("{signed}.AAAA"), forged, swapped] {
        assert_eq!(harness.reason(&token).await, "BadSignature", "{token}");
    }
}

#[tokio::test]
async fn the_key_decides_the_algorithm() {
    let harness = Harness::new().await;
    // Well-known attacks: no signature, and a signature with the public key as a shared secret.
    for alg in ["none", "NONE", "None", "HS256", "RS256", "ES384", ""] {
        let token = harness.signer.sign_as(&json!({"alg": alg, "kid": "first"}), &claims());
        assert_eq!(harness.reason(&token).await, "Algorithm", "{alg}");
    }
    let unsigned = harness.signer.sign_as(&json!({"alg": "none"}), &claims());
    let unsigned = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
    assert_eq!(harness.reason(&unsigned).await, "Algorithm");
    assert_eq!(harness.server.objects.reviews.load(SeqCst), 0);
}

#[tokio::test]
async fn whatever_is_no_token_is_malformed() {
    let harness = Harness::new().await;
    let good = harness.signer.sign(&claims());
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let texts = [
        String::new(),
        "a".to_owned(),
        "..".to_owned(),
        "a.b.c".to_owned(),
        format!("{good}.x"),
        format!("{}.{}.x", part("{}"), part("{}")),
        format!("{}.{}.x", part("[]"), part("null")),
        "x".repeat(20_000),
        format!("{good}="),
        harness.signer.sign_as(&json!({"alg": "ES256", "kid": "first", "crit": ["b64"]}), &claims()),
    ];
    for text in texts {
        assert_eq!(harness.reason(&text).await, "Malformed", "{text}");
    }
}

#[tokio::test]
async fn a_stream_brings_exactly_one_bearer_token() {
    let harness = Harness::new().await;
    let token = harness.signer.sign(&claims());
    let judge = async |values: &[String]| {
        let mut metadata = MetadataMap::new();
        for value in values {
            metadata.append("authorization", value.parse().unwrap());
        }
        let presented = Presented { metadata: &metadata, chain: &[] };
        harness.authenticator.admit(&presented).await.map(drop).map_err(|refusal| refusal.reason)
    };
    assert_eq!(judge(&[]).await, Err(RefusalReason::NoToken));
    assert_eq!(judge(&[format!("bearer {token}")]).await, Ok(()), "the scheme has no case");
    assert_eq!(judge(std::slice::from_ref(&token)).await, Err(RefusalReason::InvalidToken));
    assert_eq!(judge(&[format!("Basic {token}")]).await, Err(RefusalReason::InvalidToken));
    let twice = [format!("Bearer {token}"), format!("Bearer {token}")];
    assert_eq!(judge(&twice).await, Err(RefusalReason::InvalidToken));
}

#[tokio::test]
async fn a_refusal_says_whose_token_it_was_and_never_the_token() {
    let harness = Harness::new().await;
    harness.watch_sees(None);
    let token = harness.signer.sign(&claims());
    let refusal = harness.admit(&token).await.unwrap_err();
    assert_eq!(refusal.detail, "PodUnknown: system:serviceaccount:shop:web of pod shop/web-0");
    let shown = format!("{refusal} {refusal:?}");
    assert!(token.split('.').all(|part| !shown.contains(part)));
}
