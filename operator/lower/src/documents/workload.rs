//! Lists the kinds with a template of pods, for every tool that reads manifests.
//!
//! `cluster` makes a pod from each template, and `smidge inject` changes the template in place. A pod itself is in no
//! row: its kind is one of those that a mesh is made of.

use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::{CronJob, Job},
    core::v1::{PodTemplateSpec, ReplicationController},
};
use serde::de::DeserializeOwned;

use super::{Document, Unreadable};

/// A kind with a template of pods.
struct Workload {
    group: &'static str,
    kind: &'static str,
    /// Place of the template in the object.
    template: &'static str,
    /// Decodes the whole object.
    check: fn(&Document) -> Result<(), Unreadable>,
}

const TEMPLATE: &str = "/spec/template";

const WORKLOADS: [Workload; 8] = [
    Workload { group: "apps", kind: "Deployment", template: TEMPLATE, check: decode::<Deployment> },
    Workload { group: "apps", kind: "StatefulSet", template: TEMPLATE, check: decode::<StatefulSet> },
    Workload { group: "apps", kind: "DaemonSet", template: TEMPLATE, check: decode::<DaemonSet> },
    Workload { group: "apps", kind: "ReplicaSet", template: TEMPLATE, check: decode::<ReplicaSet> },
    Workload {
        group: "",
        kind: "ReplicationController",
        template: TEMPLATE,
        check: decode::<ReplicationController>,
    },
    Workload { group: "argoproj.io", kind: "Rollout", template: TEMPLATE, check: decode::<Rollout> },
    Workload { group: "batch", kind: "Job", template: TEMPLATE, check: decode::<Job> },
    Workload {
        group: "batch",
        kind: "CronJob",
        template: "/spec/jobTemplate/spec/template",
        check: decode::<CronJob>,
    },
];

/// Rollout of Argo, reduced to what it has in common with a Deployment.
#[derive(serde::Deserialize)]
struct Rollout {
    #[serde(rename = "spec")]
    _spec: RolloutSpec,
}

#[derive(serde::Deserialize)]
struct RolloutSpec {
    #[serde(rename = "template", default)]
    _template: Option<PodTemplateSpec>,
}

fn decode<K: DeserializeOwned>(document: &Document) -> Result<(), Unreadable> {
    document.decode::<K>().map(drop)
}

fn find(document: &Document) -> Option<&'static Workload> {
    WORKLOADS.iter().find(|it| it.group == document.group && it.kind == document.kind)
}

/// Returns the place of the pod or of the template of pods in an object of this kind, as a JSON pointer.
pub fn pod_place(document: &Document) -> Option<&'static str> {
    let is_pod = document.group.is_empty() && document.kind == "Pod";
    if is_pod { Some("") } else { find(document).map(|it| it.template) }
}

/// Returns the template of an object of these kinds; `None` for other kinds.
pub(super) fn template(document: &Document) -> Option<Result<PodTemplateSpec, Unreadable>> {
    let workload = find(document)?;
    let decoded = (workload.check)(document).and_then(|()| {
        let template = document.value.pointer(workload.template).filter(|template| !template.is_null());
        let field = workload.template.trim_start_matches('/').replace('/', ".");
        let missing = || document.unreadable(&field, "is missing: expected the pod's template");
        // The whole object was decoded above, and reports the place of any error.
        let template = template.ok_or_else(missing)?;
        serde_json::from_value(template.clone())
            .map_err(|error| document.unreadable(&field, error.to_string()))
    });
    Some(decoded)
}
