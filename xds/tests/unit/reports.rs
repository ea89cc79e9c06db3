//! Statistics that proxies push: by whom, how often, how much.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use smidge_xds_testing::{client::Net, fixture};
use tokio::time::advance;
use tonic::{
    Code,
    body::Body,
    codegen::{Service as _, http},
    transport::Channel,
};

use fixture::{Handles, proxy, server};

const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// Returns the bytes of a message on the wire.
fn framed(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &len[..], message].concat()
}

async fn send(channel: &mut Channel, token: Option<&str>, body: Body) -> Code {
    let mut request =
        http::Request::post(EXPORT).header("content-type", "application/grpc").header("te", "trailers");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
    let response = channel.call(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or(parts.headers);
    let code = Code::from_bytes(trailers["grpc-status"].as_bytes());
    assert_eq!(&*collected.to_bytes(), if code == Code::Ok { &[0; 5][..] } else { &[] });
    code
}

async fn push(channel: &mut Channel, token: &str, message: &[u8]) -> Code {
    send(channel, Some(token), whole(framed(message))).await
}

fn whole(bytes: Vec<u8>) -> Body {
    Body::new(http_body_util::Full::new(Bytes::from(bytes)))
}

async fn start() -> (Net, Handles, Channel) {
    let (server, handles) = server(None);
    let net = Net::serve(server);
    let channel = net.channel(None, Arc::default()).await;
    (net, handles, channel)
}

fn received(handles: &Handles) -> Vec<(String, usize)> {
    let all = handles.reports.0.lock().unwrap();
    all.iter().map(|(proxy, message)| (proxy.instance.clone(), message.len())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_proxy_reports_about_itself() {
    let (_net, handles, mut channel) = start().await;
    assert_eq!(push(&mut channel, "one", b"abc").await, Code::Ok);
    assert_eq!(push(&mut channel, "two", b"").await, Code::Ok);
    let all = handles.reports.0.lock().unwrap().clone();
    assert_eq!(all, [(proxy("one"), Bytes::from_static(b"abc")), (proxy("two"), Bytes::new())]);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_admitted_reports_nothing() {
    let (_net, handles, mut channel) = start().await;
    for token in [None, Some("forged")] {
        assert_eq!(send(&mut channel, token, whole(framed(b"abc"))).await, Code::Unauthenticated);
    }
    assert!(received(&handles).is_empty());
}

#[tokio::test(start_paused = true)]
async fn credentials_are_verified_again_once_they_expire_or_their_workload_is_gone() {
    let (_net, handles, mut channel) = start().await;
    assert_eq!(push(&mut channel, "one", b"a").await, Code::Ok);
    assert_eq!(handles.tokens.admitted(), 1);
    advance(Duration::from_secs(5)).await;
    assert_eq!(push(&mut channel, "one", b"a").await, Code::Ok);
    assert_eq!(handles.tokens.admitted(), 1);
    advance(Duration::from_hours(10)).await;
    assert_eq!(push(&mut channel, "one", b"a").await, Code::Ok);
    assert_eq!(handles.tokens.admitted(), 2);
    handles.tokens.gone.send_replace(true);
    assert_eq!(push(&mut channel, "one", b"a").await, Code::Ok);
    assert_eq!(handles.tokens.admitted(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_a_proxy_is_bounded_and_that_of_others_is_not_concerned() {
    let (_net, handles, mut channel) = start().await;
    let mut codes = Vec::new();
    for _ in 0..10 {
        codes.push(push(&mut channel, "one", b"a").await);
    }
    assert_eq!(codes.iter().filter(|code| **code == Code::Ok).count(), 8);
    assert!(codes[8..].iter().all(|code| *code == Code::ResourceExhausted));
    assert_eq!(push(&mut channel, "two", b"a").await, Code::Ok);
    assert!(handles.scrape().contains("pushes_throttled_total 2"), "{}", handles.scrape());
    advance(Duration::from_secs(2)).await;
    let mut again = Vec::new();
    for _ in 0..3 {
        again.push(push(&mut channel, "one", b"a").await);
    }
    assert_eq!(again, [Code::Ok, Code::Ok, Code::ResourceExhausted]);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_whole_and_of_bounded_size_or_refused() {
    let (_net, handles, mut channel) = start().await;
    let longer = [framed(b"abc"), vec![0]].concat();
    for (token, body) in [
        ("cut", framed(b"abc")[..6].to_vec()),
        ("longer", longer),
        ("none", Vec::new()),
        ("compressed", [&[1], &framed(b"abc")[1..]].concat()),
    ] {
        assert_eq!(send(&mut channel, Some(token), whole(body)).await, Code::InvalidArgument, "{token}");
    }
    assert_eq!(push(&mut channel, "large", &vec![0; (4 << 20) + 1]).await, Code::ResourceExhausted);
    assert!(received(&handles).is_empty());
    assert_eq!(push(&mut channel, "large", &vec![0; 4 << 20]).await, Code::Ok);
    assert_eq!(received(&handles), [("large".to_owned(), 4 << 20)]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_end_is_given_up() {
    let (_net, handles, mut channel) = start().await;
    let first = stream::iter([Ok::<_, tonic::Status>(Frame::data(Bytes::from_static(&[0, 0, 0, 0, 9, 1])))]);
    let body = Body::new(StreamBody::new(first.chain(stream::pending())));
    assert_eq!(send(&mut channel, Some("slow"), body).await, Code::DeadlineExceeded);
    assert!(received(&handles).is_empty());
    assert_eq!(push(&mut channel, "slow", b"a").await, Code::Ok);
}
