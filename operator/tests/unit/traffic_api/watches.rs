//! Watches: their events, their end, and how many there may be.

use http_body_util::BodyExt as _;
use hyper::{Response, body::Incoming};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{BASE, DEADLINE, Port, calls, deployments, read};

/// Reads events until there are `count` more.
async fn events(response: &mut Response<Incoming>, count: usize) -> Vec<(String, Value)> {
    let mut text = Vec::new();
    while text.split(|byte| *byte == b'\n').count() <= count {
        let frame = timeout(DEADLINE, response.body_mut().frame()).await.expect("no event");
        let Some(frame) = frame else { break };
        text.extend_from_slice(&frame.unwrap().into_data().unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.map(|event| (event["type"].as_str().unwrap().to_owned(), event["object"].clone())).collect()
}

#[tokio::test]
async fn a_watch_sends_what_changes() {
    let port = Port::open().await;
    let query = "watch=true&allowWatchBookmarks=true&sendInitialEvents=true&timeoutSeconds=300";
    let path = format!("{BASE}/namespaces/shop/deployments?{query}");
    let shown = Some(port.api_server());
    let mut response = port.send(shown, &path, &[("x-remote-user", "ann")]).await;
    assert_eq!(response.status(), 200);
    let first = events(&mut response, 3).await;
    let kinds: Vec<_> = first.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["ADDED", "ADDED", "BOOKMARK"]);
    assert_eq!(first[2].1["metadata"]["annotations"], json!({"k8s.io/initial-events-end": "true"}));
    port.traffic.send_replace(Some(calls(8)));
    let changed = events(&mut response, 1).await;
    assert_eq!((changed[0].0.as_str(), &changed[0].1["metadata"]["name"]), ("MODIFIED", &json!("web")));
    assert_eq!(changed[0].1["metrics"][3]["value"], "8");
}

#[tokio::test]
async fn a_watch_ends_at_the_time_that_was_asked_for() {
    let port = Port::open().await;
    let path = format!("{BASE}/deployments?watch=true&timeoutSeconds=1");
    let shown = Some(port.api_server());
    let mut response = port.send(shown, &path, &[("x-remote-user", "ann")]).await;
    assert_eq!(events(&mut response, usize::MAX).await.len(), 2, "the first events, and the end");
}

#[tokio::test]
async fn an_error_before_the_first_event_is_the_answer() {
    let port = Port::open().await;
    port.traffic.send_replace(None);
    assert_eq!(port.ask(&format!("{BASE}/deployments?watch=true"), &[]).await.0, 503);
    port.traffic.send_replace(Some(calls(1)));
    let beginning = deployments(&["idle"], &json!({"continue": "next"}));
    port.objects.documents.lock().unwrap().insert("/apis/apps/v1/deployments".to_owned(), beginning);
    let (status, document) = port.ask(&format!("{BASE}/deployments?watch=true"), &[]).await;
    assert_eq!(status, 400);
    assert!(document["message"].as_str().unwrap().contains("at most 500 objects"), "{document}");
}

#[tokio::test]
async fn a_user_has_few_watches_and_one_that_ends_makes_room() {
    let port = Port::open().await;
    let path = format!("{BASE}/deployments?watch=true");
    let open = async |user: &str| port.send(Some(port.api_server()), &path, &[("x-remote-user", user)]).await;
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(open("ann").await);
        assert_eq!(held.last().unwrap().status(), 200);
    }
    let refused = open("ann").await;
    assert_eq!(refused.headers()["retry-after"], "1");
    let (status, document) = read(refused).await;
    assert_eq!((status, &document["reason"]), (429, &json!("TooManyRequests")));
    assert_eq!(open("ben").await.status(), 200, "another user has places of its own");
    held.pop();
    let freed = async {
        while open("ann").await.status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, freed).await.expect("the place is not free");
}
