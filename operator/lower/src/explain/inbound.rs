//! Evaluates a call at one port of one class of instances, as the proxies at both of its ends do.
//!
//! A call arrives over mTLS with the caller's identity, or in plaintext without one. Applies what the proxies refuse
//! themselves, then the grants, then the access mode. Does not decide which instances a call may reach.

use smidge_mesh::{
    Mesh,
    access::{AccessMode, MtlsMode},
    proxy,
    service::Protocol,
    workload::Class,
};

use super::{
    Destination, Verdict,
    judge::{Ruling, judge},
    request::Request,
    subject::Caller,
};

/// Way in which a call arrives at the proxy of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Over mTLS from the caller's proxy, which reads the called port as this protocol.
    Mesh(Protocol),
    /// In plaintext, at the instance's own address.
    Plain,
}

/// The parts of a call that are the same wherever it arrives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival<'a> {
    pub mesh: &'a Mesh,
    pub caller: &'a Caller,
    pub request: &'a Request,
}

impl Arrival<'_> {
    /// Evaluates the call at one port of one class of instances.
    pub fn destination(&self, class: &Class, port: u16, way: Way) -> Destination {
        let Class { identity, ports, access, mtls: _, ends: _, traffic: _, families: _, routes: _ } = class;
        let protocol = self.protocol(ports.get(&port).copied().unwrap_or(Protocol::Tcp), way);
        let grants = self.mesh.grants_of(identity);
        let refused = self.refusal(class, port, protocol, way);
        let caller = self.caller.identity.as_ref().filter(|_| way != Way::Plain);
        let ruling = match caller {
            Some(caller) if refused.is_none() => judge(grants, caller, port, protocol, self.request),
            _ => Ruling::default(),
        };
        let policy = ruling.verdict();
        let is_enforced = access.is_enforced();
        let no_identity = (is_enforced && caller.is_none())
            .then(|| format!("{}, which every TrafficTarget asks for", self.unidentified()));
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
            has_identity: caller.is_some(),
            would_take: ruling.would_take,
        }
    }

    /// Evaluates the call at a port that an instance excludes from redirection: no proxy is before it, so that the only
    /// refusal is that of the caller's own proxy, of callers that no TrafficTarget lets call the port at all.
    pub fn excluded(&self, class: &Class, port: u16, way: Way) -> Destination {
        let caller =
            self.caller.identity.as_ref().filter(|_| way != Way::Plain && class.access.is_enforced());
        let protocol = self.protocol(class.ports.get(&port).copied().unwrap_or(Protocol::Tcp), way);
        let grants = self.mesh.grants_of(&class.identity);
        let is_refused = caller.is_some_and(|caller| {
            judge(grants, caller, port, protocol, &Request::default()).verdict() == Verdict::Denied
        });
        let destination = self.destination(class, port, way);
        if is_refused {
            return destination;
        }
        let because =
            format!("port {port} is excluded from redirection: calls reach it in plaintext, past its proxy");
        Destination { verdict: Verdict::Allowed, because: Some(because), ..destination }
    }

    /// Returns the protocol as which an instance reads the call. Where it detects the protocol, the caller's proxy
    /// decides it: it announces HTTP that it forwards.
    fn protocol(&self, of_port: Protocol, way: Way) -> Protocol {
        match (of_port, way) {
            (Protocol::Detect, Way::Mesh(by_caller @ (Protocol::Http | Protocol::Tcp))) => by_caller,
            (Protocol::Detect, _) if !self.request.is_bare() => Protocol::Http,
            _ => of_port,
        }
    }

    /// Returns the reason for which the call is refused before any grant or mode applies.
    fn refusal(&self, class: &Class, port: u16, protocol: Protocol, way: Way) -> Option<String> {
        let Class { identity, ports, access, mtls, ends: _, traffic: _, families: _, routes: _ } = class;
        if proxy::PORTS.contains(&port) {
            return Some(format!("port {port} is the proxy's own, and closed"));
        }
        if let Way::Mesh(by_caller) = way {
            if !ports.contains_key(&port) {
                return Some(format!("its proxy serves no port {port}: the connection is closed"));
            }
            let refused = if protocol.has_http() { self.request.refusal() } else { None };
            let refused_early = if by_caller.has_http() { self.request.early_refusal() } else { None };
            return refused.or(refused_early);
        }
        let namespace = &identity.namespace;
        if *mtls == MtlsMode::Strict {
            return Some(format!(
                "{}, and {namespace} takes no plaintext (mtls strict)",
                self.unidentified()
            ));
        }
        let refused = if protocol.has_http() { self.request.refusal() } else { None };
        let is_admitted = protocol.has_http() || !access.is_enforced();
        refused
            .or_else(|| (!is_admitted).then(|| format!("{}, which a TCP port asks for", self.unidentified())))
    }

    /// Returns the reason for which a call in plaintext has no identity.
    fn unidentified(&self) -> &'static str {
        match &self.caller.identity {
            None => "the caller has no identity",
            Some(_) => "a call to this address goes out in plaintext, without the caller's identity",
        }
    }
}

pub(super) fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
        Protocol::Detect => "detect",
    }
}

fn mode_word(mode: AccessMode) -> &'static str {
    match mode {
        AccessMode::Enforce => "enforce",
        AccessMode::Audit => "audit",
        AccessMode::Permissive => "permissive",
    }
}
