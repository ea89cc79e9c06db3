//! Turns objects as they are written into the form in which an API server stores and lists them: with names and
//! namespaces, in the version that the operator asks for, with the defaults that matter to anyone who reads them.
//!
//! An object that an API server would refuse is not stored. The defaults are those of `kubectl get -o yaml` after
//! `kubectl apply`; where a real API server has a choice (the address of a Service), the choice is that of the folder.

use std::borrow::Cow;

use k8s_openapi::api::{
    core::v1::{Namespace, Pod, Service},
    discovery::v1::EndpointSlice,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use smidge::{
    documents::{self, Document, Source},
    kinds::{self, References, Row, Visitor, Watched},
};
use smidge_crds::{conversion, object};

/// A kind that the operator watches.
#[derive(Debug, Clone)]
pub struct Kind {
    pub group: String,
    pub version: String,
    pub name: String,
    pub plural: String,
    pub is_namespaced: bool,
    /// True for the kinds of SMI and Smidge.
    pub is_custom: bool,
}

impl Kind {
    fn of<K: Watched>(is_custom: bool) -> Self {
        let [group, version, name, plural] =
            [K::group(&()), K::version(&()), K::kind(&()), K::plural(&())].map(Cow::into_owned);
        Self { group, version, name, plural, is_namespaced: object::is_namespaced::<K>(), is_custom }
    }

    /// Group and version as objects have them.
    pub fn api_version(&self) -> String {
        let Self { group, version, .. } = self;
        if group.is_empty() { version.clone() } else { format!("{group}/{version}") }
    }

    /// Path of the list of all objects.
    pub fn path(&self) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        format!("/{root}/{}/{}", self.api_version(), self.plural)
    }
}

/// Returns the kinds that the operator watches.
pub fn kinds() -> Vec<Kind> {
    struct All(Vec<Kind>);
    impl Visitor for All {
        fn kind<K: Watched>(&mut self, _: &Row<K>) {
            self.0.push(Kind::of::<K>(false));
        }

        fn custom<Spec: object::Kind>(&mut self, _: &Row<object::Object<Spec>>, _: References<Spec>) {
            self.0.push(Kind::of::<object::Object<Spec>>(true));
        }
    }
    let mut all = All(Vec::new());
    kinds::visit(&mut all);
    all.0
}

/// Returns the objects of a text that an API server would store.
pub fn as_written(text: &str) -> Vec<Value> {
    let (documents, _) = documents::parse(&Source { name: "in.yaml".to_owned(), text: text.to_owned() });
    documents.into_iter().filter_map(|document| stored(document.value)).collect()
}

/// Returns an object as an API server stores it; `None` if it has no such kind, or refuses the object.
pub fn stored(mut object: Value) -> Option<Value> {
    let api_version = object.get("apiVersion")?.as_str()?.to_owned();
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let kind = kinds().into_iter().find(|kind| kind.group == group && object["kind"] == *kind.name)?;
    complete_metadata(&kind, &mut object)?;
    if kind.is_custom {
        if !conversion::served(group, &kind.name).contains(&version) {
            return None;
        }
        return conversion::convert(&object, &kind.api_version()).ok();
    }
    (version == kind.version).then_some(())?;
    match &*kind.name {
        "Service" => is_readable::<Service>(&object).then(|| complete_service(&mut object)),
        "Pod" => is_readable::<Pod>(&object).then(|| complete_pod(&mut object)),
        "EndpointSlice" => is_readable::<EndpointSlice>(&object).then(|| complete_slice(&mut object)),
        _ => is_readable::<Namespace>(&object).then(|| complete_namespace(&mut object)),
    }?;
    Some(object)
}

fn is_readable<K: DeserializeOwned>(object: &Value) -> bool {
    K::deserialize(object).is_ok()
}

fn set(object: &mut Value, field: &str, default: Value) {
    let Some(fields) = object.as_object_mut() else { return };
    let place = fields.entry(field).or_insert(Value::Null);
    if place.is_null() {
        *place = default;
    }
}

fn each<'a>(object: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    object.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

fn complete_metadata(kind: &Kind, object: &mut Value) -> Option<()> {
    let metadata = object.get_mut("metadata")?;
    let text = |metadata: &Value, field: &str| {
        metadata.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    // A real API server adds five letters; a folder has one such object, which is never renamed.
    let name = text(metadata, "name")
        .or_else(|| text(metadata, "generateName").map(|name| name.trim_end_matches('-').to_owned()))?;
    let namespace = text(metadata, "namespace").unwrap_or_else(|| documents::DEFAULT_NAMESPACE.to_owned());
    let fields = metadata.as_object_mut()?;
    fields.insert("name".to_owned(), json!(name));
    fields.remove("namespace");
    if kind.is_namespaced {
        fields.insert("namespace".to_owned(), json!(namespace));
    }
    let uid = format!("{}/{namespace}/{name}", kind.name);
    for (field, value) in [
        ("uid", json!(uid)),
        ("generation", json!(1)),
        ("resourceVersion", json!("1")),
        ("managedFields", json!([{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {}}}])),
    ] {
        set(metadata, field, value);
    }
    Some(())
}

fn complete_namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    set(&mut object["metadata"], "labels", json!({}));
    set(&mut object["metadata"]["labels"], "kubernetes.io/metadata.name", name);
    set(object, "spec", json!({"finalizers": ["kubernetes"]}));
    set(object, "status", json!({"phase": "Active"}));
}

fn complete_service(object: &mut Value) {
    let address = address(object);
    set(object, "spec", json!({}));
    let spec = &mut object["spec"];
    set(spec, "type", json!("ClusterIP"));
    set(spec, "sessionAffinity", json!("None"));
    if spec["sessionAffinity"] == "ClientIP" {
        set(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}));
    }
    if spec["type"] != "ExternalName" {
        if let Some(address) = address {
            set(spec, "clusterIP", json!(address));
        }
        let address = spec.pointer("/clusterIPs/0").or(spec.get("clusterIP")).cloned().unwrap_or_default();
        set(spec, "clusterIP", address.clone());
        set(spec, "clusterIPs", json!([address]));
        set(spec, "internalTrafficPolicy", json!("Cluster"));
        set(spec, "ipFamilies", json!(["IPv4"]));
        set(spec, "ipFamilyPolicy", json!("SingleStack"));
    }
    let is_headless = spec["clusterIP"] == "None";
    for port in each(spec, "/ports") {
        set(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        // A headless Service has the target of a port as well: that of the port itself.
        if port["targetPort"] == 0 && !is_headless {
            port["targetPort"] = number.clone();
        }
        set(port, "targetPort", number);
    }
    set(object, "status", json!({"loadBalancer": {}}));
}

/// Returns the address that a folder gives to a Service without one.
fn address(service: &Value) -> Option<String> {
    let text = |pointer: &str| service.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let document = Document {
        file: String::new(),
        number: 1,
        place: String::new(),
        group: String::new(),
        version: "v1".to_owned(),
        kind: text("/kind").to_owned(),
        default_namespace: text("/metadata/namespace").to_owned(),
        value: service.clone(),
    };
    let inputs = documents::objects(&[document]).inputs;
    let service = inputs.services.values().next()?;
    service.spec.as_ref()?.cluster_ip.clone()
}

fn complete_pod(object: &mut Value) {
    let Some(spec) = object.get_mut("spec") else { return };
    let account = spec.get("serviceAccountName").or(spec.get("serviceAccount")).cloned();
    let account = account.filter(|it| it.as_str().is_some_and(|it| !it.is_empty()));
    let account = account.unwrap_or(json!("default"));
    for (field, value) in [
        ("serviceAccountName", account.clone()),
        ("serviceAccount", account),
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("nodeName", json!("node")),
        ("securityContext", json!({})),
        ("terminationGracePeriodSeconds", json!(30)),
        ("enableServiceLinks", json!(true)),
        ("tolerations", json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}])),
    ] {
        set(spec, field, value);
    }
    for list in ["/containers", "/initContainers"] {
        for container in each(spec, list) {
            set(container, "imagePullPolicy", json!("IfNotPresent"));
            set(container, "resources", json!({}));
            for port in each(container, "/ports") {
                set(port, "protocol", json!("TCP"));
            }
        }
    }
    set(object, "status", json!({"phase": "Running"}));
    set(&mut object["status"], "phase", json!("Running"));
}

fn complete_slice(object: &mut Value) {
    for port in each(object, "/ports") {
        set(port, "name", json!(""));
        set(port, "protocol", json!("TCP"));
    }
    for endpoint in each(object, "/endpoints") {
        set(endpoint, "conditions", Value::Object(Map::new()));
    }
}
