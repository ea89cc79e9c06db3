//! `split.smi-spec.io/v1alpha2`: `TrafficSplit`. Served, not stored.
//!
//! The version lacks `matches`, and is otherwise v1alpha4. It is served with v1alpha4's schema and types, so that the
//! API server converts by renaming the version, and a client of v1alpha2 that reads, changes a weight and writes
//! back by patch leaves `matches` alone.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionVersion;

/// The version's name.
pub const VERSION: &str = "v1alpha2";

/// This version, made from the stored one.
pub(crate) fn served_like(stored: &CustomResourceDefinitionVersion) -> CustomResourceDefinitionVersion {
    CustomResourceDefinitionVersion { name: VERSION.into(), served: true, storage: false, ..stored.clone() }
}
