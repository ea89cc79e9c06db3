//! Turns the probes and HTTP hooks of a pod into checks that its proxy answers, and points the kubelet to the proxy.
//!
//! The kubelet calls from outside the mesh, so its own calls would be refused. `exec` probes run inside the container
//! and stay unchanged, as do checks that do not call the pod itself. Does not decide how the proxy answers:
//! `smidge_xds::bootstrap` does.

use std::{fmt::Write, time::Duration};

use serde_json::{Map, Value, json};
use smidge_xds::{
    bootstrap::{Check, Probe},
    mesh::proxy::READINESS_PORT,
};

use super::{name_of, token::is_token as is_probe_token};

/// Handlers of a check that go over the network.
pub(super) const HANDLERS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// Field of a container that can hold a check.
pub(super) struct Kind {
    /// Last part of the check's name.
    pub(super) name: &'static str,
    pub(super) path: &'static [&'static str],
    /// True for a hook, which the kubelet calls once and whose answer it waits for; over the network, it supports HTTP
    /// hooks only.
    hook: bool,
}

/// All fields that can hold a check.
pub(super) const KINDS: [Kind; 5] = [
    Kind { name: "startup", path: &["startupProbe"], hook: false },
    Kind { name: "liveness", path: &["livenessProbe"], hook: false },
    Kind { name: "readiness", path: &["readinessProbe"], hook: false },
    Kind { name: "postStart", path: &["lifecycle", "postStart"], hook: true },
    Kind { name: "preStop", path: &["lifecycle", "preStop"], hook: true },
];

impl Kind {
    /// Returns the object that holds the check, if the container has one.
    pub(super) fn handler_mut<'a>(&self, container: &'a mut Value) -> Option<&'a mut Map<String, Value>> {
        self.path.iter().try_fold(container, |value, name| value.get_mut(*name))?.as_object_mut()
    }
}

/// Returns the containers whose probes the kubelet runs: the application's, and init containers that keep running.
pub(super) fn probed_mut(pod: &mut Value) -> Vec<&mut Value> {
    let Some(spec) = pod.get_mut("spec").and_then(Value::as_object_mut) else { return Vec::new() };
    let mut found = Vec::new();
    for (list, items) in spec.iter_mut() {
        let keeps_running =
            |item: &Value| item.get("restartPolicy").and_then(Value::as_str) == Some("Always");
        match (list.as_str(), items.as_array_mut()) {
            ("containers", Some(items)) => found.extend(items.iter_mut()),
            ("initContainers", Some(items)) => {
                found.extend(items.iter_mut().filter(|item| keeps_running(item)));
            }
            _ => {}
        }
    }
    found
}

/// Builds the `httpGet` that replaces the check.
fn rewritten(probe: &Probe) -> Value {
    json!({"path": probe.path(), "port": READINESS_PORT, "scheme": "HTTP"})
}

/// Returns true if an `httpGet` calls the proxy instead of the check called `name`, even if it was rewritten under
/// another key, or before paths had tokens.
pub(super) fn is_rewritten(get: &Value, name: &str) -> bool {
    let path = get.get("path").and_then(Value::as_str).unwrap_or_default();
    let token = path.strip_prefix("/smidge/probe/").and_then(|path| path.strip_prefix(name));
    let port = get.get("port").and_then(Value::as_u64);
    port == Some(u64::from(READINESS_PORT))
        && token.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('/').is_some_and(is_probe_token))
}

/// Replaces the checks of the pod with calls to the proxy. Returns the checks for the proxy, and the original handlers
/// by name. `tokens` makes the token of a check, from its name and original handler.
pub(super) fn take(
    pod: &mut Value,
    tokens: impl Fn(&str, &Map<String, Value>) -> String,
    warnings: &mut Vec<String>,
) -> (Vec<Probe>, Map<String, Value>) {
    let (mut probes, mut originals) = (Vec::new(), Map::new());
    for container in probed_mut(pod) {
        let ports = container.get("ports").cloned().unwrap_or_default();
        let container_name = name_of(container).to_owned();
        for kind in &KINDS {
            let Some(handler) = kind.handler_mut(container) else { continue };
            let name = format!("{container_name}/{}", kind.name);
            match check(handler, &ports, kind.hook) {
                Ok(None) => {}
                Ok(Some(check)) => {
                    let mut original = Map::new();
                    for form in HANDLERS {
                        original.extend(handler.remove(form).map(|value| (form.to_owned(), value)));
                    }
                    let probe = probe(&name, tokens(&name, &original), check, handler, kind.hook);
                    handler.insert("httpGet".to_owned(), rewritten(&probe));
                    probes.push(probe);
                    originals.insert(name, Value::Object(original));
                }
                Err(why) => warnings.push(format!("smidge: probe {name} stays as it is: {why}")),
            }
        }
    }
    // Sorted by name: a JSON object has no order, and the same pod must give the same bytes.
    probes.sort_by(|a, b| a.name.cmp(&b.name));
    (probes, originals)
}

fn probe(name: &str, token: String, check: Check, handler: &Map<String, Value>, hook: bool) -> Probe {
    let seconds = |field: &str, default: u64| {
        let set = handler.get(field).and_then(Value::as_u64).filter(|seconds| (1..=86_400).contains(seconds));
        Duration::from_secs(set.unwrap_or(default))
    };
    Probe {
        name: name.to_owned(),
        token,
        check,
        timeout: (!hook).then(|| seconds("timeoutSeconds", 1)),
        period: seconds("periodSeconds", 10),
    }
}

/// Returns the check of a handler; `None` if there is none that goes over the network.
fn check(handler: &Map<String, Value>, ports: &Value, hook: bool) -> Result<Option<Check>, String> {
    if let Some(get) = handler.get("httpGet").filter(|get| get.is_object()) {
        return http(get, ports).map(Some);
    }
    if hook {
        return Ok(None);
    }
    if let Some(socket) = handler.get("tcpSocket").filter(|socket| socket.is_object()) {
        asks_the_pod(socket)?;
        return Ok(Some(Check::Tcp { port: port(socket, ports)? }));
    }
    if let Some(grpc) = handler.get("grpc").filter(|grpc| grpc.is_object()) {
        let service = literal(grpc.get("service").and_then(Value::as_str).unwrap_or_default());
        return Ok(Some(Check::Grpc { port: port(grpc, ports)?, service }));
    }
    Ok(None)
}

fn http(get: &Value, ports: &Value) -> Result<Check, String> {
    asks_the_pod(get)?;
    let (mut host, mut headers) = (None, Vec::new());
    for header in get.get("httpHeaders").and_then(Value::as_array).into_iter().flatten() {
        let name = name_of(header).to_ascii_lowercase();
        let value = header.get("value").and_then(Value::as_str).unwrap_or_default();
        if !is_token(&name) || value.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(format!("its header {name:?} is none that HTTP knows"));
        }
        match name.as_str() {
            "host" => host = Some(literal(value)).filter(|host| !host.is_empty()),
            // Headers of the connection, which ends at the proxy.
            "connection" | "content-length" | "keep-alive" | "te" | "transfer-encoding" | "upgrade" => {}
            _ => headers.push((name, literal(value))),
        }
    }
    // The kubelet's own headers, where the probe does not set them; a header that the probe sets to nothing is not
    // sent.
    for (name, value) in [("user-agent", "kube-probe/smidge"), ("accept", "*/*")] {
        if !headers.iter().any(|(set, _)| set == name) {
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    headers.retain(|(_, value)| !value.is_empty());
    Ok(Check::Http {
        port: port(get, ports)?,
        tls: get.get("scheme").and_then(Value::as_str) == Some("HTTPS"),
        path: literal(&target(get.get("path").and_then(Value::as_str).unwrap_or_default())),
        host,
        headers,
    })
}

/// Returns an error if the action has a host of its own: such a probe calls another host than this pod.
fn asks_the_pod(action: &Value) -> Result<(), String> {
    match action.get("host").and_then(Value::as_str).filter(|host| !host.is_empty()) {
        None => Ok(()),
        Some(host) => Err(format!("it asks the host {host:?}, not the pod")),
    }
}

/// Returns the port as a number; a name is looked up among the container's own ports, as the kubelet does.
fn port(action: &Value, ports: &Value) -> Result<u16, String> {
    let wanted = action.get("port").unwrap_or(&Value::Null);
    let number = match wanted.as_str() {
        None => wanted.as_u64(),
        Some(name) => {
            let mut listed = ports.as_array().into_iter().flatten();
            let named = listed.find(|port| name_of(port) == name).and_then(|port| port.get("containerPort"));
            named.and_then(Value::as_u64).or_else(|| name.parse().ok())
        }
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .filter(|number| *number != 0)
        .ok_or_else(|| format!("its port {wanted} is neither a port nor the name of one of the container's"))
}

/// Returns path and query as sent over the wire: bytes that HTTP cannot carry are escaped, a fragment is dropped.
fn target(path: &str) -> String {
    let path = path.split('#').next().unwrap_or_default();
    let mut target = String::from(if path.starts_with('/') { "" } else { "/" });
    for byte in path.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            target.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(target, "%{byte:02X}");
        }
    }
    target
}

fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Escapes text so that Kubernetes leaves it alone: in arguments of a container it would replace `$(NAME)`, and halve
/// `$$`.
pub(super) fn literal(text: &str) -> String {
    text.replace('$', "$$")
}
