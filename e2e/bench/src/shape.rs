//! Mesh of a given size, as the objects that a cluster would hold.
//!
//! Applied by `cluster`, and compiled into the operator's benches as well, so that both measure the same mesh. Pure.
//! The shape: Services of equal size, each with an account of its own, each called by ten others. The first three are
//! called by all: every proxy must receive a change of them. No pod of it ever runs. `growth` builds its own mesh of
//! the same objects.

use serde_json::{Value, json};

/// Number of Services that call each Service.
pub const CALLERS: usize = 10;
/// Number of Services that all others call: a root and its two backends.
const SHARED: usize = 3;
/// Maximum number of Services in a namespace.
const NAMESPACE: usize = 100;
/// Maximum number of endpoints in an EndpointSlice, as in Kubernetes' own controller.
pub const SLICE: usize = 100;

/// Size of a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Shape {
    /// Number of Services.
    pub services: usize,
    /// Number of pods of each Service.
    pub pods: usize,
}

/// One object of the cluster.
#[derive(Debug, Clone)]
pub struct Object {
    pub kind: &'static str,
    /// Namespace; empty for a cluster-scoped object.
    pub namespace: String,
    pub name: String,
    /// Object without `apiVersion` and `kind`.
    pub body: Value,
    /// Status to be written, if it matters.
    pub status: Option<Value>,
}

impl Shape {
    /// Returns the namespace of a Service.
    pub fn namespace(service: usize) -> String {
        format!("bench-{}", service / NAMESPACE)
    }

    /// Returns the name of a Service, and of its account.
    pub fn name(service: usize) -> String {
        format!("s{service}")
    }

    /// Service that all others call; the backends of its split are the next two.
    pub const HOT: usize = 0;

    /// Returns a Service that ten others call, with a split over the next two.
    pub fn cold(self) -> usize {
        (self.services / 2).min(2 * CALLERS)
    }

    /// Returns a Service that all others call and whose own pods answer: the first backend of that split.
    pub fn hot_backend(self) -> usize {
        (Self::HOT + 1) % self.services
    }

    /// Returns a Service that ten others call and that is in no split.
    pub fn cold_plain(self) -> usize {
        (self.cold() + 3).min(self.services - 1)
    }

    /// Returns the Services that call a Service.
    pub fn callers(self, service: usize) -> Vec<usize> {
        if service < SHARED {
            return (0..self.services).collect();
        }
        let all =
            (1..=CALLERS.min(self.services - 1)).map(|step| (service + self.services - step) % self.services);
        let mut all: Vec<usize> = all.collect();
        all.sort_unstable();
        all
    }

    /// Returns the name of a pod.
    pub fn pod(service: usize, pod: usize) -> String {
        format!("{}-{pod}", Self::name(service))
    }

    /// Returns every object, namespaces first.
    pub fn objects(self) -> Vec<Object> {
        let mut all = namespaces(0, self.services);
        for number in 0..self.services {
            let pods: Vec<(usize, String)> =
                (0..self.pods).map(|pod| (pod, address(number * self.pods + pod))).collect();
            all.push(service(number));
            all.extend(pods.iter().map(|(of, address)| pod(number, *of, address)));
            all.extend(slices(number, &pods));
            all.push(target(number, &self.callers(number)));
        }
        all.push(split(Self::HOT, self.services));
        if self.cold() != Self::HOT {
            all.push(split(self.cold(), self.services));
        }
        all
    }
}

/// Returns the namespaces of `services` Services, without those that a mesh of `before` Services has.
pub fn namespaces(before: usize, services: usize) -> Vec<Object> {
    (before.div_ceil(NAMESPACE)..services.div_ceil(NAMESPACE)).flat_map(namespace).collect()
}

/// Returns the address of the `number`th pod of all.
pub fn address(number: usize) -> String {
    format!("10.{}.{}.{}", 128 + (number >> 16), number >> 8 & 255, number & 255)
}

/// Builds a pod of a Service, injected and ready.
pub fn pod(service: usize, pod: usize, address: &str) -> Object {
    let account = Shape::name(service);
    let body = json!({
        "metadata": {
            "labels": {"app": account, "pod-template-hash": "7d9c"},
            "annotations": {"smidge.mesh/injected": "true"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("{account}-7d9c"),
                "uid": format!("00000000-0000-0000-0000-{service:012}"), "controller": true,
            }],
        },
        "spec": {
            "serviceAccountName": account,
            "nodeName": "bench",
            "initContainers": [{"name": "smidge-proxy", "image": "envoy", "restartPolicy": "Always"}],
            "containers": [{
                "name": "app", "image": "app",
                "ports": [{"name": "http", "containerPort": 8080}],
            }],
        },
    });
    let status = json!({
        "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
    });
    let (namespace, name) = (Shape::namespace(service), Shape::pod(service, pod));
    Object { kind: "Pod", namespace, name, body, status: Some(status) }
}

/// Builds the slices with these pods of a Service, each a number and an address. Each slice is named after its first
/// pod.
pub fn slices(service: usize, pods: &[(usize, String)]) -> Vec<Object> {
    let slices = pods.chunks(SLICE).map(|pods| {
        let endpoints = pods.iter().map(|(pod, address)| {
            json!({
                "addresses": [address],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": "bench",
                "targetRef": {
                    "kind": "Pod", "name": Shape::pod(service, *pod), "namespace": Shape::namespace(service),
                },
            })
        });
        let body = json!({
            "metadata": {"labels": {"kubernetes.io/service-name": Shape::name(service)}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints.collect::<Vec<Value>>(),
        });
        let first = pods.first().map_or(0, |(pod, _)| *pod);
        let name = format!("{}-{first}", Shape::name(service));
        Object { kind: "EndpointSlice", namespace: Shape::namespace(service), name, body, status: None }
    });
    slices.collect()
}

/// Builds a target that allows the accounts of some Services to call another one.
pub fn target(service: usize, callers: &[usize]) -> Object {
    let account = |service: usize| json!({"kind": "ServiceAccount", "name": Shape::name(service), "namespace": Shape::namespace(service)});
    let sources: Vec<Value> = callers.iter().copied().map(account).collect();
    let body = json!({"spec": {
        "destination": account(service),
        "sources": sources,
        "rules": [{"kind": "HTTPRouteGroup", "name": "all", "matches": ["all"]}],
    }});
    let (namespace, name) = (Shape::namespace(service), Shape::name(service));
    Object { kind: "TrafficTarget", namespace, name, body, status: None }
}

fn namespace(number: usize) -> [Object; 2] {
    let name = format!("bench-{number}");
    let group = json!({"spec": {"matches": [{"name": "all", "pathRegex": "/.*", "methods": ["*"]}]}});
    let group = Object {
        kind: "HTTPRouteGroup",
        namespace: name.clone(),
        name: "all".to_owned(),
        body: group,
        status: None,
    };
    [
        Object {
            kind: "Namespace",
            namespace: String::new(),
            name,
            body: json!({"metadata": {"labels": {"smidge.mesh/inject": "enabled"}}}),
            status: None,
        },
        group,
    ]
}

/// Builds a Service without its pods.
pub fn service(service: usize) -> Object {
    let body = json!({"spec": {
        "selector": {"app": Shape::name(service)},
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
    }});
    let (namespace, name) = (Shape::namespace(service), Shape::name(service));
    Object { kind: "Service", namespace, name, body, status: None }
}

fn split(root: usize, services: usize) -> Object {
    let backends = [(root + 1, 90), (root + 2, 10)]
        .map(|(service, weight)| json!({"service": Shape::name(service % services), "weight": weight}));
    let body = json!({"spec": {"service": Shape::name(root), "backends": backends}});
    let (namespace, name) = (Shape::namespace(root), Shape::name(root));
    Object { kind: "TrafficSplit", namespace, name, body, status: None }
}
