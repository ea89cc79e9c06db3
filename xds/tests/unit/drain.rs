//! A proxy that was disconnected while policy changed: what it is sent, and what it is not, when it connects again.
//!
//! The session alone, with the resources of real meshes; `rbac_verdicts` tests the effect of a drain mark in Envoy.

use smidge_xds_testing::meshes;
use std::{collections::BTreeMap, sync::Arc};

use smidge_xds::{
    delta::{Request, Session},
    mesh::{
        Mesh,
        access::{Payload, Ports},
    },
    resources::ResourceType,
    snapshot::Snapshot,
    view::View,
};

fn mesh(sources: &[&str]) -> Mesh {
    let mut mesh = meshes::no_grants();
    meshes::grant(&mut mesh, "db", sources, Ports::All, Payload::Any);
    mesh
}

fn view(mesh: Mesh) -> Arc<View> {
    Snapshot::next(Arc::new(mesh), None).view(&meshes::proxy("db")).unwrap()
}

/// Returns the names of each type that the session sends to a proxy which holds all of `held` and shall have `now`.
fn sent(held: &View, now: &Arc<View>) -> BTreeMap<ResourceType, Vec<String>> {
    let mut session = Session::new();
    session.on_view(Arc::clone(now));
    let mut sent = BTreeMap::new();
    for kind in [ResourceType::Cluster, ResourceType::Listener, ResourceType::Extension, ResourceType::Secret]
    {
        let own = held.resources.iter().filter(|((of, _), _)| *of == kind);
        let versions: Vec<(String, String)> =
            own.map(|((_, name), it)| (name.to_string(), it.version.to_string())).collect();
        let subscribe =
            if kind.is_wildcard() { Vec::new() } else { versions.iter().map(|it| it.0.clone()).collect() };
        session.on_request(&Request {
            type_url: kind.type_url().to_owned(),
            subscribe,
            initial_versions: versions.into_iter().collect(),
            ..Request::default()
        });
        while let Some(response) = session.next_response() {
            let names = response.updated.iter().map(|item| item.name().to_string());
            sent.entry(response.kind).or_insert_with(Vec::new).extend(names);
            session.on_request(&Request {
                type_url: response.kind.type_url().to_owned(),
                response_nonce: response.nonce.to_string(),
                ..Request::default()
            });
        }
    }
    sent
}

#[test]
fn a_proxy_that_missed_nothing_is_sent_nothing() {
    let held = view(mesh(&["web", "cron"]));
    assert_eq!(sent(&held, &view(mesh(&["web", "cron"]))), BTreeMap::new());
}

#[test]
fn a_proxy_that_missed_a_change_of_tcp_policy_gets_the_drain_marks_too() {
    let held = view(mesh(&["web", "cron"]));
    let sent = sent(&held, &view(mesh(&["web"])));
    assert_eq!(sent[&ResourceType::Extension], ["inbound/5432/tcp"]);
    assert_eq!(sent[&ResourceType::Listener], ["inbound"]);
    assert_eq!(sent.get(&ResourceType::Cluster), None);
}
