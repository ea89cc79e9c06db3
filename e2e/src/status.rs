//! Status of the objects of the mesh, as `kubectl wait` and GitOps tools read it.

use std::time::Duration;

use anyhow::Context as _;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::{Namespace, until};

/// Time limit for a status to have the expected value: a silent proxy may cost ten seconds of it.
pub const STATUS: Duration = Duration::from_secs(30);

/// Returns the API version in which an object of `kind` is read.
fn version(kind: &str) -> &'static str {
    match kind {
        "TrafficTarget" | "IdentityBinding" => "access.smi-spec.io/v1alpha4",
        "TrafficSplit" => "split.smi-spec.io/v1alpha4",
        _ => "specs.smi-spec.io/v1alpha4",
    }
}

impl Namespace {
    /// Returns an SMI object of this namespace.
    pub async fn smi(&self, kind: &str, name: &str) -> anyhow::Result<DynamicObject> {
        self.cluster.get(version(kind), kind, &self.name, name).await
    }

    /// Waits until the condition of an object is `status` with `reason` at the object's own generation; returns object
    /// and condition.
    pub async fn condition(
        &self,
        kind: &str,
        name: &str,
        condition: &str,
        status: &str,
        reason: &str,
    ) -> anyhow::Result<(DynamicObject, Value)> {
        let what = format!("{kind} {name} to be {condition}={status} ({reason})");
        until(&what, STATUS, async || {
            let object = self.smi(kind, name).await?;
            let found = condition_of(&object, condition)?;
            let is = |field: &str, value: &str| found.get(field).and_then(Value::as_str) == Some(value);
            let generation = object.metadata.generation.context("an object without a generation")?;
            let observed = object.data.pointer("/status/observedGeneration").and_then(Value::as_i64);
            anyhow::ensure!(
                is("status", status) && is("reason", reason) && observed == Some(generation),
                "generation {generation}: {}",
                object.data.get("status").unwrap_or(&Value::Null)
            );
            Ok((object, found))
        })
        .await
    }
}

/// Returns a condition of an object.
pub fn condition_of(object: &DynamicObject, condition: &str) -> anyhow::Result<Value> {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let found =
        conditions.into_iter().flatten().find(|it| it.get("type").and_then(Value::as_str) == Some(condition));
    found.cloned().with_context(|| format!("no condition {condition} yet"))
}

/// Returns the message of a condition.
pub fn message(condition: &Value) -> &str {
    condition.get("message").and_then(Value::as_str).unwrap_or_default()
}
