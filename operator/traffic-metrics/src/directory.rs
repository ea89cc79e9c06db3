//! Interface to what the control plane knows of proxies, addresses and TrafficSplits.
//!
//! Declared for `store` and `answer`, implemented by `operator::traffic::directory` and by tests. Pure.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::traffic::ObjectName;

/// Name of a proxy: cluster, namespace, and instance, which is the name of its pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProxyName {
    /// The cluster.
    pub cluster: String,
    /// The namespace.
    pub namespace: String,
    /// The name in the namespace.
    pub instance: String,
}

/// Kind and name of an object in the namespace of a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Owner {
    /// The kind, for example `ReplicaSet`.
    pub kind: String,
    /// The name.
    pub name: String,
}

/// Objects that the traffic of a proxy is traffic of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct Instance {
    /// The namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The node of the pod; empty for a machine.
    pub node: String,
    /// The ServiceAccount.
    pub service_account: String,
    /// The object that controls the pod; `None` for a pod of its own and a machine.
    pub controller: Option<Owner>,
    /// The workload as users know it, for example the Deployment of the ReplicaSet that controls the pod.
    pub workload: Owner,
}

/// TrafficSplit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Its name.
    pub name: ObjectName,
    /// The Service that callers call.
    pub root: ObjectName,
    /// The Services that take the calls.
    pub backends: Vec<ObjectName>,
}

/// Knowledge of the control plane, at one moment.
pub trait Directory {
    /// Returns the objects of a proxy; `None` if it is not known (any more).
    fn instance(&self, proxy: &ProxyName) -> Option<Instance>;
    /// Returns the Service that callers reach at an address.
    fn service_at(&self, address: SocketAddr) -> Option<ObjectName>;
    /// Returns the TrafficSplits of a namespace, or of all of them; with a name, that one only.
    fn splits(&self, namespace: Option<&str>, name: Option<&str>) -> Vec<Split>;
}
