//! A key or a token is never in a log line, a metric, a `Debug` print or a file of the repository.

// Clippy lets tests unwrap, but does not treat the functions that they share as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::{
    fs,
    io::Write,
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use regex::Regex;
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::json;
use smidge::{
    auth::token::Token,
    ca::{Authorities, Metrics, Secrets, pem::PrivateKey},
};
use smidge_testing::tokens::{Harness, Signer, claims};
use smidge_xds::{
    mesh::id::{ClusterId, ProxyId, TrustDomain},
    server::{CertSource as _, Holder},
};

/// Pattern of secrets, from any source.
fn patterns() -> Regex {
    Regex::new(r"PRIVATE KEY|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*").unwrap()
}

/// Every form in which a key in PEM might be printed: its lines, and its bytes as `Debug` writes them.
fn forms(pem: &str) -> Vec<String> {
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
    let bytes = der.secret_pkcs8_der();
    // The private number is in the middle; head and tail are the same in every key or public.
    let private = &bytes[36..68];
    let list = format!("{private:?}");
    let hex = private.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let mut forms: Vec<String> =
        pem.lines().filter(|line| !line.starts_with("-----")).skip(1).map(str::to_owned).collect();
    forms.extend([list.trim_matches(['[', ']']).to_owned(), hex, STANDARD.encode(pem)]);
    forms
}

fn assert_hides(what: &str, text: &str, secrets: &[String]) {
    let found = patterns().find(text).map(|found| found.start());
    assert_eq!(found, None, "{what} shows a secret");
    for (index, secret) in secrets.iter().enumerate() {
        assert!(!secret.is_empty() && !text.contains(secret.as_str()), "{what} shows secret {index}");
    }
}

/// A log that keeps its lines.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn holder() -> Holder {
    Holder {
        proxy: ProxyId {
            cluster: ClusterId::default(),
            namespace: "shop".to_owned(),
            instance: "web-0".to_owned(),
        },
        identity: "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap(),
        workload_kind: "Deployment".to_owned(),
        workload_name: "web-v1".to_owned(),
    }
}

async fn open(harness: &Harness) -> Result<Authorities, smidge::ca::root::RootError> {
    let secrets = Secrets::new(harness.server.client.clone(), "smidge-system");
    let opening =
        Authorities::open(secrets, TrustDomain::default(), harness.hands.clock(), Metrics::default());
    Box::pin(opening).await
}

/// The keys that the API server stores, in every form.
fn stored(harness: &Harness) -> Vec<String> {
    let mut found = Vec::new();
    for secret in harness.server.objects.secrets.lock().unwrap().values() {
        for (field, value) in secret["data"].as_object().unwrap() {
            let Some(text) = value.as_str() else { continue };
            if field != "key" && field.contains("key") {
                found.push(text.to_owned());
                found.extend(forms(&String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()));
            } else if field == "key" {
                found.push(text.to_owned());
                let list = format!("{:?}", STANDARD.decode(text).unwrap());
                found.push(list.trim_matches(['[', ']']).to_owned());
            }
        }
    }
    assert!(found.len() > 20, "the authorities' keys were not found");
    found
}

#[tokio::test]
async fn no_log_line_metric_or_print_shows_a_key_or_a_token() {
    let log = Log::default();
    let writer = log.clone();
    // For the whole process and with the `log` crate bridged, so that the lines of every library are included.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    tracing::info!("the log is listening");
    let mut prints = Vec::new();

    let harness = Harness::new().await;
    let authorities = open(&harness).await.unwrap();
    let leaves = authorities.leaves();
    let credentials = leaves.issue(&holder()).await.unwrap();
    let serving = Arc::new(authorities.control_plane_certificate(vec!["smidge.svc".to_owned()]).unwrap());
    let tls = serving.tls(&[b"h2"]).unwrap();
    prints.push(format!("{authorities:#?} {leaves:?} {credentials:?} {serving:?} {tls:?}"));
    harness.hands.advance(time::Duration::days(200));
    authorities.refresh().await.unwrap();

    let mut secrets = stored(&harness);
    secrets.extend(forms(&credentials.key));
    let (good, tokens) = tokens_of(&harness);
    for token in &tokens {
        secrets.extend([token.clone(), token.rsplit_once('.').unwrap().1.to_owned()]);
    }
    prints.push(format!("{:?}", Token::parse(&good)));
    prints.push(refuse(&harness, &tokens).await);
    prints.push(format!("{:?}", harness.pods));
    prints.push(break_answers(&harness, &tokens[0]).await);
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &harness.registry).unwrap();
    prints.push(metrics);

    for print in &prints {
        assert_hides("a print", print, &secrets);
    }
    let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for listened in [
        "the log is listening",
        "certificate authority loaded",
        "intermediate replaced",
        "TokenReview failed",
    ] {
        assert!(said.contains(listened), "the log has not heard: {listened}");
    }
    assert_hides("the log", &said, &secrets);
}

/// Returns a valid token, and that one with others that are not.
fn tokens_of(harness: &Harness) -> (String, Vec<String>) {
    harness.hands.advance(time::Duration::days(-200));
    let good = harness.signer.sign(&claims());
    let mut expired = claims();
    expired["exp"] = json!(1);
    // The API server reviews it, as the issuer may have had that name.
    let mut renamed = claims();
    renamed["iss"] = json!("https://the.old.name");
    let all = vec![
        harness.signer.sign(&renamed),
        good.clone(),
        harness.signer.sign(&expired),
        Signer::new("stranger").sign(&claims()),
        Signer::new("first").sign(&claims()),
        harness.signer.sign_as(&json!({"alg": "none"}), &claims()),
    ];
    (good, all)
}

/// Admits or refuses each of `tokens`, with the API server up and down, and prints the results.
async fn refuse(harness: &Harness, tokens: &[String]) -> String {
    let mut prints = Vec::new();
    for down in [false, true] {
        harness.server.objects.down.store(down, SeqCst);
        for token in tokens {
            match harness.admit(token).await {
                Ok(admission) => prints.push(format!("{admission:?}")),
                Err(refusal) => prints.push(format!("{refusal:?} {refusal}")),
            }
        }
    }
    harness.server.objects.down.store(false, SeqCst);
    let prints = prints.join("\n");
    assert!(prints.contains("Admission") && prints.contains("Expired") && prints.contains("BadSignature"));
    prints
}

/// Makes the API server return answers that do not parse, with the secret in them, and prints the errors.
async fn break_answers(harness: &Harness, token: &str) -> String {
    *harness.server.objects.review.lock().unwrap() = Some(json!({"authenticated": "perhaps"}));
    let refusal = harness.admit(token).await.unwrap_err();
    harness.server.edit_secret("smidge-root-workloads", |data| drop(data.insert("odd".to_owned(), json!(5))));
    let unreadable = open(harness).await.unwrap_err();
    assert!(unreadable.to_string().contains("smidge-root-workloads"), "{unreadable}");
    harness.server.edit_secret("smidge-root-workloads", |data| drop(data.remove("odd")));
    harness.server.edit_secret("smidge-root-workloads", |data| drop(data.remove("active.crt")));
    let malformed = open(harness).await.unwrap_err();
    format!("{refusal:?} {unreadable:?} {unreadable} {malformed:?} {malformed}")
}

#[test]
fn a_key_prints_nothing_at_any_width() {
    let pair = rcgen::KeyPair::generate().unwrap();
    let key = PrivateKey::from_pkcs8(pair.serialized_der());
    let print = format!("{key:?} {key:#?}");
    assert_hides("PrivateKey", &print, &forms(&key.expose()));
}

/// Collects files that contain output of the product, or that users are given: everything but sources.
fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" {
                files(&path, found);
            }
        } else if path.extension().is_none_or(|extension| extension != "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_file_of_the_repository_holds_a_key_or_a_token() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    files(&root, &mut found);
    assert!(found.len() > 10, "the repository was not found");
    let patterns = patterns();
    let guilty: Vec<_> = found
        .into_iter()
        .filter(|path| patterns.is_match(&String::from_utf8_lossy(&fs::read(path).unwrap_or_default())))
        .collect();
    assert!(guilty.is_empty(), "a key or a token is in {guilty:?}");
}

#[test]
fn the_patterns_find_what_they_are_for() {
    let pair = rcgen::KeyPair::generate().unwrap();
    let token = Signer::new("a").sign(&claims());
    for text in
        [pair.serialize_pem(), token, "authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.".to_owned()]
    {
        assert!(patterns().is_match(&text), "{text}");
    }
    let forms = forms(&pair.serialize_pem());
    let bytes = format!("{:?}", pair.serialized_der());
    assert!(forms.iter().any(|form| bytes.contains(form)), "a print of the key's bytes would not be found");
}
