//! Keys that change, keys of other kinds, and behaviour when keys cannot be read.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use smidge::auth::{
    keys::{KeySet, Signature},
    reason::Reason,
    token::Token,
};

use smidge_testing::tokens::{Harness, Signer, claims, reviewed};

/// An RSA key whose private half no longer exists, and its signature over `RSA_SIGNED`.
const RSA_MODULUS: &str = "qmGXLmXDGJe6kgfX8E4O4Lw253naPwSVMblRJX9atco5YpmkW6QYcrReUeH1NFeq0VZ9BkKsL8HK37kXHuT6LL2vOQXI\
    kvoHjU_3_uOcJNh9x2W3iF2MzJls8vu-2L-WvGVrJCZxhKchfjRE22kEjqUURDdZ_h209TLdB_KbxzFFtI-TLhsSLeSXSbDq3c3IGXVsdmripX40uNt4\
    VWfi0hVCpfnOYMA4xR9AJczGPXSIODKKY6OA9a0kYRWmbtjRv8OE7pSr9aUr5sLDAwnVq_yGeeNlFUf7SnI8HBaNp3OCrnDUBpUBZBUxZNQ27tWd-Cly\
    a0TImVnGTTj0bdSKIw";
const RSA_SIGNATURE: &str = "IFkBCtDmUWF73METQCU1i_E2cnUgIZlLxQTdVdcDOf3L8Ze3tomgxX7__HAcVTn-rIZR04zqs2KY3W3XsqPhXyylEis4w\
    29hriVetOVG-YDPXs2PCYhT2prwY1FpqTb3kj0mcaT8yuXwRegQuIvSWEn7tWfIqnnIb8bB7HQZbTJjJ4mTc5o4ZIK-IhcN0xJLrJ-7tv3ohjtApDAFM\
    yXSPgqrnro5JwjV8eqxAQq0Ai1aVIx5MItj1mH4u0Mz1v7jyWyYd8xgLgywcstrQgGovBcmPqgXBmmDIJ16YNIw7TozQ_yyNnPwSuWtMv2H8FWnIRIA1\
    L5yPD4edzcAGwylrw";
const RSA_SIGNED: [&str; 2] = [
    r#"{"alg":"RS256","kid":"rsa"}"#,
    concat!(
        r#"{"aud":["smidge/cluster.local/local"],"exp":1800003600,"#,
        r#""iss":"https://kubernetes.default.svc.cluster.local","kubernetes.io":{"namespace":"shop","#,
        r#""pod":{"name":"web-0","uid":"uid-web-0"},"serviceaccount":{"name":"web","uid":"uid-web"}},"#,
        r#""nbf":1800000000,"sub":"system:serviceaccount:shop:web"}"#
    ),
];

fn rsa_token() -> String {
    let [header, claims] = RSA_SIGNED.map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{claims}.{RSA_SIGNATURE}")
}

fn rsa_key() -> Value {
    json!({"use": "sig", "kty": "RSA", "kid": "rsa", "alg": "RS256", "n": RSA_MODULUS, "e": "AQAB"})
}

#[tokio::test]
async fn a_token_signed_with_rsa_is_admitted() {
    let harness = Harness::new().await;
    *harness.server.objects.jwks.lock().unwrap() = json!({"keys": [rsa_key()]});
    harness.admit(&rsa_token()).await.unwrap();
    let other = rsa_token().replace("IFkBCt", "IFkBCu");
    assert_eq!(harness.reason(&other).await, "BadSignature");
}

#[test]
fn a_key_set_leaves_out_what_it_cannot_use() {
    let text = rsa_token();
    let token = Token::parse(&text).unwrap();
    let verify = |key: Value| KeySet::parse(&json!({"keys": [key]}).to_string()).unwrap().verify(&token);
    let changed = |field: &str, value: Value| {
        let mut key = rsa_key();
        key[field] = value;
        key
    };
    assert_eq!(verify(rsa_key()), Signature::Good);
    assert_eq!(verify(changed("alg", json!("RS512"))), Signature::Bad(Reason::Algorithm));
    for (field, value) in [("use", "enc"), ("kty", "oct"), ("kty", "OKP"), ("n", ""), ("e", "?")] {
        assert_eq!(verify(changed(field, json!(value))), Signature::Undecided, "{field} {value}");
    }
    assert_eq!(verify(changed("kid", json!("other"))), Signature::UnknownKey);
    for text in ["", "{}", "[]", r#"{"keys": 1}"#] {
        assert!(KeySet::parse(text).is_none(), "{text}");
    }
}

#[tokio::test]
async fn a_new_key_is_read_when_its_first_token_comes_but_not_for_every_stranger() {
    let harness = Harness::new().await;
    harness.admit(&harness.signer.sign(&claims())).await.unwrap();
    assert_eq!(harness.server.objects.jwks_reads.load(SeqCst), 1);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    let next = Signer::new("second");
    *harness.server.objects.jwks.lock().unwrap() = json!({"keys": [harness.signer.jwk(), next.jwk()]});
    harness.admit(&next.sign(&claims())).await.unwrap();
    assert_eq!(harness.server.objects.jwks_reads.load(SeqCst), 2);
    for _ in 0..20 {
        assert_eq!(harness.reason(&Signer::new("stranger").sign(&claims())).await, "UnknownKey");
    }
    assert_eq!(harness.server.objects.jwks_reads.load(SeqCst), 2);
    assert_eq!(harness.server.objects.reviews.load(SeqCst), 0, "strangers make us ask nothing");
    harness.admit(&harness.signer.sign(&claims())).await.unwrap();
}

#[tokio::test]
async fn a_withdrawn_key_is_forgotten() {
    let harness = Harness::new().await;
    let old = harness.signer.sign(&claims());
    harness.admit(&old).await.unwrap();
    *harness.server.objects.jwks.lock().unwrap() = json!({"keys": [Signer::new("second").jwk()]});
    let maintained = async {
        tokio::select! {
            () = harness.authenticator.run() => {}
            // Until the second periodic read of the keys; the first one is too soon after the read by the stream.
            () = tokio::time::sleep(Duration::from_mins(6)) => {}
        }
    };
    tokio::time::pause();
    maintained.await;
    tokio::time::resume();
    assert_eq!(harness.reason(&old).await, "UnknownKey");
}

#[tokio::test]
async fn what_was_read_stays_when_reading_fails() {
    let harness = Harness::new().await;
    harness.admit(&harness.signer.sign(&claims())).await.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    tokio::time::resume();
    *harness.server.objects.jwks.lock().unwrap() = json!("no key set");
    assert_eq!(harness.reason(&Signer::new("stranger").sign(&claims())).await, "UnknownKey");
    assert_eq!(harness.server.objects.jwks_reads.load(SeqCst), 2);
    harness.admit(&harness.signer.sign(&claims())).await.unwrap();
}

#[tokio::test]
async fn the_api_server_judges_where_its_keys_are_not_to_be_had() {
    let harness = Harness::new().await;
    *harness.server.objects.jwks.lock().unwrap() = json!("no key set");
    *harness.server.objects.review.lock().unwrap() = Some(reviewed());
    harness.admit(&harness.signer.sign(&claims())).await.unwrap();
    assert_eq!(harness.server.objects.reviews.load(SeqCst), 1);
    // The claims are checked before the API server is queried.
    let mut expired = claims();
    expired["exp"] = json!(1);
    assert_eq!(harness.reason(&harness.signer.sign(&expired)).await, "Expired");
    assert_eq!(harness.server.objects.reviews.load(SeqCst), 1);
    *harness.server.objects.review.lock().unwrap() = None;
    assert_eq!(harness.reason(&harness.signer.sign(&claims())).await, "Unavailable");
}

#[tokio::test]
async fn an_issuer_that_was_renamed_is_judged_by_the_api_server() {
    let harness = Harness::new().await;
    *harness.server.objects.review.lock().unwrap() = Some(reviewed());
    let mut old = claims();
    old["iss"] = json!("https://the.old.name");
    harness.admit(&harness.signer.sign(&old)).await.unwrap();
    *harness.server.objects.review.lock().unwrap() = Some(json!({"authenticated": false, "error": "no"}));
    assert_eq!(harness.reason(&harness.signer.sign(&old)).await, "Rejected");
    let reviews = harness.server.objects.reviews.load(SeqCst);
    assert_eq!(harness.reason(&Signer::new("first").sign(&old)).await, "BadSignature");
    assert_eq!(harness.reason(&Signer::new("stranger").sign(&old)).await, "UnknownKey");
    assert_eq!(harness.server.objects.reviews.load(SeqCst), reviews, "what the keys rule out is not asked");
}

#[tokio::test]
async fn the_api_server_judges_what_a_key_that_is_of_no_use_here_may_have_signed() {
    let harness = Harness::new().await;
    let odd = json!({"kty": "OKP", "crv": "Ed25519", "kid": "odd", "x": "AAAA"});
    *harness.server.objects.jwks.lock().unwrap() = json!({"keys": [harness.signer.jwk(), odd]});
    *harness.server.objects.review.lock().unwrap() = Some(reviewed());
    let token = harness.signer.sign_as(&json!({"alg": "EdDSA", "kid": "odd"}), &claims());
    harness.admit(&token).await.unwrap();
    assert_eq!(harness.server.objects.reviews.load(SeqCst), 1);
}

#[tokio::test]
async fn a_review_must_be_a_yes_to_us_about_this_pod() {
    let harness = Harness::new().await;
    *harness.server.objects.jwks.lock().unwrap() = json!({"keys": []});
    let changes = [
        ("/authenticated", json!(false)),
        ("/audiences", json!([])),
        ("/audiences", json!(["https://kubernetes.default.svc"])),
        ("/user/username", json!("system:serviceaccount:shop:admin")),
        ("/user/extra/authentication.kubernetes.io~1pod-name", json!(["db-0"])),
        ("/user/extra/authentication.kubernetes.io~1pod-uid", json!(["uid-of-another"])),
        ("/user/extra", json!({})),
    ];
    for (path, value) in changes {
        let mut answer = reviewed();
        *answer.pointer_mut(path).unwrap() = value;
        *harness.server.objects.review.lock().unwrap() = Some(answer);
        assert_eq!(harness.reason(&harness.signer.sign(&claims())).await, "Rejected", "{path}");
    }
}
