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

#[test]
fn prometheus_is_the_source_if_it_has_an_address() {
    let Some(helm) = helm() else { return };
    let by_default = render(&helm, &[]);
    let deployment = &by_default["Deployment/smidge"];
    for part in ["--prometheus-url", "--prometheus-pods", "prometheus-token", "prometheus-ca"] {
        assert!(!deployment.to_string().contains(part), "{part}");
    }
    let (url, source) = ("http://prometheus.monitoring:9090/a", "trafficMetrics.source.prometheus");
    let plain = render(&helm, &[&format!("{source}.url={url}"), &format!("{VALUES}.pods=true")]);
    let args = arguments(&plain["Deployment/smidge"]);
    assert!(
        args.contains(&format!("--prometheus-url={url}")) && args.contains("--prometheus-pods=true"),
        "{args}"
    );
    assert!(!args.contains("--prometheus-token") && !args.contains("--prometheus-ca"), "{args}");

    let ca = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
    let settings = [
        &*format!("{source}.url=https://prometheus"),
        &format!("{source}.caBundle={ca}"),
        &format!("{source}.tokenSecret.name=reader"),
    ];
    let objects = render(&helm, &settings);
    let pod = &objects["Deployment/smidge"]["spec"]["template"]["spec"];
    let args = arguments(&objects["Deployment/smidge"]);
    let volumes = pod["volumes"].as_array().unwrap();
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    for (name, file, volume) in [
        (
            "prometheus-token",
            "token",
            json!({"secret": {"secretName": "reader", "items": [{"key": "token", "path": "token"}]}}),
        ),
        ("prometheus-ca", "ca.crt", json!({"configMap": {"name": "smidge-prometheus-ca"}})),
    ] {
        let found = volumes.iter().find(|volume| volume["name"] == name).unwrap();
        assert!(volume.as_object().unwrap().iter().all(|(key, value)| found[key] == *value), "{found}");
        let mount = mounts.iter().find(|mount| mount["name"] == name).unwrap();
        let folder = mount["mountPath"].as_str().unwrap();
        assert!(args.contains(&format!("--{name}={folder}/{file}")) && mount["readOnly"] == true, "{args}");
    }
    assert_eq!(objects["ConfigMap/smidge-prometheus-ca"]["data"], json!({"ca.crt": format!("{ca}\n")}));

    for wrong in [
        "url=prometheus:9090",
        "url=http://user:secret@prometheus",
        "url=https://prometheus",
        "tokenSecret.name=A_b",
        "caBundle=/etc/ca.crt",
    ] {
        assert!(!run(&helm, &[&format!("{source}.{wrong}")]).status.success(), "{wrong}");
    }
    // Without the API, there is nothing to be a source of; so is it after a release without the settings.
    for settings in [
        [&*format!("{source}.url={url}"), "trafficMetrics.enabled=false"],
        ["trafficMetrics.source=null", "trafficMetrics.enabled=true"],
    ] {
        let objects = render(&helm, &settings);
        assert!(!arguments(&objects["Deployment/smidge"]).contains("--prometheus-url"));
    }
}
