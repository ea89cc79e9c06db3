//! A pod that is deleted: its `preStop` hook and its application, which handles SIGTERM, call through the mesh.
//!
//! Both write into the message that the container leaves. A finalizer keeps the pod until that message was read.

use std::time::Duration;

use anyhow::Context as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use smidge_e2e::{Namespace, Pod, until};

use crate::pods::{BOOKS, IMAGE, called};

/// Time limit for the pod to end, on a machine with other load.
const ENDED: Duration = Duration::from_mins(2);
const NAME: &str = "ending";

/// Builds the pod. Each of its calls comes 2 s after the moment at which it became possible.
fn pod() -> String {
    let call = |word: &str| {
        format!(
            "sleep 2; curl --fail --silent --output /dev/null --max-time 10 {BOOKS} && echo {word} >> /dev/termination-log"
        )
    };
    let application = format!("trap '{}; exit 0' TERM; while :; do sleep 0.2; done", call("handler"));
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": NAME, "labels": {"app": NAME}, "finalizers": ["e2e.smidge.mesh/observed"]},
        "spec": {
            "serviceAccountName": "batch", "terminationGracePeriodSeconds": 60,
            "containers": [{
                "name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "args": ["-c", application],
                "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", call("hook")]}}},
            }],
        },
    })
    .to_string()
}

/// Deletes the pod, and expects both calls to succeed.
pub async fn calls(namespace: &Namespace) -> anyhow::Result<()> {
    called(namespace).await?;
    namespace.apply(&pod()).await?;
    let outcome = observed(namespace).await;
    let free = json!({"metadata": {"finalizers": null}});
    namespace.pods().patch(NAME, &PatchParams::default(), &Patch::Merge(free)).await?;
    outcome
}

async fn observed(namespace: &Namespace) -> anyhow::Result<()> {
    Pod::one(namespace, NAME).await?;
    namespace.pods().delete(NAME, &DeleteParams::default()).await?;
    until("the application to have ended, after both calls", ENDED, async || {
        let status = namespace.pods().get(NAME).await?.status.context("no status")?;
        let mut ended = status.container_statuses.into_iter().flatten().filter_map(|it| it.state?.terminated);
        let ended = ended.next().context("it runs")?;
        anyhow::ensure!(ended.message.as_deref() == Some("hook\nhandler\n"), "{ended:?}");
        Ok(())
    })
    .await
}
