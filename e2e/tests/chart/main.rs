//! Tests the chart, rendered by a real Helm: the objects that it must contain, and the values that it must refuse.
//!
//! Needs no cluster. Helm is `$HELM`, else the newest in the cluster's tool cache; without one the tests print so and
//! pass, but with `CI=true` they fail.

// Helpers of tests may panic as tests do; clippy exempts only functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};

mod access_logs;
mod admission_policy;
mod alerts;
mod client_ca;
mod cni;
mod dashboards;
mod network_policy;
mod prometheus;
mod sidecar;
mod tracing;
mod traffic_metrics;

fn helm() -> Option<PathBuf> {
    let found = std::env::var_os("HELM").map(PathBuf::from).or_else(|| {
        let cache = PathBuf::from(std::env::var_os("HOME")?).join(".cache/smidge/bin");
        let tools = std::fs::read_dir(cache).ok()?.filter_map(Result::ok).map(|entry| entry.path());
        tools
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("helm-")))
            .map(|path| path.join("helm"))
            .filter(|helm| helm.is_file())
            .max()
    });
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI needs Helm: set HELM, or run e2e/cluster/cluster up once"
        );
        eprintln!("skipped: no Helm; set HELM, or run e2e/cluster/cluster up once");
    }
    found
}

fn run(helm: &Path, settings: &[&str]) -> Output {
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/smidge");
    let mut command = Command::new(helm);
    command.args(["template", "smidge", chart, "--namespace", "meshes", "--kube-version", "1.34.0"]);
    for setting in settings {
        command.args([if setting.contains("=[") { "--set-json" } else { "--set" }, setting]);
    }
    command.output().unwrap()
}

/// Renders the chart; returns its objects by kind and name.
fn render(helm: &Path, settings: &[&str]) -> BTreeMap<String, Value> {
    let output = run(helm, settings);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let name = |value: &Value| value.as_str().unwrap().to_owned();
    documents
        .into_iter()
        .filter(|document| !document.is_null())
        .map(|object| (format!("{}/{}", name(&object["kind"]), name(&object["metadata"]["name"])), object))
        .collect()
}

fn texts(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_release_is_these_objects() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, &[]);
    let kinds: Vec<_> = objects.keys().filter(|key| !key.starts_with("CustomResourceDefinition")).collect();
    assert_eq!(
        kinds,
        [
            "APIService/v1alpha1.metrics.smi-spec.io",
            "APIService/v1alpha2.metrics.smi-spec.io",
            "ClusterRole/smidge",
            "ClusterRole/smidge-debug",
            "ClusterRole/smidge-scrape",
            "ClusterRole/smidge-traffic-metrics-edit",
            "ClusterRole/smidge-traffic-metrics-view",
            "ClusterRoleBinding/smidge",
            "ConfigMap/smidge-injection",
            "Deployment/smidge",
            "MutatingWebhookConfiguration/smidge-injector",
            "NetworkPolicy/smidge",
            "Role/smidge",
            "Role/smidge-injection-reader",
            "RoleBinding/smidge",
            "RoleBinding/smidge-injection-reader",
            "RoleBinding/smidge-traffic-api",
            "Service/smidge",
            "Service/smidge-traffic-api",
            "Service/smidge-webhook",
            "ServiceAccount/smidge",
            "ValidatingWebhookConfiguration/smidge-validator",
        ]
    );
    for (name, object) in &objects {
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/part-of"], "smidge", "{name}");
    }
    let extra = ["podDisruptionBudget.enabled=true", "meshConfig.mtlsMode=permissive"];
    let objects = render(&helm, &extra);
    assert!(objects.contains_key("PodDisruptionBudget/smidge"));
    assert_eq!(objects["MeshConfig/default"]["spec"], json!({"mtls": {"mode": "permissive"}}));
    let objects = render(&helm, &["meshConfig.undeclaredPorts=http"]);
    assert_eq!(objects["MeshConfig/default"]["spec"], json!({"undeclaredPorts": "http"}));
    let objects = render(
        &helm,
        &[
            "meshConfig.headerRegexMatch=partial",
            "meshConfig.callerHeader=true",
            "meshConfig.limits.headers=100000",
        ],
    );
    assert_eq!(
        objects["MeshConfig/default"]["spec"],
        json!({"headerRegexMatch": "partial", "callerHeader": true, "limits": {"headers": 100_000}})
    );
}

#[test]
fn definitions_come_as_generated_and_are_kept() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, &[]);
    let generated = smidge_crds::definitions::all().unwrap();
    let carried: Vec<_> =
        objects.iter().filter(|(key, _)| key.starts_with("CustomResourceDefinition")).collect();
    assert_eq!(carried.len(), generated.len());
    for (definition, (name, object)) in generated.iter().zip(carried) {
        let mut spec = json!(definition.spec);
        if let Some(service) = spec.pointer_mut("/conversion/webhook/clientConfig/service") {
            assert_eq!(service["name"], "smidge-webhook", "{name}");
            service["namespace"] = json!("meshes");
        }
        assert_eq!(spec, object["spec"], "{name}");
        assert_eq!(object["metadata"]["annotations"], json!({"helm.sh/resource-policy": "keep"}), "{name}");
    }

    let objects = render(&helm, &["crds.keep=false"]);
    let target = &objects["CustomResourceDefinition/traffictargets.access.smi-spec.io"];
    assert_eq!(target["metadata"].get("annotations"), None);

    let objects = render(&helm, &["crds.install=false"]);
    assert!(!objects.keys().any(|key| key.starts_with("CustomResourceDefinition")));
}

#[test]
fn the_operator_may_do_no_more_than_it_must() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, &[]);
    for key in ["ClusterRole/smidge", "Role/smidge"] {
        let rules = objects[key]["rules"].as_array().unwrap();
        assert!(!rules.is_empty());
        for rule in rules {
            assert!(!rule.to_string().contains('*'), "{key}: a wildcard in {rule}");
            let resources = rule["resources"].to_string();
            assert!(key.starts_with("Role/") || !resources.contains("secrets"), "Secrets of every namespace");
            if resources.contains("mutatingwebhookconfigurations") {
                assert_eq!(rule["resourceNames"], json!(["smidge-injector"]));
            }
            if resources.contains("validatingwebhookconfigurations") {
                assert_eq!(rule["resourceNames"], json!(["smidge-validator"]));
            }
            if resources.contains("customresourcedefinitions") {
                let names: BTreeSet<_> = texts(&rule["resourceNames"]);
                let generated = smidge_crds::definitions::all().unwrap();
                let ours: BTreeSet<_> = generated.into_iter().filter_map(|it| it.metadata.name).collect();
                assert_eq!(names, ours, "the definitions that exist, and no others");
            }
        }
    }
    assert_eq!(objects["Role/smidge"]["metadata"]["namespace"], "meshes");

    let pod = &objects["Deployment/smidge"]["spec"]["template"]["spec"];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = &pod["containers"][0]["securityContext"];
    assert_eq!(container["capabilities"], json!({"drop": ["ALL"]}));
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["readOnlyRootFilesystem"], true);
}

/// Lists the rights of a role, one line per resource: `traffictargets/status.access.smi-spec.io: patch`.
fn rights(role: &Value) -> BTreeSet<String> {
    let words = |rule: &Value, field: &str| texts(rule.get(field).unwrap_or(&json!([])));
    let mut all = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let verbs = words(rule, "verbs").into_iter().collect::<Vec<_>>().join(" ");
        for group in words(rule, "apiGroups") {
            let dot = if group.is_empty() { "" } else { "." };
            all.extend(words(rule, "resources").iter().map(|it| format!("{it}{dot}{group}: {verbs}")));
        }
        all.extend(words(rule, "nonResourceURLs").iter().map(|url| format!("{url}: {verbs}")));
    }
    all
}

#[test]
fn every_right_of_the_operator_is_in_this_list() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, &[]);
    let kinds = smidge_crds::definitions::all().unwrap();
    let kinds: Vec<String> = kinds.into_iter().filter_map(|it| it.metadata.name).collect();
    let read = |name: &str| format!("{name}: get list watch");
    let mut wanted: BTreeSet<String> = kinds.iter().map(|name| read(name)).collect();
    wanted.extend(kinds.iter().map(|name| format!("{}: patch", name.replacen('.', "/status.", 1))));
    wanted.extend(["namespaces", "pods", "services", "endpointslices.discovery.k8s.io"].map(read));
    wanted.extend(traffic_metrics::READ.map(|name| format!("{name}: get list")));
    wanted.insert("metricspolicies.smidge.mesh: create delete patch update".to_owned());
    wanted.extend(
        [
            "/.well-known/openid-configuration: get",
            "/openid/v1/jwks: get",
            "apiservices.apiregistration.k8s.io: get list patch watch",
            "customresourcedefinitions.apiextensions.k8s.io: get list patch watch",
            "events.events.k8s.io: create patch",
            "mutatingwebhookconfigurations.admissionregistration.k8s.io: get list patch watch",
            "subjectaccessreviews.authorization.k8s.io: create",
            "tokenreviews.authentication.k8s.io: create",
            "validatingwebhookconfigurations.admissionregistration.k8s.io: get list patch watch",
        ]
        .map(str::to_owned),
    );
    assert_eq!(rights(&objects["ClusterRole/smidge"]), wanted);
    let own = [
        "configmaps: get patch",
        "leases.coordination.k8s.io: create get update",
        "secrets: create",
        "secrets: get",
        "secrets: get update",
    ];
    assert_eq!(rights(&objects["Role/smidge"]), own.map(str::to_owned).into());
    // The role of readers of the debug pages; the chart contains no binding to it.
    assert_eq!(rights(&objects["ClusterRole/smidge-debug"]), ["/debug/*: get".to_owned()].into());
    for (name, object) in &objects {
        assert!(object["roleRef"]["name"] != "smidge-debug", "{name}");
    }
    // Helm stores its releases as Secrets in the same namespace as the operator's Secrets.
    for rule in objects["Role/smidge"]["rules"].as_array().unwrap() {
        let named = rule.get("resourceNames").is_some();
        let is_about_keys = rule["resources"] == json!(["secrets"]);
        assert!(!is_about_keys || named || rule["verbs"] == json!(["create"]), "{rule}");
    }
}

#[test]
fn the_webhook_sees_pods_of_the_mesh_only_and_leaves_its_trust_to_the_operator() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, &[]);
    let webhooks = objects["MutatingWebhookConfiguration/smidge-injector"]["webhooks"].as_array().unwrap();
    let [webhook, ephemeral] = webhooks.as_slice() else { panic!("two webhooks") };
    let service = json!({"name": "smidge-webhook", "namespace": "meshes", "path": "/inject", "port": 443});
    assert_eq!(webhook["clientConfig"], json!({ "service": service }), "no caBundle");
    assert_eq!(webhook["namespaceSelector"]["matchLabels"], json!({"smidge.mesh/inject": "enabled"}));
    assert_eq!(webhook["namespaceSelector"]["matchExpressions"][0]["operator"], "NotIn");
    assert_eq!(
        webhook["namespaceSelector"]["matchExpressions"][0]["values"],
        json!(["meshes", "kube-system"])
    );
    assert_eq!(webhook["objectSelector"]["matchExpressions"][0]["operator"], "NotIn");
    assert_eq!(webhook["objectSelector"]["matchExpressions"][0]["values"], json!(["disabled"]));
    assert_eq!(webhook["failurePolicy"], "Fail");
    assert_eq!(webhook["sideEffects"], "None");
    // A label added to a running pod must not exempt its ephemeral containers from review.
    assert_eq!(ephemeral["rules"][0]["resources"], json!(["pods/ephemeralcontainers"]));
    assert_eq!(ephemeral.get("objectSelector"), None);
    for field in ["clientConfig", "failurePolicy", "sideEffects"] {
        assert_eq!(ephemeral[field], webhook[field], "{field}");
    }
    let selected = ephemeral["namespaceSelector"]["matchExpressions"].as_array().unwrap();
    let [words, names] = selected.as_slice() else { panic!("two expressions: {ephemeral}") };
    assert_eq!(words["values"], json!(["enabled", "manual"]));
    assert_eq!(names, &webhook["namespaceSelector"]["matchExpressions"][0]);
}

/// Checks the right on which `smidge inject` depends: the operator writes one object, which every user may read.
#[test]
fn every_user_may_read_the_settings_of_injected_pods_alone() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, &[]);
    let reader = &objects["Role/smidge-injection-reader"];
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["smidge-injection"], "verbs": ["get"]});
    assert_eq!(reader["rules"], json!([rule]));
    let subjects = &objects["RoleBinding/smidge-injection-reader"]["subjects"];
    let group =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"});
    assert_eq!(subjects, &json!([group]));
    let settings = &objects["ConfigMap/smidge-injection"];
    assert_eq!((&settings["metadata"]["namespace"], settings.get("data")), (&json!("meshes"), None));
    let own = objects["Role/smidge"]["rules"].as_array().unwrap();
    let own = own.iter().find(|rule| rule["resources"] == json!(["configmaps"])).unwrap();
    assert_eq!(
        (&own["resourceNames"], &own["verbs"]),
        (&json!(["smidge-injection"]), &json!(["get", "patch"]))
    );
}

#[test]
fn the_webhooks_are_reached_before_the_operator_is_ready() {
    let Some(helm) = helm() else { return };
    let objects = render(&helm, &[]);
    let service = &objects["Service/smidge-webhook"]["spec"];
    assert_eq!(service["publishNotReadyAddresses"], true);
    assert_eq!(service["ports"], json!([{"name": "webhook", "port": 443, "targetPort": "webhook"}]));
    assert_eq!(service["selector"], objects["Service/smidge"]["spec"]["selector"]);
    // Proxies need a control plane that is ready to send resources.
    assert_eq!(objects["Service/smidge"]["spec"].get("publishNotReadyAddresses"), None);
}

#[test]
fn every_version_of_every_kind_is_judged_and_nothing_else() {
    let Some(helm) = helm() else { return };
    let name = "ValidatingWebhookConfiguration/smidge-validator";
    let objects = render(&helm, &[]);
    let webhooks = objects[name]["webhooks"].as_array().unwrap();
    let [webhook] = webhooks.as_slice() else { panic!("one webhook") };
    let service = json!({"name": "smidge-webhook", "namespace": "meshes", "path": "/validate", "port": 443});
    assert_eq!(webhook["clientConfig"], json!({ "service": service }), "no caBundle");
    assert_eq!((&webhook["failurePolicy"], &webhook["sideEffects"]), (&json!("Ignore"), &json!("None")));
    let mut judged = BTreeMap::new();
    for rule in webhook["rules"].as_array().unwrap() {
        assert_eq!(
            (&rule["apiVersions"], &rule["operations"]),
            (&json!(["*"]), &json!(["CREATE", "UPDATE"]))
        );
        let groups = texts(&rule["apiGroups"]);
        let resources = texts(&rule["resources"]);
        judged.extend(groups.iter().flat_map(|group| {
            resources.iter().map(move |resource| (format!("{resource}.{group}"), rule["scope"].clone()))
        }));
    }
    let generated = smidge_crds::definitions::all().unwrap();
    let ours = generated.into_iter().map(|it| (it.metadata.name.unwrap(), json!(it.spec.scope)));
    assert_eq!(judged, ours.collect::<BTreeMap<String, Value>>());
    assert!(!render(&helm, &["validation.enabled=false"]).contains_key(name));
}

#[test]
fn images_are_those_of_the_values() {
    let Some(helm) = helm() else { return };
    let container = |settings: &[&str]| {
        render(&helm, settings)["Deployment/smidge"]["spec"]["template"]["spec"]["containers"][0].clone()
    };
    let digest = format!("image.digest=sha256:{}", "ab".repeat(32));
    let by_digest = container(&["image.repository=r/s", "image.tag=t", &digest, "proxy.image=r/envoy:1"]);
    let image = format!("r/s@sha256:{}", "ab".repeat(32));
    assert_eq!(by_digest["image"], image);
    let args = by_digest["args"].to_string();
    assert!(args.contains(&format!("--init-image={image}\"")), "{args}");
    assert!(args.contains("--proxy-image=r/envoy:1\""), "{args}");
    assert_eq!(container(&["image.repository=r/s", "image.tag=t"])["image"], "r/s:t");
    let args = container(&["proxy.initImage=r/init:2"])["args"].to_string();
    assert!(args.contains("--init-image=r/init:2\""), "{args}");
}

#[test]
fn values_that_mean_nothing_are_refused_by_name() {
    let Some(helm) = helm() else { return };
    for (setting, named) in [
        ("replica=2", "replica"),
        ("image.tags=x", "tags"),
        ("image.digest=abc", "digest"),
        ("meshConfig.accessMode=lax", "accessMode"),
        ("meshConfig.undeclaredPorts=udp", "undeclaredPorts"),
        ("meshConfig.headerRegexMatch=all", "headerRegexMatch"),
        ("meshConfig.limits.headKiB=10000", "headKiB"),
        ("injector.timeoutSeconds=60", "timeoutSeconds"),
        ("validation.timeoutSeconds=0", "timeoutSeconds"),
        ("validation.failurePolicy=Fail", "failurePolicy"),
        ("networkPolicy.apiServer.cidrs=10.0.0.1/32", "cidrs"),
        ("networkPolicy.apiServer.cidrs={10.0.0.1}", "cidrs"),
        ("networkPolicy.apiserver.cidrs={10.0.0.1/32}", "apiserver"),
        ("webhook.clientCA=/etc/kubernetes/pki/ca.crt", "clientCA"),
        ("webhook.clientNames={kube-apiserver}", "clientCA"),
        ("webhook.clientCa=x", "clientCa"),
        ("trafficMetrics.enable=false", "enable"),
        ("prometheusRule.enable=true", "enable"),
        ("prometheusRule.runbookURL=docs/runbooks", "runbookURL"),
        ("prometheusRule.runbookURL=https://docs.example.com/", "runbookURL"),
        // In a NetworkPolicy an empty list and an empty peer mean every client, which no user who writes them intends.
        ("networkPolicy.xds.from=[]", "xds.from"),
        ("networkPolicy.metrics.from=[{}]", "metrics.from"),
    ] {
        let output = run(&helm, &[setting]);
        assert!(!output.status.success(), "{setting} was accepted");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(named), "{setting}: {error}");
    }
}
