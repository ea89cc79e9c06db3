//! A directory of few objects, for tests.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use smidge_traffic_metrics::{
    directory::{Directory, Instance, Owner, ProxyName, Split},
    traffic::{Kind, ObjectName, Question},
};

/// Pods by name, Services by address, TrafficSplits.
#[derive(Debug, Default)]
pub struct Objects {
    pub instances: BTreeMap<ProxyName, Instance>,
    pub services: BTreeMap<SocketAddr, ObjectName>,
    pub splits: Vec<Split>,
}

impl Directory for Objects {
    fn instance(&self, proxy: &ProxyName) -> Option<Instance> {
        self.instances.get(proxy).cloned()
    }

    fn service_at(&self, address: SocketAddr) -> Option<ObjectName> {
        self.services.get(&address).cloned()
    }

    fn splits(&self, namespace: Option<&str>, name: Option<&str>) -> Vec<Split> {
        let is_asked = |split: &&Split| {
            namespace.is_none_or(|it| it == split.name.namespace)
                && name.is_none_or(|it| it == split.name.name)
        };
        self.splits.iter().filter(is_asked).cloned().collect()
    }
}

pub fn proxy(name: &str) -> ProxyName {
    ProxyName { cluster: "local".to_owned(), namespace: "shop".to_owned(), instance: name.to_owned() }
}

pub fn object(namespace: &str, name: &str) -> ObjectName {
    ObjectName { namespace: namespace.to_owned(), name: name.to_owned() }
}

/// The pod `front-7d9-a` of the Deployment `front`, and the pod `db-0` of the StatefulSet `db`.
pub fn objects() -> Objects {
    let owner = |kind: &str, name: &str| Owner { kind: kind.to_owned(), name: name.to_owned() };
    let instance = |pod: &str, node: &str, account: &str, controller: Owner, workload: Owner| {
        let instance = Instance {
            namespace: "shop".to_owned(),
            pod: pod.to_owned(),
            node: node.to_owned(),
            service_account: account.to_owned(),
            controller: Some(controller),
            workload,
        };
        (proxy(pod), instance)
    };
    Objects {
        instances: BTreeMap::from([
            instance(
                "front-7d9-a",
                "n1",
                "web",
                owner("ReplicaSet", "front-7d9"),
                owner("Deployment", "front"),
            ),
            instance("db-0", "n2", "data", owner("StatefulSet", "db"), owner("StatefulSet", "db")),
        ]),
        services: BTreeMap::from([("10.0.0.1:80".parse().unwrap(), object("shop", "db"))]),
        splits: vec![Split {
            name: object("shop", "canary"),
            root: object("shop", "db"),
            backends: vec![object("shop", "db-v1"), object("shop", "db-v2")],
        }],
    }
}

pub fn ask(kind: Kind, namespace: Option<&str>, name: Option<&str>, window: u64) -> Question {
    Question {
        kind,
        namespace: namespace.map(str::to_owned),
        name: name.map(str::to_owned),
        window: Duration::from_secs(window),
    }
}
