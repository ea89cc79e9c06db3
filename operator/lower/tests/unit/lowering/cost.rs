//! Cost of lowering a change, in nodes computed: the same in a large mesh as in a small one.

use std::{collections::BTreeMap, fmt::Write as _};

use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use smidge_crds::{Number, access::TrafficTarget, split::TrafficSplit};
use smidge_lower::{
    Lowered, Lowering,
    inputs::{Inputs, Key},
};
use smidge_mesh::id::ClusterId;

use super::inputs;

/// Returns a mesh of this number of applications in one namespace: each a Service with one pod (whatever its replicas,
/// offline) and a TrafficTarget, all pods with one label in common; the first splits its calls between the next two.
fn shop(applications: usize) -> Inputs {
    let mut text = String::from(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: specs.smi-spec.io/v1alpha4\n\
         kind: HTTPRouteGroup\nmetadata: {name: all, namespace: shop}\n\
         spec: {matches: [{name: all, pathRegex: \"/.*\"}]}\n---\napiVersion: split.smi-spec.io/v1alpha4\n\
         kind: TrafficSplit\nmetadata: {name: a0, namespace: shop}\n\
         spec: {service: a0, backends: [{service: a1, weight: 90}, {service: a2, weight: 10}]}\n",
    );
    for number in 0..applications {
        let name = format!("a{number}");
        write!(
            text,
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{replicas: 3, selector: {{matchLabels: {{app: {name}}}}}, template: {{metadata: {{labels: \
             {{app: {name}, team: all}}}}, spec: {{serviceAccountName: {name}, containers: [{{name: app, image: app, \
             ports: [{{containerPort: 8080}}]}}]}}}}}}\n\
             ---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
             spec: {{selector: {{app: {name}, team: all}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n\
             ---\napiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\n\
             metadata: {{name: {name}, namespace: shop}}\n\
             spec: {{destination: {{kind: ServiceAccount, name: {name}}}, sources: [{{kind: ServiceAccount, name: a0}}], \
             rules: [{{kind: HTTPRouteGroup, name: all}}]}}\n"
        )
        .unwrap();
    }
    inputs(&text)
}

fn key(objects: impl IntoIterator<Item = Key>, prefix: &str) -> Key {
    objects.into_iter().find(|(_, name)| name.starts_with(prefix)).unwrap()
}

fn ready(inputs: &mut Inputs, service: &str, ready: bool) {
    let key = key(inputs.slices.keys().cloned(), service);
    let mut slice = EndpointSlice::clone(&inputs.slices[&key]);
    slice.endpoints[0].conditions.get_or_insert_default().ready = Some(ready);
    inputs.slices.insert(key, slice.into());
}

fn weigh(inputs: &mut Inputs, weight: i64) {
    let key = ("shop".to_owned(), "a0".to_owned());
    let mut split = TrafficSplit::clone(&inputs.traffic_splits[&key]);
    split.spec.backends[0].weight = Some(Number::from(weight));
    inputs.traffic_splits.insert(key, split.into());
}

fn grant(inputs: &mut Inputs, source: &str) {
    let key = ("shop".to_owned(), "a7".to_owned());
    let mut target = TrafficTarget::clone(&inputs.traffic_targets[&key]);
    target.spec.sources[0].name = source.to_owned();
    inputs.traffic_targets.insert(key, target.into());
}

fn pod(inputs: &mut Inputs, change: impl FnOnce(&mut Pod)) {
    let key = key(inputs.pods.keys().cloned(), "a7-");
    let mut pod = Pod::clone(&inputs.pods[&key]);
    change(&mut pod);
    inputs.pods.insert(key, pod.into());
}

fn scale(inputs: &mut Inputs) {
    let key = key(inputs.pods.keys().cloned(), "a7-");
    let mut pod = Pod::clone(&inputs.pods[&key]);
    let name = "a7-another".to_owned();
    pod.metadata.name = Some(name.clone());
    pod.status = None;
    inputs.pods.insert((key.0, name), pod.into());
}

/// Returns what a change recomputes in a mesh of that size.
fn cost(applications: usize, change: impl FnOnce(&mut Inputs)) -> Lowered {
    let mut harness = BTreeMap::from([(ClusterId::default(), shop(applications))]);
    let mut lowering = Lowering::default();
    lowering.next(&harness);
    let before = lowering.lowered();
    lowering.next(&harness);
    assert_eq!(before, lowering.lowered(), "what has not changed was lowered");
    change(harness.values_mut().next().unwrap());
    lowering.next(&harness);
    let after = lowering.lowered();
    Lowered {
        services: after.services - before.services,
        workloads: after.workloads - before.workloads,
        nodes: after.nodes - before.nodes,
        kept: 0,
    }
}

/// Tests that the cost is the same in a small mesh and in a large one: (Services, workload instances, nodes of any
/// kind).
fn flat(what: &str, expected: (u64, u64, u64), change: impl Fn(&mut Inputs)) {
    let (small, large) = (cost(10, &change), cost(80, &change));
    assert_eq!(small, large, "{what} costs more in a large mesh");
    assert_eq!((large.services, large.workloads, large.nodes), expected, "{what}");
}

#[test]
fn an_endpoint_lowers_its_service() {
    // No other one is ready, so what its node reported is read.
    flat("an endpoint", (1, 0, 5), |inputs| ready(inputs, "a7", false));
}

#[test]
fn an_endpoint_of_a_backend_lowers_the_root_as_well() {
    flat("an endpoint of a backend", (2, 0, 6), |inputs| ready(inputs, "a1", false));
}

#[test]
fn a_weight_lowers_the_root() {
    flat("a weight", (1, 0, 6), |inputs| weigh(inputs, 50));
}

#[test]
fn a_target_lowers_no_service_and_no_workload() {
    flat("a target", (0, 0, 6), |inputs| grant(inputs, "a3"));
}

#[test]
fn a_further_pod_lowers_itself_and_its_service() {
    flat("a further pod", (1, 1, 11), scale);
}

#[test]
fn what_a_kubelet_reports_lowers_nothing() {
    let report = |pod: &mut Pod| pod.metadata.resource_version = Some("2".to_owned());
    flat("a report", (0, 0, 1), |inputs| self::pod(inputs, report));
}

#[test]
fn a_pod_that_goes_lowers_its_service() {
    // It is the only one of its account, whose callers no longer receive the Service. A removed node is not lowered.
    flat("a pod that goes", (1, 0, 18), |inputs| {
        let key = key(inputs.pods.keys().cloned(), "a7-");
        inputs.pods.remove(&key);
        let slice = self::key(inputs.slices.keys().cloned(), &format!("a7-{}", key.1));
        inputs.slices.remove(&slice);
    });
}
