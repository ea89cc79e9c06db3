//! Builds the meshes of the golden directory, with one function for each, from a small mesh of workloads, Services and
//! grants.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use smidge_xds::mesh::{
    Mesh,
    access::{AccessMode, Grant, MtlsMode, Payload, Ports},
    id::{ClassId, ClusterId, ProxyId, ServiceId, SpiffeId, TrustDomain},
    matches::Matches,
    matches::{HttpMatch, PathEnd, PathRegex},
    proxy::{Families, TrafficStats},
    route::{Backend, Route, RouteRule},
    service::{Endpoint, Protocol, Server, Service, ServicePort, Transport},
    settings::{AccessLogs, Tracing},
    source::SourceRef,
    trust::{Bundle, Trust},
    workload::{Class, MeasuredRoutes, Workload},
};

pub mod families;

/// Namespace of every object in these meshes.
pub const NAMESPACE: &str = "shop";

/// Returns every case by name.
pub fn all() -> BTreeMap<&'static str, Mesh> {
    BTreeMap::from([
        ("access-audit", access_audit()),
        ("access-logs-all", access_logs(AccessLogs::All("12.5".parse().unwrap()))),
        ("access-logs-errors", access_logs(AccessLogs::Errors)),
        ("access-permissive", access_permissive()),
        ("dual-stack", families::mesh(Families::Both)),
        ("headless", headless()),
        ("http", http()),
        ("http-matches", http_matches()),
        ("http-split", http_split(&[90, 10, 0])),
        ("http-split-all-zero", http_split(&[0, 0, 0])),
        ("http-split-matches", http_split_matches()),
        ("ipv6", families::mesh(Families::V6)),
        ("mtls-permissive", mtls_permissive()),
        ("no-grants", no_grants()),
        ("open", open()),
        ("stats-bounded", stats(TrafficStats::Bounded)),
        ("stats-routes", stats_routes()),
        ("stats-unbounded", stats(TrafficStats::Unbounded)),
        ("tcp", tcp()),
        ("tcp-split", tcp_split(&[90, 10, 0])),
        ("tcp-split-all-zero", tcp_split(&[0, 0, 0])),
        ("tracing", traced()),
        ("two-accounts", two_accounts()),
        ("two-bundles", two_bundles()),
    ])
}

/// Builds a mesh in which `web` calls `api` over HTTP; `db` is in the mesh, and `web` has no access to it.
pub fn http() -> Mesh {
    let mut mesh = scenario();
    workload(&mut mesh, "api", 10, &[(8080, Protocol::Http)]);
    workload(&mut mesh, "db", 20, &[(5432, Protocol::Tcp)]);
    service(&mut mesh, "api", 80, Protocol::Http, &[("api", 8080)]);
    service(&mut mesh, "db", 5432, Protocol::Tcp, &[("db", 5432)]);
    grant(&mut mesh, "api", &["web"], Ports::All, Payload::Any);
    mesh
}

/// Builds `http` with proxies that count their traffic.
pub fn stats(traffic: TrafficStats) -> Mesh {
    let mut mesh = http();
    each_class(&mut mesh, |class| class.traffic = traffic);
    mesh
}

/// Builds `http` with a server whose requests are counted by route.
pub fn stats_routes() -> Mesh {
    let mut mesh = stats(TrafficStats::Bounded);
    each_class(&mut mesh, |class| class.routes = vec![measured()]);
    mesh
}

/// Returns the routes `buy` (`POST` of anything) and `look` (`/books` and below), and one for every request of the
/// method `PUT`.
pub fn measured() -> MeasuredRoutes {
    let path = |pattern: &str| Some(PathRegex { pattern: pattern.to_owned(), end: PathEnd::Open });
    let methods = |method: &str| Some(BTreeSet::from([method.to_owned()]));
    let list = [
        HttpMatch { methods: methods("POST"), ..http_match("buy") },
        HttpMatch { path: path("/books"), ..http_match("look") },
        HttpMatch { methods: methods("PUT"), ..http_match("write") },
    ];
    let matches = Matches::new(format!("{NAMESPACE}/api"), list.into_iter().map(Arc::new));
    MeasuredRoutes { origin: SourceRef::new("MetricsPolicy", NAMESPACE, "api"), matches: vec![matches] }
}

/// Builds `http` with every condition that a match can have.
pub fn http_matches() -> Mesh {
    let mut mesh = http();
    mesh.grants.clear();
    let ports = Ports::Only(BTreeSet::from([8080]));
    let matches = BTreeSet::from([
        HttpMatch {
            path: Some(PathRegex { pattern: "/books|/lent".to_owned(), end: PathEnd::Open }),
            methods: Some(BTreeSet::from(["GET".to_owned(), "HEAD".to_owned()])),
            ..http_match("reads")
        },
        HttpMatch {
            path: Some(PathRegex { pattern: "/orders/[0-9]+".to_owned(), end: PathEnd::Closed }),
            headers: BTreeMap::from([
                (":authority".to_owned(), "api(\\..*)?".to_owned()),
                ("client-app".to_owned(), "web-.*".to_owned()),
            ]),
            ..http_match("orders")
        },
    ]);
    grant(&mut mesh, "api", &["web", "cron"], ports, Payload::http("shop/api", matches));
    let anything = BTreeSet::from([http_match("anything")]);
    grant(&mut mesh, "api", &["admin"], Ports::All, Payload::http("shop/api/anything", anything));
    mesh
}

/// Builds `http`, and the requests of the Service go to three other Services.
pub fn http_split(weights: &[u32]) -> Mesh {
    let mut mesh = http();
    for (index, version) in ["api-v1", "api-v2", "api-v3"].into_iter().enumerate() {
        let address = 30 + u8::try_from(index).unwrap();
        workload(&mut mesh, version, address, &[(8080, Protocol::Http)]);
        service(&mut mesh, version, 80, Protocol::Http, &[(version, 8080)]);
        grant(&mut mesh, version, &["web"], Ports::All, Payload::Any);
    }
    split(&mut mesh, "api", 80, None, weights);
    mesh
}

/// Builds `http_split` for some requests only.
pub fn http_split_matches() -> Mesh {
    let mut mesh = http_split(&[1, 1, 0]);
    let canary = HttpMatch {
        methods: Some(BTreeSet::from(["GET".to_owned(), "M-SEARCH".to_owned()])),
        headers: BTreeMap::from([("x-canary".to_owned(), "yes|true".to_owned())]),
        path: Some(PathRegex { pattern: "/new".to_owned(), end: PathEnd::Open }),
        ..http_match("canary")
    };
    split(&mut mesh, "api", 80, Some(vec![canary]), &[1, 1, 0]);
    let rest = Route::own(id("api"));
    port(&mut mesh, "api", 80).route.rules.extend(rest.rules);
    mesh
}

/// Builds a mesh in which `web` may call `db`.
pub fn tcp() -> Mesh {
    let mut mesh = http();
    mesh.grants.clear();
    grant(&mut mesh, "db", &["web"], Ports::Only(BTreeSet::from([5432])), Payload::Any);
    mesh
}

/// Builds `tcp`, and the connections of the Service go to three other Services.
pub fn tcp_split(weights: &[u32]) -> Mesh {
    let mut mesh = tcp();
    for (index, version) in ["db-v1", "db-v2", "db-v3"].into_iter().enumerate() {
        let address = 30 + u8::try_from(index).unwrap();
        workload(&mut mesh, version, address, &[(5432, Protocol::Tcp)]);
        service(&mut mesh, version, 5432, Protocol::Tcp, &[(version, 5432)]);
        grant(&mut mesh, version, &["web"], Ports::All, Payload::Any);
    }
    split(&mut mesh, "db", 5432, None, weights);
    mesh
}

/// Builds a mesh with a Service without an address of its own: callers dial its instances, of both address families.
pub fn headless() -> Mesh {
    let mut mesh = tcp();
    let port = port(&mut mesh, "db", 5432);
    port.exact = true;
    port.addresses = BTreeSet::from([ip("10.1.0.20"), ip("fd00::20")]);
    port.endpoints.push(Endpoint {
        address: ip("fd00::20"),
        locality: "eu/b".to_owned(),
        ..port.endpoints[0].clone()
    });
    mesh
}

/// Builds a mesh with a Service behind which two ServiceAccounts run.
pub fn two_accounts() -> Mesh {
    let mut mesh = http();
    workload(&mut mesh, "api-old", 11, &[(8080, Protocol::Http)]);
    service(&mut mesh, "api", 80, Protocol::Http, &[("api", 8080), ("api-old", 8080)]);
    mesh
}

/// Builds a mesh with two trust domains.
pub fn two_bundles() -> Mesh {
    let mut mesh = http();
    bundle(
        Arc::make_mut(&mut mesh.trust),
        "partner.example",
        include_str!("../../tests/golden/roots/partner.example.pem"),
    );
    mesh
}

/// Builds a mesh in which plaintext callers are accepted, but have no identity that a grant allows.
pub fn mtls_permissive() -> Mesh {
    let mut mesh = tcp();
    grant(&mut mesh, "api", &["web"], Ports::All, Payload::Any);
    each_class(&mut mesh, |class| class.mtls = MtlsMode::Permissive);
    mesh
}

/// Builds `mtls_permissive` with proxies that log calls.
pub fn access_logs(logs: AccessLogs) -> Mesh {
    let mut mesh = mtls_permissive();
    mesh.settings.access_logs = logs;
    mesh
}

/// Builds `http` with proxies that send spans.
pub fn traced() -> Mesh {
    let mut mesh = http();
    let share = "12.5".parse().unwrap();
    mesh.settings.tracing = Some(Tracing { host: "otel.observability".to_owned(), port: 4317, share });
    mesh
}

/// Builds a mesh in which grants are ignored.
pub fn access_permissive() -> Mesh {
    let mut mesh = tcp();
    each_class(&mut mesh, |class| class.access = AccessMode::Permissive);
    mesh
}

/// Builds a mesh in which grants are evaluated, and calls that they do not allow pass.
pub fn access_audit() -> Mesh {
    let mut mesh = tcp();
    grant(&mut mesh, "api", &["web"], Ports::All, Payload::Any);
    each_class(&mut mesh, |class| class.access = AccessMode::Audit);
    mesh
}

/// Builds a mesh in which every caller may make every call, on undeclared ports as well.
pub fn open() -> Mesh {
    let mut mesh = access_permissive();
    each_class(&mut mesh, |class| class.mtls = MtlsMode::Permissive);
    mesh
}

/// Builds a mesh in which no call is allowed.
pub fn no_grants() -> Mesh {
    let mut mesh = http();
    mesh.grants.clear();
    mesh
}

fn scenario() -> Mesh {
    let mut mesh = Mesh::default();
    bundle(
        Arc::make_mut(&mut mesh.trust),
        "cluster.local",
        include_str!("../../tests/golden/roots/cluster.local.pem"),
    );
    workload(&mut mesh, "web", 1, &[]);
    mesh
}

fn bundle(trust: &mut Trust, domain: &str, root: &str) {
    let roots = BTreeSet::from([root.to_owned()]);
    trust.bundles.insert(TrustDomain(domain.to_owned()), Bundle { roots });
}

/// Adds an instance with a ServiceAccount of the same name, and its class.
pub fn workload(mesh: &mut Mesh, name: &str, address: u8, ports: &[(u16, Protocol)]) {
    let class = ClassId(format!("{NAMESPACE}/{name}/{address}"));
    let identity = account(name);
    mesh.classes.insert(
        class.clone(),
        Arc::new(Class {
            identity: identity.clone(),
            ports: ports.iter().copied().collect(),
            access: AccessMode::Enforce,
            mtls: MtlsMode::Strict,
            ends: false,
            traffic: TrafficStats::None,
            families: Families::default(),
            routes: Vec::new(),
        }),
    );
    let workload = Workload { identity, kind: "Deployment".to_owned(), name: name.to_owned(), class };
    mesh.workloads.insert(proxy(name), Arc::new(workload));
}

/// Adds a Service with one port. Its address depends on its position in the mesh.
pub fn service(mesh: &mut Mesh, name: &str, number: u16, protocol: Protocol, servers: &[(&str, u16)]) {
    let endpoint = |(server, port): &(&str, u16)| {
        let class = &mesh.workloads[&proxy(server)].class.0;
        Endpoint {
            proxy: proxy(server),
            address: ip(&format!("10.1.0.{}", class.rsplit('/').next().unwrap())),
            alternatives: Vec::new(),
            port: *port,
            network: String::new(),
            locality: "eu/a".to_owned(),
            transport: Transport::Mtls,
        }
    };
    let position = mesh.services.keys().position(|it| it.name == name).unwrap_or(mesh.services.len());
    let port = ServicePort {
        protocol,
        addresses: BTreeSet::from([ip(&format!("10.96.0.{}", position + 10))]),
        exact: false,
        servers: servers
            .iter()
            .map(|(server, port)| Server { identity: account(server), port: *port })
            .collect(),
        endpoints: servers.iter().map(endpoint).collect(),
        route: Route::own(id(name)),
    };
    let identities = servers.iter().map(|(server, _)| account(server)).collect();
    let service =
        Service { id: id(name), ports: BTreeMap::from([(number, port)]), identities, is_joining: false };
    mesh.services.insert(id(name), Arc::new(service));
}

/// Splits the traffic of a Service over `<name>-v1` and so on.
pub fn split(mesh: &mut Mesh, name: &str, number: u16, matches: Option<Vec<HttpMatch>>, weights: &[u32]) {
    let backends = weights.iter().enumerate();
    let backends = backends
        .map(|(index, weight)| (id(&format!("{name}-v{}", index + 1)), *weight))
        .map(|(service, weight)| Backend { service, port: None, weight });
    let named = |matches: Vec<HttpMatch>| Matches::new("shop/api", matches.into_iter().map(Arc::new));
    let matches = matches.map(|matches| BTreeSet::from([named(matches)]));
    let rule = RouteRule { matches, backends: backends.collect(), origin: None };
    port(mesh, name, number).route = Route { rules: vec![rule] };
}

/// Adds a grant by which `sources` may call `destination`.
pub fn grant(mesh: &mut Mesh, destination: &str, sources: &[&str], ports: Ports, payload: Payload) {
    let grants = Arc::make_mut(mesh.grants.entry(account(destination)).or_default());
    grants.push(Arc::new(Grant {
        origin: SourceRef::new("TrafficTarget", NAMESPACE, &format!("{destination}-{}", grants.len())),
        sources: sources.iter().map(|source| Arc::new(account(source))).collect(),
        ports,
        payload,
    }));
}

/// Returns a port of a Service for changing.
pub fn port<'a>(mesh: &'a mut Mesh, name: &str, number: u16) -> &'a mut ServicePort {
    let service = Arc::make_mut(mesh.services.get_mut(&id(name)).unwrap());
    service.ports.get_mut(&number).unwrap()
}

/// Changes every class.
pub fn each_class(mesh: &mut Mesh, change: impl Fn(&mut Class)) {
    for id in mesh.classes.keys().cloned().collect::<Vec<_>>() {
        change(Arc::make_mut(mesh.classes.get_mut(&id).unwrap()));
    }
}

/// Returns a match without conditions.
pub fn http_match(name: &str) -> HttpMatch {
    HttpMatch { name: format!("{NAMESPACE}/api/{name}"), path: None, methods: None, headers: BTreeMap::new() }
}

/// Returns the identity of the ServiceAccount of that name.
pub fn account(name: &str) -> SpiffeId {
    SpiffeId {
        trust_domain: TrustDomain::default(),
        namespace: NAMESPACE.to_owned(),
        service_account: name.to_owned(),
    }
}

/// Returns the identifier of the instance of that name.
pub fn proxy(name: &str) -> ProxyId {
    ProxyId { cluster: ClusterId::default(), namespace: NAMESPACE.to_owned(), instance: name.to_owned() }
}

/// Returns the identifier of the Service of that name.
pub fn id(name: &str) -> ServiceId {
    ServiceId::new(NAMESPACE, name)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
