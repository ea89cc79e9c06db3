//! Follows a call to all identities that may receive it, through addresses, ports, splits and backends.
//!
//! Follows it in the way of the proxies: the Service that owns the dialled address and port, the first rule that matches
//! the request, then every backend with a share. An address and port that no Service owns is dialled in plaintext.
//! `inbound` evaluates the arrival.

use std::collections::BTreeSet;

use smidge_mesh::{
    Mesh,
    id::{ClassId, ServiceId, SpiffeId},
    matches::Matches,
    route::{Backend, RouteRule},
    service::{Protocol, Service, ServicePort, Transport},
    workload::Class,
};

use super::{
    Destination, QueryError, Share, Verdict,
    inbound::{Arrival, Way, protocol_word},
    instances::{self, Called},
    question::Read,
    request::{Fit, fit},
    subject::{Callee, CalleeKind, Caller},
};
use crate::inputs::Inputs;

/// Places where a call may go, with notes.
pub(super) struct Reached {
    pub shares: Vec<Share>,
    /// True if the mesh does not decide about the call, and it passes.
    pub is_outside: bool,
    pub notes: Vec<String>,
}

/// All data that decides one call.
pub(super) struct Call<'a> {
    pub arrival: Arrival<'a>,
    inputs: &'a Inputs,
    pub goal: &'a str,
    pub notes: Vec<String>,
}

/// Returns the places where the call may go, each with its verdict.
pub(super) fn reach(
    (mesh, inputs): (&Mesh, &Inputs),
    caller: &Caller,
    goal: &Callee<'_>,
    asked: &Read,
) -> Result<Reached, QueryError> {
    let arrival = Arrival { mesh, caller, request: &asked.request };
    let mut call = Call { arrival, inputs, goal: &goal.name, notes: Vec::new() };
    let mut shares = match &goal.kind {
        CalleeKind::Outside => vec![outside(asked.port.unwrap_or_default())],
        CalleeKind::Service(service) => call.service(service, asked.port)?,
        CalleeKind::Instances(pods) => call.workload(pods, asked.port)?,
        CalleeKind::Account(classes) => call.account(classes, asked.port)?,
    };
    let is_outside = !shares.is_empty() && shares.iter().all(is_outside);
    if is_outside {
        shares.clear();
        let name = &goal.name;
        call.notes.push(format!("no pod of {name} is in the mesh: the call passes, and no policy applies"));
    }
    if !asked.request.is_bare() && shares.iter().flat_map(|share| &share.destinations).any(is_tcp) {
        let note = "method, path and headers do not apply to ports that are not read as HTTP";
        call.notes.push(note.to_owned());
    }
    call.notes.extend(unread(&shares));
    let mut seen = BTreeSet::new();
    call.notes.retain(|note| seen.insert(note.clone()));
    Ok(Reached { shares, is_outside, notes: call.notes })
}

/// Notes the targets for HTTP that do not apply as their port is not read as HTTP.
fn unread(shares: &[Share]) -> Vec<String> {
    let destinations = shares.iter().flat_map(|share| &share.destinations);
    let unread: BTreeSet<(u16, &str)> = destinations
        .flat_map(|it| it.considered.iter().map(|considered| (it.port, considered)))
        .filter(|(_, considered)| considered.lacks_http)
        .map(|(port, considered)| (port, considered.target.as_str()))
        .collect();
    let note = |(port, target)| {
        format!(
            "if port {port} is HTTP, set appProtocol: http on the Service's port, and TrafficTarget {target} applies"
        )
    };
    unread.into_iter().map(note).collect()
}

fn is_tcp(destination: &Destination) -> bool {
    destination.protocol == protocol_word(Protocol::Tcp)
}

/// Returns the verdict over all places that receive traffic.
pub(super) fn verdict(shares: &[Share]) -> Verdict {
    Verdict::of_all(shares.iter().filter(|share| share.counts).map(|share| share.verdict))
}

/// Returns the word for the origin of the verdict.
pub(super) fn mode(is_outside: bool, shares: &[Share]) -> String {
    let modes: BTreeSet<&str> =
        shares.iter().flat_map(|share| &share.destinations).map(|destination| destination.mode).collect();
    let mut modes = modes.into_iter();
    match (modes.next(), modes.next()) {
        _ if is_outside => "outside",
        (Some(one), None) => one,
        (Some(_), Some(_)) => "mixed",
        (None, _) => "none",
    }
    .to_owned()
}

impl Call<'_> {
    pub fn is_meshed(&self) -> bool {
        self.arrival.caller.identity.is_some()
    }

    fn service(&mut self, called: &Called<'_>, asked: Option<u16>) -> Result<Vec<Share>, QueryError> {
        if called.is_alias {
            return Ok(vec![outside(asked.unwrap_or_default())]);
        }
        let known = || called.service.into_iter().flat_map(|service| service.ports.keys().copied());
        let wanted: BTreeSet<u16> = match asked {
            Some(port) => BTreeSet::from([port]),
            None if called.is_headless => called.ports.iter().copied().chain(known()).collect(),
            None => called.ports.clone(),
        };
        if wanted.is_empty() {
            return Err(QueryError::NoPort(self.goal.to_owned()));
        }
        let mut shares = Vec::new();
        for number in wanted {
            if called.is_headless && !called.instances.is_empty() {
                self.pods(&called.instances, number, &mut shares);
                self.note_translation(called, number);
                continue;
            }
            if !called.ports.contains(&number) {
                return Err(self.no_port(called, number));
            }
            match called.service.and_then(|service| Some((service, service.ports.get(&number)?))) {
                Some((service, port)) if self.is_meshed() && !port.addresses.is_empty() => {
                    self.port(service, number, port, &[], &mut shares);
                }
                _ => self.unproxied(called, number, &mut shares),
            }
        }
        Ok(shares)
    }

    fn no_port(&self, called: &Called<'_>, port: u16) -> QueryError {
        let ports = called.ports.iter().map(|number| {
            let behind = called.service.and_then(|service| service.ports.get(number));
            let behind: BTreeSet<String> =
                behind.iter().flat_map(|port| &port.servers).map(|server| server.port.to_string()).collect();
            if behind.is_empty() {
                return number.to_string();
            }
            format!("{number} (to the pods' port {})", behind.into_iter().collect::<Vec<_>>().join(", "))
        });
        QueryError::Port { what: self.goal.to_owned(), port, ports: ports.collect() }
    }

    /// Notes that the port of a headless Service leads to another port, which nothing translates.
    fn note_translation(&mut self, called: &Called<'_>, number: u16) {
        let port = called.service.and_then(|service| service.ports.get(&number));
        let is_listed = called.ports.contains(&number);
        let targets: BTreeSet<u16> =
            port.iter().flat_map(|port| &port.servers).map(|server| server.port).collect();
        if is_listed && !targets.is_empty() && !targets.contains(&number) {
            let targets = targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
            self.notes.push(format!(
                "a headless Service translates no port: port {number} of {} leads to the pods' port {targets}, which \
                 callers have to dial themselves",
                self.goal
            ));
        }
    }

    /// Follows a call to a Service that no proxy of the caller routes: it goes to the Service's own pods, in plaintext.
    fn unproxied(&mut self, called: &Called<'_>, number: u16, shares: &mut Vec<Share>) {
        let port = called.service.and_then(|service| service.ports.get(&number));
        let own = port.map(|port| self.own(port, Way::Plain)).unwrap_or_default();
        let has_outside = called.instances.iter().any(|pod| pod.class.is_none()) || called.is_unselective;
        if !own.is_empty() {
            let service = Some(called.id.to_string());
            shares.push(Share { service, ..to_pods(number, own.clone()) });
        }
        if has_outside {
            shares.push(outside(number));
        } else if own.is_empty() {
            self.note_empty(&called.id, number);
            shares.push(to_pods(number, Vec::new()));
        }
    }

    /// Follows a call to a port of a Service of the mesh. `dialled` are the classes of the pods that the caller dials, if
    /// the Service is headless.
    pub fn port(
        &mut self,
        service: &Service,
        number: u16,
        port: &ServicePort,
        dialled: &[&Class],
        shares: &mut Vec<Share>,
    ) {
        for rule in &port.route.rules {
            let taken = self.taken(rule);
            if taken != Fit::Never {
                self.rule((service, number, port), rule, dialled, shares);
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
                all.map(|it| fit(it, self.arrival.request).0).min().unwrap_or(Fit::Never)
            }
        }
    }

    fn rule(
        &mut self,
        (service, number, port): (&Service, u16, &ServicePort),
        rule: &RouteRule,
        dialled: &[&Class],
        shares: &mut Vec<Share>,
    ) {
        let sum: u64 = rule.backends.iter().map(|backend| u64::from(backend.weight)).sum();
        let origin = rule.origin.clone();
        if sum == 0 {
            let so = format!("no backend of {} has a weight for port {number}: calls get 503", service.id);
            self.notes.push(so);
        }
        if rule.backends.is_empty() {
            shares.push(Share {
                origin: origin.clone(),
                matches: names(rule),
                ..to_pods(number, Vec::new())
            });
        }
        for backend in &rule.backends {
            let way = Way::Mesh(port.protocol);
            let mut passes = false;
            let destinations = if port.exact && backend.service == service.id {
                let dialled = if self.is_served(number, port) { dialled } else { &[] };
                dialled.iter().map(|class| self.arrival.destination(class, number, way)).collect()
            } else {
                passes = self.reaches_outside(number, backend);
                self.backend(number, backend, way)
            };
            if destinations.is_empty() && !passes {
                self.note_empty(&backend.service, number);
            }
            let all = destinations.iter().map(|destination| destination.verdict);
            let all = all.chain(passes.then_some(Verdict::Allowed));
            shares.push(Share {
                origin: origin.clone(),
                matches: names(rule),
                service: Some(backend.service.to_string()),
                weight: backend.weight,
                percent: percent(backend.weight, sum),
                verdict: if sum == 0 { Verdict::Denied } else { Verdict::of_all(all) },
                counts: backend.weight > 0 || sum == 0,
                ..to_pods(number, destinations)
            });
        }
    }

    /// Returns true if a port or one of its backends has a server: without one, no proxy has a listener of the port.
    fn is_served(&self, number: u16, port: &ServicePort) -> bool {
        let services = &self.arrival.mesh.services;
        let backends = port.route.rules.iter().flat_map(|rule| &rule.backends);
        let mut others = backends.filter_map(|it| services.get(&it.service)?.ports.get(&it.port(number)));
        !port.servers.is_empty() || others.any(|port| !port.servers.is_empty())
    }

    /// Notes the reason for which a Service has no destination.
    fn note_empty(&mut self, id: &ServiceId, number: u16) {
        let key = (id.namespace.clone(), id.name.clone());
        let called = instances::called(self.arrival.mesh, self.inputs, &key);
        let is_unmatched = called.is_some_and(|it| it.instances.is_empty() && !it.is_unselective);
        self.notes.push(if is_unmatched {
            format!("no workload matches the selector of Service {id}: calls to it reach no pod")
        } else {
            format!("no pod in the mesh serves {id} on port {number}")
        });
    }

    /// Returns true if some endpoints of a backend are outside the mesh, where no policy applies; notes it.
    fn reaches_outside(&mut self, number: u16, backend: &Backend) -> bool {
        let mesh = self.arrival.mesh;
        let service = mesh.services.get(&backend.service);
        let port = service.and_then(|service| service.ports.get(&backend.port(number)));
        let mut endpoints = port.into_iter().flat_map(|port| &port.endpoints);
        let reaches = endpoints.any(|endpoint| !mesh.workloads.contains_key(&endpoint.proxy));
        if reaches {
            self.notes.push(format!(
                "some pods of Service {} are outside the mesh: calls reach them in plaintext, and no policy applies there",
                backend.service
            ));
        }
        reaches
    }

    /// Returns the destinations behind a backend.
    fn backend(&self, number: u16, backend: &Backend, way: Way) -> Vec<Destination> {
        let service = self.arrival.mesh.services.get(&backend.service);
        let port = service.and_then(|service| service.ports.get(&backend.port(number)));
        port.map(|port| self.own(port, way)).unwrap_or_default()
    }

    /// Returns the destinations behind a port of a Service: ready instances, and all others with the account and the
    /// port.
    fn own(&self, port: &ServicePort, way: Way) -> Vec<Destination> {
        let mesh = self.arrival.mesh;
        let mut places: BTreeSet<(&ClassId, u16, Transport)> = BTreeSet::new();
        for endpoint in &port.endpoints {
            let workload = mesh.workloads.get(&endpoint.proxy);
            places.extend(workload.map(|workload| (&workload.class, endpoint.port, endpoint.transport)));
        }
        let ready: BTreeSet<(&SpiffeId, u16)> = places
            .iter()
            .filter_map(|(class, port, _)| Some((&mesh.classes.get(*class)?.identity, *port)))
            .collect();
        for server in port.servers.iter().filter(|server| !ready.contains(&(&server.identity, server.port))) {
            let has_it =
                |class: &Class| class.identity == server.identity && class.ports.contains_key(&server.port);
            let those = mesh.classes.iter().filter(|(_, class)| has_it(class));
            places.extend(those.map(|(id, _)| (id, server.port, Transport::Mtls)));
        }
        let mut destinations: Vec<Destination> = Vec::new();
        for (class, port, transport) in places {
            let Some(class) = mesh.classes.get(class) else { continue };
            destinations.push(match transport {
                Transport::Mtls => self.arrival.destination(class, port, way),
                Transport::Plaintext => self.arrival.excluded(class, port, way),
            });
        }
        destinations.dedup();
        destinations
    }
}

/// Builds the share of all calls to a port that go to some destinations.
pub(super) fn to_pods(port: u16, destinations: Vec<Destination>) -> Share {
    Share {
        port,
        origin: None,
        matches: Vec::new(),
        service: None,
        weight: 1,
        percent: 100.0,
        verdict: Verdict::of_all(destinations.iter().map(|destination| destination.verdict)),
        counts: true,
        destinations,
    }
}

/// Builds the share of calls that go to pods outside the mesh.
pub(super) fn outside(port: u16) -> Share {
    Share { verdict: Verdict::Allowed, ..to_pods(port, Vec::new()) }
}

fn is_outside(share: &Share) -> bool {
    share.destinations.is_empty() && share.verdict == Verdict::Allowed
}

/// Returns the names of a rule's matches.
fn names(rule: &RouteRule) -> Vec<String> {
    let all: BTreeSet<_> = rule.matches.iter().flatten().flat_map(Matches::iter).collect();
    all.into_iter().map(|it| it.name.clone()).collect()
}

/// Returns the share in percent, with two decimal places.
fn percent(weight: u32, sum: u64) -> f64 {
    let hundredths = (u64::from(weight) * 10_000 + sum / 2).checked_div(sum).unwrap_or(0);
    f64::from(u32::try_from(hundredths).unwrap_or(u32::MAX)) / 100.0
}
