//! Determines the requests and limits of the injected containers: those of the mesh's settings, unless annotations of
//! the namespace or of the pod set others.
//!
//! A pod of the class Guaranteed keeps its class. Reads no LimitRange and no ResourceQuota: the API server applies them
//! to the result, and its refusal names the container and the resource.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde_json::{Map, Value, json};
use smidge_crds::{
    labels::{INIT_CONTAINER, PROXY_CONTAINER},
    quantity::{BILLION, billionths},
};

use super::{Namespace, Settings, all_containers};

/// Resources whose requests and limits annotations set. The mesh's settings have none of the last.
const RESOURCES: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
/// Word for no request or no limit.
const NONE: &str = "none";
/// Format of a quantity, for messages.
const EXPECTED: &str = "a quantity such as 100m or 64Mi, or none";
/// CPU limits that the injected containers have at least in a pod of the class Guaranteed whose owner sets none. The
/// class needs a limit, and one as small as the usual request would throttle a proxy.
const GUARANTEED_CPU: [(&str, &str); 2] = [(INIT_CONTAINER, "100m"), (PROXY_CONTAINER, "500m")];

/// Requests and limits of one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// CPU.
    pub cpu: Bounds,
    /// Memory.
    pub memory: Bounds,
}

/// Request and limit of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// The request.
    pub request: Quantity,
    /// The limit.
    pub limit: Quantity,
}

/// A quantity of Kubernetes as written, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity(Option<(String, u128)>);

impl FromStr for Quantity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == NONE {
            return Ok(Self(None));
        }
        let value = billionths(&Value::String(text.to_owned())).ok_or(format!("expected {EXPECTED}"))?;
        Ok(Self(Some((text.to_owned(), value))))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_ref().map_or(NONE, |(text, _)| text))
    }
}

impl Quantity {
    fn value(&self) -> Option<u128> {
        self.0.as_ref().map(|(_, value)| *value)
    }
}

impl Resources {
    /// Returns requests and limits of these texts: of CPU and memory, the request and the limit of each.
    pub(super) fn of(cpu: [&str; 2], memory: [&str; 2]) -> Self {
        let quantity = |text: &str| text.parse().unwrap_or(Quantity(None));
        let bounds =
            |[request, limit]: [&str; 2]| Bounds { request: quantity(request), limit: quantity(limit) };
        Self { cpu: bounds(cpu), memory: bounds(memory) }
    }
}

/// Returns `smidge.mesh/proxy-cpu-limit`, for example.
fn annotation_name(container: &str, resource: &str, bound: &str) -> String {
    let short = container.strip_prefix("smidge-").unwrap_or(container);
    format!("smidge.mesh/{short}-{resource}-{bound}")
}

/// Returns the first problem of the settings.
pub fn check(settings: &Settings) -> Result<(), String> {
    let pod = json!({});
    let namespace = Namespace::from("");
    of(&pod, namespace, settings, &mut Vec::new()).map(drop)
}

/// Returns the `resources` of the init container and of the proxy of a pod that has neither.
pub(super) fn of(
    pod: &Value,
    namespace: Namespace<'_>,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Result<[Value; 2], String> {
    let reader = Reader { pod, namespace, is_guaranteed: is_guaranteed(pod) };
    let init = reader.container(INIT_CONTAINER, &settings.init_resources, warnings)?;
    let proxy = reader.container(PROXY_CONTAINER, &settings.proxy_resources, warnings)?;
    Ok([init, proxy])
}

/// A quantity with its origin.
#[derive(Clone)]
struct Chosen {
    quantity: Quantity,
    /// Annotation that sets it, for messages; `None` for the mesh's settings.
    annotation: Option<String>,
}

impl Chosen {
    fn is_explicit(&self) -> bool {
        self.annotation.is_some()
    }

    fn origin(&self) -> &str {
        self.annotation.as_deref().unwrap_or("the mesh's settings")
    }
}

/// Objects from which requests and limits are read.
struct Reader<'p> {
    pod: &'p Value,
    namespace: Namespace<'p>,
    is_guaranteed: bool,
}

impl Reader<'_> {
    fn container(
        &self,
        container: &str,
        settings: &Resources,
        warnings: &mut Vec<String>,
    ) -> Result<Value, String> {
        let mut parts = BTreeMap::from([("requests", Map::new()), ("limits", Map::new())]);
        let unset = Bounds { request: Quantity(None), limit: Quantity(None) };
        for (resource, bounds) in RESOURCES.into_iter().zip([&settings.cpu, &settings.memory, &unset]) {
            let mut request = self.choose(container, resource, "request", &bounds.request)?;
            let mut limit = self.choose(container, resource, "limit", &bounds.limit)?;
            for (bound, chosen) in [("request", &request), ("limit", &limit)] {
                whole(container, resource, bound, chosen)?;
            }
            if self.is_guaranteed && resource != "ephemeral-storage" {
                equalize(container, resource, &mut request, &mut limit);
                if request.quantity.value() != limit.quantity.value() {
                    warnings.push(class_lost(container, resource, &request, &limit));
                }
            }
            if request.quantity.value() > limit.quantity.value() && limit.quantity.value().is_some() {
                return Err(too_large(container, resource, &request, &limit));
            }
            for (part, chosen) in [("requests", request), ("limits", limit)] {
                if let (Some(part), Some((text, _))) = (parts.get_mut(part), chosen.quantity.0) {
                    part.insert(resource.to_owned(), Value::String(text));
                }
            }
        }
        parts.retain(|_, part| !part.is_empty());
        Ok(json!(parts))
    }

    /// Chooses a quantity: the pod's, else the namespace's, else that of the mesh's settings.
    fn choose(
        &self,
        container: &str,
        resource: &str,
        bound: &str,
        settings: &Quantity,
    ) -> Result<Chosen, String> {
        let name = annotation_name(container, resource, bound);
        let Some((text, annotation)) = self.namespace.nearest(self.pod, &name) else {
            // Containers share what the pod as a whole has; those that the mesh adds must fit into it.
            let quantity = if self.is_of_pod(resource) { Quantity(None) } else { settings.clone() };
            return Ok(Chosen { quantity, annotation: None });
        };
        let invalid = |why: String| format!("{annotation} has the value {text:?}: {why}");
        let quantity: Quantity = text.parse().map_err(invalid)?;
        Ok(Chosen { quantity, annotation: Some(annotation) })
    }

    /// Returns true if the pod as a whole has a request or limit of this resource.
    fn is_of_pod(&self, resource: &str) -> bool {
        let resources = self.pod.pointer("/spec/resources");
        let has = |part: &str| resources.and_then(|all| all.get(part)?.get(resource)).is_some();
        has("requests") || has("limits")
    }
}

/// Makes request and limit equal, as far as no annotation sets them.
fn equalize(container: &str, resource: &str, request: &mut Chosen, limit: &mut Chosen) {
    match (request.is_explicit(), limit.is_explicit()) {
        (true, true) => {}
        (true, false) => limit.quantity = request.quantity.clone(),
        (false, true) => request.quantity = limit.quantity.clone(),
        (false, false) => {
            if limit.quantity.value().is_none() {
                let least = GUARANTEED_CPU.iter().filter(|_| resource == "cpu");
                let least =
                    least.filter(|(name, _)| *name == container).find_map(|(_, cpu)| cpu.parse().ok());
                let all = [Some(request.quantity.clone()), least];
                limit.quantity =
                    all.into_iter().flatten().max_by_key(Quantity::value).unwrap_or(Quantity(None));
            }
            request.quantity = limit.quantity.clone();
        }
    }
}

/// Refuses parts of a byte: `128m` is an eighth of one, where `128Mi` was meant.
fn whole(container: &str, resource: &str, bound: &str, chosen: &Chosen) -> Result<(), String> {
    if resource == "cpu" || chosen.quantity.value().is_none_or(|value| value.is_multiple_of(BILLION)) {
        return Ok(());
    }
    Err(format!(
        "the {resource} {bound} of {container} is {} ({}): expected whole bytes; hint: the suffix m means thousandths, Mi \
         mebibytes",
        chosen.quantity,
        chosen.origin(),
    ))
}

fn class_lost(container: &str, resource: &str, request: &Chosen, limit: &Chosen) -> String {
    format!(
        "smidge: the pod is no longer of the QoS class Guaranteed: {container} has the {resource} request {} and the \
         limit {} ({})",
        request.quantity,
        limit.quantity,
        [request, limit].into_iter().find(|it| it.is_explicit()).unwrap_or(limit).origin()
    )
}

fn too_large(container: &str, resource: &str, request: &Chosen, limit: &Chosen) -> String {
    let other = match (request.is_explicit(), limit.is_explicit()) {
        (true, false) => Some("limit"),
        (false, true) => Some("request"),
        _ => None,
    };
    let hint =
        other.map(|bound| format!("; hint: set {} as well", annotation_name(container, resource, bound)));
    format!(
        "the {resource} request of {container} is {} ({}): expected at most its limit, {} ({}){}",
        request.quantity,
        request.origin(),
        limit.quantity,
        limit.origin(),
        hint.unwrap_or_default(),
    )
}

/// Returns true if a pod without injected containers is of the QoS class Guaranteed by its containers.
fn is_guaranteed(pod: &Value) -> bool {
    let is_equal = |container: &Value, resource: &str| {
        let of = |part: &str| container.get("resources")?.get(part)?.get(resource).and_then(billionths);
        let limit = of("limits").filter(|limit| *limit > 0);
        // A request that is left out equals the limit.
        limit.is_some() && of("requests").is_none_or(|request| Some(request) == limit)
    };
    let mut containers = all_containers(pod).peekable();
    containers.peek().is_some()
        && pod.pointer("/spec/resources").is_none_or(Value::is_null)
        && containers.all(|container| ["cpu", "memory"].iter().all(|resource| is_equal(container, resource)))
}

#[cfg(test)]
mod tests {
    use smidge_crds::labels::{INJECTION, TERMINATION_DELAY_SECONDS};

    use crate::options;

    use super::*;

    #[test]
    fn every_annotation_that_is_read_is_listed() {
        let mut read = Vec::new();
        for container in [INIT_CONTAINER, PROXY_CONTAINER] {
            for resource in RESOURCES {
                read.extend(["request", "limit"].map(|bound| annotation_name(container, resource, bound)));
            }
        }
        let others = [&[TERMINATION_DELAY_SECONDS][..], &options::ANNOTATIONS].concat();
        assert_eq!([others, read.iter().map(String::as_str).collect()].concat(), INJECTION);
    }
}
