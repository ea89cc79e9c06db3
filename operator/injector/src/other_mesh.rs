//! Finds signs of another mesh in a pod that is to be injected: its sidecar, a word by which the pod opted out of it, and
//! its annotations that have a counterpart here.
//!
//! A pod with two sidecars has its connections redirected by both, and a word of another mesh keeps no pod out of this
//! one. Both are warnings: only the owner knows which mesh is meant. Refuses nothing.

use std::collections::BTreeMap;

use serde_json::Value;
use smidge_crds::labels::{COUNTERPARTS, INJECT, INJECT_DISABLED, INJECT_ENABLED, INJECT_MANUAL};

use super::{Namespace, all_containers, annotation, listed, name_of};

/// A mesh, its containers, and the words by which a pod or a namespace opts out of it.
struct Mesh {
    name: &'static str,
    /// Names of containers that are its own.
    containers: &'static [&'static str],
    /// Labels or annotations with the values that leave a pod out.
    opt_out: &'static [(&'static str, &'static str)],
}

const MESHES: [Mesh; 7] = [
    Mesh {
        name: "Open Service Mesh",
        containers: &["osm-init", "osm-healthcheck"],
        opt_out: &[("openservicemesh.io/sidecar-injection", "disabled")],
    },
    Mesh {
        name: "Linkerd",
        containers: &["linkerd-proxy", "linkerd-init", "linkerd-network-validator"],
        opt_out: &[("linkerd.io/inject", "disabled")],
    },
    Mesh {
        name: "Istio",
        containers: &["istio-proxy", "istio-init", "istio-validation"],
        opt_out: &[("sidecar.istio.io/inject", "false"), ("istio-injection", "disabled")],
    },
    Mesh {
        name: "Consul",
        containers: &[
            "consul-dataplane",
            "consul-connect-inject-init",
            "consul-connect-envoy-sidecar",
            "envoy-sidecar",
        ],
        opt_out: &[("consul.hashicorp.com/connect-inject", "false")],
    },
    Mesh {
        name: "Kuma",
        containers: &["kuma-sidecar", "kuma-init", "kuma-validation"],
        opt_out: &[("kuma.io/sidecar-injection", "disabled"), ("kuma.io/sidecar-injection", "false")],
    },
    Mesh {
        name: "NGINX Service Mesh",
        containers: &["nginx-mesh-sidecar", "nginx-mesh-init"],
        opt_out: &[
            ("injector.nsm.nginx.com/auto-inject", "false"),
            ("injector.nsm.nginx.com/auto-inject", "disabled"),
        ],
    },
    Mesh {
        name: "AWS App Mesh",
        containers: &["aws-appmesh-proxy-route-manager"],
        opt_out: &[("appmesh.k8s.aws/sidecarInjectorWebhook", "disabled")],
    },
];

/// Name of the sidecar's container in meshes that have no name of their own for it.
const ENVOY: &str = "envoy";
/// (mesh, user that its sidecar runs as, word in the image of its sidecar).
const ENVOYS: [(&str, i64, &str); 2] =
    [("Open Service Mesh", 1500, "openservicemesh"), ("AWS App Mesh", 1337, "appmesh")];

/// Returns warnings about other meshes.
pub(super) fn warnings(pod: &Value, namespace: Namespace<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for mesh in &MESHES {
        found.extend(sidecar(pod, mesh).map(|container| shared(container, mesh)));
        found.extend(opted_out(pod, mesh).map(|(name, word)| ignored(name, word, "", mesh)));
        found.extend(namespace_opted_out(namespace, mesh).map(|(name, word)| {
            let of = format!(" of namespace {}", namespace.name);
            ignored(name, word, &of, mesh)
        }));
    }
    let is_set = |name: &str| annotation(pod, name).is_some();
    for (theirs, ours) in COUNTERPARTS {
        if is_set(theirs) && !is_set(ours) {
            found.push(format!(
                "smidge: annotation {theirs} is another mesh's and has no effect here; hint: here it is {ours}"
            ));
        }
    }
    found
}

fn shared(container: &str, mesh: &Mesh) -> String {
    let (label, word) = mesh.opt_out.first().copied().unwrap_or_default();
    format!(
        "smidge: container {container:?} belongs to {}: both meshes redirect the pod's connections; hint: leave the pod out \
         of {} ({label}: {word}), or out of this mesh (label {INJECT}: {INJECT_DISABLED})",
        mesh.name, mesh.name
    )
}

fn ignored(name: &str, word: &str, of: &str, mesh: &Mesh) -> String {
    format!(
        "smidge: {name}: {word}{of} is {}'s and has no effect here: the pod is injected; hint: the label {INJECT}: \
         {INJECT_DISABLED} leaves it out",
        mesh.name
    )
}

/// Returns the name of a container of the mesh.
fn sidecar<'p>(pod: &'p Value, mesh: &Mesh) -> Option<&'p str> {
    let named = all_containers(pod).find(|container| mesh.containers.contains(&name_of(container)));
    let is_envoy = |container: &Value| {
        let user = container.pointer("/securityContext/runAsUser").and_then(Value::as_i64);
        let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
        let of_mesh = ENVOYS.iter().find(|(name, ..)| *name == mesh.name);
        of_mesh.is_some_and(|(_, id, word)| named.is_some() || user == Some(*id) || image.contains(word))
    };
    // The sidecar itself, where there is one: an init container ends.
    let envoy = listed(pod, "containers").find(|it| name_of(it) == ENVOY && is_envoy(it));
    let own = listed(pod, "containers").find(|container| mesh.containers.contains(&name_of(container)));
    own.or(envoy).or(named).map(name_of)
}

/// Returns the label or annotation by which the pod opts out of the mesh.
fn opted_out<'m>(pod: &Value, mesh: &'m Mesh) -> Option<(&'m str, &'m str)> {
    let label = |name: &str| pod.pointer("/metadata/labels")?.get(name)?.as_str();
    let is = |(name, word): &&(&str, &str)| annotation(pod, name).or(label(name)) == Some(*word);
    mesh.opt_out.iter().find(is).copied()
}

/// Returns the label or annotation by which a namespace opts out of the mesh. One that opts into this mesh as well is
/// on its way from one to the other.
fn namespace_opted_out<'m>(namespace: Namespace<'_>, mesh: &'m Mesh) -> Option<(&'m str, &'m str)> {
    let word =
        |map: Option<&BTreeMap<String, String>>, name: &str| map.and_then(|map| map.get(name)).cloned();
    if word(namespace.labels, INJECT).is_some_and(|it| [INJECT_ENABLED, INJECT_MANUAL].contains(&it.as_str()))
    {
        return None;
    }
    let maps = [namespace.labels, namespace.annotations];
    let is =
        |(name, value): &&(&str, &str)| maps.iter().any(|map| word(*map, name).as_deref() == Some(*value));
    mesh.opt_out.iter().find(is).copied()
}
