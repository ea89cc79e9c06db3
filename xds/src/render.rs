//! Turns one proxy's configuration into one complete, static Envoy configuration, and single resources into JSON.
//!
//! Pure. The same function is behind `smidge render`, the golden tests and debug pages. Reads a view and nothing else;
//! resources that Envoy would request are put where it would refer to them: routes, extensions and endpoints in place.
//! Secrets are not put in place, so that the result holds none; they are requested from the cluster `xds` and not over
//! ADS, as Envoy's `--mode validate` crashes on a static TLS context whose secrets come over ADS.

use std::{collections::BTreeMap, net::SocketAddr, sync::LazyLock};

use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use serde_json::{Map, Value, json};

use crate::{
    resources::{Resource, ResourceType},
    view::View,
};

/// Every message type of Envoy's API, as the crate with the messages ships it (`build.rs`).
static TYPES: LazyLock<Result<DescriptorPool, String>> = LazyLock::new(|| {
    DescriptorPool::decode(include_bytes!(concat!(env!("OUT_DIR"), "/envoy-types.bin")).as_slice())
        .map_err(|error| error.to_string())
});

/// Error of rendering a resource. None of them can occur with what this crate builds.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The descriptors do not match this build.
    #[error("failed to read the descriptors of Envoy's messages: {0}")]
    Descriptors(String),
    /// The resource is of a type that the descriptors do not know.
    #[error("unknown message type {0}")]
    UnknownType(&'static str),
    /// The bytes are not a message of that type.
    #[error("failed to decode {name:?}")]
    Decode {
        /// Name of the resource.
        name: String,
        /// Cause of the error.
        source: prost::DecodeError,
    },
    /// The message has no JSON form.
    #[error("failed to print {name:?}")]
    Print {
        /// Name of the resource.
        name: String,
        /// Cause of the error.
        source: serde_json::Error,
    },
}

/// Settings of a static configuration besides the view.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name of the proxy for the control plane, any text.
    pub node: String,
    /// Address of the control plane.
    pub xds: SocketAddr,
}

/// Renders the configuration of a proxy with this view, for `envoy -c`. Lists are sorted by name, objects by key.
pub fn render(view: &View, settings: &Settings) -> Result<Value, RenderError> {
    let mut printed = BTreeMap::new();
    for ((kind, name), it) in &view.resources {
        if *kind != ResourceType::Secret {
            printed.insert((*kind, name.as_ref()), resource(it)?);
        }
    }
    let of_kind = |kind: ResourceType| -> Vec<Value> {
        let wanted = printed.iter().filter(|((its, _), _)| *its == kind);
        wanted.map(|(_, value)| in_place(value.clone(), &printed)).collect()
    };
    let mut clusters = of_kind(ResourceType::Cluster);
    clusters.push(control_plane(settings.xds));
    clusters.sort_by(|a, b| name_of(a).cmp(name_of(b)));
    Ok(sorted(json!({
        "node": { "id": settings.node, "cluster": "smidge" },
        "static_resources": { "clusters": clusters, "listeners": of_kind(ResourceType::Listener) },
    })))
}

/// Renders one resource as JSON with the field names of Envoy's documentation; fields with their default are left out.
pub fn resource(resource: &Resource) -> Result<Value, RenderError> {
    let types = TYPES.as_ref().map_err(|error| RenderError::Descriptors(error.clone()))?;
    let url = resource.kind.type_url();
    let descriptor = types
        .get_message_by_name(url.rsplit('/').next().unwrap_or(url))
        .ok_or(RenderError::UnknownType(url))?;
    let name = || resource.name.to_string();
    let message = DynamicMessage::decode(descriptor, resource.body.clone())
        .map_err(|source| RenderError::Decode { name: name(), source })?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(true);
    let value = message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|source| RenderError::Print { name: name(), source })?;
    Ok(sorted(value))
}

type Printed<'a> = BTreeMap<(ResourceType, &'a str), Value>;

/// Puts the resources to which a message refers in the place of the reference.
fn in_place(value: Value, printed: &Printed) -> Value {
    let mut object = match value {
        Value::Array(list) => {
            return Value::Array(list.into_iter().map(|value| in_place(value, printed)).collect());
        }
        Value::Object(object) => object,
        other => return other,
    };
    let find = |kind, name: &str| printed.get(&(kind, name)).cloned();
    if let Some(rds) = object.remove("rds") {
        let found = find(ResourceType::Route, text(&rds, "route_config_name"));
        object.insert("route_config".to_owned(), found.unwrap_or_default());
    }
    if let Some(discovery) = object.remove("config_discovery") {
        let found = find(ResourceType::Extension, text_of(&object, "name"));
        let config = found.as_ref().and_then(|found| found.get("typed_config"));
        let config = config.or_else(|| discovery.get("default_config"));
        object.insert("typed_config".to_owned(), config.cloned().unwrap_or_default());
    }
    if let Some(eds) = object.remove("eds_cluster_config") {
        let found = find(ResourceType::Endpoints, text(&eds, "service_name"));
        object.insert("load_assignment".to_owned(), found.unwrap_or_default());
        object.insert("type".to_owned(), json!("STATIC"));
    }
    if object.remove("ads").is_some() {
        object.insert(
            "api_config_source".to_owned(),
            json!({
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [{ "envoy_grpc": { "cluster_name": "xds" } }],
            }),
        );
    }
    Value::Object(object.into_iter().map(|(key, value)| (key, in_place(value, printed))).collect())
}

fn control_plane(xds: SocketAddr) -> Value {
    let address = json!({ "socket_address": { "address": xds.ip().to_string(), "port_value": xds.port() } });
    let lb_endpoints = json!([{ "endpoint": { "address": address } }]);
    json!({
        "name": "xds",
        "type": "STATIC",
        "load_assignment": { "cluster_name": "xds", "endpoints": [{ "lb_endpoints": lb_endpoints }] },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        },
    })
}

/// Sorts the keys, whatever map serde_json was built with.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(list) => Value::Array(list.into_iter().map(sorted).collect()),
        Value::Object(object) => {
            let by_key: BTreeMap<String, Value> = object.into_iter().collect();
            Value::Object(by_key.into_iter().map(|(key, value)| (key, sorted(value))).collect())
        }
        other => other,
    }
}

fn name_of(value: &Value) -> &str {
    text(value, "name")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn text_of<'a>(object: &'a Map<String, Value>, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}
