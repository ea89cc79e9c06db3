//! ExternalWorkloads that claim addresses which others have: every order in which claims come and go leads to the same,
//! and no address is that of two.

use std::collections::BTreeMap;

use smidge_lower::{
    Lowering,
    inputs::{Clusters, Inputs},
};
use smidge_mesh::{Mesh, id::ClusterId};

use super::{compare, inputs};

/// A pod and three ExternalWorkloads of two namespaces that have one address, and a Service over those of each namespace.
const CLAIMS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: till, namespace: till, labels: {app: db}}
spec: {serviceAccountName: db, containers: [{name: app, image: app}]}
status: {podIP: 10.9.0.7, podIPs: [{ip: 10.9.0.7}]}
---
apiVersion: smidge.mesh/v1alpha1
kind: ExternalWorkload
metadata: {name: first, namespace: till, labels: {app: db}, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {serviceAccount: db, addresses: [10.9.0.7], ports: [{port: 5432, appProtocol: tcp}]}
---
apiVersion: smidge.mesh/v1alpha1
kind: ExternalWorkload
metadata: {name: second, namespace: shop, labels: {app: db}, creationTimestamp: "2026-01-02T00:00:00Z"}
spec: {serviceAccount: db, addresses: ["::ffff:10.9.0.7", "fd00::8"], ports: [{port: 5432, appProtocol: tcp}]}
---
apiVersion: smidge.mesh/v1alpha1
kind: ExternalWorkload
metadata: {name: third, namespace: shop, labels: {app: db}, creationTimestamp: "2026-01-03T00:00:00Z"}
spec: {serviceAccount: db, addresses: [10.9.0.7], ports: [{port: 5432, appProtocol: tcp}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: till}
spec: {selector: {app: db}, ports: [{name: tcp-pg, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{name: tcp-pg, port: 5432}]}
"#;

/// The objects without those whose bit is not set: the pod, then the ExternalWorkloads from the oldest on.
fn subset(all: &Inputs, bits: usize) -> Clusters {
    let mut some = all.clone();
    if bits & 1 == 0 {
        some.pods.clear();
        some.slices.clear();
    }
    for (bit, key) in [(2, ("till", "first")), (4, ("shop", "second")), (8, ("shop", "third"))] {
        if bits & bit == 0 {
            some.external_workloads.remove(&(key.0.to_owned(), key.1.to_owned()));
        }
    }
    Clusters::from([(ClusterId::default(), some)])
}

/// The endpoints by address, each with the names of the instances that have it.
fn endpoints(mesh: &Mesh) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for endpoint in mesh.services.values().flat_map(|it| it.ports.values()).flat_map(|port| &port.endpoints) {
        all.entry(endpoint.address.to_string()).or_default().push(endpoint.proxy.instance.clone());
    }
    all
}

#[test]
fn an_address_is_the_pods_else_the_oldest_claimants() {
    let all = inputs(CLAIMS);
    let mut lowering = Lowering::default();
    for (before, after) in (0..16).flat_map(|before| (0..16).map(move |after| (before, after))) {
        for bits in [before, after] {
            let clusters = subset(&all, bits);
            compare(&mut lowering, &clusters, &[format!("{before} to {after}")])
                .unwrap_or_else(|error| panic!("{error}"));
        }
        let (mesh, _) = lowering.next(&subset(&all, after));
        let owners = ["till", "external:first", "external:second", "external:third"];
        let owner = (0..owners.len()).find(|number| after & (1 << number) != 0);
        let expected = owner.map(|number| vec![owners[number].to_owned()]);
        let found = endpoints(&mesh);
        assert_eq!(found.get("10.9.0.7"), expected.as_ref(), "{after:b}");
        // The second one has another address, at which it is an endpoint while the first is not its own.
        let is_second_elsewhere = after & 4 != 0 && after & 3 != 0;
        assert_eq!(found.contains_key("fd00::8"), is_second_elsewhere, "{after:b}");
    }
}
