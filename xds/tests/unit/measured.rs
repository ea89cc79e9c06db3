//! Metrics of what proxies send: the version that each names, and the time of its answers. Over connections in memory and
//! with a paused clock.

use std::time::Duration;

use envoy_types::pb::envoy::{
    config::core::v3::{BuildVersion, Node, node::UserAgentVersionType},
    service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    r#type::v3::SemanticVersion,
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use smidge_xds::{resources::ResourceType, server::versions};
use smidge_xds_testing::{
    client::{self, Net, node},
    fixture::{Handles, server, view},
};

const ONE: (ResourceType, &str, &str) = (ResourceType::Cluster, "ns/one/80", "1");

fn start() -> (Net, Handles) {
    let (server, handles) = server(None);
    (Net::serve(server), handles)
}

#[tokio::test(start_paused = true)]
async fn proxies_count_by_the_version_that_they_name() {
    let (net, handles) = start();
    let empty = view(&[]);
    handles.publish(&[("one", &empty), ("two", &empty)]);
    let version = SemanticVersion { major_number: 1, minor_number: 40, patch: 2 };
    let build = BuildVersion { version: Some(version), metadata: None };
    let named = Node {
        user_agent_name: "envoy".to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(build)),
        ..node("one")
    };
    let mut client = net.connect("one").await;
    client.send(DeltaDiscoveryRequest { node: Some(named), ..DeltaDiscoveryRequest::default() }).await;
    client.want(ResourceType::Secret, &["identity"], &[]).await;
    client.next().await;
    let mut other = net.connect("two").await;
    other.want(ResourceType::Secret, &["identity"], &[]).await;
    other.next().await;
    let versions = handles.proxies.versions().into_iter();
    let versions: Vec<_> = versions.map(|(it, count)| (it.map(|it| it.to_string()), count)).collect();
    assert_eq!(versions, [(None, 1), (Some("1.40.2".to_owned()), 1)]);
    let mut registry = Registry::default();
    versions::register(&mut registry, handles.proxies.clone());
    let mut page = String::new();
    encode(&mut page, &registry).unwrap();
    assert!(page.contains("proxies{version=\"1.40.2\"} 1\n"), "{page}");
    assert!(page.contains("proxies{version=\"unknown\"} 1\n"), "{page}");
}

#[tokio::test(start_paused = true)]
async fn the_time_of_an_answer_is_measured_once() {
    let (net, handles) = start();
    handles.publish(&[("one", &view(&[ONE]))]);
    let mut client = net.connect("one").await;
    client.want(ResourceType::Cluster, &["*"], &[]).await;
    let response = client.receive().await;
    tokio::time::advance(Duration::from_secs(3)).await;
    let value = |name: &str| {
        let sample = format!("acknowledgement_duration_seconds_{name}{{kind=\"cds\"}} ");
        let page = handles.scrape();
        let line = page.lines().find_map(|line| line.split_once(&sample)).unwrap_or_else(|| panic!("{page}"));
        line.1.parse::<f64>().unwrap()
    };
    assert!(value("count") < 0.5, "the proxy has not answered");
    let late = DeltaDiscoveryResponse { nonce: format!("0{}", response.nonce), ..response.clone() };
    client.answer(&late, None).await;
    client.answer(&response, None).await;
    client.answer(&response, None).await;
    client.want(ResourceType::Cluster, &["ns/one/80"], &[]).await;
    client.next().await;
    client::until("both were read", || value("count") > 1.5).await;
    assert!(value("count") < 2.5, "{}", value("count"));
    assert!((3.0..3.5).contains(&value("sum")), "{}", value("sum"));
}
