//! Turns `KIND[/NAME] [NAME]`, as kubectl has them, into the resource and the object that are asked about.
//!
//! Pure. Used by `stat`, `edges` and `top`, before anything is requested. Does not know which objects exist.

use std::time::Duration;

use smidge_traffic_metrics::api::{
    GROUP, Version,
    access::is_name,
    query::Parameters,
    request::{Figures, Subresource},
    resource::{RESOURCES, Resource},
};

use super::Query;

/// Short names of resources, as kubectl has them. SMI's own has none there.
const SHORT: [(&str, &[&str]); 10] = [
    ("daemonsets", &["ds"]),
    ("deployments", &["deploy"]),
    ("namespaces", &["ns"]),
    ("nodes", &["no"]),
    ("pods", &["po"]),
    ("replicasets", &["rs"]),
    ("replicationcontrollers", &["rc"]),
    ("services", &["svc"]),
    ("statefulsets", &["sts"]),
    ("trafficsplits", &["ts", "split", "splits"]),
];

/// Errors of the arguments that name objects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The kind has no traffic.
    #[error("KIND is {kind:?}: expected one of {}", kinds())]
    Kind {
        /// The kind as written.
        kind: String,
    },
    /// A name that no object can have.
    #[error("{field} is {value:?}: expected a name of Kubernetes, such as web-1")]
    Name {
        /// The argument.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// Two names of the object.
    #[error("NAME is {second:?} after {first:?}: expected one name (hint: -l selects several objects)")]
    TwoNames {
        /// The argument with the first name.
        first: String,
        /// The second name.
        second: String,
    },
    /// One object of all namespaces.
    #[error("NAME is {name:?} with -A: expected the namespace of one object (hint: -n NAMESPACE)")]
    NameOfAll {
        /// The name.
        name: String,
    },
    /// A kind whose calls are not reported by route.
    #[error(
        "KIND is {kind}, which have no routes: expected a kind of pods (hint: the workloads behind them have)"
    )]
    NoRoutes {
        /// The plural name of the kind.
        kind: &'static str,
    },
    /// One object, and a selection.
    #[error("NAME is {name:?} with -l: expected one of them")]
    NameAndSelector {
        /// The name.
        name: String,
    },
}

/// Returns the kinds, each with its short names.
fn kinds() -> String {
    let each = RESOURCES.iter().map(|resource| match short(resource).split_first() {
        Some((first, _)) => format!("{} ({first})", resource.plural),
        None => resource.plural.to_owned(),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn short(resource: &Resource) -> &'static [&'static str] {
    SHORT.iter().find(|(plural, _)| *plural == resource.plural).map_or(&[], |(_, short)| *short)
}

/// Objects that are asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Their resource.
    pub resource: &'static Resource,
    /// The name of the one object; `None`: all.
    pub name: Option<String>,
    /// Their namespace; `None`: all, or they have none.
    pub namespace: Option<String>,
    /// Labels that they must have, as the API server reads them.
    pub selector: Option<String>,
    /// Length of the time up to now that is reported.
    pub window: Duration,
}

impl Target {
    /// Reads the arguments. `default_namespace` applies to objects in a namespace, without `-n` and `-A`.
    pub fn parse(query: &Query, default_namespace: &str) -> Result<Self, TargetError> {
        let (kind, first) = match query.object.split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (query.object.as_str(), None),
        };
        let resource = find(kind).ok_or_else(|| TargetError::Kind { kind: in_short(kind) })?;
        let name = match (first, query.name.as_deref()) {
            (Some(_), Some(second)) => {
                let [first, second] = [&query.object, second].map(in_short);
                return Err(TargetError::TwoNames { first, second });
            }
            (first, second) => first.or(second),
        };
        let namespace = match (&query.namespace, query.all_namespaces) {
            _ if !resource.namespaced => None,
            (Some(namespace), _) => Some(namespace.as_str()),
            (None, true) => None,
            (None, false) => Some(default_namespace),
        };
        for (field, value) in [("NAME", name), ("-n", namespace)] {
            if let Some(value) = value.filter(|value| !is_name(value)) {
                return Err(TargetError::Name { field, value: in_short(value) });
            }
        }
        let name = name.map(str::to_owned);
        if let Some(name) = name.clone().filter(|_| resource.namespaced && namespace.is_none()) {
            return Err(TargetError::NameOfAll { name });
        }
        if let Some(name) = name.clone().filter(|_| query.selector.is_some()) {
            return Err(TargetError::NameAndSelector { name });
        }
        let (namespace, selector) = (namespace.map(str::to_owned), query.selector.clone());
        Ok(Self { resource, name, namespace, selector, window: query.window })
    }

    /// Returns the request for the objects as wholes.
    pub fn wholes(&self) -> Figures {
        Figures {
            version: Version::V1Alpha2,
            resource: self.resource,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            subresource: Subresource::None,
            parameters: Parameters { window: self.window, ..Parameters::default() },
        }
    }

    /// Returns the request for a part of one of the objects.
    pub fn part(&self, subresource: Subresource, namespace: &str, name: &str) -> Figures {
        let namespace = Some(namespace.to_owned()).filter(|_| self.resource.namespaced);
        Figures { namespace, name: Some(name.to_owned()), subresource, ..self.wholes() }
    }

    /// Returns a text for messages: `deployments in the namespace shop`, `deployment shop/web`.
    pub fn described(&self) -> String {
        let Resource { plural, singular, namespaced, .. } = *self.resource;
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => format!("{singular} {namespace}/{name}"),
            (None, Some(name)) => format!("{singular} {name}"),
            (Some(namespace), None) => format!("{plural} in the namespace {namespace}"),
            (None, None) if namespaced => format!("{plural} in any namespace"),
            (None, None) => plural.to_owned(),
        }
    }
}

/// Returns the resource of a kind: in the plural or not, short, or with its group (`deployments.apps`).
fn find(kind: &str) -> Option<&'static Resource> {
    let kind = kind.to_ascii_lowercase();
    let (name, group) = match kind.split_once('.') {
        Some((name, group)) => (name, Some(group)),
        None => (kind.as_str(), None),
    };
    RESOURCES.iter().find(|resource| {
        let is_named =
            name == resource.plural || name == resource.singular || short(resource).contains(&name);
        // `v1.apps` names the version as well.
        let is_of = |group: &str, of: &str| {
            !of.is_empty()
                && group.strip_suffix(of).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        is_named && group.is_none_or(|group| is_of(group, resource.group) || is_of(group, GROUP))
    })
}

/// Returns a text for a message, cut.
fn in_short(text: &str) -> String {
    const MAX_SHOWN: usize = 100;
    text.chars().take(MAX_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Output;

    fn query(object: &str, name: Option<&str>) -> Query {
        Query {
            object: object.to_owned(),
            name: name.map(str::to_owned),
            namespace: None,
            all_namespaces: false,
            window: Duration::from_secs(30),
            selector: None,
            output: Output::Text,
            watch: false,
            interval: Duration::from_secs(10),
        }
    }

    #[test]
    fn kinds_are_read_as_kubectl_reads_them() {
        let known = [
            ("deploy", "deployments"),
            ("deployment", "deployments"),
            ("Deployments", "deployments"),
            ("deployment.apps", "deployments"),
            ("deployments.v1.apps", "deployments"),
            ("deployments.metrics.smi-spec.io", "deployments"),
            ("svc", "services"),
            ("ns", "namespaces"),
            ("no", "nodes"),
            ("po", "pods"),
            ("sts", "statefulsets"),
            ("ds", "daemonsets"),
            ("job", "jobs"),
            ("jobs.batch", "jobs"),
            ("rs", "replicasets"),
            ("rc", "replicationcontrollers"),
            ("ts", "trafficsplits"),
            ("split", "trafficsplits"),
            ("trafficsplit.split.smi-spec.io", "trafficsplits"),
        ];
        for (kind, plural) in known {
            assert_eq!(find(kind).map(|found| found.plural), Some(plural), "{kind}");
        }
        for kind in ["", "configmap", "deployments.batch", "deployments.xapps", "pods.", "deployments."] {
            assert_eq!(find(kind), None, "{kind}");
        }
        let error = Target::parse(&query("configmap", None), "shop").unwrap_err().to_string();
        assert!(error.starts_with("KIND is \"configmap\": expected one of daemonsets (ds), "), "{error}");
        assert!(error.contains(", jobs, ") && error.ends_with("trafficsplits (ts)"), "{error}");
    }

    #[test]
    fn objects_have_a_name_and_a_namespace() {
        let parse = |query: &Query| Target::parse(query, "shop").map(|target| target.wholes().path());
        let base = "/apis/metrics.smi-spec.io/v1alpha2";
        let all = |query: Query| Query { all_namespaces: true, ..query };
        let selected = |query: Query| Query { selector: Some("app=web".to_owned()), ..query };
        let of = |query: Query| Query { namespace: Some("front".to_owned()), ..query };
        let paths = [
            (query("deploy", None), "namespaces/shop/deployments"),
            (query("deploy/web", None), "namespaces/shop/deployments/web"),
            (query("deploy", Some("web")), "namespaces/shop/deployments/web"),
            (of(query("deploy", None)), "namespaces/front/deployments"),
            (all(query("deploy", None)), "deployments"),
            (query("ns", None), "namespaces"),
            (of(query("ns/shop", None)), "namespaces/shop"),
            (all(query("no/one.example.org", None)), "nodes/one.example.org"),
        ];
        for (query, path) in paths {
            assert_eq!(parse(&query), Ok(format!("{base}/{path}")));
        }
        let long = "a".repeat(1_000);
        let refused = [
            (query("deploy/web", Some("db")), "NAME is \"db\" after \"deploy/web\""),
            (query("deploy/web/db", None), "NAME is \"web/db\""),
            (query("deploy/", None), "NAME is \"\""),
            (query("deploy", Some("../x")), "NAME is \"../x\""),
            (query("deploy", Some("x?y")), "NAME is \"x?y\""),
            (query("deploy", Some(&long)), "NAME is \"aaa"),
            (Query { namespace: Some("..".to_owned()), ..query("po", None) }, "-n is \"..\""),
            (all(query("deploy/web", None)), "NAME is \"web\" with -A"),
            (selected(query("deploy/web", None)), "NAME is \"web\" with -l"),
        ];
        for (query, start) in refused {
            let error = parse(&query).unwrap_err().to_string();
            assert!(error.starts_with(start) && error.contains("expected") && error.len() < 300, "{error}");
        }
    }

    #[test]
    fn edges_are_those_of_one_object() {
        let target = Target::parse(&query("ns", None), "shop").unwrap();
        assert_eq!(
            target.part(Subresource::Edges, "", "web").path(),
            "/apis/metrics.smi-spec.io/v1alpha2/namespaces/web/edges"
        );
        assert_eq!(target.described(), "namespaces");
        let target = Target::parse(&query("po", None), "shop").unwrap();
        let path = "/apis/metrics.smi-spec.io/v1alpha2/namespaces/shop/pods/web/edges";
        assert_eq!(target.part(Subresource::Edges, "shop", "web").path(), path);
        assert_eq!(target.described(), "pods in the namespace shop");
    }
}
