//! Turns requests for the API group `metrics.smi-spec.io` into questions about traffic, and their answers into
//! TrafficMetrics as clients of Kubernetes expect them.
//!
//! Pure: the server (`operator::traffic_api`) authenticates, authorizes, reads the objects and asks the source. Decides
//! paths, parameters, shapes and errors; does not know where figures come from.

pub mod accept;
pub mod access;
pub mod answer;
pub mod assemble;
pub mod changes;
pub mod discovery;
pub mod duration;
pub mod object;
pub mod openapi;
pub mod quantity;
pub mod query;
pub mod request;
pub mod resource;
pub mod status;
pub mod stored;
pub mod table;
pub mod timestamp;

/// The API group.
pub const GROUP: &str = "metrics.smi-spec.io";

/// Version of the group. Both have the same shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// `v1alpha1`, whose document has `edge.side` and `backend`, although the SDK's types for it do not.
    V1Alpha1,
    /// `v1alpha2`, preferred.
    V1Alpha2,
}

impl Version {
    /// The versions, the preferred one first.
    pub const ALL: [Self; 2] = [Self::V1Alpha2, Self::V1Alpha1];

    /// Returns the name in paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1Alpha1 => "v1alpha1",
            Self::V1Alpha2 => "v1alpha2",
        }
    }

    /// Returns the value of `apiVersion`.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1Alpha1 => "metrics.smi-spec.io/v1alpha1",
            Self::V1Alpha2 => "metrics.smi-spec.io/v1alpha2",
        }
    }

    /// Returns the version of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.name() == name)
    }
}
