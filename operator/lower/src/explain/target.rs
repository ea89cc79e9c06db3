//! Follows a call to all identities that may receive it, through ports, splits and backends, and evaluates each.
//!
//! Follows it in the way of the proxies: the first rule that matches the request, then every backend with a share.
//! Applies the access mode to the verdict of the grants.

use std::collections::BTreeSet;

use smidge_mesh::{
    Mesh,
    access::{AccessMode, MtlsMode},
    id::{ClassId, SpiffeId},
    matches::Matches,
    route::{Backend, RouteRule},
    service::{Protocol, Service, ServicePort},
    workload::Class,
};

use super::{
    Destination, QueryError, Share, Verdict,
    judge::{Ruling, judge},
    question::Read,
    request::{Fit, Request, fit},
    subject::{Callee, CalleeKind, Caller},
};

/// Places where a call may go, with notes.
pub(super) struct Reached {
    pub shares: Vec<Share>,
    pub notes: Vec<String>,
}

/// All data that decides one call.
struct Call<'a> {
    mesh: &'a Mesh,
    caller: &'a Caller,
    request: &'a Request,
    notes: Vec<String>,
}

/// Returns the places where the call may go, each with its verdict.
pub(super) fn reach(
    mesh: &Mesh,
    caller: &Caller,
    goal: &Callee<'_>,
    asked: &Read,
) -> Result<Reached, QueryError> {
    let mut call = Call { mesh, caller, request: &asked.request, notes: Vec::new() };
    let shares = match &goal.kind {
        CalleeKind::Outside => Vec::new(),
        CalleeKind::Service(service) => call.service(service, goal, asked.port)?,
        CalleeKind::Classes(classes) => call.classes(classes, goal, asked.port)?,
    };
    if !asked.request.is_bare() && shares.iter().flat_map(|share| &share.destinations).any(is_tcp) {
        let note = "method, path and headers do not apply to ports that are not read as HTTP";
        call.notes.push(note.to_owned());
    }
    let destinations = || shares.iter().flat_map(|share| &share.destinations);
    let unread: BTreeSet<(u16, &str)> = destinations()
        .flat_map(|it| it.considered.iter().map(|considered| (it.port, considered)))
        .filter(|(_, considered)| considered.lacks_http)
        .map(|(port, considered)| (port, considered.target.as_str()))
        .collect();
    call.notes.extend(unread.into_iter().map(|(port, target)| {
        format!("if port {port} is HTTP, set appProtocol: http on the Service's port, and TrafficTarget {target} applies")
    }));
    Ok(Reached { shares, notes: call.notes })
}

fn is_tcp(destination: &Destination) -> bool {
    destination.protocol == protocol_word(Protocol::Tcp)
}

/// Returns the verdict over all places that receive traffic.
pub(super) fn verdict(shares: &[Share]) -> Verdict {
    Verdict::of_all(shares.iter().filter(|share| share.counts).map(|share| share.verdict))
}

/// Returns the word for the origin of the verdict.
pub(super) fn mode(goal: &Callee<'_>, shares: &[Share]) -> String {
    let modes: BTreeSet<&str> =
        shares.iter().flat_map(|share| &share.destinations).map(|destination| destination.mode).collect();
    let mut modes = modes.into_iter();
    match (modes.next(), modes.next()) {
        _ if goal.is_outside => "outside",
        (Some(one), None) => one,
        (Some(_), Some(_)) => "mixed",
        (None, _) => "none",
    }
    .to_owned()
}

impl Call<'_> {
    fn service(
        &mut self,
        service: &Service,
        goal: &Callee<'_>,
        asked: Option<u16>,
    ) -> Result<Vec<Share>, QueryError> {
        let mut shares = Vec::new();
        for (number, port) in &service.ports {
            if asked.is_none_or(|asked| asked == *number) {
                self.port(service, *number, port, &mut shares);
            }
        }
        match asked {
            Some(port) if !service.ports.contains_key(&port) => {
                let ports = service.ports.iter().map(|(number, port)| {
                    let behind: BTreeSet<String> =
                        port.servers.iter().map(|server| server.port.to_string()).collect();
                    let behind = behind.into_iter().collect::<Vec<_>>().join(", ");
                    format!("{number} (to the pods' port {behind})")
                });
                Err(QueryError::Port { what: goal.name.clone(), port, ports: ports.collect() })
            }
            None if service.ports.is_empty() => Err(QueryError::NoPort(goal.name.clone())),
            _ => Ok(shares),
        }
    }

    fn port(&mut self, service: &Service, number: u16, port: &ServicePort, shares: &mut Vec<Share>) {
        let rules = &port.route.rules;
        for rule in rules {
            let taken = self.taken(rule);
            if taken != Fit::Never {
                self.rule(service, number, rule, shares);
            }
            if taken == Fit::Always {
                break;
            }
        }
    }

    /// Evaluates whether a rule matches the request.
    fn taken(&self, rule: &RouteRule) -> Fit {
        match &rule.matches {
            None => Fit::Always,
            Some(matches) => {
                let all = matches.iter().flat_map(Matches::iter);
                all.map(|it| fit(it, self.request).0).min().unwrap_or(Fit::Never)
            }
        }
    }

    fn rule(&mut self, service: &Service, number: u16, rule: &RouteRule, shares: &mut Vec<Share>) {
        let sum: u64 = rule.backends.iter().map(|backend| u64::from(backend.weight)).sum();
        if sum == 0 {
            let so = format!("no backend of {} has a weight for port {number}: calls get 503", service.id);
            self.notes.push(so);
        }
        let origin = rule.origin.clone();
        for backend in &rule.backends {
            let destinations = self.backend(number, backend);
            if destinations.is_empty() {
                let so = format!("no pod in the mesh serves {} on port {number}", backend.service);
                self.notes.push(so);
            }
            shares.push(Share {
                port: number,
                origin: origin.clone(),
                matches: names(rule),
                service: Some(backend.service.to_string()),
                weight: backend.weight,
                percent: percent(backend.weight, sum),
                verdict: Verdict::of_all(destinations.iter().map(|destination| destination.verdict)),
                counts: backend.weight > 0 || sum == 0,
                destinations,
            });
        }
    }

    /// Returns the destinations behind a backend: ready instances, and all others with the account and the port.
    fn backend(&self, number: u16, backend: &Backend) -> Vec<Destination> {
        let service = self.mesh.services.get(&backend.service);
        let number = backend.port(number);
        let Some(port) = service.and_then(|service| service.ports.get(&number)) else { return Vec::new() };
        let mut places: BTreeSet<(&ClassId, u16)> = BTreeSet::new();
        for endpoint in &port.endpoints {
            let workload = self.mesh.workloads.get(&endpoint.proxy);
            places.extend(workload.map(|workload| (&workload.class, endpoint.port)));
        }
        let ready: BTreeSet<(&SpiffeId, u16)> = places
            .iter()
            .filter_map(|(class, port)| Some((&self.mesh.classes.get(*class)?.identity, *port)))
            .collect();
        for server in port.servers.iter().filter(|server| !ready.contains(&(&server.identity, server.port))) {
            let has_it =
                |class: &Class| class.identity == server.identity && class.ports.contains_key(&server.port);
            let those = self.mesh.classes.iter().filter(|(_, class)| has_it(class));
            places.extend(those.map(|(id, _)| (id, server.port)));
        }
        let mut destinations: Vec<Destination> = Vec::new();
        for (class, port) in places {
            let class = self.mesh.classes.get(class);
            destinations.extend(class.map(|class| self.destination(class, port)));
        }
        destinations.dedup();
        destinations
    }

    fn classes(
        &self,
        classes: &[&Class],
        goal: &Callee<'_>,
        asked: Option<u16>,
    ) -> Result<Vec<Share>, QueryError> {
        let ports: BTreeSet<u16> = classes.iter().flat_map(|class| class.ports.keys().copied()).collect();
        let wanted: BTreeSet<u16> = asked.map_or_else(|| ports.clone(), |asked| BTreeSet::from([asked]));
        if wanted.is_empty() {
            return Err(QueryError::NoPort(goal.name.clone()));
        }
        let mut shares = Vec::new();
        for port in wanted {
            let open = |class: &Class| is_open(class) || class.ports.contains_key(&port);
            let mut destinations: Vec<Destination> = classes
                .iter()
                .filter(|class| open(class))
                .map(|class| self.destination(class, port))
                .collect();
            if destinations.is_empty() {
                let ports = ports.iter().map(ToString::to_string).collect();
                return Err(QueryError::Port { what: goal.name.clone(), port, ports });
            }
            destinations.dedup();
            shares.push(Share {
                port,
                origin: None,
                matches: Vec::new(),
                service: None,
                weight: 1,
                percent: 100.0,
                verdict: Verdict::of_all(destinations.iter().map(|destination| destination.verdict)),
                counts: true,
                destinations,
            });
        }
        Ok(shares)
    }

    /// Evaluates the call at one port of one class of instances.
    fn destination(&self, class: &Class, port: u16) -> Destination {
        let Class { identity, ports, access, mtls: _ } = class;
        let protocol = ports.get(&port).copied().unwrap_or(Protocol::Tcp);
        let grants = self.mesh.grants_of(identity);
        let refused = self.refusal(class, protocol);
        let ruling = match &self.caller.identity {
            Some(caller) if refused.is_none() => judge(grants, caller, port, protocol, self.request),
            _ => Ruling::default(),
        };
        let policy = ruling.verdict();
        let is_enforced = *access == AccessMode::Enforce;
        let no_identity = (is_enforced && self.caller.identity.is_none())
            .then(|| "the caller has no identity, which every TrafficTarget asks for".to_owned());
        Destination {
            identity: identity.to_string(),
            port,
            protocol: protocol_word(protocol),
            mode: mode_word(*access),
            verdict: if is_enforced || refused.is_some() { policy } else { Verdict::Allowed },
            policy,
            allowed_by: ruling.allowed_by,
            considered: ruling.considered,
            for_others: ruling.for_others,
            because: refused.or(no_identity),
            id: identity.clone(),
            would_take: ruling.would_take,
        }
    }

    /// Returns the reason for which the call is refused before any grant or mode applies.
    fn refusal(&self, class: &Class, protocol: Protocol) -> Option<String> {
        if let Some(refusal) = self.request.refusal().filter(|_| protocol.has_http()) {
            return Some(refusal);
        }
        if self.caller.identity.is_some() {
            return None;
        }
        let namespace = &class.identity.namespace;
        if class.mtls == MtlsMode::Strict {
            return Some(format!(
                "the caller has no identity, and {namespace} takes no plaintext (mtls strict)"
            ));
        }
        let is_admitted = protocol.has_http() || !class.access.is_enforced();
        (!is_admitted).then(|| "the caller has no identity, which a TCP port asks for".to_owned())
    }
}

/// Returns the names of a rule's matches.
fn names(rule: &RouteRule) -> Vec<String> {
    let all: BTreeSet<_> = rule.matches.iter().flatten().flat_map(Matches::iter).collect();
    all.into_iter().map(|it| it.name.clone()).collect()
}

/// Returns true if ports that are not declared pass as well.
fn is_open(class: &Class) -> bool {
    !class.access.is_enforced() && class.mtls == MtlsMode::Permissive
}

fn mode_word(mode: AccessMode) -> &'static str {
    match mode {
        AccessMode::Enforce => "enforce",
        AccessMode::Audit => "audit",
        AccessMode::Permissive => "permissive",
    }
}

fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
        Protocol::Detect => "detect",
    }
}

/// Returns the share in percent, with two decimal places.
fn percent(weight: u32, sum: u64) -> f64 {
    let hundredths = (u64::from(weight) * 10_000 + sum / 2).checked_div(sum).unwrap_or(0);
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
}
