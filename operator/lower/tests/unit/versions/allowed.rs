//! Calls that a mesh allows, of a fixed set of calls that distinguishes everything that the test objects distinguish.

use std::collections::{BTreeMap, BTreeSet};

use smidge_lower::explain::request::{Fit, Request, fit, read_path};
use smidge_mesh::{
    Mesh,
    access::{Grant, Payload},
    matches::Matches,
};

/// Destination, source, port, and the request; none for TCP other than HTTP.
pub type Call = (String, String, u16, Option<usize>);

fn requests() -> Vec<Request> {
    let mut all = Vec::new();
    for method in ["GET", "POST", "PUT"] {
        for path in ["/", "/a", "/a/b", "/b", "/added"] {
            for (a, b, host) in [("", "", "api"), ("1", "", "api"), ("1", "2", "other"), ("", "22", "api")] {
                let headers = [("x-a", a), ("x-b", b), (":authority", host)];
                let headers: BTreeMap<String, String> =
                    headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
                all.push(Request { method: Some(method.to_owned()), path: Some(read_path(path)), headers });
            }
        }
    }
    all
}

fn passes(grant: &Grant, request: Option<&Request>) -> bool {
    match (&grant.payload, request) {
        (Payload::Any, _) => true,
        (Payload::Http(_), None) => false,
        (Payload::Http(matches), Some(request)) => {
            matches.iter().flat_map(Matches::iter).any(|one| fit(one, request).0 == Fit::Always)
        }
    }
}

/// Returns the calls that are allowed.
pub fn calls(mesh: &Mesh) -> BTreeSet<Call> {
    let requests = requests();
    let all = || requests.iter().enumerate().map(|(index, it)| (Some(index), Some(it))).chain([(None, None)]);
    let mut allowed = BTreeSet::new();
    for (destination, grants) in &mesh.grants {
        for grant in grants.iter() {
            for (index, _) in all().filter(|(_, request)| passes(grant, *request)) {
                for port in [8080, 9000, 9090, 7].into_iter().filter(|port| grant.ports.contains(*port)) {
                    let call =
                        |source: &dyn ToString| (destination.to_string(), source.to_string(), port, index);
                    allowed.extend(grant.sources.iter().map(|source| call(source)));
                }
            }
        }
    }
    allowed
}

/// Returns the pairs of destination and source of which any call is allowed.
pub fn pairs(calls: &BTreeSet<Call>) -> BTreeSet<(&str, &str)> {
    calls.iter().map(|(destination, source, ..)| (destination.as_str(), source.as_str())).collect()
}
