//! Verdicts on access, straight from the rulings (design §6, `docs/smi.md`), read from the objects as users write them.
//!
//! The other side of the proof: independent of `lower`, of the mesh model and of Envoy. Where the rulings define that
//! something allows nothing, it allows nothing here; this file does not report the reason.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::differential::{path, pattern::Pattern, subjects::accounts};

/// Namespace and name of a ServiceAccount.
pub type Account = (String, String);

/// Outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// The workload receives it.
    Allowed,
    /// The workload receives it, and the proxy reports that enforcement would have denied it.
    Audited,
    /// Status 403.
    Denied,
    /// Status 400.
    Refused,
    /// The connection ends without an answer.
    Closed,
}

/// A call to a port of a workload.
#[derive(Debug, Clone)]
pub struct Request {
    /// The caller; `None` if it calls in plaintext.
    pub from: Option<Account>,
    pub to: Account,
    pub port: u16,
    pub says: Says,
}

#[derive(Debug, Clone)]
pub enum Says {
    /// Bytes, to a TCP port.
    Bytes(&'static str),
    Http(Http),
}

#[derive(Debug, Clone)]
pub struct Http {
    /// True if over HTTP/2.
    pub is_h2: bool,
    pub method: String,
    /// Path and query as sent.
    pub target: String,
    pub host: String,
    /// Header lines in their order; a name may repeat.
    pub headers: Vec<(String, String)>,
}

/// The objects of a generated cluster.
#[derive(Clone, Copy)]
pub struct Smi<'a>(pub &'a [Value]);

/// A field as text; absent or of another kind is empty.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A list; absent is empty.
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

impl<'a> Smi<'a> {
    pub fn of_kind(self, kind: &str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |it| text(it, "/kind") == kind)
    }

    pub fn find(self, kind: &str, namespace: &str, name: &str) -> Option<&'a Value> {
        let is_it =
            |it: &&Value| text(it, "/metadata/namespace") == namespace && text(it, "/metadata/name") == name;
        self.of_kind(kind).find(is_it)
    }

    pub fn verdict(self, request: &Request) -> Verdict {
        if request.from.is_none() && self.word(request, "mtls") != "permissive" {
            return Verdict::Closed;
        }
        if let Says::Http(http) = &request.says
            && path::normal(&http.target).is_none()
        {
            return Verdict::Refused;
        }
        // An unknown mode enforces.
        match (self.word(request, "access"), self.enforced(request)) {
            ("permissive", _) | ("audit", Verdict::Allowed) => Verdict::Allowed,
            ("audit", _) => Verdict::Audited,
            (_, enforced) => enforced,
        }
    }

    /// Returns the outcome of a request where access is enforced.
    fn enforced(self, request: &Request) -> Verdict {
        let mut admitting = self.of_kind("TrafficTarget").filter(|target| {
            let from = request.from.as_ref();
            from.is_some_and(|from| self.admits(target, from, request))
        });
        let (is_allowed, otherwise) = match &request.says {
            Says::Bytes(_) => (admitting.any(allows_bytes), Verdict::Closed),
            Says::Http(http) => {
                let path = path::normal(&http.target).map(|(path, _)| path).unwrap_or_default();
                let allows = |target| {
                    allows_bytes(target) || self.matches(target).any(|it| self.is_met(it, &path, http))
                };
                (admitting.any(allows), Verdict::Denied)
            }
        };
        if is_allowed { Verdict::Allowed } else { otherwise }
    }

    /// Returns the mode of the called namespace: its label, else the mesh's, else empty.
    fn word(self, request: &Request, of: &str) -> &'a str {
        let label = self
            .find("Namespace", "", &request.to.0)
            .and_then(|it| it.pointer(&format!("/metadata/labels/smidge.mesh~1{of}")));
        let config = self.find("MeshConfig", "", "default");
        label
            .or(config.and_then(|it| it.pointer(&format!("/spec/{of}/mode"))))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Returns true if a target is about this destination, this caller and this port, and has rules of known kinds
    /// only.
    fn admits(self, target: &Value, from: &Account, request: &Request) -> bool {
        let own = text(target, "/metadata/namespace");
        let spec = &target["spec"];
        let is_to = accounts(self, &spec["destination"], own, false).contains(&request.to);
        let is_from = list(spec, "/sources").iter().any(|it| accounts(self, it, own, true).contains(from));
        let kinds = ["HTTPRouteGroup", "TCPRoute", "UDPRoute"];
        let rules = list(target, "/spec/rules");
        is_to
            && is_from
            && rules.iter().all(|rule| kinds.contains(&text(rule, "/kind")))
            && self.opens(target, request.port)
            && is_port(&spec["destination"], request.port)
    }

    /// Returns true if a port is among those of the target's TCPRoutes; without one, every port is.
    fn opens(self, target: &Value, port: u16) -> bool {
        let mut tcp = rules(target, "TCPRoute").peekable();
        tcp.peek().is_none()
            || tcp.any(|rule| {
                let route = self.find("TCPRoute", text(target, "/metadata/namespace"), text(rule, "/name"));
                route.is_some_and(|route| {
                    let ports = list(route, "/spec/matches/ports");
                    ports.is_empty() || ports.iter().any(|it| it.as_f64() == Some(f64::from(port)))
                })
            })
    }

    /// Returns the matches that a target's rules select from their groups.
    pub fn matches(self, target: &'a Value) -> impl Iterator<Item = &'a Value> {
        rules(target, "HTTPRouteGroup").flat_map(move |rule| {
            let group = self.find("HTTPRouteGroup", text(target, "/metadata/namespace"), text(rule, "/name"));
            let all = group.map_or(&[][..], |group| list(group, "/spec/matches"));
            let is_named = move |it: &&Value| {
                rule.get("matches").and_then(Value::as_array).is_none_or(|names| names.contains(&it["name"]))
            };
            all.iter().filter(is_named)
        })
    }

    /// Returns true if a request meets every condition of a match. No request meets one that is invalid.
    pub fn is_met(self, it: &Value, path: &str, http: &Http) -> bool {
        self.path_is(it, path) == Some(true)
            && method_is(it, &http.method) == Some(true)
            && headers_are(it, http) == Some(true)
    }

    fn path_is(self, it: &Value, path: &str) -> Option<bool> {
        let written = text(it, "/pathRegex");
        if written.is_empty() {
            return Some(true);
        }
        let pattern = Pattern::read(written)?;
        let config = self.find("MeshConfig", "", "default");
        // An unknown word counts as the stricter one.
        let is_open = config.and_then(|it| it.pointer("/spec/pathRegexEnd")).is_none_or(|end| end == "open");
        Some(if is_open { pattern.begins(path) } else { pattern.covers(path) })
    }
}

fn rules<'a>(target: &'a Value, kind: &str) -> impl Iterator<Item = &'a Value> {
    list(target, "/spec/rules").iter().filter(move |rule| text(rule, "/kind") == kind)
}

fn allows_bytes(target: &Value) -> bool {
    rules(target, "HTTPRouteGroup").next().is_none() && rules(target, "TCPRoute").next().is_some()
}

/// Returns true if a destination names this port, or none.
fn is_port(destination: &Value, port: u16) -> bool {
    match destination.get("port") {
        None => true,
        Some(Value::String(written)) => written.parse() == Ok(port),
        Some(written) => written.as_f64() == Some(f64::from(port)),
    }
}

fn method_is(it: &Value, method: &str) -> Option<bool> {
    let Some(methods) = it.get("methods").and_then(Value::as_array) else { return Some(true) };
    let methods: Vec<&str> = methods.iter().map(|it| it.as_str().unwrap_or_default()).collect();
    let is_known = |it: &&str| *it == "*" || (!it.is_empty() && it.bytes().all(|c| c.is_ascii_uppercase()));
    (!methods.is_empty() && methods.iter().all(is_known))
        .then(|| methods.iter().any(|it| *it == "*" || *it == method))
}

/// Returns the header conditions of a match: name and expression, in either of the two shapes.
pub fn headers(it: &Value) -> Vec<(String, String)> {
    let pairs = |map: &Value| -> Vec<(String, String)> {
        let map = map.as_object().into_iter().flatten();
        map.map(|(name, value)| (name.to_ascii_lowercase(), value.as_str().unwrap_or_default().to_owned()))
            .collect()
    };
    match it.get("headers") {
        Some(Value::Array(maps)) => maps.iter().flat_map(pairs).collect(),
        Some(map) => pairs(map),
        None => Vec::new(),
    }
}

fn headers_are(it: &Value, http: &Http) -> Option<bool> {
    let mut are_met = true;
    let mut seen = BTreeSet::new();
    for (name, written) in headers(it) {
        let pattern = Pattern::read(&written)?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let is_host = name == "host" || name == ":authority";
        if !(is_host || (!name.is_empty() && name.chars().all(is_name))) {
            return None;
        }
        if !seen.insert(if is_host { "host".to_owned() } else { name.clone() }) {
            return None;
        }
        let value = if is_host { Some(http.host.clone()) } else { value(http, &name) };
        are_met &= value.is_some_and(|value| pattern.covers(&value));
    }
    Some(are_met)
}

/// Returns the value of a header: its lines, joined as RFC 9110 defines.
fn value(http: &Http, name: &str) -> Option<String> {
    let of_name = http.headers.iter().filter(|(its, _)| its.eq_ignore_ascii_case(name));
    let values: Vec<&str> = of_name.map(|(_, value)| value.trim()).collect();
    (!values.is_empty()).then(|| values.join(","))
}
