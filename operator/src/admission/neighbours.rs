//! Cuts out of the inputs what one object may refer to, so that judging it costs what its namespaces weigh, and not
//! what the cluster weighs.

use std::collections::BTreeSet;

use crate::inputs::{Inputs, Objects};

/// The objects of these namespaces, and the mesh's own settings.
pub fn neighbours(inputs: &Inputs, namespaces: &BTreeSet<String>) -> Inputs {
    // Every field by name: one that a new kind brings must not be forgotten here.
    let Inputs {
        pods,
        services,
        slices,
        namespaces: all_namespaces,
        traffic_targets,
        identity_bindings,
        http_route_groups,
        tcp_routes,
        udp_routes,
        traffic_splits,
        mesh_configs: _,
        absent_kinds: _,
        unreadable: _,
        roots: _,
        trust_domain: _,
        cluster_domain: _,
        system_namespace: _,
    } = inputs;
    let names = namespaces.iter().map(|name| (String::new(), name.clone()));
    Inputs {
        pods: cut(pods, namespaces),
        services: cut(services, namespaces),
        slices: cut(slices, namespaces),
        namespaces: names.filter_map(|key| Some((key.clone(), all_namespaces.get(&key)?.clone()))).collect(),
        traffic_targets: cut(traffic_targets, namespaces),
        identity_bindings: cut(identity_bindings, namespaces),
        http_route_groups: cut(http_route_groups, namespaces),
        tcp_routes: cut(tcp_routes, namespaces),
        udp_routes: cut(udp_routes, namespaces),
        traffic_splits: cut(traffic_splits, namespaces),
        ..none(inputs)
    }
}

/// A world without any object but the mesh's own settings.
pub(super) fn none(inputs: &Inputs) -> Inputs {
    Inputs {
        mesh_configs: inputs.mesh_configs.clone(),
        trust_domain: inputs.trust_domain.clone(),
        cluster_domain: inputs.cluster_domain.clone(),
        system_namespace: inputs.system_namespace.clone(),
        ..Inputs::default()
    }
}

/// Keys are sorted by namespace first.
fn cut<K>(objects: &Objects<K>, namespaces: &BTreeSet<String>) -> Objects<K> {
    let mut found = Objects::new();
    for namespace in namespaces {
        let from = objects.range((namespace.clone(), String::new())..);
        let of = from.take_while(|((found, _), _)| found == namespace);
        found.extend(of.map(|(key, object)| (key.clone(), object.clone())));
    }
    found
}
