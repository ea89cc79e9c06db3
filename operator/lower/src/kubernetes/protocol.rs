//! Finds the protocols of ports that declare none: as SMI objects use them, else as the mesh is set.
//!
//! A port declares its protocol by `appProtocol` or by its name. Of a port that does not, the rules of TrafficTargets
//! for its servers decide if they agree, and a split by matches makes it HTTP; `undeclaredPorts` of the MeshConfig
//! decides the rest (docs/design/017). Used for both sides: callers by Service, servers by workload.

use std::collections::BTreeSet;

use smidge_mesh::{
    id::{ServiceId, SpiffeId},
    service::{Protocol, Server},
};

use crate::{
    context::Context,
    finding::{Finding, Reason},
    value::{KnownPort, KubeService, Port, Protocols, Splits},
};

/// Ports on which a server speaks first by convention: detection would wait for a client that waits for the server.
const SERVER_FIRST: [KnownPort; 8] = [
    (21, "FTP"),
    (22, "SSH"),
    (25, "SMTP"),
    (110, "POP3"),
    (143, "IMAP"),
    (587, "SMTP"),
    (3306, "MySQL"),
    (5900, "VNC"),
];

/// Protocols that objects name for a port which declares none.
#[derive(Debug, Clone, Copy, Default)]
struct Named {
    http: bool,
    tcp: bool,
}

impl Named {
    /// Returns the protocol that the objects agree on, if there are any and they do.
    fn agreed(self) -> Option<Protocol> {
        match (self.http, self.tcp) {
            (true, false) => Some(Protocol::Http),
            (false, true) => Some(Protocol::Tcp),
            (true, true) | (false, false) => None,
        }
    }

    fn add_declared(&mut self, declared: Protocol) {
        self.http |= declared == Protocol::Http;
        self.tcp |= declared == Protocol::Tcp;
    }

    /// Adds the rules for a port of an identity.
    fn add_rules(&mut self, identity: &SpiffeId, port: u16, context: &mut Context<'_>) {
        if let Some(rules) = context.ruled_ports(identity) {
            self.http |= rules.http.contains(port);
            self.tcp |= rules.tcp.contains(port);
        }
    }

    /// Adds the rules for the servers of a Service's port, and returns these.
    fn add_servers(&mut self, port: &Port, context: &mut Context<'_>) -> BTreeSet<Server> {
        let servers: BTreeSet<Server> = port.servers().collect();
        for Server { identity, port } in &servers {
            self.add_rules(identity, *port, context);
        }
        servers
    }
}

/// Returns the protocol of each port on which a Service is called.
pub(crate) fn protocols(id: &ServiceId, context: &mut Context<'_>) -> Option<Protocols> {
    let known = context.kube_service(id)?;
    let splits = context.splits(id);
    let mut protocols = Protocols::default();
    for (number, port) in &known.ports {
        let protocol = if let Some(declared) = port.declared {
            declared
        } else {
            let (protocol, known_port) = of_service(&known, port, splits.as_deref(), context);
            protocols.server_first.extend(known_port.map(|known_port| (*number, known_port)));
            protocol
        };
        protocols.ports.insert(*number, protocol);
    }
    // The ports of the pods of a headless Service are dialled as well.
    for (number, port) in known.called_ports() {
        if let Some(protocol) = protocols.ports.get(&port).copied() {
            protocols.ports.entry(number).or_insert(protocol);
        }
    }
    Some(protocols)
}

/// Reports the ports of a Service that are not detected because of their number.
pub(crate) fn report(known: &KubeService, protocols: &Protocols, context: &mut Context<'_>) {
    for (port, (number, protocol)) in &protocols.server_first {
        if let Some(port) = known.ports.get(port) {
            context.report(undeclared(known, port, *number, protocol));
        }
    }
}

/// Returns the protocol of a Service's port that declares none, and the port that decided it by its number.
fn of_service(
    known: &KubeService,
    port: &Port,
    splits: Option<&Splits>,
    context: &mut Context<'_>,
) -> (Protocol, Option<KnownPort>) {
    if splits.is_some_and(Splits::have_matches) {
        return (Protocol::Http, None);
    }
    let mut named = Named::default();
    let own = named.add_servers(port, context);
    let backends: BTreeSet<&ServiceId> = splits.iter().flat_map(|splits| splits.backends()).collect();
    for backend in backends.into_iter().filter(|backend| **backend != known.id) {
        let backend = context.kube_service(backend);
        let Some(served) = backend.as_ref().and_then(|backend| backend.ports.get(&port.number)) else {
            continue;
        };
        match served.declared {
            Some(declared) => named.add_declared(declared),
            None => drop(named.add_servers(served, context)),
        }
    }
    if let Some(agreed) = named.agreed() {
        return (agreed, None);
    }
    let set = context.mesh_wide().undeclared_ports;
    let numbers = own.iter().map(|server| server.port).chain([port.number]);
    match numbers.into_iter().find_map(server_first) {
        Some(known_port) if set == Protocol::Detect => (Protocol::Tcp, Some(known_port)),
        _ => (set, None),
    }
}

/// Returns the protocol of a port of a workload that no Service and no container port declares.
pub(crate) fn of_workload(identity: &SpiffeId, port: u16, context: &mut Context<'_>) -> Protocol {
    let mut named = Named::default();
    named.add_rules(identity, port, context);
    named.agreed().unwrap_or_else(|| {
        let set = context.mesh_wide().undeclared_ports;
        if set == Protocol::Detect && server_first(port).is_some() { Protocol::Tcp } else { set }
    })
}

fn server_first(port: u16) -> Option<KnownPort> {
    SERVER_FIRST.into_iter().find(|(number, _)| *number == port)
}

fn undeclared(known: &KubeService, port: &Port, number: u16, protocol: &str) -> Finding {
    let message = format!(
        "declares no protocol, and port {number} is that of {protocol}, where the server sends first: it is read as TCP"
    );
    Finding::new(known.object.clone(), Reason::ProtocolUndeclared, message)
        .at(port.field.clone())
        .hint("set appProtocol: tcp, or appProtocol: http if it is HTTP")
}
