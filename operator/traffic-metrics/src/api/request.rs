//! Reads the path of a request: what is asked for, about which objects.
//!
//! Pure. Follows the paths of API servers and the document of TrafficMetrics. Does not judge who asks.

use super::{
    GROUP, Version,
    access::{Access, is_name},
    query::{self, Parameters},
    resource::{self, Resource, STORED},
    status::Status,
    stored::{self, Stored},
};
use crate::traffic::{Kind, Question};

/// Maximum length of a path, in bytes: two names of 253, and the rest.
const MAX_PATH: usize = 1024;

/// A request that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The versions of the group.
    Group,
    /// The resources of a version.
    Resources(Version),
    /// The OpenAPI document, version 2.
    OpenApi2,
    /// The list of OpenAPI documents, version 3.
    OpenApi3,
    /// The OpenAPI document of a version of the group.
    OpenApi3Of(Version),
    /// Figures.
    Figures(Figures),
    /// Objects that can be written.
    Stored(Stored),
}

/// A request for figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Version of the answer.
    pub version: Version,
    /// The resource.
    pub resource: &'static Resource,
    /// The namespace of the objects; `None`: all, or they have none.
    pub namespace: Option<String>,
    /// The name in the path; `None`: a list.
    pub name: Option<String>,
    /// The part of the object that is asked for.
    pub subresource: Subresource,
    /// The parameters.
    pub parameters: Parameters,
}

/// Part of an object that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Subresource {
    /// The object as a whole.
    #[default]
    None,
    /// Its edges: one for each peer, direction and side.
    Edges,
    /// Its routes: the calls that it received, by the match that they met.
    Routes,
}

impl Subresource {
    /// Returns the word in a path and in a rule of RBAC; empty for the whole.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Edges => "edges",
            Self::Routes => "routes",
        }
    }

    /// Returns the subresource of a word.
    fn find(word: &str) -> Option<Self> {
        [Self::Edges, Self::Routes].into_iter().find(|it| it.as_str() == word)
    }
}

impl Figures {
    /// Returns true if changes are to be sent: of a list only.
    pub fn is_watch(&self) -> bool {
        self.name.is_none() && self.parameters.watch
    }

    /// Returns the name of the one object, from the path or a selector.
    pub fn object_name(&self) -> Option<&str> {
        self.name.as_deref().or(self.parameters.name.as_deref())
    }

    /// Returns the verb that the user needs.
    pub fn verb(&self) -> &'static str {
        match (&self.name, self.parameters.watch) {
            (Some(_), _) => "get",
            (None, true) => "watch",
            (None, false) => "list",
        }
    }

    /// Returns the namespace that the user's right must cover: that of a namespace is itself, as for API servers.
    pub fn authorized_namespace(&self) -> Option<&str> {
        match self.resource.kind {
            Kind::Namespace => self.name.as_deref(),
            _ => self.namespace.as_deref(),
        }
    }

    /// Returns what the user must have a right for.
    pub fn access(&self) -> Access<'_> {
        Access {
            version: self.version,
            plural: self.resource.plural,
            subresource: self.subresource.as_str(),
            verb: self.verb(),
            namespace: self.authorized_namespace(),
            name: self.object_name(),
        }
    }

    /// Returns the path that leads to these figures, without parameters.
    pub fn path(&self) -> String {
        let base = format!("/apis/{}", self.version.api_version());
        let scope = self.namespace.as_ref().map_or_else(String::new, |it| format!("/namespaces/{it}"));
        let object = self.name.as_ref().map_or_else(String::new, |it| format!("/{it}"));
        let subresource = self.subresource.as_str();
        let separator = if subresource.is_empty() { "" } else { "/" };
        format!("{base}{scope}/{}{object}{separator}{subresource}", self.resource.plural)
    }

    /// Returns the question to a source.
    pub fn question(&self) -> Question {
        Question {
            kind: self.resource.kind,
            namespace: self.namespace.clone(),
            name: self.object_name().map(str::to_owned),
            window: self.parameters.window,
        }
    }
}

/// Reads a request: its method, the path, and the parameters after `?`.
pub fn parse(method: &str, path: &str, query: &str) -> Result<Request, Status> {
    if path.len() > MAX_PATH {
        return Err(Status::no_such_path());
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let request = match parts.as_slice() {
        ["apis", GROUP] => Request::Group,
        ["openapi", "v2"] => Request::OpenApi2,
        ["openapi", "v3"] => Request::OpenApi3,
        ["openapi", "v3", "apis", GROUP, version] => Request::OpenApi3Of(find_version(version)?),
        ["apis", GROUP, version] => Request::Resources(find_version(version)?),
        ["apis", GROUP, version, STORED] => {
            return stored::read(method, find_version(version)?, (None, None), query).map(Request::Stored);
        }
        ["apis", GROUP, version, "namespaces", namespace, STORED, name @ ..] if name.len() <= 1 => {
            let at = (Some(*namespace), name.first().copied());
            return stored::read(method, find_version(version)?, at, query).map(Request::Stored);
        }
        ["apis", GROUP, version, rest @ ..] => Request::Figures(figures(find_version(version)?, rest)?),
        _ => return Err(Status::no_such_path()),
    };
    if !["GET", "HEAD"].contains(&method) {
        return Err(Status::method_not_allowed());
    }
    match request {
        Request::Figures(figures) => {
            Ok(Request::Figures(Figures { parameters: query::parse(query)?, ..figures }))
        }
        other => Ok(other),
    }
}

fn find_version(name: &str) -> Result<Version, Status> {
    Version::find(name).ok_or_else(Status::no_such_path)
}

/// Reads the path after the version.
fn figures(version: Version, parts: &[&str]) -> Result<Figures, Status> {
    let none = Subresource::None;
    let (plural, namespace, name, subresource) = match *parts {
        [plural] => (plural, None, None, none),
        [plural @ ("namespaces" | "nodes"), name] => (plural, None, Some(name), none),
        // A subresource comes before a resource of that name, of which there is none.
        [plural @ ("namespaces" | "nodes"), name, word] if let Some(it) = Subresource::find(word) => {
            (plural, None, Some(name), it)
        }
        ["namespaces", namespace, plural] => (plural, Some(namespace), None, none),
        ["namespaces", namespace, plural, name] => (plural, Some(namespace), Some(name), none),
        ["namespaces", namespace, plural, name, word] if let Some(it) = Subresource::find(word) => {
            (plural, Some(namespace), Some(name), it)
        }
        _ => return Err(Status::no_such_path()),
    };
    let resource = resource::find(plural).ok_or_else(Status::no_such_path)?;
    let is_scope_right = resource.namespaced || namespace.is_none();
    let has_it = subresource != Subresource::Routes || resource.has_routes();
    if !is_scope_right || !has_it || [namespace, name].into_iter().flatten().any(|name| !is_name(name)) {
        return Err(Status::no_such_path());
    }
    let [namespace, name] = [namespace, name].map(|name| name.map(str::to_owned));
    Ok(Figures { version, resource, namespace, name, subresource, parameters: Parameters::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/apis/metrics.smi-spec.io/v1alpha2";

    fn read(path: &str) -> Figures {
        match parse("GET", path, "") {
            Ok(Request::Figures(figures)) => figures,
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn every_path_of_the_document_is_read_and_written() {
        type Read = (&'static str, &'static str, Option<&'static str>, Option<&'static str>, Subresource);
        let (none, edges, routes) = (Subresource::None, Subresource::Edges, Subresource::Routes);
        let paths: [Read; 11] = [
            ("deployments", "deployments", None, None, none),
            ("namespaces", "namespaces", None, None, none),
            ("namespaces/shop", "namespaces", None, Some("shop"), none),
            ("namespaces/shop/edges", "namespaces", None, Some("shop"), edges),
            ("namespaces/shop/pods", "pods", Some("shop"), None, none),
            ("namespaces/shop/pods/web", "pods", Some("shop"), Some("web"), none),
            ("namespaces/shop/pods/web/edges", "pods", Some("shop"), Some("web"), edges),
            ("nodes/one.example.org", "nodes", None, Some("one.example.org"), none),
            ("namespaces/shop/routes", "namespaces", None, Some("shop"), routes),
            ("namespaces/shop/pods/web/routes", "pods", Some("shop"), Some("web"), routes),
            ("nodes/one/edges", "nodes", None, Some("one"), edges),
        ];
        for (path, plural, namespace, name, subresource) in paths {
            let path = format!("{BASE}/{path}");
            let figures = read(&path);
            let found = (figures.resource.plural, figures.namespace.as_deref(), figures.name.as_deref());
            assert_eq!((found, figures.subresource), ((plural, namespace, name), subresource), "{path}");
            assert_eq!(figures.path(), path);
        }
        assert_eq!(read(&format!("{BASE}/namespaces/shop")).authorized_namespace(), Some("shop"));
        assert_eq!(read(&format!("{BASE}/namespaces/edges")).object_name(), Some("edges"));
        assert_eq!(parse("GET", "/apis/metrics.smi-spec.io", ""), Ok(Request::Group));
        assert_eq!(parse("GET", &format!("{BASE}/"), ""), Ok(Request::Resources(Version::V1Alpha2)));
        assert_eq!(parse("GET", "/openapi/v2", ""), Ok(Request::OpenApi2));
        let document = "/openapi/v3/apis/metrics.smi-spec.io/v1alpha1";
        assert_eq!(parse("GET", document, ""), Ok(Request::OpenApi3Of(Version::V1Alpha1)));
    }

    #[test]
    fn verbs_are_those_of_api_servers() {
        let verb = |path: &str, query: &str| match parse("GET", &format!("{BASE}/{path}"), query) {
            Ok(Request::Figures(figures)) => figures.verb(),
            other => panic!("{other:?}"),
        };
        assert_eq!(verb("pods", ""), "list");
        assert_eq!(verb("pods", "watch=true"), "watch");
        assert_eq!(verb("namespaces/a", "watch=true"), "get");
        assert_eq!(verb("namespaces/a/pods/b/edges", ""), "get");
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        let long = format!("namespaces/{}/pods", "a".repeat(MAX_PATH));
        let paths = [
            "configmaps",
            "namespaces/a/edges/b",
            "namespaces/a/namespaces",
            "namespaces/a/nodes/b",
            "pods/a",
            "namespaces/a/pods/b/log",
            "namespaces/a/pods/b/edges/c",
            "namespaces/a/services/b/routes",
            "namespaces/a/trafficsplits/b/routes",
            "namespaces//pods",
            "namespaces/A/pods",
            "namespaces/../pods",
            "namespaces/a/pods/%2e",
            "watch/pods",
            &long,
        ];
        for path in paths {
            assert_eq!(parse("GET", &format!("{BASE}/{path}"), "").unwrap_err().code, 404, "{path}");
        }
        for path in [
            "",
            "/",
            "/apis",
            "/healthz",
            "/apis/metrics.smi-spec.io/v1",
            "/apis/metrics.k8s.io/v1alpha1/pods",
        ] {
            assert_eq!(parse("GET", path, "").unwrap_err().code, 404, "{path}");
        }
        for method in ["POST", "DELETE", "PATCH", "PUT", "OPTIONS"] {
            assert_eq!(parse(method, &format!("{BASE}/pods"), "").unwrap_err().code, 405, "{method}");
            assert_eq!(parse(method, &format!("{BASE}/configmaps"), "").unwrap_err().code, 404, "{method}");
        }
        assert_eq!(parse("GET", &format!("{BASE}/pods"), "t=1s").unwrap_err().code, 400);
    }
}
