//! Schema of the graph: the function that computes each node.
//!
//! Maps each node to the function of `kubernetes`, `smi` or `budget` that computes it. Driven by `engine`; a function
//! reads other nodes through `context`. Computes nothing itself except the findings about absent kinds and unreadable
//! objects.

use std::sync::Arc;

use smidge_crds::object::Kind;

use super::{
    budget,
    context::Context,
    engine::{Role, Schema},
    kubernetes::{endpoints, external_workload, mesh_service, protocol, service, settings, workload},
    node::Node,
    smi::{self, binding, effect, metrics_policy, split, target},
    source::{Lower, Source},
    table::table_of_kinds,
    value::Value,
};
use crate::{
    finding::{Finding, ObjectRef, Reason},
    inputs::Key,
};

impl Schema for Lower {
    type Node = Node;
    type Value = Value;
    type Source = Source;

    fn role(node: &Node) -> Role {
        node.role()
    }

    /// Returns true for the parts of the mesh.
    fn is_output(node: &Node) -> bool {
        matches!(
            node,
            Node::Grants(_) | Node::Service(_) | Node::Workload(_) | Node::Class(_) | Node::MeshWide
        )
    }

    fn compute(node: &Arc<Node>, context: &mut Context<'_>) -> Option<Value> {
        let Source { lowered, .. } = context.source();
        let mut counts = lowered.get();
        counts.services += u64::from(matches!(**node, Node::Service(_)));
        counts.workloads += u64::from(matches!(**node, Node::Workload(_)));
        lowered.set(counts);
        compute(node, context)
    }
}

/// Computes the value of a node.
fn compute(node: &Node, context: &mut Context<'_>) -> Option<Value> {
    Some(match node {
        Node::TrustDomain => Value::TrustDomain(context.setting(|inputs| inputs.trust_domain.clone())),
        Node::ClusterDomain => Value::Text(context.setting(|inputs| inputs.cluster_domain.as_str().into())),
        Node::SystemNamespace => Value::Text(context.setting(|it| it.system_namespace.as_str().into())),
        Node::MeshWide => Value::MeshWide(settings::mesh_wide(context)),
        Node::Modes(namespace) => Value::Modes(settings::modes(namespace, context)?),
        Node::Absent(kind) => report_absent(kind, context)?,
        Node::Unreadable(kind, key) => report_unreadable(kind, key, context)?,
        Node::Object(kind, key) => object(kind, key, context)?,
        Node::Pod(_) | Node::ExternalClaims(_) | Node::AddressHolder(_) | Node::ExternalInstance(_) => {
            pod(node, context)?
        }
        Node::Binding(key) => Value::Identities(binding::binding(key, context)?.into()),
        Node::Target(key) => Value::TargetGrant(target::target(key, context)?.into()),
        Node::RuledPorts(_) => Value::RuledPorts(target::ruled_ports(context).into()),
        Node::Slice(key) => Value::Slice(endpoints::slice(key, context)?),
        Node::KubeService(id) => Value::KubeService(service::kube_service(id, context)?.into()),
        Node::Endpoints(id) => Value::Endpoints(endpoints::endpoints(id, context)?.into()),
        Node::SplitSpec(key) => Value::SplitSpec(split::split_spec(key, context)?.into()),
        Node::Splits(_) => Value::Splits(split::in_effect(context)?.into()),
        Node::Protocols(id) => Value::Protocols(protocol::protocols(id, context)?.into()),
        Node::InboundPort(..)
        | Node::ServiceLoad(_)
        | Node::IdentityLoad(_)
        | Node::TargetsOverBudget(_)
        | Node::SplitsOverBudget(_) => costs(node, context)?,
        Node::Grants(_) => Value::Grants(target::grants(context).into()),
        Node::ClaimedAddresses(_) | Node::AddressOwner(..) | Node::Service(_) => mesh_service(node, context)?,
        Node::ServedPorts(_)
        | Node::Workload(_)
        | Node::MetricsPolicy(_)
        | Node::Class(_)
        | Node::IdentityPorts(_) => inbound(node, context)?,
        Node::TargetEffect(key) => {
            effect::report(key, context);
            Value::Yes
        }
        Node::InjectsNamespace(_)
        | Node::ReportedReady(_)
        | Node::NamespaceHasPods(_)
        | Node::AccountHasPods(..)
        | Node::ServiceExists(_)
        | Node::ExternalName(_)
        | Node::HasMembers(_)
        | Node::HasSplit(_)
        | Node::IsGranted(_) => is_true(node, context).then_some(Value::Yes)?,
        // Sets have no value of their own: they represent their contributors.
        Node::GroupsWithMatch(..)
        | Node::PodsAtAddress(_)
        | Node::PodsWithLabel(..)
        | Node::PodsInNamespace(_)
        | Node::PodsOfAccount(..)
        | Node::PodsOfWorkload(..)
        | Node::SlicesOfService(_)
        | Node::SplitsOfRoot(_)
        | Node::SplitsToService(_)
        | Node::PoliciesOfNamespace(_) => return None,
    })
}

/// Computes a pod, an ExternalWorkload, or who has an address.
fn pod(node: &Node, context: &mut Context<'_>) -> Option<Value> {
    Some(match node {
        Node::Pod(key) => Value::Pod(workload::kube_pod(key, context)?.into()),
        Node::ExternalClaims(key) => Value::Claims(external_workload::claims(key, context)?.into()),
        Node::AddressHolder(_) => Value::Holder(external_workload::holder(context)?),
        Node::ExternalInstance(key) => Value::Pod(external_workload::external_workload(key, context)?.into()),
        _ => return None,
    })
}

/// Computes a cost, or what does not fit into a budget.
fn costs(node: &Node, context: &mut Context<'_>) -> Option<Value> {
    Some(match node {
        Node::InboundPort(identity, _) => budget::inbound_port(identity, context),
        Node::ServiceLoad(id) => Value::Load(budget::service_load(id, context)?),
        Node::IdentityLoad(_) => Value::Load(budget::identity_load(context)),
        Node::TargetsOverBudget(namespace) => {
            Value::TargetsOverBudget(budget::targets_over_budget(namespace, context).into())
        }
        Node::SplitsOverBudget(namespace) => {
            Value::SplitsOverBudget(budget::splits_over_budget(namespace, context).into())
        }
        _ => return None,
    })
}

/// Computes a Service of the mesh, or who has an address.
fn mesh_service(node: &Node, context: &mut Context<'_>) -> Option<Value> {
    Some(match node {
        Node::ClaimedAddresses(id) => {
            Value::ClaimedAddresses(mesh_service::claimed_addresses(id, context)?.into())
        }
        Node::AddressOwner(..) => Value::Owner(mesh_service::owner(context)?),
        Node::Service(id) => Value::Service(mesh_service::service(id, context)?.into()),
        _ => return None,
    })
}

/// Computes a part of the inbound side of workloads.
fn inbound(node: &Node, context: &mut Context<'_>) -> Option<Value> {
    Some(match node {
        Node::ServedPorts(_) => Value::ServedPorts(service::served_ports(context).into()),
        Node::Workload(pod) => Value::Workload(workload::workload(pod, context)?),
        Node::MetricsPolicy(key) => Value::Measured(metrics_policy::metrics_policy(key, context)?.into()),
        Node::Class(_) => Value::Class(workload::class(context)?),
        Node::IdentityPorts(_) => Value::IdentityPorts(workload::identity_ports(context).into()),
        _ => return None,
    })
}

/// Returns true if the fact that a node names is true.
fn is_true(node: &Node, context: &mut Context<'_>) -> bool {
    match node {
        Node::InjectsNamespace(namespace) => settings::injects(namespace, context),
        Node::ReportedReady(_) => {
            context.object(|inputs| &inputs.pods).is_some_and(|pod| workload::is_reported_ready(pod))
        }
        Node::NamespaceHasPods(namespace) => context.is_any(Node::PodsInNamespace(namespace.clone())),
        Node::AccountHasPods(namespace, account) => {
            context.is_any(Node::PodsOfAccount(namespace.clone(), account.clone()))
        }
        Node::ServiceExists(id) => context.kube_service(id).is_some(),
        Node::ExternalName(_) => service::is_external_name(context),
        Node::HasMembers(id) => context.kube_service(id).is_some_and(|it| !it.members.is_empty()),
        Node::HasSplit(root) => context.splits(root).is_some(),
        Node::IsGranted(identity) => context.grants(identity).is_some(),
        _ => false,
    }
}

/// Defines the computation of `Node::Object`, by the functions of the table.
macro_rules! objects {
    (
        kubernetes $kubernetes:tt
        custom { $($(#[$doc:meta])* $list:ident: $spec:ty, $nodes:expr, $references:path $(, ($compute:path))?;)* }
    ) => {
        fn object(kind: &str, key: &Key, context: &mut Context<'_>) -> Option<Value> {
            match kind {
                $($(<$spec>::KIND => $compute(key, context).map(Value::from),)?)*
                _ => None,
            }
        }
    };
}

table_of_kinds!(objects);

fn report_absent(kind: &str, context: &mut Context<'_>) -> Option<Value> {
    context.is_absent(kind).then_some(())?;
    let object = ObjectRef::new("CustomResourceDefinition", "", kind);
    let message = "is not installed; the mesh goes on as if there were no object of it";
    context.report(
        Finding::new(object, Reason::CRDNotInstalled, message)
            .hint("install the definitions that `smidge crds` prints"),
    );
    Some(Value::Yes)
}

fn report_unreadable(kind: &str, key: &Key, context: &mut Context<'_>) -> Option<Value> {
    let error = context.unreadable(kind, key)?;
    let object = ObjectRef::new(kind, &key.0, &key.1);
    let message = format!("cannot be read and has no effect: {error}");
    context.report(Finding::new(object, Reason::Malformed, message));
    Some(Value::Yes)
}
