//! Cost of the edits that a rollout, an autoscaler, an eviction and Flagger make, in nodes computed: the same whatever the
//! number of pods of a Service.

use std::{collections::BTreeMap, net::Ipv4Addr};

use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, PodIP},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube_core::ResourceExt as _;
use smidge_lower::{
    Lowering,
    inputs::{Clusters, Inputs, Key},
};
use smidge_mesh::id::ClusterId;

use super::inputs;

/// Maximum number of endpoints of a slice, as Kubernetes has it.
const SLICE: u32 = 100;

/// The Services that list all pods.
const SERVICES: [&str; 3] = ["api", "named", "headless"];

/// Objects beside the pods and slices: Services over the same pods, and policies that read sets of pods.
const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop, labels: {app: api, track: stable}}
spec: {serviceAccountName: api, containers: [{name: app, image: app, ports: [{name: web, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.0.0.1}], conditions: [{type: ContainersReady, status: 'True'}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: named, namespace: shop}
spec: {clusterIP: 10.96.0.2, clusterIPs: [10.96.0.2], selector: {app: api, track: stable}, ports: [{name: http, port: 80, targetPort: web}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: shop}
spec: {clusterIP: None, selector: {app: api}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: canary, namespace: shop}
spec: {clusterIP: 10.96.0.3, clusterIPs: [10.96.0.3], selector: {app: api, track: canary}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: all, namespace: shop}
spec: {matches: [{name: all, pathRegex: '/.*'}]}
---
apiVersion: split.smi-spec.io/v1alpha4
kind: TrafficSplit
metadata: {name: api, namespace: shop}
spec: {service: api, backends: [{service: named, weight: 90}, {service: canary, weight: 10}]}
---
apiVersion: access.smi-spec.io/v1alpha4
kind: IdentityBinding
metadata: {name: apis, namespace: shop}
spec: {schemes: {podLabelSelector: {matchLabels: {app: api}}}}
";

/// A mesh with one workload of some size, in front of it the Services of `OBJECTS`, and a TrafficTarget for it and for each of
/// some accounts that have no pods.
struct Shop {
    inputs: Inputs,
    template: Pod,
    pods: u32,
}

impl Shop {
    fn new(pods: u32, idle: u32) -> Self {
        use std::fmt::Write as _;

        let mut text = OBJECTS.to_owned();
        let idle = (0..idle).map(|number| format!("idle-{number}"));
        for account in std::iter::once("api".to_owned()).chain(idle) {
            write!(
                text,
                "---\napiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\n\
                 metadata: {{name: {account}, namespace: shop}}\n\
                 spec: {{destination: {{kind: ServiceAccount, name: {account}}}, sources: [{{kind: ServiceAccount, name: caller}}], \
                 rules: [{{kind: HTTPRouteGroup, name: all}}]}}\n"
            )
            .unwrap();
        }
        let mut inputs = inputs(&text);
        inputs.slices.clear();
        let template = Pod::clone(&inputs.pods[&key("api")]);
        inputs.pods.clear();
        let mut shop = Self { inputs, template, pods };
        (0..pods).for_each(|number| shop.address(number));
        let slices = (0..pods.div_ceil(SLICE)).flat_map(|slice| SERVICES.map(|service| (service, slice)));
        for (service, number) in slices {
            let listed = number * SLICE..pods.min((number + 1) * SLICE);
            let name = format!("{service}-{number}");
            let mut slice = slice(service, &name);
            slice.endpoints = listed.map(|number| endpoint(number, true, false)).collect();
            shop.inputs.slices.insert(key(&name), slice.into());
        }
        shop
    }

    fn put(&mut self, number: u32, change: impl FnOnce(&mut Pod)) {
        let name = format!("api-{number}");
        let known = self.inputs.pods.get(&key(&name)).map(|pod| Pod::clone(pod));
        let mut pod = known.unwrap_or_else(|| {
            let mut pod = self.template.clone();
            pod.metadata.name = Some(name.clone());
            pod.status = None;
            pod
        });
        change(&mut pod);
        self.inputs.pods.insert(key(&name), pod.into());
    }

    fn address(&mut self, number: u32) {
        let ip = address(number);
        self.put(number, |pod| pod.status.get_or_insert_default().pod_ips = Some(vec![PodIP { ip }]));
    }

    /// Lists a pod in the slice of a Service that is its own by number; `None` removes it.
    fn list(&mut self, service: &str, number: u32, ready: Option<bool>, terminating: bool) {
        let name = format!("{service}-{}", number / SLICE);
        let known = self.inputs.slices.get(&key(&name)).map(|slice| EndpointSlice::clone(slice));
        let mut slice = known.unwrap_or_else(|| slice(service, &name));
        let pod = format!("api-{number}");
        slice.endpoints.retain(|endpoint| endpoint.target_ref.as_ref().unwrap().name.as_ref() != Some(&pod));
        if let Some(ready) = ready {
            slice.endpoints.push(endpoint(number, ready, terminating));
        }
        self.inputs.slices.insert(key(&name), slice.into());
    }

    fn list_in_all(&mut self, number: u32, ready: Option<bool>, terminating: bool) {
        for service in SERVICES {
            self.list(service, number, ready, terminating);
        }
    }
}

fn key(name: &str) -> Key {
    ("shop".to_owned(), name.to_owned())
}

fn address(number: u32) -> String {
    Ipv4Addr::from(0x0a01_0000 + number).to_string()
}

fn endpoint(number: u32, ready: bool, terminating: bool) -> Endpoint {
    let [ready, terminating] = [Some(ready), Some(terminating)];
    Endpoint {
        addresses: vec![address(number)],
        conditions: Some(EndpointConditions { ready, serving: ready, terminating }),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(format!("api-{number}")),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

fn slice(service: &str, name: &str) -> EndpointSlice {
    let mut slice = EndpointSlice { address_type: "IPv4".to_owned(), ..EndpointSlice::default() };
    slice.metadata.name = Some(name.to_owned());
    slice.metadata.namespace = Some("shop".to_owned());
    slice.labels_mut().insert("kubernetes.io/service-name".to_owned(), service.to_owned());
    slice.labels_mut().insert(
        "endpointslice.kubernetes.io/managed-by".to_owned(),
        "endpointslice-controller.k8s.io".to_owned(),
    );
    let port = EndpointPort { name: Some("http".to_owned()), port: Some(8080), ..EndpointPort::default() };
    slice.ports = Some(vec![port]);
    slice
}

/// Name of an edit, and the edit. The workload has `pods` pods, of the numbers below.
type Edit = (&'static str, fn(&mut Shop));

/// The edits of the life of a pod, and those that others make meanwhile. Each begins where the one before has ended.
const EDITS: &[Edit] = &[
    ("a pod is created", |shop| shop.put(shop.pods, |_| ())),
    ("it gets an address", |shop| shop.address(shop.pods)),
    ("slices list it, not ready", |shop| shop.list_in_all(shop.pods, Some(false), false)),
    ("it is ready", |shop| shop.list_in_all(shop.pods, Some(true), false)),
    ("it is not ready", |shop| shop.list_in_all(shop.pods, Some(false), false)),
    ("it is ready again", |shop| shop.list_in_all(shop.pods, Some(true), false)),
    ("its kubelet reports", |shop| {
        shop.put(shop.pods, |pod| pod.metadata.resource_version = Some("2".to_owned()));
    }),
    ("it gets a label that nothing selects", |shop| {
        shop.put(shop.pods, |pod| drop(pod.labels_mut().insert("seen".to_owned(), "yes".to_owned())));
    }),
    ("it moves to the canary", |shop| {
        shop.put(shop.pods, |pod| drop(pod.labels_mut().insert("track".to_owned(), "canary".to_owned())));
    }),
    ("slices follow", |shop| {
        shop.list("named", shop.pods, None, false);
        shop.list("canary", shop.pods, Some(true), false);
    }),
    ("Flagger moves weights", |shop| {
        let mut split = smidge_crds::split::TrafficSplit::clone(&shop.inputs.traffic_splits[&key("api")]);
        split.spec.backends[0].weight = Some(smidge_crds::Number::from(50_i64));
        shop.inputs.traffic_splits.insert(key("api"), split.into());
    }),
    ("it is taken out of all selectors", |shop| {
        shop.put(shop.pods, |pod| drop(pod.labels_mut().insert("app".to_owned(), "isolated".to_owned())));
    }),
    ("it is put back", |shop| {
        shop.put(shop.pods, |pod| drop(pod.labels_mut().insert("app".to_owned(), "api".to_owned())));
    }),
    ("another pod is evicted", |shop| {
        let now = Time(Timestamp::from_second(1_700_000_000).unwrap());
        shop.put(1, |pod| pod.metadata.deletion_timestamp = Some(now));
        shop.list_in_all(1, Some(false), true);
    }),
    ("its endpoint goes", |shop| shop.list_in_all(1, None, false)),
    ("it ends", |shop| {
        shop.put(1, |pod| pod.status.get_or_insert_default().phase = Some("Succeeded".to_owned()));
    }),
    ("it is deleted", |shop| drop(shop.inputs.pods.remove(&key("api-1")))),
    ("an autoscaler adds five", |shop| {
        for number in 1..=5 {
            let number = shop.pods + number;
            shop.put(number, |_| ());
            shop.address(number);
            shop.list_in_all(number, Some(true), false);
        }
    }),
    ("an autoscaler removes five", |shop| {
        for number in 1..=5 {
            let number = shop.pods + number;
            shop.list_in_all(number, None, false);
            shop.inputs.pods.remove(&key(&format!("api-{number}")));
        }
    }),
];

/// Returns the number of nodes that each edit makes lowering compute.
fn costs(pods: u32, idle: u32) -> Vec<(&'static str, u64)> {
    let mut shop = Shop::new(pods, idle);
    let mut lowering = Lowering::default();
    let clusters =
        |shop: &Shop| -> Clusters { BTreeMap::from([(ClusterId::default(), shop.inputs.clone())]) };
    lowering.next(&clusters(&shop));
    let mut costs = Vec::new();
    for (name, edit) in EDITS {
        let before = lowering.lowered().nodes;
        edit(&mut shop);
        lowering.next(&clusters(&shop));
        costs.push((*name, lowering.lowered().nodes - before));
    }
    costs
}

#[test]
fn an_edit_costs_the_same_whatever_the_number_of_pods() {
    let small = costs(10, 1);
    for (pods, idle) in [(100, 1), (1_000, 1), (5_000, 1), (10, 100)] {
        assert_eq!(costs(pods, idle), small, "with {pods} pods and {idle} accounts without any");
    }
    // Services over the pods read them; nothing else is as large as these counts.
    let most = small.iter().map(|(_, nodes)| *nodes).max();
    assert!(most < Some(60), "{small:#?}");
}
