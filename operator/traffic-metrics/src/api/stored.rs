//! Reads requests for the resource `trafficmetrics`, whose objects can be written: each is a MetricsPolicy of the same
//! namespace and name, shown as a TrafficMetrics.
//!
//! Pure. Used by `request`; the server sends what `policy` and `patch` make of a body to the API server, and writes the
//! answers of `answer`. A TrafficMetrics that exists has its object measured by route; no other field of it is a setting.

pub mod answer;
mod call;
pub mod patch;
pub mod policy;
pub mod refusal;

use super::{
    Version,
    access::is_name,
    query::{self, Parameters},
    status::Status,
};

/// Maximum length of the name of a field manager, as API servers have it.
const MAX_MANAGER: usize = 128;

pub use self::call::{Action, MAX_BODY, Options, Stored, Validation};

/// Reads a request for objects at this namespace and name.
pub(super) fn read(
    method: &str,
    version: Version,
    (namespace, name): (Option<&str>, Option<&str>),
    query: &str,
) -> Result<Stored, Status> {
    if [namespace, name].into_iter().flatten().any(|name| !is_name(name)) {
        return Err(Status::no_such_path());
    }
    let action = match (method, namespace, name) {
        ("GET" | "HEAD", ..) => Action::Read,
        ("POST", Some(_), None) => Action::Create,
        ("PUT", _, Some(_)) => Action::Update,
        ("PATCH", _, Some(_)) => Action::Patch,
        ("DELETE", _, Some(_)) => Action::Delete,
        (_, _, Some(_)) => {
            return Err(Status::not_allowed_on_stored("GET, PUT, PATCH or DELETE of an object"));
        }
        (_, Some(_), None) => {
            return Err(Status::not_allowed_on_stored("GET or POST of a namespace's objects"));
        }
        (_, None, None) => return Err(Status::not_allowed_on_stored("GET of all namespaces' objects")),
    };
    let [namespace, name] = [namespace, name].map(|name| name.map(str::to_owned));
    let mut stored = Stored {
        version,
        namespace,
        name,
        action,
        parameters: Parameters::default(),
        options: Options::default(),
    };
    if action == Action::Read {
        stored.parameters = query::parse(query)?;
        if stored.parameters.watch && stored.name.is_none() {
            return Err(Status::not_allowed_on_stored(
                "GET without watch (hint: watch metricspolicies.smidge.mesh, of which the objects are made)",
            ));
        }
    } else {
        stored.options = options(query)?;
    }
    Ok(stored)
}

/// Reads the parameters of a write.
fn options(query: &str) -> Result<Options, Status> {
    let mut options = Options::default();
    for (key, value) in query::pairs(query)? {
        match (key.as_str(), value.as_str()) {
            ("dryRun", "") => {}
            ("dryRun", "All") => options.dry_run = true,
            ("dryRun", _) => return Err(query::invalid(&key, &value, "All")),
            ("fieldManager", _) if value.len() > MAX_MANAGER => {
                return Err(query::invalid(&key, &value, "at most 128 bytes"));
            }
            ("fieldManager", _) => options.manager = value,
            ("force", _) => options.force = query::is_true(&value),
            ("fieldValidation", "Ignore") => options.validation = Validation::Ignore,
            ("fieldValidation", "Warn" | "") => options.validation = Validation::Warn,
            ("fieldValidation", "Strict") => options.validation = Validation::Strict,
            ("fieldValidation", _) => return Err(query::invalid(&key, &value, "Ignore, Warn or Strict")),
            _ => {}
        }
    }
    Ok(options)
}
