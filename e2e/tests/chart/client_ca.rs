//! Tests the chart where the API server presents a client certificate to webhooks: the operator's arguments, and its
//! restart.

use std::path::Path;

use serde_json::{Value, json};

use super::{helm, render, texts};

/// Renders the pod template of the operator's Deployment.
fn pod(helm: &Path, settings: &[&str]) -> Value {
    render(helm, settings)["Deployment/smidge"]["spec"]["template"].clone()
}

#[test]
fn the_api_servers_client_certificate_is_asked_for_where_its_authority_is_known() {
    let Some(helm) = helm() else { return };
    let by_default = pod(&helm, &[]);
    assert!(!by_default.to_string().contains("client"), "{by_default}");

    let ca = "webhook.clientCA=-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
    let settings = [ca, "webhook.clientNames={kube-apiserver,a b}", "podAnnotations.a=b"];
    let objects = render(&helm, &settings);
    let map = &objects["ConfigMap/smidge-webhook-client-ca"];
    assert_eq!(map["metadata"]["namespace"], "meshes");
    let (_, text) = ca.split_once('=').unwrap();
    assert_eq!(map["data"], json!({"ca.crt": format!("{text}\n")}));
    let given = pod(&helm, &settings);
    let args = texts(&given["spec"]["containers"][0]["args"]);
    let folder = "/etc/smidge/webhook-client-ca";
    for arg in [
        &format!("--webhook-client-ca={folder}/ca.crt"),
        "--webhook-client-name=kube-apiserver",
        "--webhook-client-name=a b",
    ] {
        assert!(args.contains(arg), "{arg} is not in {args:?}");
    }
    let name = "webhook-client-ca";
    let mount = json!({"name": name, "mountPath": folder, "readOnly": true});
    assert_eq!(given["spec"]["containers"][0]["volumeMounts"][1], mount);
    let volume = json!({"name": name, "configMap": {"name": format!("smidge-{name}")}});
    assert_eq!(given["spec"]["volumes"][1], volume);

    // The operator reads the file at its start: another authority needs another pod.
    let annotations = |settings: &[&str]| pod(&helm, settings)["metadata"]["annotations"].clone();
    let (one, other) = (annotations(&settings), annotations(&[&ca.replace("AAAA", "BBBB")]));
    let sum = "checksum/webhook-client-ca";
    assert_eq!(one["a"], "b");
    assert!(one[sum].is_string() && other[sum].is_string() && one[sum] != other[sum], "{one} {other}");
}
