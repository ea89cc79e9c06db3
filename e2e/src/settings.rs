//! Settings of the whole mesh for the time of a test.
//!
//! The tests that use it run one at a time, as the settings apply to every namespace.

use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::{Namespace, exclusive};

/// Runs `test` in a mesh whose settings it may set, and removes the settings after it. Fails if the mesh has some, which
/// would be lost.
pub async fn with_settings(
    namespace: &Namespace,
    test: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    exclusive(&namespace.cluster, &namespace.name).await?;
    let settings = namespace.cluster.api("smidge.mesh/v1alpha1", "MeshConfig", "")?;
    let before = settings.get_opt("default").await?;
    anyhow::ensure!(before.is_none(), "the mesh has settings, which this test would lose: {before:?}");
    let outcome = test().await;
    let removed = settings.delete("default", &DeleteParams::default()).await;
    // A test that fails early may have set nothing, and its own error is the one to read.
    outcome?;
    removed?;
    Ok(())
}

/// Sets the settings of the mesh: the spec of its MeshConfig.
pub async fn set(namespace: &Namespace, spec: Value) -> anyhow::Result<()> {
    let settings = json!({
        "apiVersion": "smidge.mesh/v1alpha1", "kind": "MeshConfig", "metadata": {"name": "default"}, "spec": spec,
    });
    namespace.cluster.apply("", &settings.to_string()).await
}
