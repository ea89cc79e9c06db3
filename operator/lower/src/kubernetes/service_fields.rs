//! Reports what a Service with pods in the mesh asks for and does not get: a port that leads nowhere, ports that are
//! missing, and fields that the mesh does not follow.
//!
//! Reads a Service as `service` has read it. Changes nothing.

use std::collections::BTreeSet;

use k8s_openapi::{api::core::v1, apimachinery::pkg::util::intstr::IntOrString};

use crate::{
    context::Context,
    finding::{Finding, Reason},
    value::{KubeService, MeshPod, Port},
};

/// Maximum number of names that a hint lists.
const SHOWN: usize = 5;

/// Reports the fields of a Service that have no effect on calls from the mesh.
pub(super) fn report(known: &KubeService, service: &v1::Service, context: &mut Context<'_>) {
    if known.members.is_empty() {
        return;
    }
    let Some(spec) = &service.spec else { return };
    for port in known.ports.values() {
        if let Some(name) = unknown_name(known, port) {
            context.report(target_port_not_found(known, port, name));
        }
    }
    if known.is_headless && spec.ports.iter().flatten().next().is_none() {
        context.report(no_ports(known));
    }
    if known.is_headless
        && let Some(first) = known.members.iter().find(|member| member.is_external())
    {
        context.report(not_dialled(known, first));
    }
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        let message = "\"ClientIP\" has no effect on calls from the mesh: each request or connection may go to another pod";
        context.report_at(&known.object, Reason::NoEffect, "spec.sessionAffinity", message);
    }
    if spec.internal_traffic_policy.as_deref() == Some("Local") {
        let message = "\"Local\" has no effect on calls from the mesh: they go to the pods of all nodes";
        context.report_at(&known.object, Reason::NoEffect, "spec.internalTrafficPolicy", message);
    }
}

/// Returns the name of a port's target, if no container port of any pod in the mesh has that name. During a rollout
/// only some pods may have it.
fn unknown_name<'p>(known: &KubeService, port: &'p Port) -> Option<&'p str> {
    let Some(IntOrString::String(name)) = &port.target else { return None };
    let is_known = name.is_empty()
        || !known.has_selector
        || !port.targets.is_empty()
        || known.members.iter().any(|member| port.target(member).is_some());
    (!is_known).then_some(name)
}

fn target_port_not_found(known: &KubeService, port: &Port, name: &str) -> Finding {
    let message = format!(
        "no container of its pods has a TCP port with the name {name:?}: port {} leads nowhere",
        port.number
    );
    let finding = Finding::new(known.object.clone(), Reason::TargetPortNotFound, message)
        .at(format!("{}.targetPort", port.field));
    let names: BTreeSet<&str> = known
        .members
        .iter()
        .flat_map(|member| member.ports.iter().filter_map(|port| port.name.as_deref()))
        .take(SHOWN)
        .collect();
    if names.is_empty() {
        return finding.hint("name the port in the pod's spec, or write its number");
    }
    finding.hint(format!("the pods have {}", names.into_iter().collect::<Vec<_>>().join(", ")))
}

fn no_ports(known: &KubeService) -> Finding {
    let message = "a headless Service without ports: the mesh does not know on which ports its pods are called, so calls to \
                   them are sent in plaintext, which pods that accept only mTLS refuse";
    Finding::new(known.object.clone(), Reason::ServicePortNotFound, message)
        .at("spec.ports")
        .hint("list the ports on which the pods are called")
}

fn not_dialled(known: &KubeService, first: &MeshPod) -> Finding {
    let message = format!(
        "a headless Service has no address of its own, and calls to addresses that a namespace writes, such as those of \
         {}, are not taken into the mesh: only splits send to its ExternalWorkloads",
        first.object()
    );
    Finding::new(known.object.clone(), Reason::NoEffect, message)
        .at("spec.clusterIP")
        .hint("select the ExternalWorkloads by a Service with a cluster IP")
}
