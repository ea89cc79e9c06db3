//! Traffic of what is published: pods and machines, Services by address, TrafficSplits, and the part of another replica.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use axum::body::Bytes;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use smidge::{
    injector::{self, Decision},
    inputs::{Clusters, Inputs},
    traffic::{
        EmbeddedSource, Metrics, Receiver,
        directory::MeshDirectory,
        replicas::{self, Replicas},
    },
};
use smidge_traffic_metrics::{
    directory::{Directory, Instance, Owner, ProxyName, Split},
    exchange,
    series::{ADDRESS, CODE, Metric, PEER_SUBJECT, POINTS_PER_MESSAGE, PUSH_INTERVAL},
    store::Limits,
    traffic::{BOUNDS_MS, Direction, Figures, Kind, ObjectName, Question, Traffic, TrafficSource},
};
use smidge_xds::{
    mesh::{
        Mesh,
        id::{ClusterId, ProxyId},
        proxy::TrafficStats,
        source::SourceRef,
    },
    render,
    server::Reports,
    snapshot::Snapshot,
};
use smidge_xds_testing::meshes;
use tokio::sync::watch;

#[path = "../../traffic-metrics/tests/unit/otlp.rs"]
pub mod otlp;

use otlp::{counter, push};

use super::peers::{NAME, Two, replicas_claims};

/// A mesh with the Service `api`, split over two others, and instances that are no pods.
fn mesh() -> Mesh {
    let mut mesh = meshes::http_split(&[1, 2]);
    let [rule] = &mut meshes::port(&mut mesh, "api", 80).route.rules[..] else { panic!("one rule") };
    rule.origin = Some(SourceRef::new("TrafficSplit", "shop", "canary"));
    mesh
}

fn directory() -> MeshDirectory {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "namespace": "shop", "name": "front-7d9-a", "labels": {"pod-template-hash": "7d9"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "front-7d9", "uid": "u", "controller": true},
            ],
        },
        "spec": {"nodeName": "n1", "serviceAccountName": "front", "containers": []},
    }))
    .unwrap();
    let mut inputs = Inputs::default();
    inputs.pods.insert(("shop".to_owned(), "front-7d9-a".to_owned()), pod.into());
    let clusters: Clusters = BTreeMap::from([(ClusterId::default(), inputs)]);
    let snapshot = Arc::new(Snapshot::next(Arc::new(mesh()), None));
    MeshDirectory::new(
        watch::Sender::new(clusters).subscribe(),
        watch::Sender::new(Some(snapshot)).subscribe(),
    )
}

pub fn receiver() -> Arc<Receiver> {
    Arc::new(Receiver::new(Limits::default(), directory(), Metrics::default()))
}

fn proxy(instance: &str) -> ProxyId {
    ProxyId { cluster: ClusterId::default(), namespace: "shop".to_owned(), instance: instance.to_owned() }
}

fn object(namespace: &str, name: &str) -> ObjectName {
    ObjectName { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// Pushes `calls` calls of one caller to a proxy that has just started.
fn report(receiver: &Receiver, instance: &str, calls: u64) {
    let labels = [(PEER_SUBJECT, "CN=client,OU=Deployment"), (CODE, "200")];
    let message = push(990, 1_000, &[counter(Metric::InboundRequests, &labels, calls)]);
    receiver.report(&proxy(instance), Bytes::from(message));
}

fn pods() -> Question {
    Question {
        kind: Kind::Pod,
        namespace: Some("shop".to_owned()),
        name: None,
        window: Duration::from_mins(1),
    }
}

fn success(traffic: &Traffic) -> BTreeMap<String, u64> {
    let sum = |edges: &BTreeMap<_, Figures>| edges.values().map(|figures| figures.success).sum();
    traffic.iter().map(|(object, edges)| (object.name.clone(), sum(edges))).collect()
}

#[test]
fn objects_are_found_in_what_is_published() {
    let directory = directory();
    let name = |instance: &str| ProxyName {
        cluster: "local".to_owned(),
        namespace: "shop".to_owned(),
        instance: instance.to_owned(),
    };
    let owner = |kind: &str, name: &str| Owner { kind: kind.to_owned(), name: name.to_owned() };
    let expected = Instance {
        namespace: "shop".to_owned(),
        pod: "front-7d9-a".to_owned(),
        node: "n1".to_owned(),
        service_account: "front".to_owned(),
        controller: Some(owner("ReplicaSet", "front-7d9")),
        workload: owner("Deployment", "front"),
    };
    assert_eq!(directory.instance(&name("front-7d9-a")), Some(expected));
    let (id, workload) = mesh().workloads.iter().next().map(|(id, it)| (id.clone(), Arc::clone(it))).unwrap();
    let machine = directory.instance(&name(&id.instance)).unwrap();
    assert_eq!((machine.pod.as_str(), machine.workload), ("", owner(&workload.kind, &workload.name)));
    assert_eq!(directory.instance(&name("gone")), None);
    let address = *meshes::port(&mut mesh(), "api", 80).addresses.first().unwrap();
    assert_eq!(directory.service_at(SocketAddr::new(address, 80)), Some(object("shop", "api")));
    assert_eq!(directory.service_at(SocketAddr::new(address, 81)), None);
    let canary = Split {
        name: object("shop", "canary"),
        root: object("shop", "api"),
        backends: vec![object("shop", "api-v1"), object("shop", "api-v2")],
    };
    for asked in [(None, None), (Some("shop"), Some("canary"))] {
        assert_eq!(directory.splits(asked.0, asked.1), std::slice::from_ref(&canary));
    }
    assert!(directory.splits(Some("other"), None).is_empty());
}

#[tokio::test]
async fn a_source_answers_from_its_own_store() {
    let receiver = receiver();
    report(&receiver, "front-7d9-a", 3);
    let address = *meshes::port(&mut mesh(), "api", 80).addresses.first().unwrap();
    let refused = counter(Metric::OutboundRefused, &[(ADDRESS, &format!("{address}:80"))], 2);
    receiver.report(&proxy("front-7d9-a"), Bytes::from(push(990, 1_010, &[refused])));
    let source = EmbeddedSource::new(Arc::clone(&receiver), None);
    let traffic = source.traffic(&pods()).await.unwrap();
    assert_eq!(success(&traffic), BTreeMap::from([("front-7d9-a".to_owned(), 3)]));
    let to = traffic[&object("shop", "front-7d9-a")].iter().find(|(edge, _)| edge.direction == Direction::To);
    let (edge, figures) = to.unwrap();
    assert_eq!((edge.peer.name.as_str(), figures.refused), ("api", 2));
    let invalid = Question { name: Some("a&b".to_owned()), ..pods() };
    assert!(source.traffic(&invalid).await.unwrap().is_empty());
}

#[tokio::test]
async fn replicas_answer_together_and_only_replicas_are_answered() {
    let (own, other) = (receiver(), receiver());
    report(&own, "front-7d9-a", 3);
    report(&other, "front-7d9-a", 5);
    report(&other, "web-0", 7);
    let served = Arc::clone(&other);
    let two = Two::start_with(move |replica| replicas::router(replica, served)).await;
    let replicas = |claims: &serde_json::Value| Replicas {
        client: Arc::new(two.asker(claims, NAME)),
        published: two.published.subscribe(),
        name: "web-0".to_owned(),
        port: two.address.port(),
    };
    let source = EmbeddedSource::new(Arc::clone(&own), Some(replicas(&replicas_claims())));
    // The proxy has pushed the same counter to both.
    let expected = [("front-7d9-a".to_owned(), 5), ("web-0".to_owned(), 7)];
    assert_eq!(success(&source.traffic(&pods()).await.unwrap()), BTreeMap::from(expected));

    let client = two.asker(&replicas_claims(), NAME);
    let part = client.get(two.address, "/traffic?kind=Pod&window=30", exchange::MAX_PART).await.unwrap();
    assert_eq!(exchange::decode(&part).unwrap().proxies.len(), 2);
    for path in ["/traffic", "/traffic?kind=Cat&window=30", "/traffic?kind=Pod&window=-1"] {
        let error = client.get(two.address, path, 1 << 20).await.unwrap_err();
        assert!(error.to_string().contains("400"), "{path}: {error}");
    }
    let proxy = EmbeddedSource::new(own, Some(replicas(&smidge_testing::tokens::claims())));
    let partial = success(&proxy.traffic(&pods()).await.unwrap());
    assert_eq!(partial, BTreeMap::from([("front-7d9-a".to_owned(), 3)]), "a token of a proxy");
}

#[test]
fn proxies_are_configured_to_send_what_is_read() {
    let Decision::Inject { pod, .. } = injector::inject(
        &json!({"metadata": {"name": "web-0"}, "spec": {"containers": [{"name": "app", "image": "app:1"}]}}),
        "shop",
        None,
        &injector::Settings::default(),
    ) else {
        panic!("not injected")
    };
    let bootstrap: Value =
        serde_json::from_str(pod.pointer("/spec/initContainers/1/args/1").unwrap().as_str().unwrap())
            .unwrap();
    let buckets = bootstrap.pointer("/stats_config/histogram_bucket_settings/0/buckets").unwrap();
    assert_eq!(*buckets, json!(BOUNDS_MS));
    let interval = format!("{}s", PUSH_INTERVAL.as_secs());
    assert_eq!(bootstrap.pointer("/stats_flush_interval").unwrap(), &json!(interval));
    let sink = bootstrap.pointer("/stats_sinks/0/typed_config").unwrap();
    assert_eq!(sink["max_data_points_per_request"], POINTS_PER_MESSAGE);

    let mut sent = BTreeMap::new();
    let snapshot = Snapshot::next(Arc::new(meshes::stats(TrafficStats::Bounded)), None);
    for (_, resource) in snapshot.resources().iter() {
        labels(&render::resource(resource).unwrap(), &mut sent);
    }
    for metric in Metric::ALL {
        let name = metric.name();
        assert!(sink.to_string().contains(&format!("\"metric_name\":\"{name}\"")), "{name} is not pushed");
        let read: BTreeSet<String> = metric.labels().iter().map(|&label| label.to_owned()).collect();
        assert_eq!(sent.get(name.strip_prefix("smidge_").unwrap()), Some(&read), "labels of {name}");
    }
}

/// Adds the labels of each statistic in a configuration.
fn labels(value: &Value, found: &mut BTreeMap<String, BTreeSet<String>>) {
    if let (Some(name), Some(Value::Array(tags))) = (value.get("name"), value.get("tags")) {
        let names = tags.iter().map(|tag| tag["name"].as_str().unwrap().to_owned()).collect();
        found.insert(name.as_str().unwrap().to_owned(), names);
    }
    match value {
        Value::Array(all) => all.iter().for_each(|it| labels(it, found)),
        Value::Object(all) => all.values().for_each(|it| labels(it, found)),
        _ => {}
    }
}
