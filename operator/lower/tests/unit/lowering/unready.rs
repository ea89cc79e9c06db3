//! Endpoints that are not ready by their slice, of pods that are ready by what their node reported last: they serve while no
//! other one is ready, whichever of pod and slice was read first.

use smidge_lower::{Lowering, inputs::Clusters};
use smidge_mesh::id::ClusterId;

use super::{compare, inputs};

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const KUBERNETES: &str = "endpointslice-controller.k8s.io";

/// Returns a pod with these conditions behind a slice that somebody manages and that is ready or not.
fn shop(conditions: &[(&str, bool)], manager: &str, is_ready: bool) -> Clusters {
    let conditions: Vec<String> = conditions
        .iter()
        .map(|(name, is_true)| {
            let status = if *is_true { "True" } else { "False" };
            format!("{{type: {name}, status: \"{status}\"}}")
        })
        .collect();
    let conditions = conditions.join(", ");
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: api, namespace: shop, labels: {{app: api}}}}\n\
         spec: {{serviceAccountName: api, containers: [{{name: app, image: app}}]}}\n\
         status: {{podIPs: [{{ip: 10.9.0.7}}], conditions: [{conditions}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: api, namespace: shop}}\n\
         spec: {{selector: {{app: api}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: api, namespace: shop, \
         labels: {{kubernetes.io/service-name: api, {MANAGED_BY}: {manager}}}}}\naddressType: IPv4\n\
         ports: [{{name: http, port: 8080}}]\nendpoints:\n\
         - {{addresses: [10.9.0.7], conditions: {{ready: {is_ready}}}, targetRef: {{kind: Pod, name: api}}}}\n"
    );
    let mut inputs = inputs(&text);
    // The slice that is derived for a folder without any.
    inputs.slices.remove(&("shop".to_owned(), "api-api".to_owned()));
    Clusters::from([(ClusterId::default(), inputs)])
}

/// Name of a state, the conditions of the pod, the manager of the slice, whether its endpoint is ready, and the number of
/// endpoints that this yields.
type State = (&'static str, &'static [(&'static str, bool)], &'static str, bool, usize);

#[test]
fn a_pod_serves_by_what_its_node_reported_while_no_other_is_ready() {
    const READY: &[(&str, bool)] = &[("Ready", true), ("ContainersReady", true)];
    const LOST: &[(&str, bool)] = &[("Ready", false), ("ContainersReady", true)];
    const ILL: &[(&str, bool)] = &[("Ready", false), ("ContainersReady", false)];
    // In the order of a node that is lost and reports again.
    let states: [State; 8] = [
        ("all is well", READY, KUBERNETES, true, 1),
        ("the slice of a lost node, before its pod", READY, KUBERNETES, false, 1),
        ("a lost node", LOST, KUBERNETES, false, 1),
        ("the pod of a node that is back, before its slice", READY, KUBERNETES, false, 1),
        ("all is well again", READY, KUBERNETES, true, 1),
        ("a pod that is ill", ILL, KUBERNETES, false, 0),
        ("a pod of which nothing is known", &[], KUBERNETES, false, 0),
        ("a slice of another controller", READY, "example.org", false, 0),
    ];
    let mut lowering = Lowering::default();
    for (name, conditions, manager, is_ready, expected) in states {
        let clusters = shop(conditions, manager, is_ready);
        compare(&mut lowering, &clusters, &[name.to_owned()]).unwrap_or_else(|error| panic!("{error}"));
        let (mesh, _) = lowering.next(&clusters);
        let service = mesh.services.values().next().unwrap();
        let endpoints: usize = service.ports.values().map(|port| port.endpoints.len()).sum();
        assert_eq!(endpoints, expected, "{name}");
    }
}
