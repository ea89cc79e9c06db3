//! Keeps the mesh of one cluster: marks what differs between two states of its objects, lets it be made again, and puts
//! what came of it into the mesh.
//!
//! Driven by `Lowering`, for each cluster by itself. Does not say how anything is made.

use std::{collections::BTreeMap, sync::Arc};

use imbl::ordmap::DiffItem;
use smidge_xds::mesh::{
    Map, Mesh,
    id::{ClusterId, ProxyId, ServiceId},
    trust::{Bundle, Trust},
};

use super::{
    Bindings, Lowered,
    graph::Graph,
    unit::{Unit, Value},
};
use crate::{
    finding::Finding,
    inputs::{Inputs, Key, Objects},
};

/// One cluster as it was lowered last.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    inputs: Inputs,
    graph: Graph,
    mesh: Mesh,
}

impl Cluster {
    /// Goes on to `inputs`.
    pub fn step(&mut self, id: &ClusterId, inputs: &Inputs) {
        let (old, new) = (&self.inputs, inputs);
        if old.trust_domain != new.trust_domain || old.cluster_domain != new.cluster_domain {
            // Both are part of every name. They are settings of the operator, and so never change but at its start.
            *self = Self::default();
        }
        self.touch(inputs);
        self.graph.settle(id, inputs);
        for unit in self.graph.take_changed() {
            self.publish(&unit, id);
        }
        if self.inputs.roots != inputs.roots || self.mesh.trust.bundles.is_empty() {
            let bundle = Bundle { roots: inputs.roots.clone() };
            let domain = inputs.trust_domain.clone();
            let bundles = BTreeMap::from([(domain.clone(), bundle)]);
            self.mesh.trust = Arc::new(Trust { domain, bundles });
        }
        self.inputs = inputs.clone();
    }

    /// The mesh that came of it.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    /// What is wrong with the objects, errors first.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.graph.findings()
    }

    /// Whether that differs from when this was asked last.
    pub fn has_news(&mut self) -> bool {
        self.graph.has_news()
    }

    /// How much was made so far.
    pub fn lowered(&self) -> Lowered {
        self.graph.lowered()
    }

    /// The identities that each IdentityBinding stands for.
    pub fn bindings(&self) -> Bindings {
        let value = |key: &Key| match self.graph.value(&Unit::Binding(key.clone()))? {
            Value::Identities(identities) => Some((key.clone(), Arc::clone(identities))),
            _ => None,
        };
        self.inputs.identity_bindings.keys().filter_map(value).collect()
    }

    /// Marks what is made of objects that differ.
    fn touch(&mut self, new: &Inputs) {
        // Every field by name: one that a new kind brings must not be forgotten here.
        let Inputs {
            pods,
            services,
            slices,
            namespaces,
            traffic_targets,
            identity_bindings,
            http_route_groups,
            tcp_routes,
            udp_routes,
            traffic_splits,
            mesh_configs,
            absent_kinds,
            unreadable,
            roots: _,
            trust_domain: _,
            cluster_domain: _,
            system_namespace: _,
        } = &self.inputs;
        let graph = &mut self.graph;
        each(pods, &new.pods, |key| graph.touch(Unit::Pod(key)));
        each(services, &new.services, |(namespace, name)| {
            graph.touch(Unit::Known(ServiceId { namespace, name }));
        });
        each(slices, &new.slices, |key| graph.touch(Unit::Slice(key)));
        each(namespaces, &new.namespaces, |(_, name)| graph.touch(Unit::Modes(name)));
        each(traffic_targets, &new.traffic_targets, |key| graph.touch(Unit::Target(key)));
        each(identity_bindings, &new.identity_bindings, |key| graph.touch(Unit::Binding(key)));
        each(http_route_groups, &new.http_route_groups, |key| graph.touch(Unit::Group(key)));
        each(tcp_routes, &new.tcp_routes, |key| graph.touch(Unit::TcpRoute(key)));
        each(udp_routes, &new.udp_routes, |key| graph.touch(Unit::UdpRoute(key)));
        each(traffic_splits, &new.traffic_splits, |key| graph.touch(Unit::Written(key)));
        each(mesh_configs, &new.mesh_configs, |_| graph.touch(Unit::MeshWide));
        for kind in absent_kinds.symmetric_difference(&new.absent_kinds) {
            graph.touch(Unit::Absent(kind.clone()));
        }
        if *unreadable != new.unreadable {
            // Whether the settings in use can be read is part of what they say.
            graph.touch(Unit::MeshWide);
            for (kind, key) in unreadable.keys().chain(new.unreadable.keys()) {
                graph.touch(Unit::Unreadable(kind.clone(), key.clone()));
            }
        }
    }

    /// Puts what a unit has come to into the mesh, if it is a part of that.
    fn publish(&mut self, unit: &Unit, cluster: &ClusterId) {
        let value = self.graph.value(unit);
        match unit {
            Unit::Service(id) => {
                let service = value.and_then(|value| match value {
                    Value::Service(service) => Some(service),
                    _ => None,
                });
                put(&mut self.mesh.services, id, service);
            }
            Unit::Workload((namespace, name)) => {
                let workload = value.and_then(|value| match value {
                    Value::Workload(workload, _) => Some(workload),
                    _ => None,
                });
                let (cluster, namespace, instance) = (cluster.clone(), namespace.clone(), name.clone());
                put(&mut self.mesh.workloads, &ProxyId { cluster, namespace, instance }, workload);
            }
            Unit::Class(id) => {
                let class = value.and_then(|value| match value {
                    Value::Class(class) => Some(class),
                    _ => None,
                });
                put(&mut self.mesh.classes, id, class);
            }
            Unit::Grants(id) => {
                let grants = value.and_then(|value| match value {
                    Value::Grants(grants) => Some(grants),
                    _ => None,
                });
                put(&mut self.mesh.grants, id, grants);
            }
            _ => {}
        }
    }
}

fn put<K: Ord + Clone, V>(map: &mut Map<K, V>, key: &K, value: Option<&Arc<V>>) {
    match value {
        Some(value) => drop(map.insert(key.clone(), Arc::clone(value))),
        None => drop(map.remove(key)),
    }
}

/// Tells of every object that differs.
fn each<K: PartialEq>(old: &Objects<K>, new: &Objects<K>, mut tell: impl FnMut(Key)) {
    for difference in old.diff(new) {
        let (DiffItem::Add(key, _) | DiffItem::Update { new: (key, _), .. } | DiffItem::Remove(key, _)) =
            difference;
        tell(key.clone());
    }
}
