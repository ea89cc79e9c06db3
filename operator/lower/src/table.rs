//! Table of kinds: one row for each kind of object that a mesh is made of.
//!
//! A macro that calls another one with the rows, so that each user of the table generates what it needs: `inputs` the
//! lists of objects, `kinds` the rows that all code visits, `compute` the function for `Node::Object`. Imports nothing,
//! as a column is resolved where it is used: types have their full path, and functions of lowering that from `smi`.
//! `smidge_crds::KINDS` has what the wire format needs.
//!
//! Columns of a Kubernetes kind: field of `Inputs`, type, nodes that read the object of a name. A kind of SMI or Smidge
//! has two more: the function that returns the objects that it refers to, and in parentheses the function that computes
//! `Node::Object`, if that is the node.

/// Calls the macro `$generate` with the rows.
macro_rules! table_of_kinds {
    ($generate:ident) => {
        $generate! {
            kubernetes {
                /// Every pod, injected or not.
                pods: k8s_openapi::api::core::v1::Pod, |key| vec![Node::Pod(key.clone()), Node::ReportedReady(key)];
                /// Every Service.
                services: k8s_openapi::api::core::v1::Service, |(namespace, name)| {
                    let id = ServiceId { namespace, name };
                    vec![Node::KubeService(id.clone()), Node::ExternalName(id)]
                };
                /// Every EndpointSlice.
                slices: k8s_openapi::api::discovery::v1::EndpointSlice, |key| vec![Node::Slice(key)];
                /// Every namespace, for its labels.
                namespaces: k8s_openapi::api::core::v1::Namespace, |(_, name)| {
                    vec![Node::Modes(name.clone()), Node::InjectsNamespace(name)]
                };
            }
            custom {
                /// SMI: grants of access from sources to a destination.
                traffic_targets: smidge_crds::access::TrafficTargetSpec, |key| vec![Node::Target(key)],
                    smi::target::references;
                /// SMI: named sets of identities.
                identity_bindings: smidge_crds::access::IdentityBindingSpec, |key| vec![Node::Binding(key)], none;
                /// SMI: HTTP matches by name.
                http_route_groups: smidge_crds::specs::HttpRouteGroupSpec,
                    object::<smidge_crds::specs::HttpRouteGroupSpec>, none, (smi::route::group);
                /// SMI: TCP ports.
                tcp_routes: smidge_crds::specs::TcpRouteSpec,
                    object::<smidge_crds::specs::TcpRouteSpec>, none, (smi::route::tcp_route);
                /// SMI: UDP ports.
                udp_routes: smidge_crds::specs::UdpRouteSpec,
                    object::<smidge_crds::specs::UdpRouteSpec>, none, (smi::route::udp_route);
                /// SMI: division of the traffic to a Service.
                traffic_splits: smidge_crds::split::TrafficSplitSpec, |key| vec![Node::SplitSpec(key)],
                    smi::split::references;
                // A MeshConfig with another name than `default` is evaluated together with the one of that name.
                /// Mesh-wide settings; only the object called `default` is in use.
                mesh_configs: smidge_crds::config::MeshConfigSpec, |_| vec![Node::MeshWide], none;
                /// Workloads on machines that no Kubernetes manages.
                external_workloads: smidge_crds::config::ExternalWorkloadSpec,
                    |key| vec![Node::ExternalClaims(key.clone()), Node::ExternalInstance(key)], none;
                /// Objects whose calls are measured by route.
                metrics_policies: smidge_crds::config::MetricsPolicySpec, |key| vec![Node::MetricsPolicy(key)],
                    smi::metrics_policy::references;
            }
        }
    };
}
pub(crate) use table_of_kinds;
