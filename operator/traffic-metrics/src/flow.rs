//! Turns the labels of a series into the flow that it counts: calls of a proxy with one peer, in one direction.
//!
//! Pure. A flow is what `store` keeps windows of and what replicas exchange; `answer` turns flows into edges of objects.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::{
    peer::{MAX_NAME, clean, peer},
    series::{Labels, Metric},
    traffic::{ObjectName, Peer},
};

/// Maximum length of a route, in bytes: two names, and that of a match.
pub(crate) const MAX_ROUTE: usize = 512;

/// Calls of a proxy's workload with one peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Flow {
    /// Calls that the workload received.
    Inbound {
        /// The caller.
        peer: Peer,
        /// The route, as `namespace/group/match`; empty where none is measured.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        route: String,
    },
    /// Calls that the workload made.
    Outbound {
        /// The Service whose endpoints took the calls, if they are those of one.
        service: Option<ObjectName>,
        /// The Service that was called.
        root: Option<ObjectName>,
        /// The server, by its certificate. Empty if no connection was made.
        peer: Peer,
    },
    /// Calls that the workload's own proxy refused.
    Refused {
        /// The address that was dialled.
        address: Option<SocketAddr>,
    },
}

impl Flow {
    /// Returns the flow of a series.
    pub fn of(metric: Metric, labels: &Labels<'_>) -> Self {
        match metric {
            Metric::InboundRequests | Metric::InboundLatency | Metric::InboundConnections => {
                let peer = peer(labels.peer_id, labels.peer_subject);
                Self::Inbound { peer, route: clean(labels.route, MAX_ROUTE) }
            }
            Metric::OutboundRequests | Metric::OutboundLatency => Self::Outbound {
                service: service(labels.service),
                root: service(labels.root),
                peer: peer(labels.peer_id, labels.peer_subject),
            },
            Metric::OutboundRefused => Self::Refused { address: labels.address.parse().ok() },
        }
    }

    /// Returns the flow of the same direction that names nothing, for calls beyond the bound of flows.
    #[must_use]
    pub fn unnamed(&self) -> Self {
        match self {
            Self::Inbound { .. } => Self::Inbound { peer: Peer::default(), route: String::new() },
            Self::Outbound { .. } => Self::Outbound { service: None, root: None, peer: Peer::default() },
            Self::Refused { .. } => Self::Refused { address: None },
        }
    }

    /// Returns the length of its texts, in bytes.
    pub(crate) fn text_len(&self) -> usize {
        let of_peer = |peer: &Peer| {
            peer.kind.len() + peer.namespace.len() + peer.name.len() + peer.service_account.len()
        };
        let of_name =
            |name: &Option<ObjectName>| name.as_ref().map_or(0, |it| it.namespace.len() + it.name.len());
        match self {
            Self::Inbound { peer, route } => of_peer(peer) + route.len(),
            Self::Outbound { service, root, peer } => of_name(service) + of_name(root) + of_peer(peer),
            Self::Refused { .. } => 0,
        }
    }
}

/// Returns the Service of a cluster `namespace/name/port`; what follows the port does not matter. Other clusters are not
/// of a Service.
fn service(cluster: &str) -> Option<ObjectName> {
    let mut parts = cluster.split('/');
    let (namespace, name, port) = (parts.next()?, parts.next()?, parts.next()?);
    port.parse::<u16>().ok()?;
    Some(ObjectName { namespace: clean(namespace, MAX_NAME), name: clean(name, MAX_NAME) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_of_services_are_recognized() {
        let web = Some(ObjectName { namespace: "shop".to_owned(), name: "web".to_owned() });
        assert_eq!(service("shop/web/80"), web);
        assert_eq!(service("shop/web/80/dialled"), web);
        for other in ["", "passthrough", "blackhole", "shop/web", "shop/web/http", "a/b/c/d"] {
            assert_eq!(service(other), None, "{other}");
        }
    }
}
