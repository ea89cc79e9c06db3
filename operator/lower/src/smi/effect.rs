//! Compares a TrafficTarget with the pods of its destination: one without pods and rules that no port can meet have no
//! effect, and their owner must learn it.
//!
//! Reads what `target` and `kubernetes::workload` found. Changes no grant.

use std::collections::BTreeSet;

use smidge_mesh::{
    access::{Payload, Ports},
    id::ServiceId,
    service::Protocol,
};

use crate::{
    context::Context,
    finding::{Finding, ObjectRef, Reason},
    inputs::Key,
    value::TargetGrant,
};

/// Hint for pods that exist and are not in the mesh.
pub(super) const LABEL_NAMESPACE: &str =
    "label the namespace smidge.mesh/inject=enabled and restart the pods";

/// Reports a TrafficTarget whose destination has no pods, and rules that no port of these can meet.
pub(crate) fn report(key: &Key, context: &mut Context<'_>) {
    let Some(target) = context.target(key) else { return };
    if !target.destinations.iter().any(|destination| context.identity_ports(destination).is_some()) {
        report_no_pods(key, &target, context);
        return;
    }
    let Payload::Http(_) = &target.grant.payload else { return };
    let ports = &target.grant.ports;
    let (mut http, mut tcp) = (false, BTreeSet::new());
    for destination in &target.destinations {
        for (port, protocols) in &*context.identity_ports(destination).unwrap_or_default() {
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

/// Reports that no pod in the mesh runs as the destination. A namespace without any pod is one whose policies were
/// applied before its workloads, or a file without them: there is nothing to compare with.
fn report_no_pods((namespace, name): &Key, target: &TargetGrant, context: &mut Context<'_>) {
    if !context.has_pods(namespace) {
        return;
    }
    let object = ObjectRef::new("TrafficTarget", namespace, name);
    let accounts: Vec<&str> = target.destinations.iter().map(|it| it.service_account.as_str()).collect();
    let listed = shown(&accounts);
    if accounts.iter().any(|account| context.has_account(namespace, account)) {
        let message =
            format!("no pod that runs as ServiceAccount {listed} is in the mesh; the target has no effect");
        let finding = Finding::new(object, Reason::NotInMesh, message).at("spec.destination.name");
        context.report(finding.hint(LABEL_NAMESPACE));
        return;
    }
    let message =
        format!("no pod of namespace {namespace} runs as ServiceAccount {listed}; the target has no effect");
    let finding = Finding::new(object, Reason::DestinationNotFound, message).at("spec.destination.name");
    let service = accounts.first().map(|account| ServiceId::new(namespace, *account));
    let pods = service.and_then(|service| context.kube_service(&service)).map(|service| {
        let accounts = service.members.iter().map(|member| member.identity.service_account.clone());
        (service.id.name.clone(), accounts.collect::<BTreeSet<_>>())
    });
    context.report(match pods {
        Some((service, accounts)) if !accounts.is_empty() => finding.hint(format!(
            "the destination is the ServiceAccount of the pods, not a Service: the pods of Service {service} run as {}",
            shown(&accounts.iter().map(String::as_str).collect::<Vec<_>>())
        )),
        _ => finding,
    });
}

/// Lists names, at most five.
fn shown(names: &[&str]) -> String {
    const SHOWN: usize = 5;
    let listed = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{listed} and {} more", names.len() - SHOWN) } else { listed }
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
    let numbers: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let numbers = shown(&numbers.iter().map(String::as_str).collect::<Vec<_>>());
    if ports.len() == 1 { format!("port {numbers} is") } else { format!("ports {numbers} are") }
}
