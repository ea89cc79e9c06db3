//! NetworkPolicy of the chart: the peers that may connect to each port of the operator, by the values.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value, json};

use super::{helm, render};

/// Returns the clients that may connect to each port of the operator, by the NetworkPolicy of the chart.
fn doors(helm: &Path, settings: &[&str]) -> BTreeMap<u64, Value> {
    let objects = render(helm, settings);
    let spec = &objects["NetworkPolicy/smidge"]["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress"]));
    let pods = &objects["Deployment/smidge"]["spec"];
    assert_eq!(spec["podSelector"], pods["selector"], "it holds for the operator's pods");
    let mut doors = BTreeMap::new();
    for rule in spec["ingress"].as_array().unwrap() {
        let [port] = rule["ports"].as_array().unwrap().as_slice() else { panic!("one port a rule: {rule}") };
        assert_eq!(port["protocol"], "TCP");
        let from = rule.get("from").cloned().unwrap_or(json!("everybody"));
        assert!(doors.insert(port["port"].as_u64().unwrap(), from).is_none(), "two rules for {port}");
    }
    let listens = pods["template"]["spec"]["containers"][0]["ports"].as_array().unwrap();
    let listens: BTreeSet<_> = listens.iter().filter_map(|port| port["containerPort"].as_u64()).collect();
    assert!(doors.keys().all(|port| listens.contains(port)), "{doors:?}, and it listens on {listens:?}");
    doors
}

#[test]
fn each_port_of_the_operator_is_open_to_those_who_need_it() {
    let Some(helm) = helm() else { return };
    let own = json!({"app.kubernetes.io/name": "smidge", "app.kubernetes.io/instance": "smidge"});
    let namespace = |label: &str, value: &str| json!({"namespaceSelector": {"matchLabels": {label: value}}});
    let by_default = BTreeMap::from([
        (9443, json!("everybody")),
        (9444, json!("everybody")),
        (
            15012,
            json!([{"namespaceSelector": {"matchExpressions": [
                {"key": "smidge.mesh/inject", "operator": "In", "values": ["enabled", "manual"]},
            ]}}]),
        ),
        (15013, json!([{"podSelector": {"matchLabels": own}}])),
        (15014, json!([{"podSelector": {}}, namespace("kubernetes.io/metadata.name", "monitoring")])),
    ]);
    assert_eq!(doors(&helm, &[]), by_default);

    let webhook = |settings: &[&str]| doors(&helm, settings)[&9443].clone();
    let cidrs = "networkPolicy.apiServer.cidrs={192.0.2.1/32,2001:db8::1/128}";
    let named =
        [json!({"ipBlock": {"cidr": "192.0.2.1/32"}}), json!({"ipBlock": {"cidr": "2001:db8::1/128"}})];
    assert_eq!(webhook(&[cidrs]), json!(named));
    let pods = "networkPolicy.apiServer.podCidrs={10.0.0.0/8,fd00::/8}";
    let others = |all: &str, except: &str| json!({"ipBlock": {"cidr": all, "except": [except]}});
    assert_eq!(webhook(&[pods]), json!([others("0.0.0.0/0", "10.0.0.0/8"), others("::/0", "fd00::/8")]));
    assert_eq!(webhook(&[pods, cidrs]), json!(named), "who is known by address needs no guess");
    let agents = "networkPolicy.apiServer.from=[{\"podSelector\": {}}]";
    assert_eq!(webhook(&[agents]), json!([{"podSelector": {}}]));
    assert_eq!(doors(&helm, &[cidrs])[&9444], json!(named), "the same server calls");

    assert_eq!(doors(&helm, &["networkPolicy.metrics.from=[]"]).get(&15014), None, "nobody");
    assert!(!render(&helm, &["networkPolicy.enabled=false"]).contains_key("NetworkPolicy/smidge"));
}
