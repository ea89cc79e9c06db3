//! `smidge stat` and `smidge edges` as a user runs them, against an API server that passes requests on to the real code of
//! the API: one file a case, with the command in its first line and its output below.
//!
//! `UPDATE_EXPECT=1` writes the current output; without it, any difference is a failure.

mod mesh;

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use smidge_traffic_metrics::api::{
    accept::Form,
    answer::{self, Part},
    request::{self, Request},
    status::Status,
    timestamp::Timestamp,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
    process::Command,
    time::timeout,
};

const BASE: &str = "/apis/metrics.smi-spec.io/v1alpha2";
/// Time limit of a command, longer than any takes on a busy machine.
const DEADLINE: Duration = Duration::from_mins(1);
/// Objects in a page.
const PAGE: usize = 2;

/// API server in front of the API: with a mesh of its own, but for paths with an answer that a test has set.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<BTreeMap<String, (u16, Bytes)>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

/// The server, and a kubeconfig that leads to it.
struct Cluster {
    server: Server,
    folder: TempDir,
}

async fn answer(State(server): State<Server>, uri: Uri) -> Response {
    server.requests.lock().unwrap().push(uri.to_string());
    let set = server.answers.lock().unwrap().get(uri.path()).cloned();
    let (code, body) = set.unwrap_or_else(|| match figures(&uri) {
        Ok(body) => (200, body.into()),
        Err(status) => (status.code, status.json().into()),
    });
    (StatusCode::from_u16(code).unwrap(), body).into_response()
}

fn figures(uri: &Uri) -> Result<Vec<u8>, Status> {
    let request = match request::parse("GET", uri.path(), uri.query().unwrap_or_default())? {
        Request::Figures(figures) => figures,
        other => panic!("{uri}: {other:?}"),
    };
    let parameters = &request.parameters;
    let mut subjects = mesh::subjects(request.resource.kind);
    subjects.retain(|subject| {
        let is_of = |asked: &Option<String>, name: &str| asked.as_ref().is_none_or(|asked| asked == name);
        is_of(&request.namespace, &subject.name.namespace) && is_of(&request.name, &subject.name.name)
    });
    if !parameters.label_selector.is_empty() {
        assert_eq!(parameters.label_selector, "app=web,tier in (a, b)");
        subjects.retain(|subject| subject.name.name == "web");
    }
    let start: usize = parameters.continue_token.parse().unwrap_or_default();
    let rest = subjects.split_off(start);
    let (subjects, is_more) = (rest.iter().take(PAGE).cloned().collect(), rest.len() > PAGE);
    let continue_token = if is_more { (start + PAGE).to_string() } else { String::new() };
    let part = Part { subjects, continue_token, remaining: None };
    let traffic = mesh::traffic(request.resource.kind);
    answer::write(&request, Form::Object, (&part, &traffic), Timestamp(1_795_979_576))
}

impl Cluster {
    async fn start() -> Self {
        let server = Server::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let folder = tempfile::tempdir().unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "shop"}}],
        });
        fs::write(folder.path().join("config"), config.to_string()).unwrap();
        Self { server, folder }
    }

    fn set(&self, path: &str, code: u16, body: impl Into<Bytes>) {
        self.server.answers.lock().unwrap().insert(format!("{BASE}/{path}"), (code, body.into()));
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smidge"));
        command.args(words(line)).env("KUBECONFIG", self.folder.path().join("config"));
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command; returns its exit status, and its output followed by its errors.
    async fn run(&self, line: &str) -> (i32, String) {
        let output = timeout(DEADLINE, self.command(line).output()).await.expect("no end").unwrap();
        let [text, errors] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code().unwrap(), text + &errors)
    }
}

/// Returns the words of a line; a word with blanks is in single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stat");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

#[tokio::test]
async fn every_command_has_the_output_that_is_written_down() {
    let cluster = Cluster::start().await;
    let is_update = env::var_os("UPDATE_EXPECT").is_some();
    let cases = cases();
    assert!(cases.len() >= 10, "the cases are not where they were");
    let mut wrong = Vec::new();
    for case in cases {
        let expected = fs::read_to_string(&case).unwrap();
        let first = expected.lines().next().unwrap();
        let line = first.strip_prefix("$ smidge ").unwrap();
        let (code, text) = cluster.run(line).await;
        let found = format!("{first}\n{text}exit status {code}\n");
        if found != expected && is_update {
            fs::write(&case, found).unwrap();
        } else if found != expected {
            wrong.push(format!("{}:\n{found}", case.display()));
        }
    }
    let wrong = wrong.join("\n");
    assert!(wrong.is_empty(), "not as expected: {wrong}\nUPDATE_EXPECT=1 writes what the code makes now");
}

#[tokio::test]
async fn requests_name_window_labels_and_the_next_part() {
    let cluster = Cluster::start().await;
    let (code, text) = cluster.run("stat deploy -A --window 90s").await;
    assert_eq!(code, 0, "{text}");
    let path = format!("{BASE}/deployments?&limit=500");
    let parts = ["", "&continue=2", "&continue=4"].map(|token| format!("{path}{token}&window=1m30s"));
    assert_eq!(*cluster.server.requests.lock().unwrap(), parts);
    cluster.server.requests.lock().unwrap().clear();
    let (code, text) = cluster.run("edges deploy -n shop -l 'app=web,tier in (a, b)'").await;
    assert_eq!(code, 0, "{text}");
    let list = format!(
        "{BASE}/namespaces/shop/deployments?&labelSelector=app%3Dweb%2Ctier+in+%28a%2C+b%29&limit=500&window=30s"
    );
    let edges = format!("{BASE}/namespaces/shop/deployments/web/edges?window=30s");
    assert_eq!(*cluster.server.requests.lock().unwrap(), [list, edges]);
}

#[tokio::test]
async fn what_is_refused_has_a_hint() {
    let cluster = Cluster::start().await;
    let forbidden = json!({"kind": "Status", "message": "pods is forbidden\u{1b}[2J", "code": 403});
    cluster.set("pods", 403, forbidden.to_string());
    cluster.set("namespaces", 404, "404 page not found\n");
    cluster.set("nodes", 503, "service unavailable\n");
    cluster.set("namespaces/shop/jobs", 200, "{\"kind\": \"TrafficMetricsList\", \"items\": [{}]}");
    let cases = [
        (
            "stat po -A",
            "pods is forbidden\\u{1b}[2J (hint: a ClusterRoleBinding to the ClusterRole smidge-traffic",
        ),
        ("stat ns", "404: 404 page not found (hint: the API of TrafficMetrics is not served"),
        ("edges no", "503: service unavailable (hint: is the operator running?"),
        ("stat job", "is not one of TrafficMetrics: "),
    ];
    for (line, expected) in cases {
        let (code, text) = cluster.run(line).await;
        assert!(code == 2 && text.starts_with("error: ") && text.contains(expected), "{line}: {code} {text}");
    }
    let nowhere = timeout(DEADLINE, cluster.command("stat po").env("KUBECONFIG", "/no/such/file").output());
    let output = nowhere.await.expect("no end").unwrap();
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.starts_with("error: found no cluster to ask (hint: KUBECONFIG"), "{errors}");
}

fn list(items: &[Value], token: &str) -> String {
    json!({"kind": "TrafficMetricsList", "metadata": {"continue": token}, "items": items}).to_string()
}

fn item(name: &str) -> Value {
    let metrics = json!([{"name": "success_count", "value": "1"}, {"name": "failure_count", "value": "0"}]);
    json!({"resource": {"kind": "Pod", "namespace": "shop", "name": name}, "metrics": metrics})
}

#[tokio::test]
async fn answers_are_bounded() {
    let cluster = Cluster::start().await;
    let refused = async |expected: &str, line: &str| {
        let (code, text) = cluster.run(line).await;
        assert!(code == 2 && text.contains(expected) && text.contains("hint: -n, -l"), "{code} {text}");
    };
    cluster.set("namespaces/shop/pods", 200, list(&[item("web")], "same"));
    refused("more than 200 pages", "stat po").await;
    assert_eq!(cluster.server.requests.lock().unwrap().len(), 200);
    cluster.set("namespaces/shop/pods", 200, list(&[item(&"x".repeat(1 << 20))], "same"));
    refused("more than 64 MiB", "stat po").await;
    cluster.set("namespaces/shop/pods", 200, " ".repeat((64 << 20) + 1));
    refused("more than 64 MiB", "stat po").await;
    let many: Vec<Value> = (0..201).map(|number| item(&format!("web-{number}"))).collect();
    cluster.set("namespaces/shop/pods", 200, list(&many, ""));
    refused("more than 200 objects", "edges po").await;
}

#[tokio::test]
async fn names_do_not_control_the_terminal() {
    let cluster = Cluster::start().await;
    let mut hostile = item("a\u{1b}[2Jb\n\u{202e}c");
    hostile["timestamp"] = "now\u{1b}[2J".into();
    hostile["edge"] =
        json!({"direction": "from", "side": "server", "resource": {"name": "\u{9b}2J", "kind": "\u{7}"}});
    cluster.set("namespaces/shop/pods", 200, list(&[hostile.clone()], ""));
    cluster.set("namespaces/shop/pods/web/edges", 200, list(&[hostile], ""));
    for line in ["stat po", "edges po/web"] {
        let (code, text) = cluster.run(line).await;
        assert!(code == 0 && text.lines().count() == 2, "{code} {text:?}");
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{9b}', '\u{7}']), "{text:?}");
    }
}

#[tokio::test]
async fn a_watch_writes_blocks_until_its_pipe_is_closed() {
    let cluster = Cluster::start().await;
    for (line, block) in
        [("stat deploy/web -w --interval 1s", 4), ("edges deploy/web -w --interval 1s -o json", 1)]
    {
        let mut command = cluster.command(line);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut blocks = Vec::new();
        for _ in 0..2 {
            let mut read = Vec::new();
            for _ in 0..block {
                let next = timeout(DEADLINE, lines.next_line()).await.expect("no line").unwrap();
                read.push(next.unwrap());
            }
            blocks.push(read);
        }
        assert_eq!(blocks[0], blocks[1]);
        if block == 4 {
            assert_eq!(blocks[0][0], "2026-11-29T19:12:56Z window 30s");
            assert_eq!((blocks[0][2].split_whitespace().nth(1), blocks[0][3].as_str()), (Some("web"), ""));
        } else {
            let report: Value = serde_json::from_str(&blocks[0][0]).unwrap();
            assert_eq!(report["items"].as_array().unwrap().len(), 4);
        }
        drop(lines);
        let status = timeout(DEADLINE, child.wait()).await.expect("the closed pipe did not end it").unwrap();
        assert_eq!(status.code(), Some(0), "{line}");
    }
}

#[tokio::test]
async fn an_error_does_not_end_a_watch() {
    let cluster = Cluster::start().await;
    let mut command = cluster.command("stat deploy/web -w --interval 1s");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let first = timeout(DEADLINE, lines.next_line()).await.expect("no line").unwrap();
    assert!(first.unwrap().ends_with("window 30s"));
    cluster.set("namespaces/shop/deployments/web", 503, "service unavailable\n");
    let error = timeout(DEADLINE, errors.next_line()).await.expect("no error").unwrap().unwrap();
    assert!(error.contains("is the operator running?"), "{error}");
    cluster.server.answers.lock().unwrap().clear();
    let next_block = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.ends_with("window 30s") {
                return;
            }
        }
        panic!("the watch has ended");
    };
    timeout(DEADLINE, next_block).await.expect("no further block");
}
