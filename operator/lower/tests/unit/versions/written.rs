//! The objects as a user would have written them for an old version, by its documentation alone: shares no code with
//! `smidge_crds::conversion`.

use serde_json::{Map, Value, json};

/// Returns the object at `version`, if that version can express all of it.
pub fn written(hub: &Value, version: &'static str) -> Option<Value> {
    let spec = &hub["spec"];
    let content = match hub["kind"].as_str()? {
        "TrafficTarget" => target(spec, version)?,
        "HTTPRouteGroup" => group(spec, version)?,
        "TCPRoute" => tcp(spec, version)?,
        "TrafficSplit" => split(spec, version)?,
        // Kinds of v1alpha4 only.
        _ => return None,
    };
    let (group, _) = hub["apiVersion"].as_str()?.split_once('/')?;
    let mut object = json!({
        "apiVersion": format!("{group}/{version}"), "kind": hub["kind"], "metadata": hub["metadata"],
    });
    object.as_object_mut()?.extend(content);
    Some(object)
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no map"),
    }
}

fn target(spec: &Value, version: &str) -> Option<Map<String, Value>> {
    let (destination, rules, sources) = (&spec["destination"], &spec["rules"], &spec["sources"]);
    let has_no_port = version == "v1alpha3";
    let has_no_udp = version != "v1alpha3" && version != "v1alpha4";
    let subjects = || sources.as_array().into_iter().flatten().chain([destination]);
    let is_new = |subject: &Value| subject.get("group").is_some() || subject["kind"] == "IdentityBinding";
    if (version != "v1alpha4" && subjects().any(is_new))
        || (has_no_port && destination.get("port").is_some())
        || (has_no_udp && rules.as_array()?.iter().any(|rule| rule["kind"] == "UDPRoute"))
    {
        return None;
    }
    Some(map(match version {
        "v1alpha1" => json!({"destination": destination, "specs": rules, "sources": sources}),
        _ => json!({"spec": {"destination": destination, "rules": rules, "sources": sources}}),
    }))
}

fn group(spec: &Value, version: &str) -> Option<Map<String, Value>> {
    let matches = spec["matches"].as_array()?;
    if version == "v1alpha1" && matches.iter().any(|one| one.get("headers").is_some()) {
        return None;
    }
    Some(map(match version {
        "v1alpha1" | "v1alpha2" => json!({"matches": matches}),
        _ => json!({"spec": {"matches": matches}}),
    }))
}

fn tcp(spec: &Value, version: &str) -> Option<Map<String, Value>> {
    let is_every_port = spec["matches"]["ports"].as_array()?.is_empty();
    match version {
        "v1alpha4" => Some(map(json!({"spec": spec}))),
        _ if !is_every_port => None,
        "v1alpha3" => Some(map(json!({"spec": {}}))),
        _ => Some(Map::new()),
    }
}

fn split(spec: &Value, version: &str) -> Option<Map<String, Value>> {
    let is_old = version == "v1alpha1" || version == "v1alpha2";
    if is_old && spec.get("matches").is_some() {
        return None;
    }
    let mut spec = spec.clone();
    if version == "v1alpha1" {
        for (index, backend) in spec["backends"].as_array_mut()?.iter_mut().enumerate() {
            let weight = backend["weight"].as_u64()?;
            // All notations of a whole quantity that users and typed clients write.
            backend["weight"] = match (index + usize::try_from(weight).ok()?) % 6 {
                0 => json!(weight),
                1 => json!(weight.to_string()),
                2 => json!(format!("{weight}.0")),
                3 => json!(format!("{weight}000m")),
                4 if weight % 1000 == 0 => json!(format!("{}k", weight / 1000)),
                4 => json!(format!("{weight}e0")),
                _ => json!(format!("+{weight}")),
            };
        }
    }
    Some(map(json!({"spec": spec})))
}
