//! Values for the CNI plugin: its objects, their rights, and the operator's flag.

use serde_json::{Value, json};

use super::{helm, render, run, texts};

const DAEMON_SET: &str = "DaemonSet/smidge-cni";

#[test]
fn the_plugin_is_installed_on_request_only() {
    let Some(helm) = helm() else { return };
    let is_own = |key: &&String| key.ends_with("/smidge-cni");
    for settings in [&[][..], &["cni=null"]] {
        assert_eq!(render(&helm, settings).keys().find(is_own), None, "{settings:?}");
    }
    let objects = render(&helm, &["cni.enabled=true"]);
    let found: Vec<_> = objects.keys().filter(is_own).collect();
    assert_eq!(found, [DAEMON_SET, "Role/smidge-cni", "RoleBinding/smidge-cni", "ServiceAccount/smidge-cni"]);
    for wrong in ["cni.enable=true", "cni.binDir=opt/cni/bin", "cni.default=maybe"] {
        assert!(!run(&helm, &[wrong]).status.success(), "{wrong}");
    }
}

#[test]
fn the_operator_knows_whether_the_plugin_is_there() {
    let Some(helm) = helm() else { return };
    let flag = |settings: &[&str]| {
        let objects = render(&helm, settings);
        let args = &objects["Deployment/smidge"]["spec"]["template"]["spec"]["containers"][0]["args"];
        texts(args).into_iter().find(|arg| arg.starts_with("--cni"))
    };
    assert_eq!(flag(&[]), None);
    assert_eq!(flag(&["cni.enabled=true"]).unwrap(), "--cni=default");
    assert_eq!(flag(&["cni.enabled=true", "cni.default=null"]).unwrap(), "--cni=default");
    assert_eq!(flag(&["cni.enabled=true", "cni.default=false"]).unwrap(), "--cni=offered");
}

/// The operator may change nodes only where it is asked for.
#[test]
fn nodes_are_changed_on_request_only() {
    let Some(helm) = helm() else { return };
    let found = |settings: &[&str]| {
        let objects = render(&helm, settings);
        let args = &objects["Deployment/smidge"]["spec"]["template"]["spec"]["containers"][0]["args"];
        let rules = objects["ClusterRole/smidge"]["rules"].as_array().unwrap().clone();
        let rule = rules.into_iter().find(|rule| rule["resources"] == json!(["nodes"]));
        (texts(args).into_iter().find(|arg| arg.starts_with("--cni-daemon-set")), rule)
    };
    for settings in [&[][..], &["cni.enabled=true"]] {
        assert_eq!(found(settings), (None, None), "{settings:?}");
    }
    let refused = run(&helm, &["cni.removeTaint=true"]);
    assert!(!refused.status.success(), "it has no effect without cni.enabled=true");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("enabled"), "{refused:?}");
    let (flag, rule) = found(&["cni.enabled=true", "cni.removeTaint=true"]);
    assert_eq!(flag.unwrap(), "--cni-daemon-set=smidge-cni");
    assert_eq!(rule.unwrap(), json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "patch"]}));
}

#[test]
fn every_part_has_the_rights_that_it_needs_alone() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, &["cni.enabled=true", "cni.binDir=/usr/lib/cni"]);
    assert_eq!(
        objects["Role/smidge-cni"]["rules"],
        json!([{"apiGroups": ["apps"], "resources": ["daemonsets"], "resourceNames": ["smidge-cni"], "verbs": ["get"]}])
    );
    let spec = &objects[DAEMON_SET]["spec"]["template"]["spec"];
    assert_eq!(spec["priorityClassName"], "system-node-critical");
    assert_eq!(spec["tolerations"], json!([{"operator": "Exists"}]));
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["hostNetwork"], Value::Null);
    assert_eq!(spec["hostPID"], Value::Null);
    let container = |at: usize| {
        let container = &spec["containers"][at];
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
        let mounts = container["volumeMounts"].as_array().unwrap();
        let mounts: Vec<_> = mounts.iter().map(|mount| mount["name"].as_str().unwrap()).collect();
        (mounts, texts(&context["capabilities"]["add"]).into_iter().collect::<Vec<_>>())
    };
    // What may enter networks has no token and no file of the node; what may write the node's files enters no network.
    assert_eq!(container(0), (vec!["socket"], vec!["NET_ADMIN".to_owned(), "SYS_ADMIN".to_owned()]));
    assert_eq!(container(1), (vec!["bin", "conf", "socket", "token"], vec!["DAC_OVERRIDE".to_owned()]));
    assert_eq!(spec["volumes"][1]["hostPath"]["path"], "/usr/lib/cni");
    assert_eq!(spec["volumes"][2]["hostPath"]["path"], "/etc/cni/net.d");
}

/// The operator's Service, Deployment and NetworkPolicy select no pod of the DaemonSet.
#[test]
fn its_pods_are_not_the_operators() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, &["cni.enabled=true"]);
    let labels = &objects[DAEMON_SET]["spec"]["template"]["metadata"]["labels"];
    assert_eq!(labels["app.kubernetes.io/name"], "smidge-cni");
    assert_eq!(labels["smidge.mesh/inject"], "disabled");
    let selector = &objects["Deployment/smidge"]["spec"]["selector"]["matchLabels"];
    assert_ne!(selector["app.kubernetes.io/name"], labels["app.kubernetes.io/name"]);
    assert_eq!(
        objects[DAEMON_SET]["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"],
        "smidge-cni"
    );
}
