//! Tests the chart's policy against pods without a sidecar: absent by default, and which namespaces it judges. The API
//! server's answers are tested in `admission_policy`.

use serde_json::json;

use super::{helm, render};

#[test]
fn it_judges_pods_of_namespaces_that_enforce_access() {
    let Some(helm) = helm() else { return };
    let name = "ValidatingAdmissionPolicy/smidge-sidecar";
    assert!(!render(&helm, &[]).contains_key(name));
    // Values of an older release do not have it.
    assert!(!render(&helm, &["admissionPolicy=null"]).contains_key(name));

    let mut namespaces = Vec::new();
    for unlabelled in ["refuse", "allow"] {
        let set = format!("admissionPolicy.unlabelled={unlabelled}");
        let objects = render(&helm, &["admissionPolicy.enabled=true", &set]);
        let binding = &objects["ValidatingAdmissionPolicyBinding/smidge-sidecar"]["spec"];
        assert_eq!(*binding, json!({"policyName": "smidge-sidecar", "validationActions": ["Deny"]}));
        namespaces.push(objects[name]["spec"]["matchConstraints"]["namespaceSelector"].clone());
    }
    let access = "smidge.mesh/access";
    let mut expected = json!({
        "matchExpressions": [
            {"key": "smidge.mesh/inject", "operator": "In", "values": ["enabled", "manual"]},
            {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["meshes", "kube-system"]},
            {"key": access, "operator": "NotIn", "values": ["audit", "permissive"]},
        ],
    });
    assert_eq!(namespaces[0], expected);
    expected["matchExpressions"].as_array_mut().unwrap().push(json!({"key": access, "operator": "Exists"}));
    assert_eq!(namespaces[1], expected);
}
