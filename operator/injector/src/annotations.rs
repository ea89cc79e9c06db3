//! Reads the annotations of a pod that users set.
//!
//! Users choose the ports that are redirected, and exclude destinations and interfaces; what else they set is read by `options`,
//! `resources` and `termination`: no annotation sets an image, a capability or a mount. Labels and annotations of the mesh that are not read cause a
//! warning.

use std::{collections::BTreeSet, fmt::Display, str::FromStr};

use serde_json::Value;
pub use smidge_crds::labels::{
    EXCLUDE_INBOUND_PORTS, EXCLUDE_INTERFACES, EXCLUDE_OUTBOUND_CIDRS, EXCLUDE_OUTBOUND_PORTS,
    INCLUDE_INBOUND_PORTS, INCLUDE_OUTBOUND_PORTS, PROBES, TOKEN_SDS, VERSION,
};
use smidge_crds::labels::{INJECT, INJECT_DISABLED, INJECT_ENABLED, INJECTION, POD_ANNOTATIONS, PREFIX};

use super::annotation;
use crate::redirect::{Cidr, Exclusions, Interface, RedirectedPorts};

/// Maximum number of entries in one annotation: enough for every real use, and rules stay small.
const ENTRIES: usize = 100;

/// Returns the exclusions of the pod from redirection; an error names annotation, value and expected format.
pub(super) fn exclusions(pod: &Value) -> Result<Exclusions, String> {
    let cidrs = "networks such as 10.1.0.0/16 or fd00::/8, separated by commas";
    let interfaces = "interfaces of further networks such as net1, separated by commas";
    Ok(Exclusions {
        inbound: ports(pod, INCLUDE_INBOUND_PORTS, EXCLUDE_INBOUND_PORTS)?,
        outbound: ports(pod, INCLUDE_OUTBOUND_PORTS, EXCLUDE_OUTBOUND_PORTS)?,
        outbound_cidrs: entries::<Cidr>(pod, EXCLUDE_OUTBOUND_CIDRS, cidrs)?,
        interfaces: entries::<Interface>(pod, EXCLUDE_INTERFACES, interfaces)?,
    })
}

/// Returns the ports that are redirected in one direction, by the annotation that includes ports or by the one that
/// excludes them.
fn ports(pod: &Value, include: &str, exclude: &str) -> Result<RedirectedPorts, String> {
    let read = |name: &str| {
        let ports = entries::<Port>(pod, name, "ports from 1 to 65535, separated by commas")?;
        Ok::<_, String>(ports.into_iter().map(|port| port.0).collect())
    };
    let Some(text) = annotation(pod, include) else { return Ok(RedirectedPorts::AllBut(read(exclude)?)) };
    let refused = |expected: &str, hint: &str| {
        format!("annotation {include} has the value {text:?}: expected {expected}; hint: {hint}")
    };
    if annotation(pod, exclude).is_some() {
        let expected = format!("no {exclude} beside it, as all other ports are excluded already");
        return Err(refused(&expected, "remove one of the two"));
    }
    let included: BTreeSet<u16> = read(include)?;
    if included.is_empty() {
        return Err(refused(
            "at least one port",
            "to keep a pod out of the mesh, give it the label smidge.mesh/inject: disabled",
        ));
    }
    Ok(RedirectedPorts::Only(included))
}

/// Returns warnings about labels and annotations of the mesh that have no effect on the pod.
pub(super) fn warnings(pod: &Value) -> Vec<String> {
    let names = |map: &str| {
        let map = pod.pointer(map).and_then(Value::as_object).into_iter().flatten();
        map.filter(|(name, _)| name.starts_with(PREFIX))
    };
    let mut found = Vec::new();
    for (name, value) in names("/metadata/labels") {
        if name != INJECT {
            found.push(format!("smidge: a pod has no label {name}: it has no effect"));
        } else if ![INJECT_DISABLED, INJECT_ENABLED].iter().any(|word| value == word) {
            found.push(format!(
                "smidge: label {INJECT} has the value {value}: expected {INJECT_DISABLED} or {INJECT_ENABLED}; the pod is \
                 injected, as its namespace is"
            ));
        }
    }
    for (name, _) in names("/metadata/annotations") {
        if name == INJECT {
            found.push(format!(
                "smidge: {INJECT} is not read as an annotation, and the pod is injected; hint: write it as a label"
            ));
        } else if !POD_ANNOTATIONS.iter().chain(&INJECTION).any(|known| known == name) {
            found.push(format!(
                "smidge: annotation {name} is not known and has no effect; hint: docs/injection.md lists those that are"
            ));
        }
    }
    found
}

/// A port that is not 0.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Port(u16);

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(port) if port != 0 => Ok(Self(port)),
            _ => Err("not a port".to_owned()),
        }
    }
}

/// Returns the entries of a list, sorted and without duplicates.
fn entries<T: FromStr<Err: Display> + Ord>(
    pod: &Value,
    name: &str,
    expected: &str,
) -> Result<Vec<T>, String> {
    let Some(value) = annotation(pod, name) else { return Ok(Vec::new()) };
    let invalid =
        |why: String| format!("annotation {name} has the value {value:?}: expected {expected} ({why})");
    let mut parsed = Vec::new();
    for entry in value.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        parsed.push(entry.parse().map_err(|why: T::Err| invalid(format!("{entry:?} is {why}")))?);
    }
    if parsed.len() > ENTRIES {
        return Err(invalid(format!("at most {ENTRIES}")));
    }
    parsed.sort();
    parsed.dedup();
    Ok(parsed)
}
