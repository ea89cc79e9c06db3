//! Evaluates a request of one caller at one port of one destination: the grants that allow it, and the reasons for
//! which the others do not.
//!
//! A separate evaluator on the mesh model; the configuration of the proxies is not consulted. Does not know how the
//! request got there, nor the effect of an access mode on the verdict.

use std::{collections::BTreeSet, sync::Arc};

use serde::Serialize;
use smidge_mesh::{
    access::{Grant, Payload, Ports},
    id::SpiffeId,
    matches::HttpMatch,
    matches::Matches,
    service::Protocol,
};

use super::{
    Verdict,
    request::{Fit, Request, fit},
};

/// Maximum number of matches that are listed as not fitting for one target.
const MAX_REPORTED: usize = 5;

/// A TrafficTarget that allows the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Allowance {
    /// The TrafficTarget, `namespace/name`.
    pub target: String,
    /// The matches that accept the request, `namespace/group/match`; empty if it accepts any payload.
    pub matches: Vec<String>,
    /// Conditions on the request, any one of which is enough; empty if the target allows all that the question covers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only_if: Vec<String>,
}

/// A TrafficTarget that names both sides and does not allow the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Considered {
    /// The TrafficTarget, `namespace/name`.
    pub target: String,
    /// Reasons for which it does not allow the request.
    pub why: Vec<String>,
    /// Group to which one more match would have to be added, `namespace/group`.
    #[serde(skip)]
    pub lacks_match_in: Option<String>,
    /// True if it allows HTTP only, and the port is not read as HTTP.
    #[serde(skip)]
    pub lacks_http: bool,
}

/// Decision of the grants of a destination about a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ruling {
    pub allowed_by: Vec<Allowance>,
    pub considered: Vec<Considered>,
    /// Number of grants for other callers only.
    pub for_others: usize,
    /// Name of one of these that would allow the request, if it named the caller.
    pub would_take: Option<String>,
}

impl Ruling {
    pub fn verdict(&self) -> Verdict {
        if self.allowed_by.iter().any(|by| by.only_if.is_empty()) {
            Verdict::Allowed
        } else if self.allowed_by.is_empty() {
            Verdict::Denied
        } else {
            Verdict::Partial
        }
    }
}

/// Evaluates the grants for a request from `caller` to `port`.
pub(super) fn judge(
    grants: &[Arc<Grant>],
    caller: &SpiffeId,
    port: u16,
    protocol: Protocol,
    request: &Request,
) -> Ruling {
    let mut ruling = Ruling::default();
    for grant in grants {
        let read = read(grant, port, protocol, request);
        match (grant.sources.contains(caller), read) {
            (true, Ok(allowance)) => ruling.allowed_by.push(allowance),
            (true, Err(considered)) => ruling.considered.push(considered),
            (false, read) => {
                ruling.for_others += 1;
                let takes = read.is_ok_and(|allowance| allowance.only_if.is_empty());
                if takes && ruling.would_take.is_none() {
                    ruling.would_take = Some(grant.origin.name.to_string());
                }
            }
        }
    }
    ruling
}

/// Evaluates whether a match accepts the request on a connection that may hold other bytes than HTTP.
fn fit_connection(protocol: Protocol, it: &HttpMatch, request: &Request) -> (Fit, Vec<String>) {
    match fit(it, request) {
        (Fit::Always, _) if protocol == Protocol::Detect && request.is_bare() => {
            (Fit::Sometimes, vec!["the connection carries HTTP".to_owned()])
        }
        other => other,
    }
}

/// Evaluates one grant for a request from one of its sources.
fn read(grant: &Grant, port: u16, protocol: Protocol, request: &Request) -> Result<Allowance, Considered> {
    let Grant { origin, sources: _, ports, payload } = grant;
    let name = &*origin.name;
    let refuse = |why: Vec<String>, lacks_match_in: Option<String>| {
        Err(Considered { target: name.to_owned(), why, lacks_match_in, lacks_http: false })
    };
    if let Ports::Only(ports) = ports
        && !ports.contains(&port)
    {
        let listed = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return refuse(vec![format!("it allows port {listed}, not {port}")], None);
    }
    let matches = match payload {
        Payload::Any => return Ok(Allowance { target: name.to_owned(), matches: vec![], only_if: vec![] }),
        Payload::Http(_) if protocol == Protocol::Tcp => {
            let why = format!("it allows only HTTP, and port {port} is not read as HTTP");
            let target = name.to_owned();
            return Err(Considered { target, why: vec![why], lacks_match_in: None, lacks_http: true });
        }
        Payload::Http(matches) => matches,
    };
    let mut taken: Vec<(Fit, String, String)> = Vec::new();
    let mut refused = Vec::new();
    // A match that is named both by itself and with its group counts once.
    let matches: BTreeSet<&Arc<HttpMatch>> = matches.iter().flat_map(Matches::iter).collect();
    for it in &matches {
        match fit_connection(protocol, it, request) {
            (Fit::Never, why) => refused.push(format!("match {}: {}", it.name, why.join("; "))),
            (fit, conditions) => taken.push((fit, it.name.clone(), conditions.join(", and "))),
        }
    }
    let Some(best) = taken.iter().map(|(fit, ..)| *fit).min() else {
        if refused.len() > MAX_REPORTED {
            let more = refused.len() - MAX_REPORTED;
            refused.truncate(MAX_REPORTED);
            refused.push(format!("and {more} more matches that do not fit"));
        }
        let group =
            matches.first().and_then(|it| it.name.rsplit_once('/')).map(|(group, _)| group.to_owned());
        return refuse(refused, group);
    };
    taken.retain(|(fit, ..)| *fit == best);
    let only_if =
        if best == Fit::Always { vec![] } else { taken.iter().map(|taken| taken.2.clone()).collect() };
    Ok(Allowance {
        target: name.to_owned(),
        matches: taken.into_iter().map(|taken| taken.1).collect(),
        only_if,
    })
}
