//! Builds the own endpoints of a Service's port, by locality.
//!
//! Every endpoint is in the mesh, so all of them take mTLS. Sets no weights: `route` does.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::{
    core::v3::Locality,
    endpoint::v3::{
        ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
    },
};

use super::wire;
use crate::mesh::service;

/// Builds the endpoints to which the cluster `name` subscribes.
pub fn endpoints(name: &str, endpoints: &[service::Endpoint]) -> ClusterLoadAssignment {
    let mut localities = BTreeMap::<&str, Vec<LbEndpoint>>::new();
    for endpoint in endpoints {
        localities.entry(&endpoint.locality).or_default().push(LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                address: Some(wire::address(endpoint.address, endpoint.port)),
                ..Endpoint::default()
            })),
            ..LbEndpoint::default()
        });
    }
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: localities
            .into_iter()
            .map(|(name, lb_endpoints)| LocalityLbEndpoints {
                locality: locality(name),
                lb_endpoints,
                ..LocalityLbEndpoints::default()
            })
            .collect(),
        ..ClusterLoadAssignment::default()
    }
}

/// Turns `region/zone` into Envoy's locality; nothing for the empty text.
fn locality(text: &str) -> Option<Locality> {
    let (region, zone) = text.split_once('/').unwrap_or((text, ""));
    (!text.is_empty()).then(|| Locality {
        region: region.to_owned(),
        zone: zone.to_owned(),
        ..Locality::default()
    })
}
