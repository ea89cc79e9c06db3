//! Tests the PrometheusRule of the chart: its rules are those of the file, and name the objects of the chart.

use std::fs;

use serde_json::{Value, json};

use super::{helm, render};

const RULE: &str = "PrometheusRule/smidge";

fn file() -> String {
    fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/smidge/files/alerts.yaml")).unwrap()
}

#[test]
fn alerts_come_as_the_file_has_them_and_only_on_request() {
    let Some(helm) = helm() else { return };
    assert!(!render(&helm, &[]).contains_key(RULE), "its definition may not be installed");
    let objects = render(&helm, &["prometheusRule.enabled=true", "prometheusRule.labels.release=stack"]);
    let rule = &objects[RULE];
    let rules: Value = serde_saphyr::from_str(&file()).unwrap();
    assert_eq!(rule["spec"], rules);
    assert_eq!(rule["apiVersion"], "monitoring.coreos.com/v1");
    assert_eq!(rule["metadata"]["namespace"], "meshes");
    assert_eq!(rule["metadata"]["labels"]["release"], "stack");
    assert_eq!(rule["metadata"]["labels"]["app.kubernetes.io/part-of"], "smidge");
    // The expressions in braces are Prometheus's, not Helm's.
    assert!(rule.to_string().contains("{{ or $labels.pod $labels.instance }}"));
}

#[test]
fn runbooks_are_links_where_their_address_is_known() {
    let Some(helm) = helm() else { return };
    let settings =
        ["prometheusRule.enabled=true", "prometheusRule.runbookURL=https://docs.example.com/smidge"];
    let objects = render(&helm, &settings);
    let groups = objects[RULE]["spec"]["groups"].as_array().unwrap();
    for rule in groups.iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        let alert = rule["alert"].as_str().unwrap();
        let link = format!("https://docs.example.com/smidge/{alert}.md");
        assert_eq!(rule["annotations"]["runbook_url"], json!(link));
    }
}

#[test]
fn alerts_about_the_api_server_name_the_chart_s_webhooks_and_apis() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, &[]);
    let webhooks =
        ["MutatingWebhookConfiguration/smidge-injector", "ValidatingWebhookConfiguration/smidge-validator"];
    let names = webhooks.iter().flat_map(|object| objects[*object]["webhooks"].as_array().unwrap());
    let names = names.map(|webhook| webhook["name"].as_str().unwrap());
    let apis = objects.keys().filter_map(|key| key.strip_prefix("APIService/"));
    let rules = file();
    for name in names.chain(apis) {
        let is_named = ['"', '|'].iter().any(|before| rules.contains(&format!("{before}{name}")));
        assert!(is_named, "no alert is about {name}");
    }
}
