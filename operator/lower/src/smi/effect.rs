//! Compares the rules of a TrafficTarget with the ports of its destination's pods: rules that no port can meet have no
//! effect, and their owner must learn it.
//!
//! Reads what `target` and `kubernetes::workload` found. Changes no grant.

use std::collections::BTreeSet;

use smidge_mesh::{
    access::{Payload, Ports},
    service::Protocol,
};

use crate::{
    context::Context,
    finding::{Finding, ObjectRef, Reason},
    inputs::Key,
};

/// Reports the rules of a TrafficTarget that no port of its destination's pods can meet.
pub(crate) fn report(key: &Key, context: &mut Context<'_>) {
    let Some(target) = context.target(key) else { return };
    let Payload::Http(_) = &target.grant.payload else { return };
    let ports = &target.grant.ports;
    let (mut http, mut tcp) = (false, BTreeSet::new());
    for destination in &target.destinations {
        for (port, protocols) in &*context.identity_ports(destination) {
            if ports.contains(*port) {
                http |= protocols.iter().any(|protocol| protocol.has_http());
                if protocols.iter().all(|protocol| *protocol == Protocol::Tcp) {
                    tcp.insert(*port);
                }
            }
        }
    }
    let object = ObjectRef::new("TrafficTarget", &key.0, &key.1);
    if !http && !tcp.is_empty() {
        context.report(no_http_port(object, &tcp));
    } else if let (Ports::Only(_), false) = (ports, tcp.is_empty()) {
        context.report(closed_tcp_ports(object, &tcp));
    }
}

fn no_http_port(object: ObjectRef, ports: &BTreeSet<u16>) -> Finding {
    let message = format!(
        "HTTP rules, and the destination's pods serve no HTTP: {} declared as TCP; the target allows nothing",
        listed(ports)
    );
    Finding::new(object, Reason::HTTPPortNotFound, message)
        .at("spec.rules")
        .hint("if it is HTTP, set appProtocol: http on the Service's port; if not, use TCPRoutes alone")
}

fn closed_tcp_ports(object: ObjectRef, ports: &BTreeSet<u16>) -> Finding {
    let message = format!(
        "TCPRoutes beside HTTPRouteGroups narrow the HTTP rules to their ports: {} declared as TCP, and not opened",
        listed(ports)
    );
    Finding::new(object, Reason::TCPPortClosed, message)
        .at("spec.rules")
        .hint("write two TrafficTargets: one with the TCPRoute alone, one with the HTTPRouteGroup")
}

fn listed(ports: &BTreeSet<u16>) -> String {
    const SHOWN: usize = 5;
    let names = ports.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match ports.len() {
        1 => format!("port {names} is"),
        more if more > SHOWN => format!("ports {names} and {} more are", more - SHOWN),
        _ => format!("ports {names} are"),
    }
}
