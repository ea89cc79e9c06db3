//! Configuration that Smidge gives two pods, in a form that Envoy accepts without a control plane.
//!
//! `smidge inject` returns the proxy's bootstrap, `smidge render` the resources that it is then served. Routes, access
//! rules, endpoints and secrets are taken out of the latter again and discovered, from files instead of a stream: Envoy
//! processes discovered resources differently from static ones. For listeners and clusters there is no such difference,
//! and they stay static.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{identity, pods::Side, reports};

/// Objects of the mesh.
const MESH: &str = include_str!("mesh.yaml");
/// Part name that keeps everything but secrets static.
pub const DISCOVERY: &str = "discovery";
/// Part name that has the proxies count and push nothing.
pub const STATISTICS: &str = "statistics";
/// Version of an Envoy for which there are no statistics.
const WITHOUT_STATISTICS: &str = "1.36.0";

/// Name of the control plane's cluster.
const CONTROL_PLANE: &str = "xds";

/// Start parameters of a proxy.
pub struct Proxy {
    /// Whole configuration.
    pub config: Value,
    /// Other arguments, as the injected container has them.
    pub args: Vec<String>,
}

/// Paths of program and files.
pub struct Places<'a> {
    pub smidge: &'a Path,
    /// Version of Envoy.
    pub version: &'a str,
    /// Folder with the certificates.
    pub keys: &'a Path,
    /// Folder for the files of this side.
    pub folder: PathBuf,
}

/// Builds the proxy of a side, without the parts of these names: fields of the configuration, or filters.
pub fn proxy(side: Side, places: &Places<'_>, without: &[String]) -> anyhow::Result<Proxy> {
    fs::create_dir_all(&places.folder)?;
    let mesh = places.folder.join("mesh.yaml");
    fs::write(&mesh, MESH)?;
    let is_counting = !without.iter().any(|name| name == STATISTICS);
    let version = if is_counting { places.version } else { WITHOUT_STATISTICS };
    let Proxy { mut config, args } = injected(side, places.smidge, version, &mesh)?;
    let rendered = Command::new(places.smidge)
        .args(["render", "--output", "json", "--workload", &format!("shop/{}", side.name()), "--filename"])
        .arg(&mesh)
        .output()?;
    let stderr = String::from_utf8_lossy(&rendered.stderr).into_owned();
    anyhow::ensure!(rendered.status.success(), "smidge render: {stderr}");
    let mut served: Value = serde_json::from_slice(&rendered.stdout)?;
    for name in without {
        drop_part(&mut served, name);
        drop_part(&mut config, name);
    }
    let mut files = Files { side, places, written: 0 };
    files.discover(&mut served, without.iter().any(|name| name == DISCOVERY))?;
    // Dynamic resources would come from a control plane, and there is none.
    config.as_object_mut().context("no bootstrap")?.remove("dynamic_resources");
    for kind in ["clusters", "listeners"] {
        let all = config["static_resources"][kind].as_array_mut().context("no static resources")?;
        all.extend(served["static_resources"][kind].as_array().cloned().unwrap_or_default());
        all.retain(|it| it["name"] != CONTROL_PLANE);
    }
    if let (true, Some(clusters)) = (is_counting, config["static_resources"]["clusters"].as_array_mut()) {
        clusters.push(receiver());
    }
    Ok(Proxy { config, args })
}

/// Builds the control plane's cluster, which leads to what receives statistics in its place (`sidecars::reports`).
fn receiver() -> Value {
    let (address, port) = (reports::ADDRESS.ip(), reports::ADDRESS.port());
    let address = json!({"socket_address": {"address": address, "port_value": port}});
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": address}}]}]);
    json!({
        "name": CONTROL_PLANE, "type": "STATIC",
        "load_assignment": {"cluster_name": CONTROL_PLANE, "endpoints": endpoints},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
    })
}

/// Returns the start parameters that the injector writes for the sidecar. `mesh` becomes what it has injected.
fn injected(side: Side, smidge: &Path, version: &str, mesh: &Path) -> anyhow::Result<Proxy> {
    // Of no authority: the control plane is replaced by `receiver`.
    let roots = mesh.with_extension("pem");
    fs::write(&roots, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")?;
    let mut inject = Command::new(smidge);
    inject.args(["inject", "--proxy-version", version, "--control-plane-roots"]).arg(&roots);
    let output = inject.arg("--filename").arg(mesh).output()?;
    anyhow::ensure!(output.status.success(), "smidge inject: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    fs::write(mesh, &text)?;
    for document in text.split("---\n").filter(|document| document.contains("kind: Pod\n")) {
        let pod: Value = serde_saphyr::from_str(document)?;
        if pod["metadata"]["name"] == side.name() {
            let containers = pod["spec"]["initContainers"].as_array().context("the pod was not injected")?;
            let proxy = containers.iter().find(|it| it["name"] == "smidge-proxy").context("no sidecar")?;
            return arguments(side, proxy["args"].as_array().context("no arguments")?);
        }
    }
    anyhow::bail!("no pod {} in\n{text}", side.name())
}

/// Splits the bootstrap from the arguments, with the values that Kubernetes would insert.
fn arguments(side: Side, args: &[Value]) -> anyhow::Result<Proxy> {
    let mut args: Vec<String> = args.iter().filter_map(|arg| arg.as_str().map(str::to_owned)).collect();
    let at = args.iter().position(|arg| arg == "--config-yaml").context("no bootstrap")?;
    let values = [("POD_NAME", side.name()), ("POD_NAMESPACE", "shop"), ("POD_IP", side.address())];
    let filled = values
        .iter()
        .fold(args[at + 1].clone(), |text, (name, value)| text.replace(&format!("$({name})"), value));
    args.drain(at..at + 2);
    Ok(Proxy { config: serde_json::from_str(&filled)?, args })
}

/// Removes a field or a filter of that name, at every depth.
fn drop_part(value: &mut Value, name: &str) {
    match value {
        Value::Object(object) => {
            let removed = object.remove(name);
            if let (Some(split), "weighted_clusters") = (removed, name) {
                // A route needs a cluster: all traffic goes to the first backend.
                object.insert("cluster".to_owned(), split["clusters"][0]["name"].clone());
            }
            object.values_mut().for_each(|value| drop_part(value, name));
        }
        Value::Array(list) => {
            list.retain(|it| it["name"] != name);
            for it in list {
                drop_part(it, name);
            }
        }
        _ => {}
    }
}

/// Writes the discovered resources.
struct Files<'a> {
    side: Side,
    places: &'a Places<'a>,
    written: usize,
}

impl Files<'_> {
    /// Replaces inline resources by discovered ones; with `only_secrets`, only secrets, which are not available
    /// otherwise.
    fn discover(&mut self, value: &mut Value, only_secrets: bool) -> anyhow::Result<()> {
        match value {
            Value::Array(list) => {
                list.iter_mut().try_for_each(|value| self.discover(value, only_secrets))?;
            }
            Value::Object(object) => {
                if let (Some(name), true) = (object.get("name").cloned(), object.contains_key("sds_config")) {
                    let secret = self.secret(name.as_str().unwrap_or_default())?;
                    object.insert("sds_config".to_owned(), self.source(&secret)?);
                } else if !only_secrets {
                    self.take_out(object)?;
                }
                object.values_mut().try_for_each(|value| self.discover(value, only_secrets))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn take_out(&mut self, object: &mut serde_json::Map<String, Value>) -> anyhow::Result<()> {
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        // A connection manager with the routes of a Service; the routes of the inbound side and of refusals are always
        // static.
        let routes = object.get("route_config").map(|routes| text(routes.get("name")));
        if let Some(name) = routes.filter(|name| name.contains('/')) {
            let mut routes = object.remove("route_config").unwrap_or_default();
            routes["@type"] = json!("type.googleapis.com/envoy.config.route.v3.RouteConfiguration");
            let rds = json!({"route_config_name": name, "config_source": self.source(&routes)?});
            object.insert("rds".to_owned(), rds);
        }
        let config = text(object.get("typed_config").and_then(|config| config.get("@type")));
        if config.ends_with(".rbac.v3.RBAC") {
            let mut filter =
                json!({"@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"});
            filter["name"] = object.get("name").cloned().unwrap_or_default();
            filter["typed_config"] = object.remove("typed_config").unwrap_or_default();
            let discovery = json!({"type_urls": [config], "config_source": self.source(&filter)?});
            object.insert("config_discovery".to_owned(), discovery);
        }
        let endpoints = text(object.get("load_assignment").and_then(|it| it.get("cluster_name")));
        if endpoints.contains('/') {
            let mut assignment = object.remove("load_assignment").unwrap_or_default();
            assignment["@type"] = json!("type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment");
            let eds = json!({"service_name": endpoints, "eds_config": self.source(&assignment)?});
            object.insert("eds_cluster_config".to_owned(), eds);
            object.insert("type".to_owned(), json!("EDS"));
        }
        Ok(())
    }

    /// Writes one resource; returns its config source.
    fn source(&mut self, resource: &Value) -> anyhow::Result<Value> {
        self.written += 1;
        let path = self.places.folder.join(format!("{}.json", self.written));
        fs::write(&path, json!({"version_info": "1", "resources": [resource]}).to_string())?;
        Ok(json!({"path_config_source": {"path": path}, "resource_api_version": "V3"}))
    }

    /// Builds a secret in the form in which the control plane serves it; it leaves the control plane in no other way.
    fn secret(&self, name: &str) -> anyhow::Result<Value> {
        let read = |name: &str| fs::read_to_string(self.places.keys.join(name));
        let mut secret = json!({
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "name": name,
        });
        if name == "identity" {
            let [chain, key] = ["pem", "key"].map(|kind| read(&format!("{}.{kind}", self.side.name())));
            secret["tls_certificate"] = json!({
                "certificate_chain": {"inline_string": chain?}, "private_key": {"inline_string": key?},
            });
            return Ok(secret);
        }
        let mut context = json!({"custom_validator_config": {
            "name": "envoy.tls.cert_validator.spiffe",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
                "trust_domains": [
                    {"name": identity::DOMAIN, "trust_bundle": {"inline_string": read("root.pem")?}},
                ],
            },
        }});
        if name.starts_with("servers/") {
            context["match_typed_subject_alt_names"] =
                json!([{"san_type": "URI", "matcher": {"exact": identity::name(Side::Server)}}]);
        }
        secret["validation_context"] = context;
        Ok(secret)
    }
}
