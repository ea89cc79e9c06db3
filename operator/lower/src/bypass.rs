//! Lists the ways in which an injected pod can still bypass the mesh: it can change the redirection, see the proxy's
//! processes, or declare that callers may bypass the proxy.
//!
//! Pure. Called by the injection webhook, which warns or refuses, and by `lower`, which reports it for existing pods.
//! Does not cover what no manifest shows: a process that is root and may change its user can become that of the proxy
//! (docs/injection.md).

use k8s_openapi::api::core::v1::{Pod, SecurityContext};
use smidge_crds::{
    labels::{
        EXCLUDE_INBOUND_PORTS, EXCLUDE_INTERFACES, INCLUDE_INBOUND_PORTS, INIT_CONTAINER, PROXY_CONTAINER,
    },
    redirected::{InboundRedirection, RedirectedPorts},
};

/// Maximum number of ways that are reported for one pod: enough to act on, and bounded.
pub const MAX_REPORTED: usize = 8;

/// Capabilities with which a process removes the redirection, or enters the proxy's namespaces.
const CAPABILITIES: [&str; 3] = ["ALL", "NET_ADMIN", "SYS_ADMIN"];

/// Kind of a way, as in the label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A container may change the pod's network, or anything else.
    Capability,
    /// Processes of the pod, or of the node, see each other.
    Processes,
    /// Callers reach a port, or what an interface leads to, without the proxy.
    ExcludedInbound,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Capability, Self::Processes, Self::ExcludedInbound];

    /// Returns the word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capability => "Capability",
            Self::Processes => "Processes",
            Self::ExcludedInbound => "ExcludedInbound",
        }
    }
}

/// One way to bypass the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// Kind of the way.
    pub kind: Kind,
    /// The field that opens it.
    pub field: String,
    /// Effect of the field, in words.
    pub why: String,
}

/// Returns the ways of a pod whose connections are redirected in this way. Callers report at most [`MAX_REPORTED`] of
/// them.
pub fn ways(pod: &Pod, inbound: &InboundRedirection) -> Vec<Way> {
    let mut ways = of_pod(pod, inbound);
    let Some(spec) = &pod.spec else { return ways };
    let lists =
        [("initContainers", spec.init_containers.as_deref()), ("containers", Some(&spec.containers[..]))];
    for (list, containers) in lists {
        let ours = [INIT_CONTAINER, PROXY_CONTAINER];
        let all = containers.unwrap_or_default().iter().enumerate();
        for (index, it) in all.filter(|(_, it)| !ours.contains(&it.name.as_str())) {
            let field = format!("spec.{list}[{index}]");
            ways.extend(of_container(&it.name, it.security_context.as_ref(), &field));
        }
    }
    for (index, it) in spec.ephemeral_containers.iter().flatten().enumerate() {
        let field = format!("spec.ephemeralContainers[{index}]");
        if it.target_container_name.as_deref() == Some(PROXY_CONTAINER) {
            let why = format!("container {:?} sees the proxy's processes and what they can read", it.name);
            ways.push(Way { kind: Kind::Processes, field: format!("{field}.targetContainerName"), why });
        }
        ways.extend(of_container(&it.name, it.security_context.as_ref(), &field));
    }
    ways
}

fn of_pod(pod: &Pod, inbound: &InboundRedirection) -> Vec<Way> {
    let mut ways = Vec::new();
    let InboundRedirection { ports, excluded_interfaces } = inbound;
    let mut open = |annotation: &str, what: &str, which: &dyn std::fmt::Display| {
        let why = format!("callers reach {what} \"{which}\" without mTLS, and no TrafficTarget is asked");
        let field = format!("metadata.annotations[{annotation}]");
        ways.push(Way { kind: Kind::ExcludedInbound, field, why });
    };
    match ports {
        RedirectedPorts::AllBut(none) if none.is_empty() => {}
        RedirectedPorts::AllBut(_) => open(EXCLUDE_INBOUND_PORTS, "ports", ports),
        RedirectedPorts::Only(_) => open(INCLUDE_INBOUND_PORTS, "ports", ports),
    }
    if !excluded_interfaces.is_empty() {
        open(EXCLUDE_INTERFACES, "the pod by its interfaces", excluded_interfaces);
    }
    let Some(spec) = &pod.spec else { return ways };
    let flags = [("hostPID", spec.host_pid), ("shareProcessNamespace", spec.share_process_namespace)];
    for (field, _) in flags.into_iter().filter(|(_, flag)| *flag == Some(true)) {
        let why = "its containers see the proxy's processes and what they can read".to_owned();
        ways.push(Way { kind: Kind::Processes, field: format!("spec.{field}"), why });
    }
    ways
}

fn of_container(name: &str, context: Option<&SecurityContext>, field: &str) -> Option<Way> {
    let context = context?;
    let way = |what: &str, field: String| {
        let why = format!("container {name:?} {what}, so it can take the redirection to the proxy away");
        Some(Way { kind: Kind::Capability, field, why })
    };
    if context.privileged == Some(true) {
        return way("is privileged", format!("{field}.securityContext.privileged"));
    }
    let added = context.capabilities.as_ref().and_then(|all| all.add.as_ref()).into_iter().flatten();
    let bare = |name: &String| name.to_ascii_uppercase().trim_start_matches("CAP_").to_owned();
    let found = added.map(bare).find(|name| CAPABILITIES.contains(&name.as_str()))?;
    way(&format!("has the capability {found}"), format!("{field}.securityContext.capabilities.add"))
}
