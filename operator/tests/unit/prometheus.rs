//! Prometheus as the source of traffic, by a stand-in on loopback: what it is asked, and what becomes of every wrong answer.

mod both;
mod expression;
mod fake;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::future::join_all;
use serde_json::{Value, json};
use smidge::traffic::prometheus::{
    AT_ONCE, PrometheusSource, QUESTION_TIMEOUT, Settings, url::PrometheusUrl,
};
use smidge_testing::tls::self_signed_pem;
use smidge_traffic_metrics::{
    promql,
    traffic::{Kind, ObjectName, Question, SourceError, TrafficSource},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch};
use tokio_rustls::TlsAcceptor;

use fake::{Fake, Received, Reply, answer, request};

use super::traffic::receiver;

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn vector(samples: &Value) -> String {
    http(
        "200 OK",
        &json!({"status": "success", "data": {"resultType": "vector", "result": samples}}).to_string(),
    )
}

fn settings(url: &str) -> Settings {
    let url: PrometheusUrl = url.parse().unwrap();
    Settings { url, token: None, ca: None, pods: false, cluster: "local".to_owned() }
}

fn source(settings: Settings) -> PrometheusSource {
    PrometheusSource::new(settings, receiver())
}

fn deployments() -> Question {
    Question {
        kind: Kind::Deployment,
        namespace: Some("shop".to_owned()),
        name: None,
        window: Duration::from_mins(1),
    }
}

/// Returns the error of a question to a source: for the log, and for users.
async fn error_of(source: &PrometheusSource) -> (SourceError, String) {
    let error = source.traffic(&deployments()).await.unwrap_err();
    let text = error.for_users().unwrap();
    (error, text)
}

#[tokio::test]
async fn queries_are_sent_with_the_present_token_and_their_answers_added() {
    let calls = json!([{
        "metric": {"destination_namespace": "shop", "destination_workload": "web", "outcome": "failure"},
        "value": [1.5, "7"],
    }]);
    let none = json!([]);
    let fake = Fake::start(move |Received { query, .. }| {
        let counts = query.contains("smidge_requests_total") && query.contains("reporter=\"destination\"");
        std::future::ready(Reply::Bytes(vector(if counts { &calls } else { &none })))
    })
    .await;
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    let source = source(Settings { token: Some(token.clone()), ..settings(&format!("{}/a/b/", fake.url)) });
    for written in ["first", "second\n"] {
        fs::write(&token, written).unwrap();
        let traffic = source.traffic(&deployments()).await.unwrap();
        let web = ObjectName { namespace: "shop".to_owned(), name: "web".to_owned() };
        assert_eq!(traffic.keys().collect::<Vec<_>>(), [&web]);
        assert_eq!(traffic[&web].values().map(|figures| figures.failure).collect::<Vec<_>>(), [7]);
        let received = std::mem::take(&mut *fake.received.lock().unwrap());
        let mut queries: Vec<_> = received.iter().map(|request| request.query.clone()).collect();
        let expected = promql::queries(&deployments(), receiver().directory(), false).unwrap();
        let mut expected: Vec<_> = expected.into_iter().map(|query| query.text).collect();
        queries.sort();
        expected.sort();
        assert_eq!(queries, expected);
        for Received { head, timeout, .. } in received {
            assert!(head.starts_with("POST /a/b/api/v1/query HTTP/1.1\r\n"), "{head}");
            assert!(head.contains(&format!("authorization: Bearer {}\r\n", written.trim())), "{head}");
            assert!(
                head.contains(&format!("host: {}\r\n", fake.url.trim_start_matches("http://"))),
                "{head}"
            );
            assert_eq!(timeout, "8s");
        }
    }
    // A name that no object has is not asked for.
    let odd = Question { name: Some("a\"b".to_owned()), ..deployments() };
    assert!(source.traffic(&odd).await.unwrap().is_empty());
    assert!(fake.received.lock().unwrap().is_empty());
}

#[tokio::test]
async fn every_wrong_answer_is_an_error_that_names_it() {
    let error =
        json!({"status": "error", "errorType": "execution", "error": "too many samples\nof x"}).to_string();
    let sample = |value: &str| {
        let labels =
            json!({"destination_namespace": "shop", "destination_workload": "web", "outcome": "success"});
        vector(&json!([{"metric": labels, "value": [1, value]}]))
    };
    let ok = vector(&json!([]));
    let half = ok.get(..ok.len() - 9).unwrap().to_owned();
    let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x1_0000));
    for (reply, expected) in [
        (
            Reply::Bytes(http("422 Unprocessable Entity", &error)),
            "answered 422: execution: too many samples?of x",
        ),
        (Reply::Bytes(http("200 OK", &error)), "it is an error: execution: too many samples?of x"),
        (Reply::Bytes(http("503 Service Unavailable", "<html>busy</html>")), "answered 503"),
        (Reply::Bytes(http("401 Unauthorized", "")), "answered 401"),
        (
            Reply::Endless("HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n", chunk.clone()),
            "answered 500",
        ),
        (
            Reply::Bytes(http("302 Found\r\nlocation: http://127.0.0.1:1/", "")),
            "answered 302: redirects are not followed",
        ),
        (Reply::Bytes(http("204 No Content", "")), "answered 204"),
        (Reply::Bytes(http("200 OK", "garbage")), "not an answer of the API of Prometheus"),
        (Reply::Bytes("garbage\r\n\r\n".to_owned()), "broke off"),
        (Reply::Bytes(String::new()), "broke off"),
        (Reply::Bytes(half), "broke off"),
        (
            Reply::Endless(chunks, chunk),
            "answered with more than 32 MiB; ask for one namespace or one object",
        ),
        (Reply::Endless("HTTP/1.1 200 OK\r\n", format!("a: {}\r\n", "b".repeat(1_000))), "broke off"),
        (Reply::Bytes(sample("NaN")), "value \"NaN\": expected a number of calls"),
        (Reply::Bytes(sample("-1")), "value \"-1\""),
        (Reply::Bytes(ok.replace("vector", "matrix")), "type \"matrix\": expected \"vector\""),
    ] {
        let fake = Fake::always(reply).await;
        let (error, text) = error_of(&source(settings(&fake.url))).await;
        assert!(text.contains("Prometheus") && text.contains(expected), "{text}: expected {expected}");
        let log = error.to_string();
        let host = fake.url.trim_start_matches("http://");
        assert!(log.contains(expected) && log.contains(&format!(" at {host} (")), "{log}");
        assert!(["requests", "connections", "latency"].iter().any(|purpose| log.contains(purpose)), "{log}");
        assert!(!text.contains("127.0.0.1") && text.len() < 600, "{text}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (_, text) = error_of(&source(settings(&url))).await;
    assert!(text.starts_with("Prometheus cannot be reached: ") && !text.contains("127.0.0.1"), "{text}");
}

#[tokio::test]
async fn one_query_that_fails_is_no_partial_answer() {
    let fake = Fake::start(|Received { query, .. }| {
        let latency = query.contains("duration") && query.contains("reporter=\"source\"");
        let reply = if latency { http("500 Oops", "") } else { vector(&json!([])) };
        std::future::ready(Reply::Bytes(reply))
    })
    .await;
    let (error, _) = error_of(&source(settings(&fake.url))).await;
    assert!(error.to_string().contains("(latency of requests sent) answered 500"), "{error}");
}

/// Time is paused: it passes only when nothing else can happen.
#[tokio::test(start_paused = true)]
async fn a_prometheus_that_hangs_is_an_error_in_time() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"status\"";
    for said in ["", "HTTP/1.1 200", head] {
        let fake = Fake::always(Reply::Stall(said.to_owned())).await;
        let started = tokio::time::Instant::now();
        let (error, text) = error_of(&source(settings(&fake.url))).await;
        assert_eq!(text, "Prometheus did not answer within 8s");
        assert!(error.to_string().contains(" at 127.0.0.1:"), "{error}");
        let taken = started.elapsed();
        assert!(taken >= QUESTION_TIMEOUT && taken < QUESTION_TIMEOUT + Duration::from_secs(1), "{taken:?}");
    }
}

#[tokio::test]
async fn queries_at_once_are_bounded_over_all_questions() {
    let (open, most, total) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), 5);
    let (arrived, mut arriving) = watch::channel(0);
    let (release, released) = watch::channel(false);
    let (counted, highest) = (Arc::clone(&open), Arc::clone(&most));
    let arrived = Arc::new(arrived);
    let fake = Fake::start(move |_| {
        let (open, most) = (Arc::clone(&counted), Arc::clone(&highest));
        let (arrived, mut released) = (Arc::clone(&arrived), released.clone());
        async move {
            most.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
            arrived.send_modify(|count| *count += 1);
            let _ = released.wait_for(|released| *released).await;
            open.fetch_sub(1, SeqCst);
            Reply::Bytes(vector(&json!([])))
        }
    })
    .await;
    let source = source(settings(&fake.url));
    let questions = (0..total).map(|_| {
        let source = source.clone();
        tokio::spawn(async move { source.traffic(&deployments()).await.is_ok() })
    });
    let questions: Vec<_> = questions.collect();
    arriving.wait_for(|count| *count >= AT_ONCE).await.unwrap();
    release.send_replace(true);
    let answered = join_all(questions).await.into_iter().filter(|answer| *answer.as_ref().unwrap()).count();
    assert_eq!((answered, most.load(SeqCst), *arriving.borrow()), (total, AT_ONCE, total * 6));
}

#[tokio::test]
async fn credentials_stay_between_the_operator_and_prometheus() {
    let echo = |Received { head, .. }: Received| {
        let token =
            head.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap().to_owned();
        let error = json!({"status": "error", "errorType": "denied", "error": format!("no {token}")});
        std::future::ready(Reply::Bytes(http("403 Forbidden", &error.to_string())))
    };
    let value = |Received { head, .. }: Received| {
        let token =
            head.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap().to_owned();
        std::future::ready(Reply::Bytes(vector(&json!([{"metric": {}, "value": [1, token]}]))))
    };
    let folder = TempDir::new().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "s3cret-token").unwrap();
    let with = |url: &str| source(Settings { token: Some(token.clone()), ..settings(url) });
    for (url, expected) in [
        (Fake::start(echo).await.url, "answered 403: its text repeats the token"),
        (Fake::start(value).await.url, "its text repeats the token"),
    ] {
        let source = with(&url);
        let (error, text) = error_of(&source).await;
        assert!(text.contains(expected) && !text.contains("s3cret"), "{text}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
    for (written, expected) in
        [("", "it has 0 bytes"), ("a\nb", "no text of one line"), (&"x".repeat(20_000), "bytes")]
    {
        fs::write(&token, written).unwrap();
        let (_, text) = error_of(&with("http://127.0.0.1:1")).await;
        assert!(text.contains("the file with the token cannot be used") && text.contains(expected), "{text}");
    }
    fs::remove_file(&token).unwrap();
    let (_, text) = error_of(&with("http://127.0.0.1:1")).await;
    assert!(text.starts_with("Prometheus was not queried: the file with the token cannot be used"), "{text}");
}

#[tokio::test]
async fn a_server_with_https_is_verified_by_the_authorities_in_the_file() {
    let (config, pem) = self_signed_pem("localhost");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                if request(&mut stream).await.is_some() {
                    answer(stream, Reply::Bytes(vector(&json!([])))).await;
                }
            });
        }
    });
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("ca.crt");
    let source = source(Settings { ca: Some(file.clone()), ..settings(&url) });
    let (_, other) = self_signed_pem("localhost");
    for (written, expected) in [
        (None, "authorities cannot be used"),
        (Some("nothing"), "no certificate in PEM"),
        (Some(&*other), "cannot be reached: invalid peer certificate"),
        (Some(&*pem), ""),
    ] {
        if let Some(written) = written {
            fs::write(&file, written).unwrap();
        }
        match source.traffic(&deployments()).await {
            Ok(traffic) => assert!(traffic.is_empty() && expected.is_empty()),
            Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}"),
        }
    }
}

#[tokio::test]
async fn kinds_by_pod_need_their_setting() {
    let source = source(settings("http://127.0.0.1:1"));
    let error = source.traffic(&Question { kind: Kind::Pod, ..deployments() }).await.unwrap_err();
    assert!(
        matches!(&error, SourceError::Unsupported(text) if text.contains("--prometheus-pods")),
        "{error}"
    );
}
