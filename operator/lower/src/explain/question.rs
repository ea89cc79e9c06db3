//! Parses a query as a user types it; errors name what was expected.
//!
//! Checks only the form; `subject` looks the names up.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{
    request::{Path, Request, read_path},
    subject::{Callee, Caller},
};

/// A question as it was typed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Question {
    /// The caller.
    pub from: String,
    /// The destination of the call.
    pub to: String,
    /// The method of the request.
    pub method: Option<String>,
    /// Its path, perhaps with a query.
    pub path: Option<String>,
    /// Its headers, each `NAME=VALUE`.
    pub headers: Vec<String>,
    /// The port: of the Service, or of the workload if the question names one.
    pub port: Option<u16>,
}

/// The question as it was understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The caller, with its kind.
    pub from: String,
    /// The caller's SPIFFE id, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The destination, with its kind.
    pub to: String,
    /// The port; none for every port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The method; none for every method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The path as the proxies read it; none for every path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The headers that are set; others may have any value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// Reason for which a question cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A text that is not a name of the expected form.
    #[error("{field} {text:?} is invalid: expected {expected}")]
    Form {
        /// FROM or TO.
        field: &'static str,
        /// As typed.
        text: String,
        /// Forms that are accepted.
        expected: &'static str,
    },
    /// No object has this name.
    #[error("there is no {what} {name:?}{}", hint(near))]
    Unknown {
        /// Kind of object that was looked up.
        what: &'static str,
        /// The name.
        name: String,
        /// Names that exist, similar ones first.
        near: Vec<String>,
    },
    /// Several objects have this name, and the answer may differ.
    #[error("{name:?} may be {}; specify a pod or sa:NAMESPACE/NAME", candidates.join(" or "))]
    Ambiguous {
        /// The name.
        name: String,
        /// Objects that it may name.
        candidates: Vec<String>,
    },
    /// A port that does not exist.
    #[error("{what} has no port {port}{}", hint(ports))]
    Port {
        /// The object without this port.
        what: String,
        /// The port.
        port: u16,
        /// The ports that exist, in words.
        ports: Vec<String>,
    },
    /// The object has no port that can be called.
    #[error("{0} has no TCP port that the mesh knows of: no Service sends to it and it declares none")]
    NoPort(String),
    /// A part of the request that no request can have.
    #[error("--{option} {value:?} {problem}")]
    Request {
        /// The option.
        option: &'static str,
        /// As typed.
        value: String,
        /// The problem, and what was expected.
        problem: String,
    },
}

fn hint(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; there is {}", near.join(", ")) }
}

/// A name in a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub kind: SubjectKind,
    pub namespace: String,
    pub name: String,
}

/// Kind of object that a name in a question names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SubjectKind {
    /// A ServiceAccount.
    Account,
    /// A workload or a pod.
    Workload,
    /// A Service.
    Service,
    /// A Service or, if there is none, a workload.
    Any,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A question whose form is valid.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub from: Subject,
    pub to: Subject,
    pub port: Option<u16>,
    pub request: Request,
}

impl Question {
    pub(super) fn read(&self) -> Result<Read, QueryError> {
        let Self { from, to, method, path, headers, port } = self;
        let caller = "NAMESPACE/WORKLOAD or sa:NAMESPACE/NAME";
        let goal = "NAMESPACE/NAME of a Service or a workload, or sa:NAMESPACE/NAME";
        let from = party("FROM", from, caller)?;
        if from.kind == SubjectKind::Service {
            let text = self.from.clone();
            let expected = "a workload or a ServiceAccount, as Services make no calls";
            return Err(QueryError::Form { field: "FROM", text, expected });
        }
        if port == &Some(0) {
            return Err(senseless("port", "0", "is no port: expected 1 to 65535"));
        }
        let request = Request {
            method: method.as_deref().map(read_method).transpose()?,
            path: path.as_deref().map(check_path).transpose()?,
            headers: read_headers(headers)?,
        };
        Ok(Read { from, to: party("TO", to, goal)?, port: *port, request })
    }
}

impl Read {
    /// Returns the question in words that name the objects found.
    pub fn echo(&self, caller: &Caller, goal: &Callee<'_>) -> Asked {
        let Self { from: _, to: _, port, request } = self;
        Asked {
            from: caller.name.clone(),
            identity: caller.identity.as_ref().map(ToString::to_string),
            to: goal.name.clone(),
            port: *port,
            method: request.method.clone(),
            path: request.path.as_ref().map(|path| match path {
                Path::Read(read) => read.clone(),
                Path::RefusedAtDestination(_, why) | Path::Refused(why) => format!("refused: {why}"),
            }),
            headers: request.headers.clone(),
        }
    }
}

fn party(field: &'static str, text: &str, expected: &'static str) -> Result<Subject, QueryError> {
    let prefixes = [
        ("sa:", SubjectKind::Account),
        ("workload:", SubjectKind::Workload),
        ("service:", SubjectKind::Service),
    ];
    let found = prefixes.iter().find_map(|(prefix, kind)| Some((*kind, text.strip_prefix(prefix)?)));
    let (kind, rest) = found.unwrap_or((SubjectKind::Any, text));
    let parts = rest.split_once('/').filter(|(namespace, name)| {
        !namespace.is_empty() && !name.is_empty() && !namespace.contains(':') && !name.contains('/')
    });
    let Some((namespace, name)) = parts else {
        return Err(QueryError::Form { field, text: text.to_owned(), expected });
    };
    Ok(Subject { kind, namespace: namespace.to_owned(), name: name.to_owned() })
}

fn senseless(option: &'static str, value: &str, problem: impl Into<String>) -> QueryError {
    QueryError::Request { option, value: value.to_owned(), problem: problem.into() }
}

fn read_method(method: &str) -> Result<String, QueryError> {
    let is_method = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if !method.is_empty() && method.len() <= 32 && method.chars().all(is_method) {
        return Ok(method.to_owned());
    }
    Err(senseless("method", method, "is no HTTP method: expected one in capitals, such as GET"))
}

fn check_path(path: &str) -> Result<Path, QueryError> {
    if path != "*" && !path.starts_with('/') {
        return Err(senseless("path", path, "is no path: expected one that begins with /"));
    }
    if path.chars().any(|c| c.is_control() || c == ' ') {
        return Err(senseless("path", path, "is no path: expected no blank and no control character"));
    }
    Ok(read_path(path))
}

/// Reads headers. To the proxies, several values of one header are one value, joined by commas.
fn read_headers(written: &[String]) -> Result<BTreeMap<String, String>, QueryError> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    for text in written {
        let Some((name, value)) = text.split_once('=') else {
            return Err(senseless("header", text, "is no header: expected NAME=VALUE"));
        };
        let lower = name.to_ascii_lowercase();
        let wire = match lower.as_str() {
            "host" | ":authority" => ":authority".to_owned(),
            _ if !lower.is_empty() && lower.chars().all(is_token) => lower,
            _ => return Err(senseless("header", text, "is no header: expected NAME=VALUE")),
        };
        if value.chars().any(|c| !matches!(c, ' '..='~')) {
            return Err(senseless("header", text, "is no header: expected printable ASCII as its value"));
        }
        headers
            .entry(wire)
            .and_modify(|all| {
                all.push(',');
                all.push_str(value.trim());
            })
            .or_insert_with(|| value.trim().to_owned());
    }
    Ok(headers)
}
