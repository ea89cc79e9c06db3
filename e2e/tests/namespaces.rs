//! Tests injection in namespaces with a ResourceQuota, a LimitRange or pull secrets, and of pods of the QoS class
//! Guaranteed: pods start where the annotations of the namespace fit, and the API server's refusal names the containers
//! where they do not.

use std::{path::PathBuf, process::Stdio, time::Duration};

use anyhow::Context as _;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use serde_json::{Value, json};
use smidge_e2e::{Namespace, Pod, until, with_temp_ns};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// Time limit for the API server to know a quota or the operator an annotation, on a machine with other load.
const KNOWN: Duration = Duration::from_secs(30);

/// Returns the path of this build's program, which is in the folder above the tests.
fn program() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let folder = test.parent().and_then(|deps| deps.parent()).context("no folder above the test")?;
    Ok(folder.join("smidge"))
}

/// Builds a pod whose container has these requests and limits.
fn pod(name: &str, resources: &Value) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{
            "name": name, "image": "smidge.local/base:dev", "imagePullPolicy": "IfNotPresent",
            "command": ["sleep", "infinity"], "resources": resources,
        }]},
    })
    .to_string()
}

fn resources(requests: (&str, &str), limits: (&str, &str)) -> Value {
    json!({
        "requests": {"cpu": requests.0, "memory": requests.1}, "limits": {"cpu": limits.0, "memory": limits.1},
    })
}

/// Sets annotations of the namespace.
async fn annotate(namespace: &Namespace, annotations: &[(&str, &str)]) -> anyhow::Result<()> {
    let annotations: serde_json::Map<_, _> =
        annotations.iter().map(|(name, value)| (format!("smidge.mesh/{name}"), json!(value))).collect();
    let object = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": namespace.name, "labels": {"smidge.mesh/inject": "enabled"}, "annotations": annotations,
        },
    });
    namespace.apply(&object.to_string()).await
}

/// Waits until the API server refuses a pod with `message`: quotas and limits take effect a moment after they are set.
async fn refused(namespace: &Namespace, pod: &str, message: &str) -> anyhow::Result<()> {
    until(&format!("a refusal with {message:?}"), KNOWN, async || {
        let outcome = namespace.apply(pod).await.map_err(|error| format!("{error:#}"));
        let is_created = outcome.is_ok();
        if is_created {
            namespace.remove(pod).await?;
        }
        let found = outcome.err().unwrap_or_default();
        anyhow::ensure!(found.contains(message), "created: {is_created}, error: {found}");
        Ok(())
    })
    .await
}

/// Waits until the pod is accepted, ready and injected, and returns it.
async fn starts(namespace: &Namespace, name: &str, pod: &str) -> anyhow::Result<core::Pod> {
    until("the pod to be accepted", KNOWN, async || namespace.apply(pod).await).await?;
    let pod = Pod::one(namespace, name).await?.object().await?;
    let added = init_containers(&pod);
    anyhow::ensure!(added == ["smidge-init", "smidge-proxy"], "not injected: {added:?}");
    Ok(pod)
}

fn init_containers(pod: &core::Pod) -> Vec<&str> {
    let containers = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    containers.map(|container| container.name.as_str()).collect()
}

fn class(pod: &core::Pod) -> Option<&str> {
    pod.status.as_ref()?.qos_class.as_deref()
}

#[tokio::test]
async fn pods_start_in_a_namespace_with_a_quota_on_cpu_limits() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let quota = json!({
            "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "team"},
            "spec": {"hard": {
                "limits.cpu": "4", "limits.memory": "4Gi", "requests.cpu": "4", "requests.memory": "4Gi",
            }},
        });
        namespace.apply(&quota.to_string()).await?;
        let pod = pod("app", &resources(("10m", "32Mi"), ("100m", "64Mi")));
        refused(namespace, &pod, "must specify limits.cpu for: smidge-init,smidge-proxy").await?;
        annotate(namespace, &[("proxy-cpu-limit", "1"), ("init-cpu-limit", "500m")]).await?;
        starts(namespace, "app", &pod).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn pods_start_in_a_namespace_with_a_limit_range() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let range = json!({
            "apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "bounds"},
            "spec": {"limits": [{
                "type": "Container", "min": {"cpu": "50m", "memory": "90Mi"}, "max": {"memory": "256Mi"},
            }]},
        });
        namespace.apply(&range.to_string()).await?;
        let pod = pod("app", &resources(("50m", "100Mi"), ("200m", "100Mi")));
        refused(namespace, &pod, "minimum cpu usage per Container is 50m, but request is 10m").await?;
        let annotations = [
            ("proxy-cpu-request", "50m"),
            ("proxy-memory-request", "90Mi"),
            ("proxy-memory-limit", "256Mi"),
            ("init-cpu-request", "50m"),
            ("init-memory-request", "90Mi"),
            ("init-memory-limit", "90Mi"),
        ];
        annotate(namespace, &annotations).await?;
        starts(namespace, "app", &pod).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_guaranteed_pod_keeps_its_class() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        annotate(namespace, &[("proxy-cpu-limit", "300m"), ("proxy-memory-limit", "128Mi")]).await?;
        let pinned = pod("pinned", &resources(("100m", "64Mi"), ("100m", "64Mi")));
        let pinned = starts(namespace, "pinned", &pinned).await?;
        anyhow::ensure!(class(&pinned) == Some("Guaranteed"), "{:?}", pinned.status);
        let other = pod("other", &resources(("10m", "32Mi"), ("100m", "64Mi")));
        let other = starts(namespace, "other", &other).await?;
        anyhow::ensure!(class(&other) == Some("Burstable"), "{:?}", other.status);
        Ok(())
    })
    .await
}

/// Returns the roots that the operator has published.
async fn roots_of_the_control_plane(namespace: &Namespace) -> anyhow::Result<String> {
    let api: Api<core::ConfigMap> = Api::namespaced(namespace.cluster.client(), "smidge-system");
    let data = api.get("smidge-injection").await?.data.unwrap_or_default();
    let settings: Value = serde_json::from_str(data.get("settings.json").context("no settings")?)?;
    let roots = settings.pointer("/controlPlaneRoots").and_then(Value::as_array).context("no roots")?;
    Ok(roots.iter().filter_map(Value::as_str).collect())
}

/// The mesh of the test has no pull secrets of its own: the program adds them to the manifest, and the webhook, which
/// injects it again, keeps them.
#[tokio::test]
async fn pull_secrets_of_injected_images_are_in_the_pod() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        let secret = |name: &str| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
                "type": "kubernetes.io/dockerconfigjson", "stringData": {".dockerconfigjson": "{\"auths\": {}}"},
            })
        };
        for name in ["team", "mesh"] {
            namespace.apply(&secret(name).to_string()).await?;
        }
        let mut pod: Value = serde_json::from_str(&pod("app", &json!({})))?;
        pod["spec"]["imagePullSecrets"] = json!([{"name": "team"}]);
        let roots = std::env::temp_dir().join(format!("{}-roots.pem", namespace.name));
        std::fs::write(&roots, roots_of_the_control_plane(namespace).await?)?;
        let mut command = Command::new(program()?);
        command.args(["inject", "--filename", "-", "--namespace", &namespace.name, "--image-pull-secret", "mesh"]);
        command.arg("--control-plane-roots").arg(&roots);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().context("failed to run smidge inject")?;
        let mut stdin = process.stdin.take().context("standard input")?;
        stdin.write_all(pod.to_string().as_bytes()).await?;
        drop(stdin);
        let output = process.wait_with_output().await?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let pod = starts(namespace, "app", &String::from_utf8(output.stdout)?).await?;
        let secrets = pod.spec.unwrap_or_default().image_pull_secrets.unwrap_or_default();
        let names: Vec<&str> = secrets.iter().map(|secret| secret.name.as_str()).collect();
        anyhow::ensure!(names == ["team", "mesh"], "{names:?}");
        Ok(())
    })
    .await
}
