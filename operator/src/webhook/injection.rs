//! Turns the review of a new pod into the injector's decision as a JSON patch, and judges ephemeral containers that are
//! added to a pod.
//!
//! A pod whose manifest lets it leave the mesh is admitted with a warning, or refused if the mesh's settings require
//! that. Pure, but for its metrics. Reads the pod as raw JSON, so that the patch fits the API server's object even if
//! this program knows fewer fields of a pod than the API server.

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use serde::Deserialize;
use serde_json::Value;
use smidge_crds::redirected::InboundRedirection;

use super::review::{self, Admission, Error, Read};
use crate::{
    bypass,
    injector::{self, Decision, Settings},
    inputs::Shared,
};

/// Treatment of pods that could leave the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strictness {
    /// They are admitted with a warning.
    #[default]
    Warn,
    /// They are refused.
    Refuse,
    /// They are refused until the mesh's settings have been read.
    Unknown,
}

/// Metrics of injection.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    could_leave: Family<CouldLeave, Counter>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CouldLeave {
    way: &'static str,
    admitted: &'static str,
}

impl Metrics {
    /// Registers the metrics in `registry`. Every way is there from the start, at zero.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let help = "Pods, or ephemeral containers of pods, that could leave the mesh, by way and by whether they were admitted";
        registry.register("bypassable_pods", help, metrics.could_leave.clone());
        for kind in bypass::Kind::ALL {
            for admitted in ["true", "false"] {
                drop(metrics.could_leave.get_or_create(&CouldLeave { way: kind.as_str(), admitted }));
            }
        }
        metrics
    }

    /// Returns the number of pods that could leave the mesh in this way, and were admitted or refused, so far.
    pub fn could_leave(&self, kind: bypass::Kind, is_admitted: bool) -> u64 {
        let admitted = if is_admitted { "true" } else { "false" };
        self.could_leave.get_or_create(&CouldLeave { way: kind.as_str(), admitted }).get()
    }

    fn count(&self, ways: &[bypass::Way], is_admitted: bool) {
        let admitted = if is_admitted { "true" } else { "false" };
        let mut kinds: Vec<_> = ways.iter().map(|way| way.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            self.could_leave.get_or_create(&CouldLeave { way: kind.as_str(), admitted }).inc();
        }
    }
}

/// Answers a review. An object that is neither a new pod nor an update of ephemeral containers is admitted unchanged.
/// `find` returns a namespace, if it is known.
pub fn answer(
    body: &[u8],
    settings: &Settings,
    strictness: Strictness,
    metrics: &Metrics,
    find: impl FnOnce(&str) -> Option<Shared<Namespace>>,
) -> Result<Value, Error> {
    let Admission { uid, operation, sub_resource, namespace, kind, object, .. } =
        match review::admission(body)? {
            Read::Whole(request) => request,
            Read::Envelope(_, error) => return Err(error.into()),
        };
    let is_pod = kind.group.is_empty() && kind.kind == "Pod";
    let object = object.unwrap_or_default();
    if is_pod && operation == "UPDATE" && sub_resource == "ephemeralcontainers" {
        if !injector::is_injected(&object) {
            return Ok(review::allow(&uid, &[]));
        }
        let refused = injector::refuse_ephemeral(&object);
        let judged = refused.map_or_else(|| judge(&object, true, strictness, metrics), Err);
        return Ok(match judged {
            Ok(warnings) => review::allow(&uid, &warnings),
            Err(message) => review::deny(&uid, 403, "Forbidden", &message, &[]),
        });
    }
    if !is_pod || operation != "CREATE" || !sub_resource.is_empty() {
        return Ok(review::allow(&uid, &[]));
    }
    let found = find(&namespace);
    let of = injector::Namespace {
        name: &namespace,
        labels: found.as_ref().and_then(|it| it.metadata.labels.as_ref()),
        annotations: found.as_ref().and_then(|it| it.metadata.annotations.as_ref()),
    };
    Ok(match injector::inject(&object, of, Some(&uid), settings) {
        Decision::Skip { warnings } => review::allow(&uid, &warnings),
        Decision::Deny { message } => review::deny(&uid, 403, "Forbidden", &message, &[]),
        Decision::Inject { pod, mut warnings } => {
            match judge(&object, false, strictness, metrics) {
                Ok(more) => warnings.extend(more),
                Err(message) => return Ok(review::deny(&uid, 403, "Forbidden", &message, &warnings)),
            }
            warnings.extend(found.is_none().then(|| unknown(&namespace)));
            let patch = serde_json::to_vec(&json_patch::diff(&object, &pod))?;
            review::patch(&uid, &warnings, STANDARD.encode(patch))
        }
    })
}

/// Returns the warning that the annotations of a namespace were not applied.
fn unknown(namespace: &str) -> String {
    format!(
        "smidge: the operator has not read namespace {namespace} yet: its annotations have no effect on this pod; hint: \
         create the pod again if the namespace sets resources"
    )
}

/// Judges the ways in which a pod can leave the mesh: returns warnings if it is admitted, otherwise the reason for the
/// refusal. If ephemeral containers are added to an injected pod, only those count, as the others were judged before.
fn judge(
    object: &Value,
    is_ephemeral: bool,
    strictness: Strictness,
    metrics: &Metrics,
) -> Result<Vec<String>, String> {
    // An object that is not a pod is refused by the API server itself. Its annotations count: injection starts anew from
    // them, whatever redirects the pod in its manifest.
    let mut ways = Pod::deserialize(object)
        .map(|pod| bypass::ways(&pod, &InboundRedirection::of_annotations(pod.metadata.annotations.as_ref())))
        .unwrap_or_default();
    if is_ephemeral {
        ways.retain(|way| way.field.starts_with("spec.ephemeralContainers"));
    }
    ways.truncate(bypass::MAX_REPORTED);
    metrics.count(&ways, strictness == Strictness::Warn);
    let message =
        |way: &bypass::Way| format!("smidge: the pod can leave the mesh: {}: {}", way.field, way.why);
    let Some(first) = ways.first() else { return Ok(Vec::new()) };
    match strictness {
        Strictness::Warn => Ok(ways.iter().map(message).collect()),
        Strictness::Refuse => Err(format!(
            "{}; MeshConfig {} refuses that by spec.injection.strict: take it out of the pod, or run the pod \
             outside of the mesh",
            message(first),
            smidge_crds::config::DEFAULT
        )),
        Strictness::Unknown => Err(format!(
            "{}; whether the mesh admits that is not known yet, as the operator has just started: try again",
            message(first)
        )),
    }
}
