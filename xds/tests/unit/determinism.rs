//! Equal meshes have equal bytes and versions in every process, and a change touches what it must and nothing else.

use smidge_xds_testing::meshes;
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    process::Command,
    sync::Arc,
};

use smidge_xds::{
    mesh::{
        Mesh,
        access::{AccessMode, Payload, Ports},
        service::Protocol,
    },
    resources::{ResourceType, Resources, Version, resources},
    snapshot::Snapshot,
    view::View,
};

/// Set in the processes that only print.
const PRINT: &str = "SMIDGE_PRINT_POOLS";

#[test]
fn two_processes_make_the_same_bytes() {
    if env::var_os(PRINT).is_some() {
        println!("<pools>{}</pools>", all_pools());
        return;
    }
    let here = all_pools();
    for _ in 0..2 {
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", "determinism::two_processes_make_the_same_bytes", "--nocapture"])
            .env(PRINT, "1")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let there = said.split_once("<pools>").unwrap().1.split_once("</pools>").unwrap().0;
        assert!(there == here, "another process makes other bytes of the same meshes");
    }
}

fn all_pools() -> String {
    let mut text = String::new();
    for (case, mesh) in meshes::all() {
        for (class, it) in resources(&mesh, None).iter() {
            let (kind, name, version) = (it.kind, &it.name, &it.version);
            writeln!(text, "{case} {class:?} {kind:?} {name} {version} {:?}", it.body.as_ref()).unwrap();
        }
    }
    text
}

#[test]
fn what_did_not_change_is_the_same_resource_in_the_next_snapshot() {
    for (case, mesh) in meshes::all() {
        let first = resources(&mesh, None);
        let second = resources(&mesh, Some(&first));
        for ((_, a), (_, b)) in first.iter().zip(second.iter()) {
            assert!(Arc::ptr_eq(a, b), "{case}: {a:?} was made twice");
        }
        let first = Snapshot::next(Arc::new(mesh.clone()), None);
        for proxy in mesh.workloads.keys() {
            first.view(proxy).unwrap();
        }
        let second = Snapshot::next(Arc::new(mesh.clone()), Some(&first));
        for proxy in mesh.workloads.keys() {
            assert!(
                Arc::ptr_eq(&first.view(proxy).unwrap(), &second.view(proxy).unwrap()),
                "{case}: {proxy}"
            );
        }
    }
}

/// Views are carried from one snapshot to the next where nothing in them can have changed. Whatever the previous
/// snapshot was, they must be the views of a snapshot without one.
#[test]
fn views_do_not_depend_on_what_was_before() {
    let all = meshes::all();
    for (case, mesh) in &all {
        for (before, other) in &all {
            assert_views_are_as_if_new(&format!("{before} → {case}"), other, mesh);
        }
        for (step, near) in nearby(mesh) {
            assert_views_are_as_if_new(&format!("{case} → {step}"), mesh, &near);
            assert_views_are_as_if_new(&format!("{case} ← {step}"), &near, mesh);
        }
    }
}

/// Returns the mesh after each of the smallest steps: fewer endpoints, no server, one backend at a port of a Service.
fn nearby(mesh: &Mesh) -> Vec<(String, Mesh)> {
    let mut steps = Vec::new();
    for id in mesh.services.keys() {
        for step in ["endpoints", "servers", "backends"] {
            let mut next = mesh.clone();
            for port in Arc::make_mut(next.services.get_mut(id).unwrap()).ports.values_mut() {
                match step {
                    "endpoints" => port.endpoints.truncate(1),
                    "servers" => port.servers.clear(),
                    _ => port.route.rules.iter_mut().for_each(|rule| rule.backends.truncate(1)),
                }
            }
            steps.push((format!("{step} of {id}"), next));
        }
    }
    steps
}

fn assert_views_are_as_if_new(step: &str, before: &Mesh, mesh: &Mesh) {
    let first = Snapshot::next(Arc::new(before.clone()), None);
    for proxy in before.workloads.keys() {
        first.view(proxy).unwrap();
    }
    let second = Snapshot::next(Arc::new(mesh.clone()), Some(&first));
    let fresh = Snapshot::next(Arc::new(mesh.clone()), None);
    for proxy in mesh.workloads.keys() {
        let (carried, made) = (second.view(proxy).unwrap(), fresh.view(proxy).unwrap());
        let names = |view: &View| view.resources.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&carried), names(&made), "{step}: {proxy}");
        for (carried, made) in carried.resources.values().zip(made.resources.values()) {
            // Drain marks do depend on the previous snapshot.
            assert!(carried.version.is_held_as(&made.version), "{step}: {proxy}: {carried:?}, not {made:?}");
        }
    }
}

#[test]
fn names_are_unique_in_each_view_and_equal_names_of_the_pool_differ_in_class() {
    for (case, mesh) in meshes::all() {
        let mut seen = BTreeSet::new();
        for (class, it) in resources(&mesh, None).iter() {
            assert!(seen.insert((class.cloned(), it.kind, it.name.clone())), "{case}: {it:?} is there twice");
        }
    }
}

#[test]
fn an_edit_of_weights_changes_one_route() {
    let changed = changes(&meshes::http_split(&[90, 10, 0]), &meshes::http_split(&[50, 50, 1]));
    assert_eq!(changed, ["Route shop/api/80"]);
    let changed = changes(&meshes::http_split(&[90, 10, 0]), &meshes::http_split(&[0, 0, 0]));
    assert_eq!(changed, ["Route shop/api/80"]);
    let changed = changes(&meshes::tcp_split(&[90, 10, 0]), &meshes::tcp_split(&[0, 10, 90]));
    assert_eq!(changed, ["Extension outbound/shop/db/5432"]);
}

#[test]
fn a_grant_changes_the_rules_of_its_destination_alone() {
    let mut granted = meshes::http();
    let ports = Ports::Only(BTreeSet::from([8080]));
    meshes::grant(&mut granted, "api", &["cron"], ports, Payload::Any);
    assert_eq!(changes(&meshes::http(), &granted), ["shop/api/10 Extension inbound/8080/http"]);
    assert_eq!(changes(&meshes::http(), &meshes::no_grants()), ["shop/api/10 Extension inbound/8080/http"]);
}

#[test]
fn an_endpoint_changes_its_assignment_alone() {
    let mut moved = meshes::http();
    let port = meshes::port(&mut moved, "api", 80);
    port.endpoints[0].port = 8081;
    assert_eq!(changes(&meshes::http(), &moved), ["Endpoints shop/api/80"]);
}

#[test]
fn a_new_account_behind_a_service_changes_whom_clients_accept_and_no_cluster() {
    let changed = changes(&meshes::http(), &meshes::two_accounts());
    let expected = [
        "Endpoints shop/api/80",
        "Secret servers/shop/api",
        // The inbound side of the new workload.
        "shop/api-old/11 Extension inbound/8080/http",
        "shop/api-old/11 Listener inbound",
    ];
    assert_eq!(changed, expected);
}

#[test]
fn only_a_shrinking_allowance_renews_a_drain_mark() {
    let only = |sources: &[&str]| {
        let mut mesh = meshes::tcp();
        mesh.grants.clear();
        meshes::grant(&mut mesh, "db", sources, Ports::All, Payload::Any);
        mesh
    };
    let permissive = || {
        let mut mesh = only(&["web"]);
        meshes::each_class(&mut mesh, |class| class.access = AccessMode::Permissive);
        mesh
    };
    let mut now = resources(&only(&["web"]), None);
    let mut versions = vec![listener(&now)];
    for (step, mesh, renewed) in [
        ("grows", only(&["cron", "web"]), false),
        ("shrinks to what it was", only(&["web"]), true),
        ("grows again", only(&["cron", "web"]), false),
        ("shrinks to what it was again", only(&["web"]), true),
        ("becomes another", only(&["cron"]), true),
        ("allows everybody", permissive(), false),
        ("stays", permissive(), false),
        ("demands grants again", only(&["cron", "web"]), true),
        ("is emptied", meshes::no_grants(), true),
    ] {
        let next = resources(&mesh, Some(&now));
        let (before, after) = (listener(&now), listener(&next));
        assert_eq!(before != after, renewed, "{step}");
        assert!(
            after.is_held_as(&before),
            "{step}: who connects anew would be sent a listener for its mark alone"
        );
        assert!(!renewed || !versions.contains(&after), "{step}: a mark came back");
        versions.push(after);
        now = next;
    }
}

#[test]
fn another_port_of_a_workload_keeps_the_marks_that_it_had() {
    let mut mesh = meshes::tcp();
    let before = resources(&mesh, None);
    meshes::workload(&mut mesh, "db", 21, &[(5432, Protocol::Tcp), (9090, Protocol::Http)]);
    let after = resources(&mesh, Some(&before));
    assert_eq!(chains(&before, "shop/db/20", 5432), chains(&after, "shop/db/21", 5432));
}

#[test]
fn a_view_has_what_grants_reach_and_nothing_else() {
    let names = |mesh: Mesh, name: &str| -> Vec<String> {
        let snapshot = Snapshot::next(Arc::new(mesh), None);
        own(&snapshot.view(&meshes::proxy(name)).unwrap())
    };
    let api = [
        "Cluster shop/api/80",
        "Endpoints shop/api/80",
        "Secret servers/shop/api",
        "Listener outbound/10.96.0.10:80",
        "Route shop/api/80",
    ];
    assert_eq!(names(meshes::http(), "web"), api);
    assert_eq!(names(meshes::http(), "db"), ["Secret clients/5432", "Extension inbound/5432/tcp"]);
    assert_eq!(names(meshes::no_grants(), "web"), [""; 0], "a caller without grants learns of nobody");
    let split = names(meshes::http_split(&[1, 0, 0]), "web");
    for version in ["api-v1", "api-v2", "api-v3"] {
        assert!(split.contains(&format!("Endpoints shop/{version}/80")), "{split:?} lacks {version}");
        assert!(split.contains(&format!("Secret servers/shop/{version}")), "{split:?} lacks {version}");
    }
    // The grant is for another port of the instance than the one that serves.
    let mut elsewhere = meshes::no_grants();
    meshes::grant(&mut elsewhere, "api", &["web"], Ports::Only(BTreeSet::from([80])), Payload::Any);
    assert_eq!(names(elsewhere, "web"), [""; 0]);
    assert!(names(meshes::access_permissive(), "web").contains(&"Route shop/api/80".to_owned()));
    assert!(Snapshot::next(Arc::new(meshes::http()), None).view(&meshes::proxy("nobody")).is_none());
}

/// Returns the names of a view, except those that every proxy has.
fn own(view: &View) -> Vec<String> {
    let names: Vec<String> = view.resources.keys().map(|(kind, name)| format!("{kind:?} {name}")).collect();
    let everybody = [
        "Cluster blackhole",
        "Cluster inbound",
        "Cluster passthrough",
        "Secret trust",
        "Listener inbound",
        "Listener outbound",
        "Extension outbound/router",
    ];
    assert!(everybody.iter().all(|name| names.iter().any(|it| it == name)), "{names:?} lacks something");
    names.into_iter().filter(|name| !everybody.contains(&name.as_str())).collect()
}

/// Returns the resources whose version differs after a change, with their class, added and removed ones included.
fn changes(before: &Mesh, after: &Mesh) -> Vec<String> {
    let first = resources(before, None);
    let second = resources(after, Some(&first));
    let (before, after) = (versions(&first), versions(&second));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

fn versions(pool: &Resources) -> BTreeMap<String, Version> {
    let name = |class: Option<_>, kind, name: &str| match class {
        Some(class) => format!("{class} {kind:?} {name}"),
        None => format!("{kind:?} {name}"),
    };
    pool.iter().map(|(class, it)| (name(class, it.kind, &it.name), it.version.clone())).collect()
}

fn listener(pool: &Resources) -> Version {
    let of_db = |class: &str| class == "shop/db/20";
    let found = pool
        .iter()
        .find(|(class, it)| class.is_some_and(|class| of_db(&class.0)) && it.kind == ResourceType::Listener);
    found.unwrap().1.version.clone()
}

/// Returns the names of a port's filter chains.
fn chains(pool: &Resources, class: &str, port: u16) -> Vec<String> {
    let its = pool
        .iter()
        .find(|(its, it)| its.is_some_and(|its| its.0 == class) && it.kind == ResourceType::Listener);
    let printed = smidge_xds::render::resource(its.unwrap().1).unwrap();
    let chains = printed["filter_chains"].as_array().unwrap().iter();
    let names = chains.map(|chain| chain["name"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with(&port.to_string())).collect()
}
