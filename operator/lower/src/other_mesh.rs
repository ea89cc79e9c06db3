//! Names what belongs to another mesh, and what Smidge has in its place: kinds of objects, labels and annotations.
//!
//! Two tables and their lookup. Manifests of a mesh that is being left often contain such objects and annotations, and
//! their owner expects an effect. Used by `documents` for kinds and by `kubernetes::labels` for the rest. Gives none of
//! them a meaning.

use smidge_crds::{KINDS as OWN_KINDS, config, labels::COUNTERPARTS};

/// An annotation, label or kind of another mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Foreign {
    /// Name of the mesh.
    pub mesh: &'static str,
    /// Text on what to write in its place; empty if Smidge has nothing like it.
    pub instead: &'static str,
}

/// Returns the mesh that a label or annotation belongs to, and what Smidge has in its place.
pub(crate) fn metadata(name: &str) -> Option<Foreign> {
    let (prefix, rest) = name.split_once('/').unwrap_or(("", name));
    let (_, mesh) = PREFIXES.iter().find(|(known, _)| {
        prefix == *known || prefix.strip_suffix(known).is_some_and(|start| start.ends_with('.'))
    })?;
    if prefix.is_empty() && rest != "istio-injection" {
        return None;
    }
    let counterpart = COUNTERPARTS.iter().find(|(theirs, _)| *theirs == name);
    let known = counterpart.or_else(|| METADATA.iter().find(|(end, _)| rest.ends_with(end)));
    Some(Foreign { mesh, instead: known.map_or("", |(_, instead)| instead) })
}

/// Returns the mesh that a kind belongs to, and what Smidge has in its place.
pub(crate) fn kind(group: &str, kind: &str) -> Option<Foreign> {
    let (_, mesh, _) = KINDS.iter().find(|(known, ..)| of_group(group, known))?;
    let own = KINDS.iter().find(|(known, _, kinds)| of_group(group, known) && kinds.0 == kind);
    let is_alike = OWN_KINDS.iter().any(|info| info.group == config::GROUP && info.kind == kind);
    let instead = if is_alike { ALIKE } else { own.map_or("", |(.., kinds)| kinds.1) };
    Some(Foreign { mesh, instead })
}

fn of_group(group: &str, known: &str) -> bool {
    group == known || group.strip_suffix(known).is_some_and(|start| start.ends_with('.'))
}

const OSM: &str = "Open Service Mesh";
const ISTIO: &str = "Istio";
const LINKERD: &str = "Linkerd";
const CONSUL: &str = "Consul";
const KUMA: &str = "Kuma";
const NGINX: &str = "NGINX Service Mesh";
const TRAEFIK: &str = "Traefik Mesh";

/// Domains of labels and annotations. Istio has one label without a domain.
const PREFIXES: &[(&str, &str)] = &[
    ("openservicemesh.io", OSM),
    ("", ISTIO),
    ("istio.io", ISTIO),
    ("linkerd.io", LINKERD),
    ("consul.hashicorp.com", CONSUL),
    ("kuma.io", KUMA),
    ("nsm.nginx.com", NGINX),
    ("mesh.traefik.io", TRAEFIK),
];

const INJECT: &str =
    "the label smidge.mesh/inject: enabled on the namespace, disabled on a pod that stays out";

/// Ends of the names of labels and annotations that have no counterpart of the same kind, and what Smidge has in their
/// place. The first row that fits counts.
const METADATA: &[(&str, &str)] = &[
    ("opaque-ports", APP_PROTOCOL),
    ("traffic-type", APP_PROTOCOL),
    ("monitored-by", INJECT),
    ("inject", INJECT),
    ("injection", INJECT),
];

const GRANTS: &str = "a TrafficTarget";
const SPLITS: &str = "a TrafficSplit, with spec.matches for some requests";
const MTLS: &str =
    "mtls.mode of the MeshConfig called default, or the label smidge.mesh/mtls on the namespace";
const OUTSIDE: &str = "nothing, as calls to destinations outside the mesh pass";
const ALIKE: &str = "the kind of the same name in smidge.mesh/v1alpha1";
const APP_PROTOCOL: &str = "appProtocol on the Service's port";

/// A kind and what Smidge has in its place. A kind of a group that is in no row has nothing.
type KindOf = (&'static str, &'static str);

/// Groups, their mesh, and kinds.
const KINDS: &[(&str, &str, KindOf)] = &[
    ("openservicemesh.io", OSM, ("MeshRootCertificate", "nothing, as it has a CA of its own")),
    ("openservicemesh.io", OSM, ("Egress", OUTSIDE)),
    (
        "openservicemesh.io",
        OSM,
        (
            "IngressBackend",
            "a TrafficTarget for an ingress controller in the mesh, or the label smidge.mesh/mtls=permissive",
        ),
    ),
    ("istio.io", ISTIO, ("VirtualService", SPLITS)),
    ("istio.io", ISTIO, ("AuthorizationPolicy", GRANTS)),
    ("istio.io", ISTIO, ("PeerAuthentication", MTLS)),
    ("istio.io", ISTIO, ("ServiceEntry", OUTSIDE)),
    ("linkerd.io", LINKERD, ("Server", APP_PROTOCOL)),
    ("linkerd.io", LINKERD, ("ServerAuthorization", GRANTS)),
    ("linkerd.io", LINKERD, ("AuthorizationPolicy", GRANTS)),
    ("linkerd.io", LINKERD, ("HTTPRoute", SPLITS)),
    ("consul.hashicorp.com", CONSUL, ("ServiceIntentions", GRANTS)),
    ("consul.hashicorp.com", CONSUL, ("ServiceSplitter", SPLITS)),
    ("consul.hashicorp.com", CONSUL, ("ServiceRouter", SPLITS)),
    ("consul.hashicorp.com", CONSUL, ("ServiceDefaults", APP_PROTOCOL)),
    ("kuma.io", KUMA, ("MeshTrafficPermission", GRANTS)),
    ("kuma.io", KUMA, ("MeshHTTPRoute", SPLITS)),
    ("specs.smi.nginx.com", NGINX, ("RateLimit", "")),
    ("nsm.nginx.com", NGINX, ("", "")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_and_labels_are_known_by_their_domain() {
        let mesh = |name: &str| metadata(name).map(|foreign| foreign.mesh);
        assert_eq!(mesh("openservicemesh.io/sidecar-injection"), Some(OSM));
        assert_eq!(mesh("config.linkerd.io/opaque-ports"), Some(LINKERD));
        assert_eq!(mesh("istio-injection"), Some(ISTIO));
        assert_eq!(mesh("traffic.sidecar.istio.io/excludeOutboundPorts"), Some(ISTIO));
        for other in ["app", "smidge.mesh/inject", "notlinkerd.io/inject", "example.org/istio-injection"] {
            assert_eq!(mesh(other), None, "{other}");
        }
    }

    #[test]
    fn what_to_write_instead_follows_the_meaning_of_the_name() {
        for (name, instead) in [
            ("openservicemesh.io/outbound-port-exclusion-list", "exclude-outbound-ports"),
            ("openservicemesh.io/inbound-port-exclusion-list", "exclude-inbound-ports"),
            ("openservicemesh.io/outbound-ip-range-exclusion-list", "exclude-outbound-cidrs"),
            ("traffic.sidecar.istio.io/excludeOutboundIPRanges", "exclude-outbound-cidrs"),
            ("traffic.sidecar.istio.io/excludeInboundPorts", "exclude-inbound-ports"),
            ("config.linkerd.io/skip-outbound-ports", "exclude-outbound-ports"),
            ("config.linkerd.io/skip-subnets", "exclude-outbound-cidrs"),
            ("linkerd.io/inject", "smidge.mesh/inject"),
            ("sidecar.istio.io/inject", "smidge.mesh/inject"),
            ("mesh.traefik.io/traffic-type", "appProtocol"),
        ] {
            let found = metadata(name).unwrap();
            assert!(found.instead.contains(instead), "{name}: {found:?}");
        }
        assert_eq!(metadata("mesh.traefik.io/retry-attempts").unwrap().instead, "");
    }

    #[test]
    fn kinds_are_known_by_their_group() {
        let found = |group, name| kind(group, name).map(|it| (it.mesh, it.instead));
        assert_eq!(found("policy.openservicemesh.io", "Egress"), Some((OSM, OUTSIDE)));
        assert_eq!(found("policy.openservicemesh.io", "Retry"), Some((OSM, "")));
        assert_eq!(found("config.openservicemesh.io", "MeshConfig"), Some((OSM, ALIKE)));
        assert_eq!(found("security.istio.io", "AuthorizationPolicy"), Some((ISTIO, GRANTS)));
        assert_eq!(found("specs.smi.nginx.com", "CircuitBreaker"), Some((NGINX, "")));
        for (group, name) in [("apps", "Deployment"), ("", "Service"), ("specs.smi-spec.io", "TCPRoute")] {
            assert_eq!(found(group, name), None);
        }
    }
}
