//! Permission to read the debug pages, and the cost of checking it.

use std::{net::Ipv4Addr, sync::atomic::Ordering::SeqCst, time::Duration};

use serde_json::json;
use smidge::admin::PrometheusReaders;
use smidge_testing::tokens::{Signer, claims};

use super::{DEADLINE, KUBELET, SIGNER, Served, bearer, get, reviewed, serve, serve_traffic, token};

const DEBUG: [&str; 3] = ["/debug/mesh", "/debug/findings", "/debug/proxies"];

async fn status(served: &Served, path: &str, token: &str) -> String {
    let answer = get(served, KUBELET, path, &bearer(token)).await;
    answer.split(' ').nth(1).unwrap().to_owned()
}

fn reviews(served: &Served) -> (u64, usize) {
    let objects = &served.api.objects;
    (objects.reviews.load(SeqCst), objects.access_reviews.lock().unwrap().len())
}

#[tokio::test]
async fn nobody_reads_a_debug_page_without_a_token() {
    let served = serve(1).await;
    let good = token("a");
    for path in DEBUG {
        let others = SIGNER.sign(&claims());
        let headers = [
            String::new(),
            "authorization: Basic YTpi\r\n".to_owned(),
            bearer("junk"),
            bearer(&others),
            bearer(&good) + &bearer(&good),
        ];
        for header in headers {
            let answer = get(&served, KUBELET, path, &header).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{path} {header}: {answer}");
            assert!(answer.contains("ClusterRole smidge-debug"), "{answer}");
            assert!(
                answer.contains("create token ACCOUNT --audience smidge/cluster.local/local/debug"),
                "{answer}"
            );
        }
    }
    assert_eq!(reviews(&served), (0, 0), "what is not meant for us is not asked about");
    for path in ["/livez", "/readyz", "/metrics"] {
        assert!(get(&served, KUBELET, path, "").await.starts_with("HTTP/1.1 200 "), "{path}");
    }
}

#[tokio::test]
async fn what_the_issuer_has_not_signed_is_not_asked_about() {
    let served = serve(1).await;
    let mut claims = claims();
    claims["aud"] = json!(["smidge/cluster.local/local/debug"]);
    for kid in ["first", "stranger"] {
        assert_eq!(status(&served, DEBUG[0], &Signer::new(kid).sign(&claims)).await, "401", "{kid}");
    }
    assert_eq!(reviews(&served), (0, 0));
}

#[tokio::test]
async fn one_peer_has_one_review_at_a_time() {
    let served = serve(1).await;
    let objects = &served.api.objects;
    objects.hold_reviews(true);
    let tokens = ["a", "b", "c"].map(token);
    let ask = |from, token: &str| {
        let header = bearer(token);
        let served = &served;
        async move { get(served, from, DEBUG[0], &header).await.split(' ').nth(1).unwrap().to_owned() }
    };
    let asked_at_once = async {
        while objects.reviews.load(SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
    };
    let others = Ipv4Addr::new(127, 0, 0, 7);
    let refused = async {
        tokio::time::timeout(DEADLINE, asked_at_once).await.expect("one review for each of two peers");
        assert_eq!(ask(KUBELET, &tokens[1]).await, "503");
        assert_eq!(objects.reviews.load(SeqCst), 2);
        objects.hold_reviews(false);
    };
    let (own, others, ()) = tokio::join!(ask(KUBELET, &tokens[0]), ask(others, &tokens[2]), refused);
    assert_eq!([own, others], ["200", "200"]);
}

#[tokio::test]
async fn whoever_may_get_the_path_reads_it() {
    let served = serve(1).await;
    let token = token("a");
    for (number, path) in DEBUG.into_iter().enumerate() {
        assert_eq!(status(&served, path, &token).await, "200", "{path}");
        let asked = served.api.objects.access_reviews.lock().unwrap()[number].clone();
        let wanted = json!({
            "user": "system:serviceaccount:ops:ada", "uid": "uid-ada",
            "groups": ["system:serviceaccounts"], "extra": {"a": ["b"]},
            "nonResourceAttributes": {"path": path, "verb": "get"},
        });
        assert_eq!(asked, wanted);
    }
    assert!(get(&served, KUBELET, DEBUG[0], &bearer(&token)).await.contains("\"services\""));
}

#[tokio::test]
async fn whoever_may_not_is_told_what_is_lacking() {
    let served = serve(1).await;
    served.api.objects.allowed.store(false, SeqCst);
    let answer = get(&served, KUBELET, DEBUG[0], &bearer(&token("a"))).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("system:serviceaccount:ops:ada") && answer.contains("smidge-debug"), "{answer}");
    for (field, value) in
        [("audiences", json!(["else"])), ("authenticated", json!(false)), ("user", json!(null))]
    {
        let mut review = reviewed();
        review[field] = value;
        *served.api.objects.review.lock().unwrap() = Some(review);
        assert_eq!(status(&served, DEBUG[0], &token(field)).await, "401", "{field}");
    }
}

#[tokio::test]
async fn an_api_server_that_says_nothing_is_no_yes_and_is_asked_again() {
    let served = serve(1).await;
    let token = token("a");
    *served.api.objects.review.lock().unwrap() = None;
    assert_eq!(status(&served, DEBUG[0], &token).await, "503");
    *served.api.objects.review.lock().unwrap() = Some(reviewed());
    served.api.objects.down.store(true, SeqCst);
    assert_eq!(status(&served, DEBUG[0], &token).await, "503");
    served.api.objects.down.store(false, SeqCst);
    assert_eq!(status(&served, DEBUG[0], &token).await, "200");
}

#[tokio::test]
async fn an_answer_is_kept_for_a_while_and_for_its_page_and_token_alone() {
    let served = serve(1).await;
    let (one, other) = (token("a"), token("b"));
    for _ in 0..3 {
        assert_eq!(status(&served, DEBUG[0], &one).await, "200");
    }
    assert_eq!(reviews(&served), (1, 1));
    assert_eq!(status(&served, DEBUG[1], &one).await, "200");
    assert_eq!(status(&served, DEBUG[0], &other).await, "200");
    assert_eq!(reviews(&served), (3, 3));
    served.api.objects.allowed.store(false, SeqCst);
    assert_eq!(status(&served, DEBUG[0], &one).await, "200");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(30)).await;
    tokio::time::resume();
    assert_eq!(status(&served, DEBUG[0], &one).await, "403");
    assert_eq!(reviews(&served), (4, 4));
    // A denial is cached for a shorter time.
    served.api.objects.allowed.store(true, SeqCst);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
    assert_eq!(status(&served, DEBUG[0], &one).await, "200");
}

#[tokio::test]
async fn no_more_than_a_hundred_answers_are_kept() {
    let served = serve(1).await;
    let tokens: Vec<String> = (0..101).map(|id| token(&id.to_string())).collect();
    for token in &tokens {
        assert_eq!(status(&served, DEBUG[1], token).await, "200");
    }
    assert_eq!(reviews(&served), (101, 101));
    assert_eq!(status(&served, DEBUG[1], &tokens[100]).await, "200");
    assert_eq!(reviews(&served), (101, 101));
    assert_eq!(status(&served, DEBUG[1], &tokens[0]).await, "200");
    assert_eq!(reviews(&served), (102, 102), "the first one was forgotten");
}

#[tokio::test]
async fn traffic_is_among_the_metrics_unless_a_right_is_demanded() {
    let path = "/metrics/traffic";
    let open = serve_traffic(1, PrometheusReaders::Network).await;
    for page in ["/metrics", path] {
        let answer = get(&open, KUBELET, page, "").await;
        assert!(answer.contains("\ncalls 0\n") && answer.trim_end().ends_with("# EOF"), "{page}: {answer}");
    }
    let closed = serve_traffic(1, PrometheusReaders::Rbac).await;
    assert!(!get(&closed, KUBELET, "/metrics", "").await.contains("calls"));
    let refusal = get(&closed, KUBELET, path, "").await;
    assert!(
        refusal.starts_with("HTTP/1.1 401 ") && refusal.contains("ClusterRole smidge-scrape"),
        "{refusal}"
    );
    assert!(!refusal.contains("calls"));
    assert_eq!(status(&closed, path, &token("a")).await, "200");
    closed.api.objects.allowed.store(false, SeqCst);
    assert_eq!(status(&closed, path, &token("b")).await, "403");
}
