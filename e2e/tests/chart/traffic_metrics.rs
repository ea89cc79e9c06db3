//! The API of TrafficMetrics in the chart: how the API server finds it, and who may read it.

use serde_json::json;

use super::{helm, render, rights};

/// Resources whose objects the operator reads for TrafficMetrics alone.
pub const READ: [&str; 7] = [
    "daemonsets.apps",
    "deployments.apps",
    "jobs.batch",
    "nodes",
    "replicasets.apps",
    "replicationcontrollers",
    "statefulsets.apps",
];

#[test]
fn the_api_server_finds_both_versions_and_kubernetes_own_resources_first() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, &[]);
    let service = json!({"name": "smidge-traffic-api", "namespace": "meshes", "port": 443});
    for (version, priority) in [("v1alpha1", 10), ("v1alpha2", 15)] {
        let spec = &objects[&format!("APIService/{version}.metrics.smi-spec.io")]["spec"];
        let expected = json!({
            "group": "metrics.smi-spec.io", "version": version, "service": service,
            "groupPriorityMinimum": 100, "versionPriority": priority, "insecureSkipTLSVerify": false,
        });
        assert_eq!(*spec, expected, "no caBundle: the operator owns it");
    }
    let spec = &objects["Service/smidge-traffic-api"]["spec"];
    assert_eq!(spec["ports"], json!([{"name": "traffic-api", "port": 443, "targetPort": "traffic-api"}]));
    assert_eq!(spec["publishNotReadyAddresses"], true);
    assert_eq!(spec["selector"], objects["Service/smidge"]["spec"]["selector"]);
    let args = objects["Deployment/smidge"]["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
    assert!(args.contains("--traffic-api-listen=[::]:9444"), "{args}");
}

#[test]
fn viewers_may_read_them_and_editors_write_them() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, &[]);
    let role = &objects["ClusterRole/smidge-traffic-metrics-view"];
    assert_eq!(role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"], "true");
    assert_eq!(rights(role), ["*.metrics.smi-spec.io: get list watch".to_owned()].into());
    let role = &objects["ClusterRole/smidge-traffic-metrics-edit"];
    assert_eq!(role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"], "true");
    assert_eq!(
        rights(role),
        ["trafficmetrics.metrics.smi-spec.io: create delete patch update".to_owned()].into()
    );
    let binding = &objects["RoleBinding/smidge-traffic-api"];
    assert_eq!(binding["metadata"]["namespace"], "kube-system");
    assert_eq!(binding["roleRef"]["name"], "extension-apiserver-authentication-reader");
    assert_eq!(
        binding["subjects"],
        json!([{"kind": "ServiceAccount", "name": "smidge", "namespace": "meshes"}])
    );
}

#[test]
fn without_them_nothing_is_left() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, &["trafficMetrics.enabled=false"]);
    let text = format!("{objects:?}");
    for part in ["metrics.smi-spec.io", "traffic-api", "9444", "apiservices", "replicationcontrollers"] {
        assert!(!text.contains(part), "{part}");
    }
    for role in ["view", "edit"] {
        assert!(!objects.contains_key(&format!("ClusterRole/smidge-traffic-metrics-{role}")));
    }
}
