//! Looks up the objects of a proxy, the Service at an address, and TrafficSplits, in what was published.
//!
//! Used by `receiver` for each push and for each answer. Reads the pods of the inputs, for the node and the controller,
//! and the mesh, which has what callers really see. Decides nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::Pod;
use smidge_traffic_metrics::{
    directory::{Directory, Instance, Owner, ProxyName, Split},
    traffic::ObjectName,
};
use smidge_xds::{
    mesh::{
        Mesh,
        id::{ClusterId, ProxyId, ServiceId},
    },
    snapshot::Snapshot,
};
use tokio::sync::watch;

use crate::{inputs::Clusters, lower::workload::owner};

/// Directory of everything that is published.
pub struct MeshDirectory {
    clusters: watch::Receiver<Clusters>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    index: Mutex<Option<Arc<Index>>>,
}

/// Services by address, and TrafficSplits, of one mesh.
struct Index {
    mesh: Arc<Mesh>,
    services: HashMap<SocketAddr, ObjectName>,
    splits: BTreeMap<ObjectName, Split>,
}

impl MeshDirectory {
    /// Creates the directory of these inputs and of the snapshots made from them.
    pub fn new(
        clusters: watch::Receiver<Clusters>,
        snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    ) -> Self {
        Self { clusters, snapshots, index: Mutex::new(None) }
    }

    /// Returns the index of the present mesh. It is made when it is needed first, as most meshes refuse no call.
    fn index(&self) -> Option<Arc<Index>> {
        let mesh = Arc::clone(self.snapshots.borrow().as_ref()?.mesh());
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let known = index.take().filter(|index| Arc::ptr_eq(&index.mesh, &mesh));
        let current = known.unwrap_or_else(|| Arc::new(Index::of(mesh)));
        *index = Some(Arc::clone(&current));
        Some(current)
    }
}

impl Directory for MeshDirectory {
    fn instance(&self, proxy: &ProxyName) -> Option<Instance> {
        let cluster = ClusterId(proxy.cluster.clone());
        let pod = {
            let clusters = self.clusters.borrow();
            let key = (proxy.namespace.clone(), proxy.instance.clone());
            clusters.get(&cluster).and_then(|inputs| inputs.pods.get(&key)).map(|pod| instance_of_pod(pod))
        };
        pod.or_else(|| {
            let id =
                ProxyId { cluster, namespace: proxy.namespace.clone(), instance: proxy.instance.clone() };
            let snapshot = self.snapshots.borrow();
            let workload = snapshot.as_ref()?.mesh().workloads.get(&id)?;
            Some(Instance {
                namespace: proxy.namespace.clone(),
                service_account: workload.identity.service_account.clone(),
                workload: Owner { kind: workload.kind.clone(), name: workload.name.clone() },
                ..Instance::default()
            })
        })
    }

    fn service_at(&self, address: SocketAddr) -> Option<ObjectName> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        self.index()?.services.get(&address).cloned()
    }

    fn splits(&self, namespace: Option<&str>, name: Option<&str>) -> Vec<Split> {
        let Some(index) = self.index() else { return Vec::new() };
        let is_asked = |split: &&Split| {
            namespace.is_none_or(|namespace| namespace == split.name.namespace)
                && name.is_none_or(|name| name == split.name.name)
        };
        index.splits.values().filter(is_asked).cloned().collect()
    }
}

fn instance_of_pod(pod: &Pod) -> Instance {
    let (kind, name) = owner(pod);
    let owners = pod.metadata.owner_references.iter().flatten();
    let controller = owners
        .filter(|owner| owner.controller == Some(true))
        .map(|owner| Owner { kind: owner.kind.clone(), name: owner.name.clone() })
        .next();
    let spec = pod.spec.as_ref();
    Instance {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        pod: pod.metadata.name.clone().unwrap_or_default(),
        node: spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        service_account: spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        controller,
        workload: Owner { kind, name },
    }
}

fn object(service: &ServiceId) -> ObjectName {
    ObjectName { namespace: service.namespace.clone(), name: service.name.clone() }
}

impl Index {
    fn of(mesh: Arc<Mesh>) -> Self {
        let mut services = HashMap::new();
        let mut splits = BTreeMap::<ObjectName, (ObjectName, BTreeSet<ObjectName>)>::new();
        for service in mesh.services.values() {
            for (number, port) in &service.ports {
                for address in &port.addresses {
                    services.insert(SocketAddr::new(address.to_canonical(), *number), object(&service.id));
                }
                for rule in &port.route.rules {
                    // Only splits make rules.
                    let Some((namespace, name)) = rule.origin.as_ref().and_then(|it| it.name.split_once('/'))
                    else {
                        continue;
                    };
                    let name = ObjectName { namespace: namespace.to_owned(), name: name.to_owned() };
                    let root = || (object(&service.id), BTreeSet::new());
                    let (_, backends) = splits.entry(name).or_insert_with(root);
                    backends.extend(rule.backends.iter().map(|backend| object(&backend.service)));
                }
            }
        }
        let split = |(name, (root, backends)): (ObjectName, (ObjectName, BTreeSet<ObjectName>))| {
            (name.clone(), Split { name, root, backends: backends.into_iter().collect() })
        };
        let splits = splits.into_iter().map(split).collect();
        Self { mesh, services, splits }
    }
}
