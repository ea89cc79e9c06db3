//! Builds a mesh of any number of Services in permissive mode, and the injected bootstrap of one of its proxies.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
};

use rcgen::{CertificateParams, KeyPair, KeyUsagePurpose, SanType};
use serde_json::{Value, json};
use smidge_xds::{
    bootstrap::{BootstrapInput, CONNECTIONS, ControlPlane, Credential, Family, bootstrap},
    mesh::{
        Mesh,
        access::{AccessMode, MtlsMode},
        id::{ClassId, ServiceId, TrustDomain},
        proxy::{Families, TrafficStats},
        route::Route,
        service::{Endpoint, Protocol, Server, Service, ServicePort, Transport},
        trust::Bundle,
        workload::{Class, Workload},
    },
};

use crate::{
    fixture::{NAMESPACE, identity, proxy},
    proxies,
};

/// Name of the first instance of the first Service.
pub const PROXY: &str = "s0-0";
/// Number of endpoints of each Service.
const ENDPOINTS: usize = 10;

/// Builds a mesh in which every workload may call every Service.
pub fn mesh(services: usize, protocol: Protocol) -> Mesh {
    let mut mesh = Mesh::default();
    let root = include_str!("../../tests/golden/roots/cluster.local.pem").to_owned();
    let bundle = Bundle { roots: BTreeSet::from([root]) };
    Arc::make_mut(&mut mesh.trust).bundles.insert(TrustDomain::default(), bundle);
    for number in 0..services {
        add_service(&mut mesh, number, protocol);
    }
    mesh
}

fn add_service(mesh: &mut Mesh, number: usize, protocol: Protocol) {
    let name = format!("s{number}");
    let identity = identity(&name);
    let class = ClassId(format!("{NAMESPACE}/{name}"));
    let inbound = Class {
        identity: identity.clone(),
        ports: BTreeMap::from([(8080, protocol)]),
        access: AccessMode::Permissive,
        mtls: MtlsMode::Strict,
        ends: false,
        traffic: TrafficStats::None,
        families: Families::default(),
        routes: Vec::new(),
    };
    mesh.classes.insert(class.clone(), Arc::new(inbound));
    let workload = Arc::new(Workload {
        identity: identity.clone(),
        kind: "Deployment".to_owned(),
        name: name.clone(),
        class,
    });
    let endpoint = |instance: usize| Endpoint {
        proxy: proxy(&format!("{name}-{instance}")),
        address: address(10, number * ENDPOINTS + instance),
        alternatives: Vec::new(),
        port: 8080,
        network: String::new(),
        locality: "eu/a".to_owned(),
        transport: Transport::Mtls,
    };
    let endpoints: Vec<Endpoint> = (0..ENDPOINTS).map(endpoint).collect();
    for endpoint in &endpoints {
        mesh.workloads.insert(endpoint.proxy.clone(), Arc::clone(&workload));
    }
    let id = ServiceId::new(NAMESPACE, &name);
    let port = ServicePort {
        protocol,
        addresses: BTreeSet::from([address(11, number)]),
        exact: false,
        servers: BTreeSet::from([Server { identity: identity.clone(), port: 8080 }]),
        endpoints,
        route: Route::own(id.clone()),
    };
    let identities = BTreeSet::from([identity]);
    let service =
        Service { id: id.clone(), ports: BTreeMap::from([(80, port)]), identities, is_joining: false };
    mesh.services.insert(id, Arc::new(service));
}

fn address(net: u8, number: usize) -> IpAddr {
    let [_, a, b, c] = u32::try_from(number + 1).unwrap().to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(net, a, b, c))
}

/// Builds the bootstrap as it is injected, except that the server and the admin interface are at sockets in `folder`.
pub fn injected(folder: &Path, traffic: TrafficStats) -> Value {
    let input = BootstrapInput {
        connections: CONNECTIONS,
        socket_mark: None,
        traffic,
        instance: PROXY.to_owned(),
        namespace: NAMESPACE.to_owned(),
        cluster: "test".to_owned(),
        address: "127.0.0.1".to_owned(),
        family: Family::V4,
        control_plane: ControlPlane {
            alternatives: Vec::new(),
            host: "127.0.0.1".to_owned(),
            port: 15012,
            server_name: "smidge.smidge-system.svc".to_owned(),
            roots: Vec::new(),
            credential: Credential::Token { folder: "/".to_owned() },
        },
        probes: Vec::new(),
    };
    let plain = proxies::bootstrap(folder, PROXY);
    let mut config = bootstrap(&input);
    config["admin"] = plain["admin"].clone();
    config["dynamic_resources"]["ads_config"] = plain["dynamic_resources"]["ads_config"].clone();
    for listener in config["static_resources"]["listeners"].as_array_mut().unwrap() {
        listener.as_object_mut().unwrap().remove("additional_addresses");
    }
    for cluster in config["static_resources"]["clusters"].as_array_mut().unwrap() {
        if cluster["name"] == "xds" {
            *cluster = plain["static_resources"]["clusters"][0].clone();
        } else {
            let endpoint = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
            endpoint["address"] = json!(plain["admin"]["address"]);
        }
    }
    config
}

/// Generates a certificate and a key that Envoy can load.
pub fn leaf() -> (String, String) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(identity("s0").to_string().try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}
