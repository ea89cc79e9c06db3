//! Removes from a pod what neither lowering nor authentication reads: specifications of pods are most of the memory of a
//! cluster.
//!
//! Used by `watches` for each pod that is read. Pure. What is kept is what `smidge_lower` reads of pods; the tests of
//! sources compare mesh and findings of pods that were trimmed with those of whole ones.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EphemeralContainer, Pod, PodCondition, PodSpec, PodStatus, SecurityContext,
};
use smidge_crds::{labels::INIT_CONTAINER, redirected::InboundRedirection};

use crate::lower::workload;

/// Keeps of a pod what is read.
pub fn pod(pod: &mut Pod) {
    // Of the arguments of the init container, those about what is redirected; no other argument is read.
    let redirected = InboundRedirection::of(pod).to_args();
    let is_reported_ready = workload::is_reported_ready(pod);
    if let Some(of) = pod.spec.take() {
        let mut spec = PodSpec {
            containers: of.containers.into_iter().map(container).collect(),
            init_containers: of.init_containers.map(|all| all.into_iter().map(container).collect()),
            ephemeral_containers: of.ephemeral_containers.map(|all| all.into_iter().map(ephemeral).collect()),
            service_account_name: of.service_account_name,
            host_network: of.host_network,
            host_pid: of.host_pid,
            share_process_namespace: of.share_process_namespace,
            node_name: of.node_name,
            ..PodSpec::default()
        };
        let init = spec.init_containers.iter_mut().flatten().find(|init| init.name == INIT_CONTAINER);
        if let Some(init) = init {
            init.args = Some(redirected);
        }
        pod.spec = Some(spec);
    }
    if let Some(of) = pod.status.take() {
        pod.status = Some(PodStatus {
            phase: of.phase,
            pod_ip: of.pod_ip,
            pod_ips: of.pod_ips,
            // Kept only where readiness gates, which are dropped, are fulfilled.
            conditions: is_reported_ready.then(|| vec![containers_ready()]),
            ..PodStatus::default()
        });
    }
}

fn containers_ready() -> PodCondition {
    let (type_, status) = ("ContainersReady".to_owned(), "True".to_owned());
    PodCondition { type_, status, ..PodCondition::default() }
}

fn container(of: Container) -> Container {
    Container {
        name: of.name,
        ports: of.ports,
        restart_policy: of.restart_policy,
        security_context: of.security_context.and_then(privileges),
        ..Container::default()
    }
}

fn ephemeral(of: EphemeralContainer) -> EphemeralContainer {
    EphemeralContainer {
        name: of.name,
        target_container_name: of.target_container_name,
        security_context: of.security_context.and_then(privileges),
        ..EphemeralContainer::default()
    }
}

/// Keeps what gives a container more than it has by itself; nothing of most containers.
fn privileges(of: SecurityContext) -> Option<SecurityContext> {
    let privileged = of.privileged.filter(|privileged| *privileged);
    let added = of.capabilities.and_then(|all| all.add).filter(|added| !added.is_empty());
    let capabilities = added.map(|add| Capabilities { add: Some(add), drop: None });
    (privileged.is_some() || capabilities.is_some()).then(|| SecurityContext {
        privileged,
        capabilities,
        ..SecurityContext::default()
    })
}
