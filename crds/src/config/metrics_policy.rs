//! `smidge.mesh/v1alpha1`: `MetricsPolicy`, the request to measure an object's calls by route. Served and stored.

use kube_core::NamespaceResourceScope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::v1alpha1::VERSION;
use crate::{
    access::Rule,
    object::{Kind, Object, or_default},
};

/// Request to measure the calls of an object by route.
pub type MetricsPolicy = Object<MetricsPolicySpec>;

/// Specification of a `MetricsPolicy`: the object, and the routes by which its calls are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, rename_all = "camelCase")]
#[schemars(extend("required" = ["target"]))]
pub struct MetricsPolicySpec {
    /// The object whose calls are measured, as the servers of its pods receive them.
    #[serde(deserialize_with = "or_default")]
    pub target: MetricsTarget,
    /// The routes: matches of HTTPRouteGroups in the namespace of the policy. A request belongs to the first that matches
    /// it. Defaults to the matches that the TrafficTargets of the object's ServiceAccount name.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// Object that is measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["kind", "name"]))]
pub struct MetricsTarget {
    /// The kind of the object: Namespace, Pod, Service, TrafficSplit, or the kind of a workload, such as Deployment.
    pub kind: String,
    /// The name of the object, in the namespace of the policy; for a Namespace that namespace.
    pub name: String,
}

impl Kind for MetricsPolicySpec {
    type Scope = NamespaceResourceScope;

    const GROUP: &'static str = super::GROUP;
    const VERSION: &'static str = VERSION;
    const KIND: &'static str = "MetricsPolicy";
    const PLURAL: &'static str = "metricspolicies";
    const SHORT_NAME: Option<&'static str> = Some("mp");
    const DESCRIPTION: &'static str = "A request to measure the calls of an object by route, in TrafficMetrics and for Prometheus. It takes effect at once, without a restart of any pod, and ends when it is deleted.";
    const COLUMNS: &'static [(&'static str, &'static str, &'static str)] = &[
        ("Kind", "The kind of the object.", ".spec.target.kind"),
        ("Name", "The name of the object.", ".spec.target.name"),
    ];
}
