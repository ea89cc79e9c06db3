//! Turns the table of the traffic's metrics, and the operator's own metrics, into dashboards for Grafana.
//!
//! Pure. Printed by `cli::dashboards`; the chart contains the output. `query` names metrics and labels by the table, so that
//! one that does not exist does not compile; those of the operator itself are compared with a real page in tests. `grafana`
//! has the form, and the other modules the content of one dashboard each. Does not know a Grafana server.

mod control_plane;
mod grafana;
mod mesh;
mod query;
mod split;
mod workload;

use serde_json::Value;

/// A dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Dashboard {
    /// The whole mesh: success rate, requests per second, latency, refused calls, and what is notable.
    Mesh,
    /// One workload: its callers, and the Services that it calls.
    Workload,
    /// One Service with a TrafficSplit: the share, success rate and latency of each backend.
    Split,
    /// The operator: proxies, configuration, certificates, webhooks and its own resources.
    ControlPlane,
}

impl Dashboard {
    /// All dashboards.
    pub const ALL: [Self; 4] = [Self::Mesh, Self::Workload, Self::Split, Self::ControlPlane];

    /// Returns its name, which is that of its file without `.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Workload => "workload",
            Self::Split => "split",
            Self::ControlPlane => "control-plane",
        }
    }

    /// Returns the dashboard in the form that Grafana imports.
    pub fn json(self) -> Value {
        let content = match self {
            Self::Mesh => mesh::content(),
            Self::Workload => workload::content(),
            Self::Split => split::content(),
            Self::ControlPlane => control_plane::content(),
        };
        content.json(self.name())
    }

    /// Returns the text of its file.
    pub fn text(self) -> String {
        format!("{:#}\n", self.json())
    }
}
