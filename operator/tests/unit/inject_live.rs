//! `smidge inject` with a cluster: what it reads, what it refuses, and what it asks no cluster for.

use std::{collections::BTreeMap, fs, process::Command, sync::Arc};

use serde_json::{Value, json};
use smidge::{
    cli::inject::{
        injected::{Found, Injected, Metadata, Namespaces, injected},
        live::{self, Live, LiveError},
    },
    documents::Source,
    injector::{ProbeKey, Settings, published::Published},
    publish_settings,
};
use smidge_testing::api_server::ApiServer;
use tokio::sync::watch;

const PUBLISHED: &str = "/api/v1/namespaces/smidge-system/configmaps/smidge-injection";
const ROOT: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const POD: &str =
    "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: app, image: 'app:1'}]}}";

fn settings() -> Settings {
    Settings {
        proxy_image: "registry.test/envoy:1.36.4".to_owned(),
        init_image: "registry.test/smidge:7".to_owned(),
        trust_domain: "corp".to_owned(),
        control_plane_roots: vec![ROOT.to_owned()],
        ..Settings::default()
    }
}

fn sources(text: &str) -> Vec<Source> {
    vec![Source { name: "in.yaml".to_owned(), text: text.to_owned() }]
}

fn key() -> ProbeKey {
    ProbeKey::from_secret(b"of this test")
}

async fn serving(documents: &[(&str, Value)]) -> ApiServer {
    let server = ApiServer::start().await;
    let documents = documents.iter().map(|(path, value)| ((*path).to_owned(), value.clone()));
    server.objects.documents.lock().unwrap().extend(documents);
    server
}

fn config_map(text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "smidge-injection"}, "data": {"settings.json": text}})
}

async fn read(server: &ApiServer, text: &str) -> Result<Live, LiveError> {
    live::read(server.client.clone(), "smidge-system", Some("shop".to_owned()), &sources(text), key()).await
}

#[tokio::test]
async fn settings_and_namespaces_are_those_of_the_cluster() {
    let shop = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop",
        "labels": {"smidge.mesh/inject": "manual"}, "annotations": {"smidge.mesh/proxy-cpu-limit": "2"}}});
    let text = Published::of(&settings()).to_text();
    let server = serving(&[(PUBLISHED, config_map(&text)), ("/api/v1/namespaces/shop", shop)]).await;
    let live = read(&server, POD).await.unwrap();
    assert_eq!(live.settings, Settings { probe_key: key(), ..settings() });
    assert_eq!(live.warnings, [""; 0]);
    let reads = server.objects.document_reads.lock().unwrap().clone();
    assert_eq!(reads.len(), 2, "no Secret and no list: {reads:?}");
    let injected = injected(&sources(POD), &live.namespace, &live.settings, &live.namespaces);
    assert_eq!(injected.messages, [""; 0]);
    for part in
        ["registry.test/envoy:1.36.4", "registry.test/smidge:7", "smidge/corp/local", "BEGIN CERTIFICATE"]
    {
        assert!(injected.text.contains(part), "{part}: {}", injected.text);
    }
    assert!(injected.text.contains("cpu: \"2\"") || injected.text.contains("cpu: '2'"), "{}", injected.text);
}

#[tokio::test]
async fn what_the_operator_has_not_published_is_named_with_a_remedy() {
    let without_roots = Published::of(&Settings::default()).to_text();
    for (documents, expected) in [
        (
            vec![],
            "namespace smidge-system has no ConfigMap smidge-injection; hint: is the operator in another namespace",
        ),
        (
            vec![(PUBLISHED, json!({"metadata": {"name": "smidge-injection"}}))],
            "has no settings.json; hint: the operator",
        ),
        (
            vec![(PUBLISHED, config_map("{}"))],
            "cannot be used; hint: use the program of the operator's version",
        ),
        (vec![(PUBLISHED, config_map(&without_roots))], "no root of the control plane"),
    ] {
        let server = serving(&documents).await;
        let error = read(&server, POD).await.unwrap_err();
        let error = format!("{:#}", anyhow::Error::from(error));
        assert!(error.contains(expected), "{error}");
    }
    let server = serving(&[]).await;
    server.objects.down.store(true, std::sync::atomic::Ordering::SeqCst);
    let error = read(&server, POD).await.unwrap_err().to_string();
    assert!(error.contains("failed to read ConfigMap smidge-system/smidge-injection; hint:"), "{error}");
}

#[tokio::test]
async fn another_version_of_the_operator_is_a_warning() {
    let text = Published::of(&settings()).to_text();
    let text =
        text.replace(&format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION")), "\"version\": \"99.0.0\"");
    let server = serving(&[(PUBLISHED, config_map(&text))]).await;
    let live = read(&server, POD).await.unwrap();
    assert!(live.warnings[0].contains("the operator has version 99.0.0"), "{:?}", live.warnings);
}

#[tokio::test]
async fn the_operator_publishes_at_its_start_and_on_a_change() {
    let server = ApiServer::start().await;
    let (sender, receiver) = watch::channel(Arc::new(settings()));
    let publishing = publish_settings::run(server.client.clone(), "smidge-system".to_owned(), receiver);
    let path = format!("{PUBLISHED}?&force=true&fieldManager=smidge-injection");
    server.objects.documents.lock().unwrap().insert(PUBLISHED.to_owned(), config_map(""));
    let publishing = tokio::spawn(publishing);
    let writes = || server.objects.document_reads.lock().unwrap().iter().filter(|it| **it == path).count();
    until(|| writes() == 1).await;
    sender.send_replace(Arc::new(Settings::default()));
    until(|| writes() == 2).await;
    drop(sender);
    tokio::time::timeout(std::time::Duration::from_secs(10), publishing).await.unwrap().unwrap();
}

async fn until(mut is_true: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !is_true() {
        assert!(std::time::Instant::now() < deadline, "the settings were not published in time");
        tokio::task::yield_now().await;
    }
}

fn inject_in(found: Option<Found>, text: &str) -> Injected {
    let namespaces = found.map(|found| ("shop".to_owned(), found)).into_iter().collect();
    injected(&sources(text), "shop", &settings(), &Namespaces::Read(namespaces))
}

fn labelled(word: &str) -> Found {
    let labels = BTreeMap::from([("smidge.mesh/inject".to_owned(), word.to_owned())]);
    Found::Known(Metadata { labels: Some(labels), annotations: None })
}

#[test]
fn pods_are_refused_where_they_would_not_become_ready() {
    for word in ["enabled", "manual"] {
        let injected = inject_in(Some(labelled(word)), POD);
        assert!(!injected.refused && injected.messages.is_empty(), "{injected:?}");
    }
    for (found, expected) in [
        (Some(labelled("disabled")), "namespace shop is not in the mesh"),
        (Some(Found::Known(Metadata::default())), "hint: label it smidge.mesh/inject=manual, or"),
        (Some(Found::Missing), "namespace shop does not exist"),
        (None, "namespace shop does not exist"),
    ] {
        let injected = inject_in(found, POD);
        assert!(injected.refused && injected.messages[0].contains(expected), "{injected:?}");
    }
    let injected = inject_in(Some(Found::Forbidden), POD);
    assert!(
        !injected.refused && injected.messages[0].contains("may not be read by this user"),
        "{injected:?}"
    );
}

#[test]
fn a_namespace_in_the_files_adds_to_that_of_the_cluster() {
    let of_cluster = labelled("manual");
    let written =
        "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {smidge.mesh/inject: manual}}}";
    let text = format!("{written}\n---\n{POD}");
    for found in [Some(Found::Missing), Some(Found::Known(Metadata::default())), None] {
        assert!(!inject_in(found, &text).refused);
    }
    let plain = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: shop}}}}\n---\n{POD}");
    assert!(!inject_in(Some(of_cluster), &plain).refused);
}

#[test]
fn pods_that_stay_outside_need_no_namespace_of_the_mesh() {
    let text = POD.replace("{name: a}", "{name: a, labels: {smidge.mesh/inject: disabled}}");
    let injected = inject_in(Some(Found::Missing), &text);
    assert!(!injected.refused && injected.messages.is_empty(), "{injected:?}");
}

fn smidge(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smidge"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.yaml");
    fs::write(&file, POD).unwrap();
    command.env("KUBECONFIG", folder.path().join("none")).env_remove("KUBERNETES_SERVICE_HOST");
    let output = command.args(["inject", "-f", file.to_str().unwrap()]).args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn without_a_cluster_nothing_is_printed_unless_roots_are_given() {
    let (code, stdout, stderr) = smidge(&[]);
    assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
    assert!(stderr.contains("found no cluster to ask; hint: KUBECONFIG"), "{stderr}");
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    let of_roots = ["--control-plane-roots", roots.to_str().unwrap()];
    for text in ["", "no certificate"] {
        fs::write(&roots, text).unwrap();
        let (code, stdout, stderr) = smidge(&of_roots);
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains("has no certificate that can be read"), "{stderr}");
    }
    fs::write(&roots, ROOT).unwrap();
    let (code, stdout, stderr) = smidge(&of_roots);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("BEGIN CERTIFICATE"), "{stdout}");
}

#[test]
fn settings_by_flags_need_the_roots_by_a_flag() {
    for flag in ["--proxy-image=a:1", "--proxy-cpu-limit=1", "--trust-domain=a", "--image-pull-secret=a"] {
        let (code, _, stderr) = smidge(&[flag]);
        assert_eq!(code, Some(2));
        assert!(stderr.contains("--control-plane-roots <FILE>"), "{flag}: {stderr}");
    }
}
