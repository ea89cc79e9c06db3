//! Spans of requests to the webhooks.

use std::{net::Ipv4Addr, sync::Arc};

use http_body_util::{BodyExt as _, Full};
use hyper::{StatusCode, body::Bytes};
use smidge_testing::{
    reviews, tls,
    webhook::{NAME, Webhook, post, serve},
};
use smidge_xds_testing::collector::Collector;

use super::{NOT_SAMPLED, SAMPLED, sending_to, span};

async fn served() -> Webhook {
    let (config, roots) = tls::self_signed(NAME);
    Webhook::new(serve(Arc::new(config), None).await, roots)
}

async fn send(webhook: &Webhook, path: &str, header: (&str, &str), body: Bytes) -> StatusCode {
    let mut sender = webhook.http2(Ipv4Addr::LOCALHOST).await.unwrap();
    let mut request = post(path, Full::new(body).boxed());
    request.headers_mut().insert("authorization", "Bearer secret".parse().unwrap());
    request.headers_mut().insert("traceparent", header.1.parse().unwrap());
    request.headers_mut().insert("tracestate", "vendor=secret".parse().unwrap());
    sender.send_request(request).await.unwrap().status()
}

#[tokio::test]
async fn a_review_has_a_span_in_the_trace_of_the_api_server() {
    let collector = Collector::start();
    let (telemetry, _default) = sending_to(collector.address);
    let webhook = served().await;
    assert_eq!(send(&webhook, "/inject", SAMPLED, reviews::pod()).await, StatusCode::OK);
    let span = span(&collector, "webhook inject");
    assert_eq!(
        (span.trace.as_str(), span.parent.as_str()),
        ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    );
    assert_eq!((span.service.as_str(), span.kind, span.is_error), ("smidge", 2, false));
    let size = reviews::pod().len().to_string();
    for (key, value) in [
        ("smidge.operation", "CREATE"),
        ("smidge.outcome", "allowed"),
        ("smidge.review.uid", "u"),
        ("k8s.object.kind", "Pod"),
        ("k8s.object.name", "g"),
        ("k8s.namespace.name", "a"),
        ("http.response.status_code", "200"),
        ("http.request.body.size", size.as_str()),
    ] {
        assert_eq!(span.value(key), Some(value), "{key}: {span:#?}");
    }
    assert!(!format!("{:?}", collector.spans()).contains("secret"), "{span:#?}");
    telemetry.stop();
}

#[tokio::test]
async fn other_requests_begin_traces_unless_the_api_server_decided_against_it() {
    let collector = Collector::start();
    let (telemetry, _default) = sending_to(collector.address);
    let webhook = served().await;
    send(&webhook, "/validate", NOT_SAMPLED, reviews::pod()).await;
    send(&webhook, "/convert", ("traceparent", "nonsense"), reviews::conversion(1)).await;
    send(&webhook, "/inject", ("traceparent", ""), Bytes::from_static(b"{}")).await;
    let (converted, refused) = (span(&collector, "webhook convert"), span(&collector, "webhook inject"));
    assert_eq!(converted.value("smidge.conversion.version"), Some("specs.smi-spec.io/v1alpha1"));
    assert_eq!((converted.value("smidge.operation"), converted.parent.as_str()), (Some("CONVERT"), ""));
    assert_eq!(
        (refused.value("smidge.outcome"), refused.value("smidge.operation")),
        (Some("invalid"), Some("unknown"))
    );
    telemetry.stop();
    assert!(collector.spans().iter().all(|span| span.name != "webhook validate"), "{:#?}", collector.spans());
}

#[tokio::test]
async fn values_from_reviews_are_short_and_plain() {
    let collector = Collector::start();
    let (telemetry, _default) = sending_to(collector.address);
    let webhook = served().await;
    let long = format!("{}\\n\\u001b[31m", "n".repeat(3_000));
    let review = String::from_utf8(reviews::pod().to_vec()).unwrap();
    let review = review.replace(r#""name":"g""#, &format!(r#""name":"{long}""#));
    send(&webhook, "/inject", ("traceparent", ""), review.replace("\"a\"", "\"a\\n\"").into()).await;
    let span = span(&collector, "webhook inject");
    let name = span.value("k8s.object.name").unwrap();
    assert!(name.starts_with("nnn") && name.chars().count() < 260, "{name}");
    assert_eq!(span.value("k8s.namespace.name"), Some("a\\n"));
    telemetry.stop();
}
