//! Running Envoy with the outbound side of the workload `web`, whose listener is at a port of this machine instead of
//! behind a redirection, and whose Services have the endpoints of the test.

use std::{net::SocketAddr, path::Path};

use serde_json::{Value, json};
use smidge_xds::{render, resources::ResourceType, snapshot::Snapshot};

use crate::{
    caller::{Authority, plain},
    inbound::{at, spiffe, within},
    meshes,
    process::{self, Envoy, fixed, put},
};

/// Running Envoy.
pub struct Outbound {
    pub envoy: Envoy,
    port: u16,
}

impl Outbound {
    /// Starts an Envoy that has the listener of this name at a port, and sends what it forwards to one server.
    pub fn start(
        binary: &Path,
        authority: &Authority,
        listener: (&str, u16),
        snapshot: &Snapshot,
        server: SocketAddr,
    ) -> Self {
        Self::start_with(binary, authority, listener, snapshot, &[server])
    }

    /// Starts such an Envoy that sends what it forwards to several servers.
    pub fn start_with(
        binary: &Path,
        authority: &Authority,
        listener: (&str, u16),
        snapshot: &Snapshot,
        servers: &[SocketAddr],
    ) -> Self {
        Self::run(binary, authority, listener, snapshot, |cluster| fixed(cluster, servers))
    }

    /// Starts the same with the endpoints of the mesh.
    pub fn balanced(
        binary: &Path,
        authority: &Authority,
        listener: (&str, u16),
        snapshot: &Snapshot,
    ) -> Self {
        Self::run(binary, authority, listener, snapshot, |cluster| cluster)
    }

    /// Serves the endpoints of the view in `snapshot`.
    pub fn put_endpoints(&self, snapshot: &Snapshot) {
        write_endpoints(self.envoy.folder(), snapshot);
    }

    fn run(
        binary: &Path,
        authority: &Authority,
        (listener, port): (&str, u16),
        snapshot: &Snapshot,
        place: impl Fn(Value) -> Value,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = authority.issue(&spiffe("web")).pems();
        let identity = json!({ "name": "identity", "tls_certificate": {
            "certificate_chain": { "inline_string": certificate }, "private_key": { "inline_string": key } } });
        put(folder.path(), "identity", ResourceType::Secret.type_url(), vec![identity]);
        let view = snapshot.view(&meshes::proxy("web")).unwrap();
        let mut clusters = Vec::new();
        for resource in view.resources.values() {
            let mut printed = render::resource(resource).unwrap();
            let url = resource.kind.type_url();
            match resource.kind {
                ResourceType::Listener if &*resource.name == listener => {
                    let address = json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
                    printed["address"] = address;
                    printed["bind_to_port"] = json!(true);
                    put(folder.path(), "listeners", url, vec![printed]);
                }
                // The collector of spans is at its own address.
                ResourceType::Cluster if &*resource.name == "tracing" => clusters.push(printed),
                ResourceType::Cluster if &*resource.name == "blackhole" => clusters.push(fixed(printed, &[])),
                ResourceType::Cluster => clusters.push(place(printed)),
                ResourceType::Extension | ResourceType::Secret | ResourceType::Route => {
                    put(folder.path(), &resource.name, url, vec![printed]);
                }
                _ => {}
            }
        }
        write_endpoints(folder.path(), snapshot);
        let envoy = Envoy::start(binary, folder, &json!(clusters));
        within("Envoy listens", || plain(at(port)).is_ok());
        Self { envoy, port }
    }

    /// Returns the address at which the application calls.
    pub fn address(&self) -> SocketAddr {
        at(self.port)
    }
}

fn write_endpoints(folder: &Path, snapshot: &Snapshot) {
    let view = snapshot.view(&meshes::proxy("web")).unwrap();
    for resource in view.resources.values().filter(|it| it.kind == ResourceType::Endpoints) {
        let name = process::endpoints(&resource.name);
        put(folder, &name, resource.kind.type_url(), vec![render::resource(resource).unwrap()]);
    }
}
