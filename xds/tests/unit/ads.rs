//! The server in process, with made-up proxies and certificates, over connections in memory and a paused clock.

use smidge_xds_testing::{client, fixture};
use std::{sync::atomic::Ordering, time::Duration};

use client::{Net, node, sent, soon, until};
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use fixture::{Handles, KEY, filled, proxy, server, view};
use smidge_xds::{
    resources::ResourceType,
    server::{AckState, AckWatcher},
};
use tokio::time::{Instant, timeout};
use tonic::Code;

const ONE: (ResourceType, &str, &str) = (ResourceType::Cluster, "ns/one/80", "1");

fn start() -> (Net, Handles) {
    let (server, handles) = server(None);
    (Net::serve(server), handles)
}

#[tokio::test(start_paused = true)]
async fn a_refused_stream_learns_nothing() {
    let (net, handles) = start();
    handles.publish(&[("one", &view(&[ONE]))]);
    for (token, code) in [(None, Code::Unauthenticated), (Some("forged"), Code::Unauthenticated)] {
        let refused = net.open(token).await.err().expect("let in");
        assert_eq!((refused.code(), refused.message()), (code, "no valid credentials"));
    }
    let claims = [Some(node("other")), Some(node("")), None];
    for node in claims {
        let mut client = net.open(Some("one")).await.unwrap();
        let type_url = ResourceType::Cluster.type_url().to_owned();
        client.send(DeltaDiscoveryRequest { node, type_url, ..DeltaDiscoveryRequest::default() }).await;
        assert_eq!(client.ends().await, (Code::PermissionDenied, "not permitted".to_owned()));
    }
    assert_eq!(handles.metrics.resources_sent(), 0);
    assert_eq!(handles.leaves.issued.load(Ordering::SeqCst), 0);
    let metrics = handles.scrape();
    for line in ["NoToken\"} 1", "InvalidToken\"} 1", "NodeIdMismatch\"} 3"] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    assert!(handles.proxies.is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_the_delta_protocol_is_served() {
    let (net, _handles) = start();
    assert_eq!(net.state_of_the_world().await.code(), Code::Unimplemented);
}

#[tokio::test(start_paused = true)]
async fn a_stream_waits_for_its_view_but_not_for_ever() {
    let (net, handles) = start();
    let mut client = net.connect("one").await;
    client.want(ResourceType::Cluster, &[], &[]).await;
    client.receives_nothing().await;
    handles.publish(&[("other", &view(&[ONE]))]);
    client.receives_nothing().await;
    handles.publish(&[("one", &view(&[ONE]))]);
    assert_eq!(sent(&client.next().await), [("ns/one/80", "1")]);

    let mut stranger = net.connect("stranger").await;
    stranger.want(ResourceType::Cluster, &[], &[]).await;
    assert_eq!(stranger.ends().await, (Code::Unavailable, "unavailable, retry later".to_owned()));
    let mut mute = net.open(Some("one")).await.unwrap();
    assert_eq!(mute.ends().await.0, Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn a_change_wakes_whom_it_concerns() {
    let (net, handles) = start();
    let (old, new) = (view(&[ONE]), view(&[(ResourceType::Cluster, "ns/one/80", "2")]));
    handles.publish(&[("one", &old), ("two", &old)]);
    let (mut one, mut two) = (net.connect("one").await, net.connect("two").await);
    for client in [&mut one, &mut two] {
        client.want(ResourceType::Cluster, &[], &[]).await;
        assert_eq!(sent(&client.next().await), [("ns/one/80", "1")]);
    }
    handles.publish_to(Some(&[proxy("one")]), &[("one", &new), ("two", &new)]);
    assert_eq!(sent(&one.next().await), [("ns/one/80", "2")]);
    two.receives_nothing().await;
    assert!(handles.scrape().contains("view_updates_total 3"), "{}", handles.scrape());
}

#[tokio::test(start_paused = true)]
async fn a_cluster_is_removed_when_its_listeners_have_drained() {
    let (net, handles) = start();
    let listener = (ResourceType::Listener, "outbound/10.0.0.1:80", "l");
    handles.publish(&[("one", &view(&[ONE, listener]))]);
    let mut client = net.connect("one").await;
    client.want(ResourceType::Cluster, &[], &[]).await;
    client.next().await;
    client.want(ResourceType::Listener, &[], &[]).await;
    client.next().await;
    handles.publish(&[("one", &view(&[]))]);
    assert_eq!(client.next().await.removed_resources, ["outbound/10.0.0.1:80"]);
    let removed = Instant::now();
    until("the stream to be settled", || handles.proxies.list().iter().all(|one| one.settled)).await;
    let last = timeout(Duration::from_mins(1), client.responses.message()).await.expect("nothing came");
    assert_eq!(last.unwrap().unwrap().removed_resources, ["ns/one/80"]);
    let waited = removed.elapsed();
    assert!((Duration::from_secs(20)..=Duration::from_secs(41)).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_unchanged_is_sent_nothing() {
    let (net, handles) = start();
    let mesh = view(&[
        ONE,
        (ResourceType::Endpoints, "ns/one/80", "e"),
        (ResourceType::Listener, "outbound", "l+mark"),
    ]);
    handles.publish(&[("one", &mesh)]);
    let mut client = net.connect("one").await;
    client.want(ResourceType::Cluster, &[], &[]).await;
    client.want(ResourceType::Endpoints, &["ns/one/80"], &[]).await;
    client.want(ResourceType::Secret, &["identity"], &[]).await;
    client.want(ResourceType::Listener, &[], &[]).await;
    for expected in [1, 1, 1, 1] {
        assert_eq!(client.next().await.resources.len(), expected);
    }
    drop(client);
    let sent = handles.metrics.resources_sent();
    assert_eq!(sent, 4);

    let mut client = net.connect("one").await;
    client.want(ResourceType::Cluster, &[], &[("ns/one/80", "1")]).await;
    client.want(ResourceType::Endpoints, &["ns/one/80"], &[("ns/one/80", "e")]).await;
    client.want(ResourceType::Secret, &["identity"], &[("identity", "one 1 1")]).await;
    client.want(ResourceType::Listener, &[], &[("outbound", "l+older mark")]).await;
    client.receives_nothing().await;
    assert_eq!(handles.metrics.resources_sent(), sent);
    assert_eq!(handles.leaves.issued.load(Ordering::SeqCst), 1, "a good leaf was replaced");
    let [connected] = &handles.proxies.list()[..] else { panic!("{:?}", handles.proxies) };
    assert!(connected.settled && connected.acknowledged.is_some(), "{connected:?}");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_goes_to_its_own_stream_only() {
    let (net, handles) = start();
    let empty = view(&[]);
    handles.publish(&[("one", &empty), ("two", &empty)]);
    for name in ["one", "two"] {
        let mut client = net.connect(name).await;
        client.want(ResourceType::Secret, &["identity", "servers/ns/hidden"], &[]).await;
        let mut seen = [client.next().await, client.next().await];
        seen.sort_by_key(|response| response.resources.len());
        assert_eq!(seen[0].removed_resources, ["servers/ns/hidden"], "as if it did not exist");
        let [secret] = &seen[1].resources[..] else { panic!("{:?}", seen[1]) };
        let body = String::from_utf8_lossy(&secret.resource.as_ref().unwrap().value).into_owned();
        assert!(body.contains(&format!("sa/{name}")) && body.contains(KEY), "{body}");
        let debug = format!("{:?}", handles.proxies);
        let page = serde_json::to_string(&handles.proxies.list()).unwrap();
        assert!(page.contains(&format!("{name} 1 ")), "{page}");
        assert!(!debug.contains("PRIVATE") && !page.contains("PRIVATE"), "{debug} {page}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leaf_is_renewed_in_time_and_kept_while_it_cannot_be() {
    let (net, handles) = start();
    handles.publish(&[("one", &view(&[]))]);
    let mut client = net.connect("one").await;
    client.want(ResourceType::Secret, &["identity"], &[]).await;
    assert_eq!(sent(&client.next().await), [("identity", "one 1 1")]);
    client.receives_nothing().await;
    handles.leaves.fails.store(true, Ordering::SeqCst);
    tokio::time::advance(Duration::from_hours(1)).await;
    client.receives_nothing().await;
    assert!(handles.scrape().contains("certificate_failures_total"));
    handles.leaves.fails.store(false, Ordering::SeqCst);
    tokio::time::advance(Duration::from_mins(2)).await;
    assert_eq!(sent(&client.next().await), [("identity", "one 1 2")]);
    handles.leaves.issuer.send_replace(2);
    assert_eq!(sent(&client.next().await), [("identity", "one 2 3")]);
}

#[tokio::test(start_paused = true)]
async fn one_certificate_is_tried_at_a_time_however_often_issuers_change() {
    let (net, handles) = start();
    handles.publish(&[("one", &view(&[]))]);
    let mut client = net.connect("one").await;
    client.want(ResourceType::Secret, &["identity"], &[]).await;
    assert_eq!(sent(&client.next().await), [("identity", "one 1 1")]);
    handles.leaves.fails.store(true, Ordering::SeqCst);
    for issuer in 2..12 {
        handles.leaves.issuer.send_replace(issuer);
        client.receives_nothing().await;
    }
    let before = handles.leaves.asked.load(Ordering::SeqCst);
    let outage = timeout(Duration::from_mins(10), client.responses.message()).await;
    assert!(outage.is_err(), "heard {outage:?}");
    let asked = handles.leaves.asked.load(Ordering::SeqCst) - before;
    // Six while the delays grow to a minute, and one a minute from then on.
    assert!((9..=16).contains(&asked), "asked {asked} times in ten minutes");
    handles.leaves.fails.store(false, Ordering::SeqCst);
    let response = timeout(Duration::from_mins(2), client.responses.message()).await.expect("no certificate");
    assert_eq!(sent(&response.unwrap().unwrap()), [("identity", "one 11 2")]);
    client.receives_nothing().await;
    assert_eq!(handles.leaves.issued.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_reported_and_not_repeated() {
    let (net, mut handles) = start();
    handles.publish(&[("one", &view(&[ONE]))]);
    let mut client = net.connect("one").await;
    client.want(ResourceType::Cluster, &[], &[]).await;
    let response = client.receive().await;
    client.answer(&response, Some("no such thing")).await;
    let nack = soon("a report", handles.nacks.recv()).await.unwrap();
    assert_eq!((nack.proxy.instance.as_str(), nack.refused.message.as_str()), ("one", "no such thing"));
    client.receives_nothing().await;
    let [connected] = &handles.proxies.list()[..] else { panic!("{:?}", handles.proxies) };
    assert!(connected.refused.keys().eq([&(ResourceType::Cluster, "ns/one/80".into())]), "{connected:?}");
    assert!(handles.scrape().contains("nacks_total{kind=\"cds\"} 1"));
    handles.publish(&[("one", &view(&[(ResourceType::Cluster, "ns/one/80", "2")]))]);
    assert_eq!(sent(&client.next().await), [("ns/one/80", "2")]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_delays_nobody_and_skips_what_it_missed() {
    let (net, handles) = start();
    let large =
        |version: &'static str| filled([(ResourceType::Cluster, "ns/one/80", version, vec![b'x'; 4 << 20])]);
    let small = |version: &'static str| view(&[(ResourceType::Cluster, "ns/one/80", version)]);
    handles.publish(&[("slow", &large("1")), ("fast", &small("1"))]);
    let mut slow = net.connect("slow").await;
    slow.want(ResourceType::Cluster, &[], &[]).await;
    let mut fast = net.connect("fast").await;
    fast.want(ResourceType::Cluster, &[], &[]).await;
    assert_eq!(sent(&fast.next().await), [("ns/one/80", "1")]);
    for version in ["2", "3", "4"] {
        handles.publish(&[("slow", &large(version)), ("fast", &small(version))]);
        assert_eq!(sent(&fast.next().await), [("ns/one/80", version)]);
    }
    let first = slow.responses.message();
    let first = soon("the first answer", first).await;
    // Four megabytes are more than this client accepts; the number of sent responses is what counts.
    assert_eq!(first.unwrap_err().code(), Code::OutOfRange);
    assert!(handles.scrape().contains("responses_total{kind=\"cds\"} 5"), "{}", handles.scrape());
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_its_workload_its_token_and_the_server() {
    let (mut net, handles) = start();
    handles.publish(&[("one", &view(&[ONE]))]);
    let mut client = net.connect("one").await;
    client.receives_nothing().await;
    handles.tokens.gone.send_replace(true);
    assert_eq!(client.ends().await.0, Code::Ok);
    handles.tokens.gone.send_replace(false);

    let mut client = net.connect("one").await;
    let start = tokio::time::Instant::now();
    assert_eq!(client.ends().await.0, Code::Ok);
    let lived = start.elapsed().as_secs();
    assert!((32_400..=36_000).contains(&lived), "the token is good for 36,000 s, the stream lived {lived} s");

    let mut client = net.connect("one").await;
    client.receives_nothing().await;
    net.stop();
    assert_eq!(client.ends().await.0, Code::Ok);
    drop(client);
    soon("the server ends", net.task).await.unwrap();
    assert!(handles.proxies.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_what_was_replaced_meanwhile_holds_no_longer() {
    let (net, handles) = start();
    handles.publish(&[("one", &view(&[ONE]))]);
    let mut client = net.connect("one").await;
    client.want(ResourceType::Cluster, &[], &[]).await;
    client.want(ResourceType::Listener, &[], &[]).await;
    let first = client.receive().await;
    assert!(sent(&client.next().await).is_empty(), "the empty answer for listeners");
    handles.publish(&[("one", &view(&[(ResourceType::Cluster, "ns/one/80", "2")]))]);
    client.receives_nothing().await;
    client.answer(&first, Some("no such thing")).await;
    assert_eq!(sent(&client.next().await), [("ns/one/80", "2")]);
    client.receives_nothing().await;
    let [connected] = &handles.proxies.list()[..] else { panic!("{:?}", handles.proxies) };
    assert!(connected.settled && connected.refused.is_empty(), "{connected:?}");
    assert!(news(&handles.proxies.follow()).refused.is_empty());
}

/// Changed state of the only connected proxy, which the watcher has not returned yet.
fn news(follower: &AckWatcher) -> AckState {
    let mut news: Vec<_> = follower.take().into_values().collect();
    assert_eq!(news.len(), 1);
    news.remove(0).expect("it is connected")
}

#[tokio::test(start_paused = true)]
async fn whoever_follows_the_proxies_hears_of_every_answer() {
    let (net, handles) = start();
    let follower = handles.proxies.follow();
    assert!(follower.take().is_empty());
    let first = view(&[ONE]);
    handles.publish(&[("one", &first)]);
    let mut client = net.connect("one").await;
    soon("news of the newcomer", follower.changed()).await;
    assert!(news(&follower).acknowledged.is_none());
    client.want(ResourceType::Cluster, &[], &[]).await;
    client.want(ResourceType::Listener, &[], &[]).await;
    assert_eq!(sent(&client.next().await), [("ns/one/80", "1")]);
    assert!(sent(&client.next().await).is_empty(), "the empty answer for listeners");
    client.receives_nothing().await;
    let answer = news(&follower);
    assert!(std::sync::Arc::ptr_eq(&answer.acknowledged.unwrap(), &first));
    assert!(answer.refused.is_empty());
    // A later watcher learns of all connected proxies.
    assert!(std::sync::Arc::ptr_eq(&news(&handles.proxies.follow()).acknowledged.unwrap(), &first));

    let second = view(&[(ResourceType::Cluster, "ns/one/80", "2")]);
    handles.publish(&[("one", &second)]);
    let response = client.receive().await;
    client.answer(&response, Some("no such thing")).await;
    client.receives_nothing().await;
    let answer = news(&follower);
    let refused: Vec<_> = answer.refused.iter().map(|((_, name), words)| (&**name, &**words)).collect();
    assert_eq!(refused, [("ns/one/80", "no such thing")]);

    // Another version clears the refusal.
    handles.publish(&[("one", &view(&[(ResourceType::Cluster, "ns/one/80", "3")]))]);
    assert_eq!(sent(&client.next().await), [("ns/one/80", "3")]);
    client.receives_nothing().await;
    assert!(news(&follower).refused.is_empty());
    drop(client);
    let gone = async {
        while follower.take().into_values().all(|answer| answer.is_some()) {
            follower.changed().await;
        }
    };
    soon("news of its end", gone).await;
}

#[tokio::test(start_paused = true)]
async fn an_acknowledged_endpoint_is_no_news_and_anything_else_is() {
    let (net, handles) = start();
    let listener = (ResourceType::Listener, "outbound/1", "1");
    handles.publish(&[("one", &view(&[ONE, listener]))]);
    let mut client = net.connect("one").await;
    client.want(ResourceType::Cluster, &[], &[]).await;
    client.want(ResourceType::Listener, &[], &[]).await;
    client.next().await;
    client.next().await;
    client.receives_nothing().await;
    let follower = handles.proxies.follow();
    assert!(news(&follower).acknowledged.is_some());
    let moved = view(&[(ResourceType::Cluster, "ns/one/80", "2"), listener]);
    handles.publish(&[("one", &moved)]);
    client.next().await;
    client.receives_nothing().await;
    let list = handles.proxies.list();
    assert!(std::sync::Arc::ptr_eq(list[0].acknowledged.as_ref().unwrap(), &moved));
    assert!(follower.take().is_empty(), "of a change that no object says, nobody need hear");
    let said =
        view(&[(ResourceType::Cluster, "ns/one/80", "2"), (ResourceType::Listener, "outbound/1", "2")]);
    handles.publish(&[("one", &said)]);
    client.next().await;
    client.receives_nothing().await;
    assert!(std::sync::Arc::ptr_eq(&news(&follower).acknowledged.unwrap(), &said));
}
