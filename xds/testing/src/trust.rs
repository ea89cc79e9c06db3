//! Builds meshes whose workloads trust an authority of the test's, so that the test can be any of them.
//!
//! Continues `meshes`, whose meshes have roots without a key.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use smidge_xds::mesh::{Mesh, id::TrustDomain, service::Protocol, trust::Bundle};

use crate::{caller::Authority, meshes};

/// Builds [`meshes::http`] with workloads that trust this authority alone.
pub fn http_trusting(authority: &Authority) -> Mesh {
    let mut mesh = meshes::http();
    trust(&mut mesh, authority);
    mesh
}

/// Builds a mesh in which `web` calls `api` at port 80 over HTTP, whose proxy listens at these ports, the one for HTTP first;
/// its workloads trust this authority alone.
pub fn pair(authority: &Authority, ports: &[(u16, Protocol)]) -> Mesh {
    let mut mesh = http_trusting(authority);
    meshes::workload(&mut mesh, "api", 10, ports);
    meshes::service(&mut mesh, "api", 80, Protocol::Http, &[("api", ports[0].0)]);
    mesh
}

/// Replaces the trusted authorities of a mesh by this one.
pub fn trust(mesh: &mut Mesh, authority: &Authority) {
    let bundle = Bundle { roots: BTreeSet::from([authority.pem.clone()]) };
    Arc::make_mut(&mut mesh.trust).bundles = BTreeMap::from([(TrustDomain::default(), bundle)]);
}
