//! Builds the smallest objects that would allow what is not allowed, as YAML that can be applied unchanged.
//!
//! New objects only, in the destination's namespace, under names that are not in use: an existing object may belong to
//! another owner. Where a change of an existing object would do, it is described in words. Decides nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::Serialize;
use serde_json::{Map, Value, json};
use smidge_crds::{
    Kind as _,
    access::TrafficTargetSpec,
    specs::{HttpRouteGroupSpec, TcpRouteSpec},
};
use smidge_mesh::id::SpiffeId;

use super::{
    Destination, Share, Verdict,
    question::Read,
    request::{Path, Request},
    subject::Caller,
};
use crate::{
    inputs::{Inputs, Key},
    smi::regex,
};

/// Suggestion of objects that would allow the call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// The objects to add, as YAML.
    pub yaml: String,
    /// Changes of existing objects that would have the same effect, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub instead: Vec<String>,
}

/// Ports that need the same objects, by identity and by whether these include HTTP matches.
type Wanted = BTreeMap<(SpiffeId, bool), BTreeSet<u16>>;

/// Returns a suggestion that would allow all of the question. Adds to `notes` where no TrafficTarget could.
pub(super) fn suggest(
    inputs: &Inputs,
    caller: &Caller,
    (verdict, shares): (Verdict, &[Share]),
    asked: &Read,
    notes: &mut Vec<String>,
) -> Option<Suggestion> {
    let counted = || shares.iter().filter(|share| share.counts);
    let is_hopeless = |it: &&Destination| it.because.is_some() || !it.has_identity;
    let is_stuck = |it: &Destination| is_hopeless(&it) && it.verdict != Verdict::Allowed;
    let none_or_stuck = |share: &Share| {
        let is_sent = share.weight > 0 && !share.destinations.is_empty();
        share.verdict != Verdict::Allowed && (!is_sent || share.destinations.iter().any(is_stuck))
    };
    if verdict != Verdict::Allowed && (counted().next().is_none() || counted().any(none_or_stuck)) {
        notes.push("no TrafficTarget can allow all of this".to_owned());
    }
    let missing: Vec<&Destination> = counted()
        .flat_map(|share| &share.destinations)
        .filter(|it| it.policy != Verdict::Allowed && it.mode != "permissive" && !is_hopeless(it))
        .collect();
    let source = caller.identity.as_ref()?;
    let mut wanted = Wanted::new();
    for it in &missing {
        let is_http = it.protocol != "tcp" && !asked.request.is_bare();
        wanted.entry((it.id.clone(), is_http)).or_default().insert(it.port);
    }
    let mut taken = BTreeSet::new();
    let documents: Vec<Value> = wanted
        .iter()
        .flat_map(|((destination, is_http), ports)| {
            let request = is_http.then_some(&asked.request);
            objects(inputs, source, destination, ports, request, &mut taken)
        })
        .collect();
    if documents.is_empty() {
        return None;
    }
    let mut yaml = String::new();
    for document in &documents {
        let text = serde_saphyr::to_string(document).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(
            yaml,
            "---
{}
",
            text.trim_end()
        );
    }
    let mut instead: Vec<String> =
        missing.iter().flat_map(|it| changes(inputs, source, it, &asked.request)).collect();
    instead.sort();
    instead.dedup();
    Some(Suggestion { yaml, instead })
}

/// Builds a TrafficTarget with the routes that it needs.
fn objects(
    inputs: &Inputs,
    source: &SpiffeId,
    destination: &SpiffeId,
    ports: &BTreeSet<u16>,
    request: Option<&Request>,
    taken: &mut BTreeSet<Key>,
) -> Vec<Value> {
    let name = free_name(inputs, source, destination, taken);
    let metadata = json!({"name": name, "namespace": destination.namespace});
    let mut rules = vec![json!({"kind": TcpRouteSpec::KIND, "name": name})];
    let mut documents = vec![json!({
        "apiVersion": format!("{}/{}", TcpRouteSpec::GROUP, TcpRouteSpec::VERSION),
        "kind": TcpRouteSpec::KIND,
        "metadata": metadata,
        "spec": {"matches": {"ports": ports}},
    })];
    if let Some(request) = request {
        rules.insert(0, json!({"kind": HttpRouteGroupSpec::KIND, "name": name}));
        documents.push(json!({
            "apiVersion": format!("{}/{}", HttpRouteGroupSpec::GROUP, HttpRouteGroupSpec::VERSION),
            "kind": HttpRouteGroupSpec::KIND,
            "metadata": metadata,
            "spec": {"matches": [http_match(request)]},
        }));
    }
    documents.push(json!({
        "apiVersion": format!("{}/{}", TrafficTargetSpec::GROUP, TrafficTargetSpec::VERSION),
        "kind": TrafficTargetSpec::KIND,
        "metadata": metadata,
        "spec": {
            "destination": subject(destination),
            "sources": [subject(source)],
            "rules": rules,
        },
    }));
    documents
}

fn subject(identity: &SpiffeId) -> Value {
    let SpiffeId { trust_domain: _, namespace, service_account } = identity;
    json!({"kind": "ServiceAccount", "name": service_account, "namespace": namespace})
}

/// Builds the narrowest match that accepts the request. A value that no accepted expression can match is left out, as a
/// match that accepts less than the question would not allow it.
fn http_match(request: &Request) -> Value {
    let Request { method, path, headers } = request;
    let mut it = Map::from_iter([("name".to_owned(), json!("asked"))]);
    if let Some(method) = method {
        it.insert("methods".to_owned(), json!([method]));
    }
    if let Some(Path::Read(path)) = path {
        // Exact with an open and with a closed end.
        let pattern = format!("{}$", escape(path));
        if regex::check(&pattern).is_ok() {
            it.insert("pathRegex".to_owned(), json!(pattern));
        }
    }
    let headers: Vec<Value> = headers
        .iter()
        // The whole value with either setting of headerRegexMatch.
        .map(|(name, value)| {
            (if name == ":authority" { "host" } else { name }, format!("^{}$", escape(value)))
        })
        .filter(|(_, pattern)| regex::check(pattern).is_ok())
        .map(|(name, pattern)| json!({name: pattern}))
        .collect();
    if !headers.is_empty() {
        it.insert("headers".to_owned(), json!(headers));
    }
    Value::Object(it)
}

/// Returns the expression that matches exactly this text. Only what RE2 reads as syntax is escaped: the rest stays
/// readable.
fn escape(text: &str) -> String {
    let mut pattern = String::new();
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Returns a name that no object of the kinds concerned has in the destination's namespace.
fn free_name(
    inputs: &Inputs,
    source: &SpiffeId,
    destination: &SpiffeId,
    taken: &mut BTreeSet<Key>,
) -> String {
    let written = format!("{}-to-{}", source.service_account, destination.service_account);
    let plain = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' { c } else { '-' };
    let base: String = written.chars().map(plain).take(200).collect();
    let base = base.trim_matches(['-', '.']);
    let mut number = 1_u32;
    loop {
        let name = if number == 1 { base.to_owned() } else { format!("{base}-{number}") };
        let key = (destination.namespace.clone(), name.clone());
        let is_free = !inputs.traffic_targets.contains_key(&key)
            && !inputs.http_route_groups.contains_key(&key)
            && !inputs.tcp_routes.contains_key(&key)
            && taken.insert(key);
        if is_free {
            return name;
        }
        number += 1;
    }
}

/// Lists the changes of existing objects that would allow a request to a destination.
fn changes(inputs: &Inputs, source: &SpiffeId, it: &Destination, request: &Request) -> Vec<String> {
    let mut changes = Vec::new();
    for considered in &it.considered {
        let Some(group) = &considered.lacks_match_in else { continue };
        let asked = serde_json::to_string(&http_match(request)).unwrap_or_default();
        let names = if names_matches(inputs, &considered.target, group) {
            format!(", and its name to the rule of TrafficTarget {}", considered.target)
        } else {
            String::new()
        };
        changes.push(format!(
            "TrafficTarget {} would do with one more match: add {asked} to HTTPRouteGroup {group}{names}",
            considered.target
        ));
    }
    if let Some(target) = &it.would_take {
        let SpiffeId { trust_domain: _, namespace, service_account } = source;
        changes.push(format!(
            "TrafficTarget {target} would do with one more source: ServiceAccount {service_account} in namespace \
             {namespace} (which then may do all that it allows)"
        ));
    }
    changes
}

/// Returns true if a target accepts only some matches of a group.
fn names_matches(inputs: &Inputs, target: &str, group: &str) -> bool {
    let key =
        |name: &str| name.split_once('/').map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
    let target = key(target).and_then(|key| inputs.traffic_targets.get(&key));
    let group = group.rsplit('/').next().unwrap_or_default();
    target.is_some_and(|target| {
        let of_group = target.spec.rules.iter().filter(|rule| rule.name == group);
        of_group.into_iter().all(|rule| rule.matches.is_some())
    })
}
