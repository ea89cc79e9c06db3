//! Ports and interfaces of a pod whose connections are redirected to its proxy: as the annotations of a manifest require, or
//! as the arguments of the init container of an injected pod have it.
//!
//! Pure. The one reading of them: injection turns [`RedirectedPorts`] into rules and arguments, and lowering decides by the
//! same [`RedirectedPorts::redirects`] whether callers find a proxy. Does not judge annotations that cannot be read: injection
//! refuses a pod with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use k8s_openapi::api::core::v1::Pod;

use crate::labels::{EXCLUDE_INBOUND_PORTS, EXCLUDE_INTERFACES, INCLUDE_INBOUND_PORTS, INIT_CONTAINER};

/// Prefix of the arguments of `smidge redirect` with ports that are not redirected; the direction follows.
const EXCLUDE: &str = "--exclude-";
/// Prefix of the arguments of `smidge redirect` with the only ports that are redirected; the direction follows.
const INCLUDE: &str = "--include-";
/// Rest of both arguments for connections to the pod.
pub const INBOUND: &str = "inbound-ports";
/// Rest of both arguments for connections of the pod.
pub const OUTBOUND: &str = "outbound-ports";
/// Argument of `smidge redirect` with interfaces whose connections are not redirected.
pub const EXCLUDE_INTERFACES_ARG: &str = "--exclude-interfaces";
/// Maximum length of these interfaces as text, in characters: as many as injection accepts. What is longer is cut.
const MAX_INTERFACES: usize = 1600;

/// Ports to which connections in one direction are redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectedPorts {
    /// All but these.
    AllBut(BTreeSet<u16>),
    /// These and no others.
    Only(BTreeSet<u16>),
}

impl Default for RedirectedPorts {
    fn default() -> Self {
        Self::AllBut(BTreeSet::new())
    }
}

impl RedirectedPorts {
    /// Returns true if connections to this port are redirected. The proxy's own ports and DNS never are, and are not known
    /// here.
    pub fn redirects(&self, port: u16) -> bool {
        match self {
            Self::AllBut(ports) => !ports.contains(&port),
            Self::Only(ports) => ports.contains(&port),
        }
    }

    /// Returns true if connections to every port are redirected.
    pub fn are_all(&self) -> bool {
        matches!(self, Self::AllBut(ports) if ports.is_empty())
    }

    /// Returns the argument of `smidge redirect` for a direction, [`INBOUND`] or [`OUTBOUND`]; `None` if there is none.
    pub fn to_arg(&self, direction: &str) -> Option<String> {
        let (prefix, ports) = match self {
            Self::AllBut(ports) => (EXCLUDE, ports),
            Self::Only(ports) => (INCLUDE, ports),
        };
        (!self.are_all()).then(|| format!("{prefix}{direction}={}", list(ports)))
    }
}

/// Redirection of connections to a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InboundRedirection {
    /// The ports that are redirected.
    pub ports: RedirectedPorts,
    /// Interfaces whose connections are not redirected, separated by commas; usually empty.
    pub excluded_interfaces: String,
}

impl InboundRedirection {
    /// Returns the redirection of a pod. What counts for a pod that runs is what its init container was given, which nobody
    /// can change any more; for a manifest, the annotations that injection will read.
    pub fn of(pod: &Pod) -> Self {
        let inits = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
        match inits.into_iter().find(|container| container.name == INIT_CONTAINER) {
            Some(init) => Self::of_args(init.args.iter().flatten()),
            None if pod.metadata.uid.is_some() => Self::default(),
            None => Self::of_annotations(pod.metadata.annotations.as_ref()),
        }
    }

    /// Returns the redirection that annotations of a pod require. Entries that are no port are left out; injection refuses
    /// them, as it refuses to include ports and to exclude others at once.
    pub fn of_annotations(annotations: Option<&BTreeMap<String, String>>) -> Self {
        let text = |name: &str| annotations.and_then(|all| all.get(name)).map(String::as_str);
        let ports = |name: &str| text(name).map(read);
        let ports = match (ports(INCLUDE_INBOUND_PORTS), ports(EXCLUDE_INBOUND_PORTS)) {
            (None, Some(excluded)) => RedirectedPorts::AllBut(excluded),
            (Some(included), None) if !included.is_empty() => RedirectedPorts::Only(included),
            _ => RedirectedPorts::default(),
        };
        Self { ports, excluded_interfaces: text(EXCLUDE_INTERFACES).map(bounded).unwrap_or_default() }
    }

    /// Returns the arguments of `smidge redirect` for it.
    pub fn to_args(&self) -> Vec<String> {
        let interfaces = (!self.excluded_interfaces.is_empty())
            .then(|| format!("{EXCLUDE_INTERFACES_ARG}={}", self.excluded_interfaces));
        self.ports.to_arg(INBOUND).into_iter().chain(interfaces).collect()
    }

    fn of_args<'a>(args: impl Iterator<Item = &'a String>) -> Self {
        let mut found = Self::default();
        for (name, text) in args.filter_map(|arg| arg.split_once('=')) {
            if name == EXCLUDE_INTERFACES_ARG {
                found.excluded_interfaces = bounded(text);
            } else if name.strip_prefix(EXCLUDE) == Some(INBOUND) {
                found.ports = RedirectedPorts::AllBut(read(text));
            } else if name.strip_prefix(INCLUDE) == Some(INBOUND) {
                found.ports = RedirectedPorts::Only(read(text));
            }
        }
        found
    }
}

impl fmt::Display for RedirectedPorts {
    /// Writes the ports for a sentence about those that are not redirected: `9000,9100`, or `all but 8080`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllBut(ports) => f.write_str(&list(ports)),
            Self::Only(ports) => write!(f, "all but {}", list(ports)),
        }
    }
}

fn bounded(interfaces: &str) -> String {
    interfaces.trim().chars().take(MAX_INTERFACES).collect()
}

fn list(ports: &BTreeSet<u16>) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

fn read(text: &str) -> BTreeSet<u16> {
    text.split(',').filter_map(|port| port.trim().parse().ok()).filter(|port| *port != 0).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::{Container, PodSpec},
        apimachinery::pkg::apis::meta::v1::ObjectMeta,
    };

    use super::*;

    fn pod(annotations: &[(&str, &str)], args: Option<&[&str]>, uid: Option<&str>) -> Pod {
        let init = args.map(|args| Container {
            name: INIT_CONTAINER.to_owned(),
            args: Some(args.iter().map(|arg| (*arg).to_owned()).collect()),
            ..Container::default()
        });
        let annotations = annotations.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Pod {
            metadata: ObjectMeta {
                annotations: Some(annotations.collect()),
                uid: uid.map(str::to_owned),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec { init_containers: Some(init.into_iter().collect()), ..PodSpec::default() }),
            ..Pod::default()
        }
    }

    fn redirected(pod: &Pod) -> Vec<u16> {
        let ports = InboundRedirection::of(pod).ports;
        [80, 8080, 9000].into_iter().filter(|port| ports.redirects(*port)).collect()
    }

    #[test]
    fn a_manifest_is_read_by_its_annotations() {
        let of = |annotations: &[(&str, &str)]| redirected(&pod(annotations, None, None));
        assert_eq!(of(&[]), [80, 8080, 9000]);
        assert_eq!(of(&[(EXCLUDE_INBOUND_PORTS, " 9000, x")]), [80, 8080]);
        assert_eq!(of(&[(INCLUDE_INBOUND_PORTS, "8080,80")]), [80, 8080]);
        // Injection refuses these; until then, nothing is open.
        assert_eq!(of(&[(INCLUDE_INBOUND_PORTS, "")]), [80, 8080, 9000]);
        assert_eq!(of(&[(INCLUDE_INBOUND_PORTS, "80"), (EXCLUDE_INBOUND_PORTS, "80")]), [80, 8080, 9000]);
    }

    /// An annotation that is written on a running pod must not have its callers send plaintext to it.
    #[test]
    fn a_pod_that_runs_is_read_by_what_redirects_it() {
        let annotated = [(EXCLUDE_INBOUND_PORTS, "80")];
        let of = |args: &[&str]| redirected(&pod(&annotated, Some(args), Some("u")));
        assert_eq!(of(&["redirect"]), [80, 8080, 9000]);
        assert_eq!(of(&["redirect", "--verify", "--exclude-inbound-ports=9000,9100"]), [80, 8080]);
        assert_eq!(of(&["redirect", "--include-inbound-ports=8080"]), [8080]);
        assert_eq!(of(&["redirect", "--exclude-outbound-ports=8080"]), [80, 8080, 9000]);
        assert_eq!(redirected(&pod(&annotated, None, Some("u"))), [80, 8080, 9000]);
    }

    #[test]
    fn interfaces_are_read_like_ports() {
        let annotated = [(EXCLUDE_INTERFACES, "net1")];
        let of = |args: Option<&[&str]>, uid| InboundRedirection::of(&pod(&annotated, args, uid));
        assert_eq!(of(None, None).excluded_interfaces, "net1");
        assert_eq!(of(None, Some("u")), InboundRedirection::default());
        assert_eq!(of(Some(&[]), Some("u")).to_args(), Vec::<String>::new());
        let args = ["redirect", "--exclude-interfaces=net1,net2", "--exclude-inbound-ports=9000"];
        let running = of(Some(&args), Some("u"));
        assert_eq!(running.to_args(), ["--exclude-inbound-ports=9000", "--exclude-interfaces=net1,net2"]);
    }

    #[test]
    fn interfaces_are_kept_up_to_a_length() {
        let long = "net1,".repeat(1 << 16);
        let annotated = pod(&[(EXCLUDE_INTERFACES, &long)], None, None);
        assert_eq!(InboundRedirection::of(&annotated).excluded_interfaces.len(), MAX_INTERFACES);
    }

    #[test]
    fn the_argument_has_what_is_read_from_it() {
        for ports in [RedirectedPorts::AllBut([9000, 9100].into()), RedirectedPorts::Only([80].into())] {
            let arg = ports.to_arg(INBOUND).unwrap();
            let redirection = InboundRedirection::of(&pod(&[], Some(&[&arg]), None));
            assert_eq!(redirection.ports, ports, "{arg}");
        }
        assert_eq!(RedirectedPorts::default().to_arg(INBOUND), None);
    }
}
