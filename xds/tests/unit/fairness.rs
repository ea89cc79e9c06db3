//! Proxies that misbehave, and many concurrent ones: their cost for other proxies and the server, in counts.
//!
//! Over connections in memory and a paused clock, which advances only when no task has anything to do.

use smidge_xds_testing::{client, fixture};
use std::{
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::Duration,
};

use client::{Client, Net, sent, soon, until};
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use fixture::{Handles, filled, server, view};
use futures::{StreamExt, stream::FuturesUnordered};
use smidge_xds::{resources::ResourceType, server::ComputeLimiter, view::View};
use tokio::time::{Instant, timeout};
use tonic::Code;

/// Size of the window of a client that reads nothing, in bytes.
const NARROW: u32 = 65_535;

fn start() -> (Net, Handles) {
    let (server, handles) = server(None);
    (Net::serve(server), handles)
}

/// A view with one cluster and one listener, so that a client that has requested and acknowledged both is served.
fn version(version: &str) -> Arc<View> {
    view(&[(ResourceType::Cluster, "ns/one/80", version), (ResourceType::Listener, "inbound", "l")])
}

/// Holds the only permit for as long as the result lives: it is given to a future that is not polled any more.
async fn hold(limiter: &ComputeLimiter) -> impl Future<Output = ()> {
    let limiter = limiter.clone();
    let line = limiter.clone();
    let mut next = Box::pin(async move { line.run(std::future::pending()).await });
    let queue = std::future::poll_fn(|cx| {
        assert!(next.as_mut().poll(cx).is_pending(), "there is another turn");
        Poll::Ready(())
    });
    soon("a turn", limiter.run(queue)).await;
    next
}

/// A client that has everything.
async fn served(net: &Net, name: &str) -> Client {
    let mut client = net.connect(name).await;
    client.want(ResourceType::Cluster, &[], &[]).await;
    client.want(ResourceType::Listener, &[], &[]).await;
    client.next().await;
    client.next().await;
    client
}

fn responses(handles: &Handles) -> u64 {
    count(handles, "responses_total")
}

/// The sum of a counter over its labels.
fn count(handles: &Handles, name: &str) -> u64 {
    let scraped = handles.scrape();
    let lines = scraped.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[tokio::test(start_paused = true)]
async fn who_reads_nothing_holds_a_few_answers_however_many_there_are() {
    let (net, handles) = start();
    let large =
        |version: &'static str| filled([(ResourceType::Cluster, "ns/one/80", version, vec![b'x'; 40 << 10])]);
    let names: Vec<&'static str> = (0..200).map(|n: u32| &*n.to_string().leak()).collect();
    handles.publish(&[("stuck", &large("0")), ("other", &version("0"))]);
    let mut other = served(&net, "other").await;
    let before = responses(&handles);
    let stuck = net.open_with(Some("stuck"), Some(NARROW)).await.unwrap();
    stuck.introduce("stuck").await;
    stuck.want(ResourceType::Cluster, &[], &[]).await;
    for (number, name) in names.iter().enumerate().skip(1) {
        handles.publish(&[("stuck", &large(name)), ("other", &version(name))]);
        assert_eq!(sent(&other.next().await), [("ns/one/80", *name)]);
        // The client acknowledges without reading, as it can predict the nonce.
        let type_url = ResourceType::Cluster.type_url().to_owned();
        let response_nonce = number.to_string();
        stuck
            .send(DeltaDiscoveryRequest { type_url, response_nonce, ..DeltaDiscoveryRequest::default() })
            .await;
    }
    other.receives_nothing().await;
    let held = responses(&handles) - before - 199;
    assert!((1..=4).contains(&held), "{held} answers to a client that reads nothing");
    // When it reads, it receives the last version, whatever it missed in between.
    let mut stuck = stuck;
    let mut last = String::new();
    while let Ok(response) = timeout(Duration::from_secs(5), stuck.responses.message()).await {
        let response = response.unwrap().unwrap();
        stuck.answer(&response, None).await;
        last.clone_from(&response.resources[0].version);
    }
    assert_eq!(last, "199");
}

#[tokio::test(start_paused = true)]
async fn who_never_answers_is_told_once_and_then_the_last() {
    let (net, handles) = start();
    handles.publish(&[("mute", &version("0")), ("other", &version("0"))]);
    let mut other = served(&net, "other").await;
    let mut mute = net.connect("mute").await;
    mute.want(ResourceType::Cluster, &[], &[]).await;
    mute.want(ResourceType::Listener, &[], &[]).await;
    let first = mute.receive().await;
    mute.receive().await;
    let before = responses(&handles);
    for number in 1..=100 {
        let name = number.to_string();
        handles.publish(&[("mute", &version(&name)), ("other", &version(&name))]);
        assert_eq!(sent(&other.next().await), [("ns/one/80", name.as_str())]);
    }
    mute.receives_nothing().await;
    assert_eq!(responses(&handles) - before, 100, "only the other one was told");
    mute.answer(&first, None).await;
    assert_eq!(sent(&mute.receive().await), [("ns/one/80", "100")]);
}

#[tokio::test(start_paused = true)]
async fn who_refuses_everything_is_told_each_version_once() {
    let (net, handles) = start();
    handles.publish(&[("sulky", &version("0")), ("other", &version("0"))]);
    let mut other = served(&net, "other").await;
    let mut sulky = net.connect("sulky").await;
    sulky.want(ResourceType::Cluster, &[], &[]).await;
    let mut last = sulky.receive().await;
    sulky.answer(&last, Some("no")).await;
    let before = responses(&handles);
    for number in 1..=50 {
        let name = number.to_string();
        handles.publish(&[("sulky", &version(&name)), ("other", &version(&name))]);
        assert_eq!(sent(&other.next().await), [("ns/one/80", name.as_str())]);
        last = sulky.receive().await;
        assert_eq!(sent(&last), [("ns/one/80", name.as_str())]);
        for _ in 0..5 {
            sulky.answer(&last, Some("no")).await;
        }
    }
    sulky.receives_nothing().await;
    assert_eq!(responses(&handles) - before, 100, "one for each version and client");
    assert_eq!(count(&handles, "nacks_total"), 51, "an answer counts once");
}

#[tokio::test(start_paused = true)]
async fn who_floods_is_heard_at_a_measured_pace_and_still_told() {
    let (net, handles) = start();
    handles.publish(&[("loud", &version("0")), ("other", &version("0"))]);
    let mut other = served(&net, "other").await;
    let mut loud = net.connect("loud").await;
    loud.want(ResourceType::Cluster, &[], &[]).await;
    loud.next().await;
    let begin = Instant::now();
    // The limit is a thousand in ten seconds and one for each of two names; two requests came before.
    for _ in 0..1000 {
        loud.want(ResourceType::Route, &[], &[]).await;
    }
    loud.want(ResourceType::Listener, &[], &[]).await;
    handles.publish(&[("loud", &version("1")), ("other", &version("1"))]);
    assert_eq!(sent(&other.next().await), [("ns/one/80", "1")]);
    assert_eq!(sent(&loud.receive().await), [("ns/one/80", "1")], "deaf, and not mute");
    assert_eq!((begin.elapsed().as_secs(), count(&handles, "streams_throttled_total")), (0, 1));
    let listener = soon("what was said too much is heard", loud.responses.message()).await;
    assert_eq!(sent(&listener.unwrap().unwrap()), [("inbound", "l")]);
    assert_eq!(begin.elapsed().as_secs(), 10, "what was said too much was heard later");
}

#[tokio::test(start_paused = true)]
async fn who_asks_for_much_name_by_name_is_heard_at_once() {
    let (net, handles) = start();
    let names: Vec<String> = (0..3000).map(|number| format!("ns/{number}/80")).collect();
    let routes: Vec<_> = names.iter().map(|name| (ResourceType::Route, name.as_str(), "1")).collect();
    handles.publish(&[("one", &view(&routes))]);
    let mut client = net.connect("one").await;
    let begin = Instant::now();
    for name in &names {
        client.want(ResourceType::Route, &[name], &[]).await;
        assert_eq!(sent(&client.next().await), [(name.as_str(), "1")]);
    }
    assert_eq!((begin.elapsed().as_secs(), count(&handles, "streams_throttled_total")), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_comes_again_and_again_ends_its_own_streams() {
    let (net, handles) = start();
    handles.publish(&[("one", &version("0")), ("other", &version("0"))]);
    let mut other = served(&net, "other").await;
    let mut first = served(&net, "one").await;
    let mut second = served(&net, "one").await;
    let mut third = served(&net, "one").await;
    assert_eq!(first.ends().await.0, Code::Ok);
    assert_eq!(handles.proxies.len(), 3);
    handles.publish(&[("one", &version("1")), ("other", &version("1"))]);
    for client in [&mut second, &mut third, &mut other] {
        assert_eq!(sent(&client.next().await), [("ns/one/80", "1")]);
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_cannot_be_ended_are_few() {
    let (net, handles) = start();
    let body = || vec![b'x'; 100 << 10];
    let large =
        filled([(ResourceType::Cluster, "c", "1", body()), (ResourceType::Listener, "inbound", "1", body())]);
    handles.publish(&[("stuck", &large)]);
    let mut stuck = Vec::new();
    for number in 1..=8 {
        let client = net.open_with(Some("stuck"), Some(NARROW)).await.unwrap();
        client.introduce("stuck").await;
        client.want(ResourceType::Cluster, &[], &[]).await;
        client.want(ResourceType::Listener, &[], &[]).await;
        until("it has what can be sent", || responses(&handles) == 2 * number).await;
        stuck.push(client);
    }
    let refused = net.open(Some("stuck")).await.err().expect("let in");
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "unavailable, retry later"));
    assert!(handles.scrape().contains("TooManyStreams\"} 1"), "{}", handles.scrape());
    drop(stuck.pop());
    until("one has ended", || handles.proxies.len() == 7).await;
    net.open(Some("stuck")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn newcomers_are_let_in_as_others_are_served_and_changes_flow_meanwhile() {
    let (mut server, handles) = server(None);
    server.settings.initialising_streams = 2;
    let net = Net::serve(server);
    let crowd: Vec<String> = (0..10).map(|number| format!("n{number}")).collect();
    let publish = |version: &Arc<View>| {
        let everybody = crowd.iter().map(|name| (name.as_str(), version));
        handles.publish(&everybody.chain([("other", version)]).collect::<Vec<_>>());
    };
    publish(&version("0"));
    let mut other = served(&net, "other").await;
    let begin = Instant::now();
    let open = |name| {
        let net = &net;
        async move { (name, net.open(Some(name)).await.unwrap()) }
    };
    let mut opening: FuturesUnordered<_> = crowd.iter().map(|name| open(name.as_str())).collect();
    let (name, mut quick) = opening.next().await.unwrap();
    let (_, _slow) = opening.next().await.unwrap();
    assert!(timeout(Duration::from_millis(100), opening.next()).await.is_err(), "a third one was let in");
    publish(&version("1"));
    assert_eq!(sent(&other.next().await), [("ns/one/80", "1")]);
    assert_eq!(handles.proxies.len(), 3);

    // One of the two is served: the next one is admitted at once.
    quick.introduce(name).await;
    quick.want(ResourceType::Cluster, &[], &[]).await;
    quick.want(ResourceType::Listener, &[], &[]).await;
    quick.next().await;
    quick.next().await;
    let (_, _third) = opening.next().await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    // The other streams send no request, and delay others for no more than a second each.
    let rest: Vec<_> = opening.collect().await;
    assert_eq!((rest.len(), begin.elapsed().as_secs()), (7, 4));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_waits_for_its_turn_and_nothing_waits_for_it() {
    let (mut server, handles) = server(None);
    server.compute_limiter = ComputeLimiter::new(1);
    let limiter = server.compute_limiter.clone();
    let net = Net::serve(server);
    handles.publish(&[("one", &version("0"))]);
    let mut client = served(&net, "one").await;
    let turn = hold(&limiter).await;
    client.want(ResourceType::Secret, &["identity"], &[]).await;
    client.receives_nothing().await;
    assert_eq!(handles.leaves.asked.load(Ordering::SeqCst), 0);
    handles.publish(&[("one", &version("1"))]);
    assert_eq!(sent(&client.next().await), [("ns/one/80", "1")]);
    drop(turn);
    assert_eq!(sent(&client.next().await), [("identity", "one 1 1")]);
}

#[tokio::test(start_paused = true)]
async fn tokens_wait_for_their_turns_and_nothing_waits_for_them() {
    let (mut server, handles) = server(None);
    server.compute_limiter = ComputeLimiter::new(1);
    let limiter = server.compute_limiter.clone();
    let net = Net::serve(server);
    handles.publish(&[("other", &version("0"))]);
    let mut other = served(&net, "other").await;
    let turn = hold(&limiter).await;
    let mut opening: FuturesUnordered<_> = (0..100).map(|_| net.open(Some("forged"))).collect();
    let judged = timeout(Duration::from_secs(5), opening.next()).await;
    assert!(judged.is_err(), "judged out of turn");
    handles.publish(&[("other", &version("1"))]);
    assert_eq!(sent(&other.next().await), [("ns/one/80", "1")]);
    drop(turn);
    let judged = timeout(Duration::from_secs(5), opening.collect::<Vec<_>>()).await.expect("not judged");
    assert!(judged.iter().all(Result::is_err), "let in");
}

#[tokio::test(start_paused = true)]
async fn who_is_nobody_yet_holds_nobody_up_and_waits_for_nobody() {
    let (mut server, handles) = server(None);
    server.settings.initialising_streams = 2;
    let net = Net::serve(server);
    handles.publish(&[]);
    let mut unjudged: FuturesUnordered<_> = (0..10).map(|_| net.open(Some("unjudged"))).collect();
    assert!(timeout(Duration::from_millis(100), unjudged.next()).await.is_err(), "judged");
    let begin = Instant::now();
    let _one = net.open(Some("one")).await.unwrap();
    let _two = net.open(Some("two")).await.unwrap();
    for token in [None, Some("forged")] {
        let refused = net.open(token).await.err().expect("let in");
        assert_eq!(refused.code(), Code::Unauthenticated);
    }
    assert_eq!(begin.elapsed(), Duration::ZERO, "who is judged at once is heard at once");
}

#[tokio::test(start_paused = true)]
async fn a_token_grows_older_in_the_queue() {
    let (mut server, _handles) = server(None);
    (server.settings.initialising_streams, server.authenticator.expires_in) = (1, Duration::from_secs(5));
    let net = Net::serve(server);
    let begin = Instant::now();
    let opening: FuturesUnordered<_> =
        ["a", "b", "c", "d"].map(|name| net.open(Some(name))).into_iter().collect();
    for client in &mut opening.collect::<Vec<_>>().await {
        assert_eq!(client.as_mut().unwrap().ends().await.0, Code::Ok);
    }
    assert!(begin.elapsed() <= Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_in_the_queue_leaves_nothing_behind() {
    let (mut server, handles) = server(None);
    server.settings.initialising_streams = 1;
    let net = Net::serve(server);
    let begin = Instant::now();
    let _first = net.open(Some("one")).await.unwrap();
    let second = timeout(Duration::from_millis(100), net.open(Some("two"))).await;
    assert!(second.is_err(), "let in");
    // Each identity that is held watches whether its workload has ended.
    until("the second one is forgotten", || handles.tokens.gone.receiver_count() == 1).await;
    assert!(begin.elapsed() < Duration::from_secs(1), "only when its turn had come");
    assert_eq!(handles.proxies.len(), 1);
    net.open(Some("three")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_has_stopped_altogether_is_given_up() {
    let (net, handles) = start();
    let body = || vec![b'x'; 300 << 10];
    let large =
        filled([(ResourceType::Cluster, "c", "1", body()), (ResourceType::Listener, "inbound", "1", body())]);
    handles.publish(&[("stopped", &large)]);
    let (client, stopped) = net.stoppable(Some("stopped")).await;
    client.introduce("stopped").await;
    client.want(ResourceType::Cluster, &[], &[]).await;
    until("the first answer", || responses(&handles) == 1).await;
    stopped.store(true, Ordering::SeqCst);
    client.want(ResourceType::Listener, &[], &[]).await;
    until("the second answer, which has nowhere to go", || responses(&handles) == 2).await;
    let begin = Instant::now();
    until("it is given up", || handles.proxies.is_empty()).await;
    // A ping is sent after 30 s of silence, and must be answered within 10 s.
    assert!((30..=45).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
}
