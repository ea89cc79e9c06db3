//! Tests the chart's policy against pods without a sidecar, in the API server: in a namespace that enforces access a pod
//! that is labelled out or in the node's network is refused, and one that is injected is admitted.
//!
//! The policy is rendered by Helm and limited to the test's namespace, as it would refuse pods of other tests.

use std::{process::Command, time::Duration};

use anyhow::Context as _;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use smidge_e2e::{Namespace, raw::Write, until, with_temp_ns};

/// Time limit for the API server to apply a policy.
const EFFECT: Duration = Duration::from_secs(30);
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/smidge");

/// Renders the policy for one namespace; it and its binding have names of their own.
fn policy(namespace: &str) -> anyhow::Result<String> {
    let helm = std::env::var_os("HELM").context("HELM is not set; e2e/mesh env sets it")?;
    let mut command = Command::new(helm);
    command.args(["template", "smidge", CHART, "--namespace", "smidge-system", "--kube-version", "1.34.0"]);
    command.args(["--set", "admissionPolicy.enabled=true", "--show-only", "templates/admissionpolicy.yaml"]);
    let output = command.output().context("failed to run Helm")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let own = format!("matchLabels: {{kubernetes.io/metadata.name: {namespace}}}\n      matchExpressions:");
    let text = String::from_utf8(output.stdout)?;
    Ok(text.replacen("matchExpressions:", &own, 1).replace("smidge-sidecar", namespace))
}

fn pod(labels: &Value, is_of_node: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": labels},
        "spec": {"hostNetwork": is_of_node, "containers": [{"name": "web", "image": "smidge.local/bookstore:dev"}]},
    })
}

/// Returns the API server's refusal of a pod, without creating it.
async fn refusal(namespace: &Namespace, pod: &Value) -> anyhow::Result<String> {
    let answer = namespace.cluster.write(Write::Rehearse, &namespace.name, pod).await?;
    answer.refusal().map(str::to_owned)
}

#[tokio::test]
async fn pods_without_a_sidecar_are_refused_where_access_is_enforced() -> anyhow::Result<()> {
    with_temp_ns(&[], async |namespace| {
        namespace.cluster.apply("", &policy(&namespace.name)?).await?;
        let outcome = judged(namespace).await;
        for kind in ["ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"] {
            let api = namespace.cluster.api("admissionregistration.k8s.io/v1", kind, "")?;
            api.delete(&namespace.name, &DeleteParams::default()).await?;
        }
        outcome
    })
    .await
}

async fn judged(namespace: &Namespace) -> anyhow::Result<()> {
    let out = json!({"smidge.mesh/inject": "disabled"});
    let message = until("a pod that is labelled out to be refused", EFFECT, async || {
        refusal(namespace, &pod(&out, false)).await
    })
    .await?;
    let expected =
        format!("smidge: the pod has no sidecar, and namespace {} enforces access", namespace.name);
    anyhow::ensure!(message.contains(&expected), "{message}");
    let message = refusal(namespace, &pod(&json!({}), true)).await?;
    anyhow::ensure!(message.contains(&expected), "{message}");
    let injected = namespace.cluster.write(Write::Rehearse, &namespace.name, &pod(&json!({}), false)).await?;
    anyhow::ensure!(injected.refusal().is_err(), "an injected pod was refused");

    namespace.label(&[("smidge.mesh/inject", "enabled"), ("smidge.mesh/access", "audit")]).await?;
    until("a pod that is labelled out to be admitted under audit", EFFECT, async || {
        let answer = namespace.cluster.write(Write::Rehearse, &namespace.name, &pod(&out, false)).await?;
        anyhow::ensure!(answer.refusal().is_err(), "it is refused");
        Ok(())
    })
    .await
}
