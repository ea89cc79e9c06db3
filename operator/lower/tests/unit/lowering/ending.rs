//! Pods that are being deleted: in a class of their own where callers in plaintext are accepted, and nowhere else.

use smidge_lower::{Lowering, inputs::Clusters};
use smidge_mesh::id::ClusterId;

use super::{compare, inputs};

/// Returns a pod in a namespace with this mTLS mode, with more fields of its metadata.
fn pod(mtls: &str, more: &str) -> Clusters {
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{smidge.mesh/mtls: {mtls}}}}}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: api, namespace: shop, labels: {{app: api}}{more}}}\n\
         spec: {{serviceAccountName: api, containers: [{{name: app, image: app}}]}}\n\
         status: {{podIP: 10.9.0.7, podIPs: [{{ip: 10.9.0.7}}]}}\n"
    );
    Clusters::from([(ClusterId::default(), inputs(&text))])
}

#[test]
fn a_pod_that_is_deleted_ends_for_callers_in_plaintext() {
    for (mtls, expected) in [("permissive", true), ("strict", false)] {
        let mut lowering = Lowering::default();
        let mut classes = Vec::new();
        for more in ["", ", deletionTimestamp: \"2026-01-01T00:00:00Z\""] {
            let clusters = pod(mtls, more);
            compare(&mut lowering, &clusters, &[mtls.to_owned()]).unwrap_or_else(|error| panic!("{error}"));
            let (mesh, _) = lowering.next(&clusters);
            assert_eq!((mesh.workloads.len(), mesh.classes.len()), (1, 1), "{mtls}{more}");
            let (id, class) = mesh.classes.iter().next().unwrap();
            assert_eq!(class.ends, expected && !more.is_empty(), "{mtls}{more}");
            classes.push(id.clone());
        }
        assert_eq!(classes[0] != classes[1], expected, "strict: it stays in its class");
    }
}
