//! Reads the route objects that others refer to: HTTPRouteGroups, TCPRoutes, UDPRoutes.
//!
//! A match with any error in it is kept by name and allows nothing: dropping only the bad condition would allow more
//! than its owner wrote. `target` decides which objects refer to a route object, and what that allows.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use smidge_crds::specs::{self, HttpRouteGroup, PortMatch};
use smidge_mesh::{
    access::Ports,
    matches::Matches,
    matches::{HttpMatch, PathEnd, PathRegex},
};

use super::{
    header::{self, Header},
    mixed, regex, unmatchable,
};
use crate::{
    context::Context,
    cost,
    finding::{Finding, ObjectRef, Reason, in_short},
    inputs::Key,
    node::Node,
    value::{Group, MeshWide, Part},
};

/// Maximum number of matches of a group that are found by their name alone, for a hint.
const NAMED: usize = 100;

/// A match with its cost.
type Meant = (u64, Arc<HttpMatch>);

impl Group {
    /// Builds a group of matches in order, `None` for one that allows nothing. Names need not be unique.
    fn new(key: &Key, written: Vec<(String, Option<Meant>)>) -> Self {
        let names = listed(&written);
        let (mut all, mut by_name) = (Vec::new(), BTreeMap::<String, Vec<_>>::new());
        for (name, meant) in written {
            all.extend(meant.clone());
            by_name.entry(name).or_default().extend(meant);
        }
        let whole = format!("{}/{}", key.0, key.1);
        let by_name = by_name.into_iter().map(|(name, list)| {
            let part = part(format!("{whole}/{name}"), list);
            (name, part)
        });
        Self { by_name: by_name.collect(), all: part(whole, all), names }
    }
}

fn part(name: String, list: Vec<Meant>) -> Part {
    let cost = list.iter().fold(0_u64, |sum, (cost, _)| sum.saturating_add(*cost));
    (Matches::new(name, list.into_iter().map(|(_, it)| it)), cost)
}

fn listed(named: &[(String, Option<Meant>)]) -> String {
    const SHOWN: usize = 20;
    let shown = named.iter().take(SHOWN).map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let shown = in_short(shown);
    if named.len() > SHOWN { format!("{shown} and {} more", named.len() - SHOWN) } else { shown }
}

/// The HTTPRouteGroup of that name.
pub(crate) fn group(key: &Key, context: &mut Context<'_>) -> Option<Group> {
    let object = context.object(|inputs| &inputs.http_route_groups)?;
    mixed::report(key, object, context);
    let settings = context.mesh_wide();
    let mut matches = read_matches(key, object, &settings, context.findings());
    let cost =
        matches.iter().flat_map(|(_, meant)| meant).fold(0_u64, |sum, (cost, _)| sum.saturating_add(*cost));
    if cost > settings.budgets.object {
        context.report(over_budget(key, cost, settings.budgets.object));
        for (_, meant) in &mut matches {
            *meant = None;
        }
    }
    for (name, _) in matches.iter().take(NAMED) {
        context.contribute_to(Node::GroupsWithMatch(key.0.clone(), name.clone()));
    }
    Some(Group::new(key, matches))
}

fn over_budget(key: &Key, cost: u64, budget: u64) -> Finding {
    let object = ObjectRef::new("HTTPRouteGroup", &key.0, &key.1);
    let message =
        format!("the matches cost {cost}, more than the budget of {budget}: the group allows nothing");
    Finding::new(object, Reason::BudgetExceeded, message)
        .at("spec.matches")
        .hint("write fewer or simpler matches, or raise spec.budgets.object of the MeshConfig called default")
}

/// The ports of the TCPRoute of that name.
pub(crate) fn tcp_route(key: &Key, context: &mut Context<'_>) -> Option<Ports> {
    let route = context.object(|inputs| &inputs.tcp_routes)?;
    mixed::report(key, route, context);
    Some(ports("TCPRoute", key, &route.spec.matches, context.findings()))
}

/// The ports of the UDPRoute of that name.
pub(crate) fn udp_route(key: &Key, context: &mut Context<'_>) -> Option<Ports> {
    let route = context.object(|inputs| &inputs.udp_routes)?;
    mixed::report(key, route, context);
    Some(ports("UDPRoute", key, &route.spec.matches, context.findings()))
}

/// Returns the matches of a group by name, `None` for one that allows nothing.
fn read_matches(
    key: &Key,
    group: &HttpRouteGroup,
    settings: &MeshWide,
    findings: &mut Vec<Finding>,
) -> Vec<(String, Option<Meant>)> {
    let object = ObjectRef::new("HTTPRouteGroup", &key.0, &key.1);
    if group.spec.matches.is_empty() {
        findings.push(
            Finding::new(object, Reason::Empty, "no match, so the group allows nothing").at("spec.matches"),
        );
        return Vec::new();
    }
    let (mut open_paths, mut part_headers) = (Vec::new(), Vec::new());
    let mut matches = Vec::new();
    for (index, written) in group.spec.matches.iter().enumerate() {
        let field = format!("spec.matches[{index}]");
        let mut reader =
            MatchReader { object: &object, field, settings, cost: 0, ends_alike: true, headers_whole: true };
        let read = reader.read(key, written, findings);
        if read.is_some() && !reader.ends_alike {
            open_paths.push(written.name.clone());
        }
        if read.is_some() && !reader.headers_whole {
            part_headers.push(written.name.clone());
        }
        let meant = read.map(|it| (cost::of_match(&it, reader.cost), Arc::new(it)));
        matches.push((written.name.clone(), meant));
    }
    if settings.path_end.is_none() && !open_paths.is_empty() {
        findings.push(path_end_unset(object.clone(), &open_paths));
    }
    if settings.header_match.is_none() && !part_headers.is_empty() {
        findings.push(header_match_unset(object, &part_headers));
    }
    matches
}

fn header_match_unset(object: ObjectRef, matches: &[String]) -> Finding {
    let message = format!(
        "headers of {} match values as a whole; meshes that search the value for the expression (Open Service Mesh) \
         allow more",
        in_short(matches.join(", "))
    );
    Finding::new(object, Reason::HeaderRegexMatchUnset, message)
        .at("spec.matches")
        .hint("set headerRegexMatch to full or partial in the MeshConfig called default")
}

fn path_end_unset(object: ObjectRef, matches: &[String]) -> Finding {
    let message = format!(
        "pathRegex of {} allows any path that begins so, as SMI specifies; meshes that match the whole path (Open \
         Service Mesh) read it narrower",
        matches.join(", ")
    );
    Finding::new(object, Reason::PathRegexEndUnset, message)
        .at("spec.matches")
        .hint("set pathRegexEnd to open or closed in the MeshConfig called default")
}

/// A condition that cannot be read. Its finding is already reported.
struct Defect;

/// Reads one match of a group.
struct MatchReader<'a> {
    object: &'a ObjectRef,
    field: String,
    settings: &'a MeshWide,
    /// Cost of its expressions.
    cost: u64,
    /// True if its path means the same with an open and with a closed end.
    ends_alike: bool,
    /// True if its headers mean the same for the whole value and for a part of it.
    headers_whole: bool,
}

impl MatchReader<'_> {
    fn read(
        &mut self,
        key: &Key,
        written: &specs::HttpMatch,
        findings: &mut Vec<Finding>,
    ) -> Option<HttpMatch> {
        let specs::HttpMatch { name, path_regex, methods, headers } = written;
        // Every condition is read, so that all errors are reported at once.
        let path = self.path(path_regex.as_deref(), findings);
        let methods = self.methods(methods.as_deref(), findings);
        let headers = self.headers(headers, findings);
        Some(HttpMatch {
            name: format!("{}/{}/{name}", key.0, key.1),
            path: path.ok()?,
            methods: methods.ok()?,
            headers: headers.ok()?,
        })
    }

    fn finding(&self, reason: Reason, field: &str, message: &str) -> Finding {
        Finding::new(self.object.clone(), reason, format!("{message}; the match allows nothing"))
            .at(format!("{}.{field}", self.field))
    }

    /// Returns the finding about an expression that no request matches, or none with a query as its author means it.
    fn unmatchable(&self, pattern: &str) -> Option<Finding> {
        if let Some((why, hint)) = unmatchable::path(pattern) {
            let message = format!("{pattern:?} {why}");
            return Some(self.finding(Reason::NeverMatches, "pathRegex", &message).hint(hint));
        }
        let message = format!(
            "{pattern:?} looks like a query, but ? makes the character before it optional, and the path of a request ends \
             before its query"
        );
        unmatchable::is_like_query(pattern).then(|| {
            Finding::new(self.object.clone(), Reason::NoEffect, message)
                .at(format!("{}.pathRegex", self.field))
                .hint("leave the query out: no match of SMI can depend on it")
        })
    }

    fn never_met(&self, field: &str) -> Finding {
        let message =
            "names with _ are refused by the destination's proxy with 400, as some servers read _ as -";
        self.finding(Reason::NoEffect, field, message).hint("name the header with - in place of _")
    }

    fn path(
        &mut self,
        pattern: Option<&str>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<PathRegex>, Defect> {
        let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) else {
            return Ok(None);
        };
        match regex::check(pattern) {
            Ok(accepted) => {
                self.cost += accepted.cost;
                self.ends_alike = accepted.ends_alike;
                findings.extend(self.unmatchable(pattern));
            }
            Err(error) => {
                let message = format!("{pattern:?} {error}");
                let finding = self.finding(Reason::InvalidRegex, "pathRegex", &message);
                findings.push(match pattern {
                    "*" | "/*" => finding.hint("for every path, write .* or leave pathRegex out"),
                    _ => finding,
                });
                return Err(Defect);
            }
        }
        let end = self.settings.path_end.unwrap_or(PathEnd::Open);
        Ok(Some(PathRegex { pattern: pattern.to_owned(), end }))
    }

    fn methods(
        &self,
        methods: Option<&[String]>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<BTreeSet<String>>, Defect> {
        let Some(methods) = methods else { return Ok(None) };
        if methods.is_empty() {
            findings.push(self.finding(Reason::Empty, "methods", "no method"));
            return Err(Defect);
        }
        let mut valid = true;
        for (index, method) in methods.iter().enumerate().filter(|(_, method)| !is_method(method)) {
            let field = format!("methods[{index}]");
            let message = format!("{method:?} is no HTTP method: expected * or a method in capitals");
            findings.push(self.finding(Reason::InvalidMethod, &field, message.as_ref()));
            valid = false;
        }
        if !valid {
            return Err(Defect);
        }
        let any = methods.iter().any(|method| method == "*");
        Ok((!any).then(|| methods.iter().cloned().collect()))
    }

    fn headers(
        &mut self,
        headers: &specs::Headers,
        findings: &mut Vec<Finding>,
    ) -> Result<BTreeMap<String, String>, Defect> {
        let entries = match headers.entries() {
            Ok(entries) => entries,
            Err(error) => {
                findings.push(self.finding(Reason::InvalidHeader, "headers", &error.to_string()));
                return Err(Defect);
            }
        };
        let mut read = Ok(BTreeMap::new());
        for (name, pattern) in entries {
            let field = format!("headers[{}]", name.escape_debug());
            match header::read(&name, &pattern, self.settings.header_match) {
                Ok(Header { name, pattern, cost, is_whole }) => {
                    self.cost += cost;
                    self.headers_whole &= is_whole;
                    if name.contains('_') {
                        findings.push(self.never_met(&field));
                    }
                    let twice = read
                        .as_mut()
                        .is_ok_and(|read: &mut BTreeMap<_, _>| read.insert(name, pattern).is_some());
                    if twice {
                        let message = "is named twice; one expression a header is served";
                        findings.push(self.finding(Reason::InvalidHeader, &field, message.as_ref()));
                        read = Err(Defect);
                    }
                }
                Err((reason, message)) => {
                    findings.push(self.finding(reason, &field, message.as_ref()));
                    read = Err(Defect);
                }
            }
        }
        read
    }
}

/// Returns true for `*`, or the token of a method. Methods are case-sensitive, and all that are registered are in
/// capitals.
fn is_method(method: &str) -> bool {
    let is_token = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    method == "*" || (!method.is_empty() && method.len() <= 32 && method.chars().all(is_token))
}

/// Returns the ports of a TCPRoute or UDPRoute: all if it names none. An invalid port is left out, and never widens the
/// rest.
fn ports(kind: &str, key: &Key, written: &PortMatch, findings: &mut Vec<Finding>) -> Ports {
    let written = &written.ports;
    if written.is_empty() {
        return Ports::All;
    }
    let object = ObjectRef::new(kind, &key.0, &key.1);
    let mut ports = BTreeSet::new();
    for (index, number) in written.iter().enumerate() {
        match number.as_i64().and_then(port) {
            Some(port) => {
                ports.insert(port);
            }
            None => findings.push(
                Finding::new(
                    object.clone(),
                    Reason::InvalidPort,
                    format!(
                        "{number} is no port: expected a whole number from 1 to 65535; it allows nothing"
                    ),
                )
                .at(format!("spec.matches.ports[{index}]")),
            ),
        }
    }
    Ports::Only(ports)
}

/// Returns the number as a port, if it is one.
pub(crate) fn port(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|port| *port != 0)
}
