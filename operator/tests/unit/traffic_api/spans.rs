//! Spans of requests for TrafficMetrics, as a collector of OpenTelemetry receives them.

use smidge_xds_testing::collector::Collector;

use super::{BASE, Port};
use crate::telemetry::{SAMPLED, sending_to, span};

#[tokio::test]
async fn a_request_has_a_span_with_those_of_what_it_waits_for() {
    let collector = Collector::start();
    let (telemetry, _default) = sending_to(collector.address);
    let port = Port::open().await;
    let headers = [SAMPLED, ("authorization", "Bearer secret")];
    let (status, _) = port.ask(&format!("{BASE}/namespaces/shop/deployments/web"), &headers).await;
    assert_eq!(status, 200);
    let request = span(&collector, "get deployments");
    assert_eq!((request.trace.as_str(), request.kind), ("0af7651916cd43dd8448eb211c80319c", 2));
    for (key, value) in [
        ("smidge.verb", "get"),
        ("smidge.resource", "deployments"),
        ("k8s.namespace.name", "shop"),
        ("k8s.object.name", "web"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(request.value(key), Some(value), "{key}: {request:#?}");
    }
    for name in ["authorize", "source"] {
        let child = span(&collector, name);
        assert_eq!((&child.parent, &child.trace), (&request.id, &request.trace), "{name}");
    }
    // A user's name and credentials are in no attribute.
    let all = format!("{:?}", collector.spans());
    assert!(!all.contains("secret") && !all.contains("ann"), "{all}");
    telemetry.stop();
}

#[tokio::test]
async fn a_source_that_fails_is_an_error_of_the_request() {
    let collector = Collector::start();
    let (telemetry, _default) = sending_to(collector.address);
    let port = Port::open().await;
    port.traffic.send_replace(None);
    let (status, _) = port.ask(&format!("{BASE}/deployments"), &[]).await;
    assert_eq!(status, 503);
    let failed = span(&collector, "list deployments");
    assert!(failed.is_error && failed.parent.is_empty(), "{failed:#?}");
    assert_eq!(failed.value("http.response.status_code"), Some("503"));
    let refused = port.send(None, &format!("{BASE}/deployments"), &[]).await;
    assert_eq!(refused.status(), 401);
    let request = span(&collector, "traffic metrics");
    assert!(!request.is_error && request.value("smidge.resource").is_none(), "{request:#?}");
    telemetry.stop();
    // The log line about the failure is in the trace.
    let records = collector.records();
    let record = records.iter().find(|it| it.message == "failed to read traffic").unwrap();
    assert_eq!((record.severity.as_str(), record.scope.as_str()), ("WARN", "smidge::traffic_api"));
    assert_eq!(record.trace, failed.trace, "{records:#?}");
}
