//! Tests how Prometheus finds the metrics of the operator, and who may read the traffic among them.

use serde_json::{Value, json};

use super::{helm, render, run};

const VALUES: &str = "trafficMetrics.prometheus";

fn arguments(deployment: &Value) -> String {
    deployment["spec"]["template"]["spec"]["containers"][0]["args"].to_string()
}

#[test]
fn annotations_lead_to_the_metrics_and_give_way_to_those_of_users() {
    let Some(helm) = helm() else { return };
    let deployment = &render(&helm, &[])["Deployment/smidge"];
    let annotations = json!({
        "prometheus.io/scrape": "true", "prometheus.io/port": "15014", "prometheus.io/path": "/metrics",
    });
    assert_eq!(deployment["spec"]["template"]["metadata"]["annotations"], annotations);
    let args = arguments(deployment);
    assert!(args.contains("--prometheus-names=smidge,osm,istio,linkerd"), "{args}");
    assert!(args.contains("--prometheus-readers=network"), "{args}");
    let own = render(&helm, &[r"podAnnotations.prometheus\.io/path=/metrics/traffic"]);
    let annotations = &own["Deployment/smidge"]["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["prometheus.io/path"], "/metrics/traffic");
    let none = render(&helm, &[&format!("{VALUES}.annotations=false")]);
    assert!(none["Deployment/smidge"]["spec"]["template"]["metadata"]["annotations"].is_null());
}

#[test]
fn names_and_readers_are_settings() {
    let Some(helm) = helm() else { return };
    let with = |names: &str| {
        let objects = render(&helm, &[&format!("{VALUES}.names={names}"), &format!("{VALUES}.readers=rbac")]);
        arguments(&objects["Deployment/smidge"])
    };
    assert!(with("[\"osm\"]").contains("--prometheus-names=osm\""), "{}", with("[\"osm\"]"));
    assert!(with("[]").contains("--prometheus-names=none\""), "{}", with("[]"));
    assert!(with("[]").contains("--prometheus-readers=rbac"));
    for wrong in [".names=[\"istoi\"]", ".readers=everyone", ".podMonitor.interval=often"] {
        assert!(!run(&helm, &[&format!("{VALUES}{wrong}")]).status.success(), "{wrong}");
    }
    // `helm upgrade --reuse-values` after a release without the settings.
    let objects = render(&helm, &[&format!("{VALUES}=null")]);
    assert!(!arguments(&objects["Deployment/smidge"]).contains("prometheus"));
}

#[test]
fn the_right_to_scrape_is_for_the_traffic_alone() {
    let Some(helm) = helm() else { return };
    let rules = &render(&helm, &[])["ClusterRole/smidge-scrape"]["rules"];
    assert_eq!(*rules, json!([{"nonResourceURLs": ["/metrics/traffic"], "verbs": ["get"]}]));
}

#[test]
fn a_pod_monitor_selects_every_replica() {
    let Some(helm) = helm() else { return };
    assert!(!render(&helm, &[]).contains_key("PodMonitor/smidge"));
    let settings =
        [&*format!("{VALUES}.podMonitor.enabled=true"), &format!("{VALUES}.podMonitor.labels.team=a")];
    let objects = render(&helm, &settings);
    let (monitor, deployment) = (&objects["PodMonitor/smidge"], &objects["Deployment/smidge"]["spec"]);
    assert_eq!(monitor["metadata"]["labels"]["team"], "a");
    assert_eq!(monitor["spec"]["selector"], deployment["selector"]);
    let endpoint = &monitor["spec"]["podMetricsEndpoints"][0];
    assert_eq!((&endpoint["path"], &endpoint["interval"]), (&json!("/metrics"), &json!("15s")));
    let ports = deployment["template"]["spec"]["containers"][0]["ports"].as_array().unwrap();
    assert!(ports.iter().any(|port| port["name"] == endpoint["port"] && port["containerPort"] == 15014));
}
