//! Builds the own endpoints of a Service's port, by locality.
//!
//! Names the transport of each: the sockets themselves are those of the cluster. Sets no weights: `route` does.

use std::collections::{BTreeMap, HashMap};

use envoy_types::pb::{
    envoy::config::{
        core::v3::{Locality, Metadata},
        endpoint::v3::{
            ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, endpoint::AdditionalAddress,
            lb_endpoint::HostIdentifier,
        },
    },
    google::protobuf::{Struct, Value, value::Kind},
};

use super::{tls::PLAINTEXT, wire};
use crate::mesh::service::{self, Transport};

/// The metadata that Envoy compares with the matches of a cluster's sockets.
const TRANSPORT_MATCH: &str = "envoy.transport_socket_match";

/// Builds the endpoints to which the cluster `name` subscribes.
pub fn endpoints(name: &str, endpoints: &[service::Endpoint]) -> ClusterLoadAssignment {
    let mut localities = BTreeMap::<&str, Vec<LbEndpoint>>::new();
    for endpoint in endpoints {
        localities.entry(&endpoint.locality).or_default().push(LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                address: Some(wire::address(endpoint.address, endpoint.port)),
                additional_addresses: endpoint
                    .alternatives
                    .iter()
                    .map(|address| AdditionalAddress {
                        address: Some(wire::address(*address, endpoint.port)),
                    })
                    .collect(),
                ..Endpoint::default()
            })),
            metadata: transport(endpoint.transport),
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

/// Builds the metadata by which a cluster chooses the socket of an endpoint; none for mTLS, its socket for all others.
fn transport(transport: Transport) -> Option<Metadata> {
    if transport.is_mtls() {
        return None;
    }
    let fields = HashMap::from([(PLAINTEXT.to_owned(), Value { kind: Some(Kind::BoolValue(true)) })]);
    let filter_metadata = HashMap::from([(TRANSPORT_MATCH.to_owned(), Struct { fields })]);
    Some(Metadata { filter_metadata, ..Metadata::default() })
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
