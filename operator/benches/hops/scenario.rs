//! The objects of a shape as the operator's inputs, and the same after one change.

use std::{collections::BTreeMap, sync::Arc};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use smidge::{
    inputs::Clusters,
    inputs::{Inputs, Key, Objects},
    lower::Lowering,
};
use smidge_xds::mesh::{Mesh, id::ClusterId};

use crate::shape::{Object, Shape};

/// One change of one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// An endpoint of a Service that every workload calls is no longer ready.
    Endpoint,
    /// The same of a Service that ten others call.
    EndpointOfTen,
    /// A weight of a split that every proxy sees.
    Weight,
    /// A TrafficTarget of a Service that ten others call allows one source less.
    Target,
}

impl Change {
    pub const ALL: [Self; 4] = [Self::Endpoint, Self::EndpointOfTen, Self::Weight, Self::Target];

    pub fn name(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint for all",
            Self::EndpointOfTen => "endpoint for ten",
            Self::Weight => "weight for all",
            Self::Target => "target for ten",
        }
    }
}

/// A cluster of a size.
pub struct Scenario {
    /// `100 services, 1000 pods`.
    pub size: String,
    shape: Shape,
    pub clusters: Clusters,
}

impl Scenario {
    pub fn new(shape: Shape) -> Self {
        let mut inputs = Inputs::default();
        for object in shape.objects() {
            add(&mut inputs, object);
        }
        let Shape { services, pods } = shape;
        let size = format!("{services} services, {} pods", services * pods);
        Self { size, shape, clusters: BTreeMap::from([(ClusterId::default(), inputs)]) }
    }

    /// The object that a change edits, before the change.
    pub fn original(&self, change: Change) -> Object {
        let (kind, service) = match change {
            Change::Endpoint => ("EndpointSlice", self.shape.hot_backend()),
            Change::EndpointOfTen => ("EndpointSlice", self.shape.cold_plain()),
            Change::Weight => ("TrafficSplit", Shape::HOT),
            Change::Target => ("TrafficTarget", self.shape.cold_plain()),
        };
        let (namespace, name) = (Shape::namespace(service), Shape::name(service));
        let is_it = |it: &Object| {
            it.kind == kind && it.namespace == namespace && it.name.split('-').next() == Some(name.as_str())
        };
        self.shape.objects().into_iter().find(is_it).unwrap()
    }

    /// The same object after the change.
    pub fn edited(&self, change: Change) -> Object {
        let mut object = self.original(change);
        let (field, value) = match change {
            Change::Endpoint | Change::EndpointOfTen => {
                ("/endpoints/0/conditions", json!({"ready": false, "serving": false}))
            }
            Change::Weight => ("/spec/backends/0/weight", json!(80)),
            Change::Target => ("/spec/sources", {
                let sources = object.body.pointer("/spec/sources").and_then(Value::as_array).unwrap();
                json!(sources[1..])
            }),
        };
        *object.body.pointer_mut(field).unwrap() = value;
        object
    }

    /// The clusters after a change; what did not change is shared with the clusters before.
    pub fn after(&self, change: Change) -> Clusters {
        let mut clusters = self.clusters.clone();
        add(clusters.values_mut().next().unwrap(), self.edited(change));
        clusters
    }

    /// The meshes before and after a change, the second lowered from the state of the first, as the operator does.
    pub fn meshes(&self, change: Change) -> [Arc<Mesh>; 2] {
        let mut lowering = Lowering::default();
        [&self.clusters, &self.after(change)].map(|clusters| Arc::new(lowering.next(clusters).0))
    }
}

/// Adds an object, or replaces it.
pub fn add(inputs: &mut Inputs, object: Object) {
    let Object { kind, namespace, name, mut body, status } = object;
    let fields = body.as_object_mut().unwrap();
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    metadata["name"] = json!(name);
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    if let Some(status) = status {
        fields.insert("status".to_owned(), status);
    }
    let key = (namespace, name);
    match kind {
        "Namespace" => put(&mut inputs.namespaces, key, body),
        "Pod" => put(&mut inputs.pods, key, body),
        "Service" => {
            // The API server would assign it: an address that no other Service has.
            let number = inputs.services.len();
            let address = format!("10.96.{}.{}", number >> 8, number & 255);
            body["spec"]["clusterIP"] = json!(address);
            body["spec"]["clusterIPs"] = json!([address]);
            put(&mut inputs.services, key, body);
        }
        "EndpointSlice" => put(&mut inputs.slices, key, body),
        "TrafficTarget" => put(&mut inputs.traffic_targets, key, body),
        "HTTPRouteGroup" => put(&mut inputs.http_route_groups, key, body),
        "TrafficSplit" => put(&mut inputs.traffic_splits, key, body),
        _ => panic!("no kind {kind}"),
    }
}

fn put<K: DeserializeOwned + Clone>(objects: &mut Objects<K>, key: Key, body: Value) {
    objects.insert(key, serde_json::from_value::<K>(body).unwrap().into());
}
