//! Statistics that a Service of the mesh adds to a proxy that does not call it: a dozen, where Envoy by itself has 250.
//! They would be a third of the proxy's memory in a large mesh, and nearly all of every scrape.

use smidge_xds_testing::{binaries, fixture, proxies, wide};
use std::{path::Path, sync::Arc, time::Duration};

use proxies::{Envoy, Serving, until};
use smidge_xds::{
    mesh::{proxy::TrafficStats, service::Protocol},
    snapshot::Snapshot,
};
use tempfile::TempDir;
use wide::PROXY;

/// Time limit of a step, longer than any takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

/// Maximum number of statistics of a Service before it is called.
const OF_A_SERVICE: usize = 12;

#[tokio::test]
async fn a_service_that_is_not_called_adds_a_dozen_statistics() {
    for binary in binaries::envoys() {
        for protocol in [Protocol::Http, Protocol::Tcp] {
            let few = statistics(&binary, 2, protocol).await;
            let more = statistics(&binary, 12, protocol).await;
            let added: Vec<_> = more.iter().filter(|name| !few.contains(name)).collect();
            assert!(added.len() <= 10 * OF_A_SERVICE, "{}, {protocol:?}: {added:#?}", binary.display());
            for kept in ["membership_healthy", "ssl.fail_verify_san"] {
                let kept = format!("cluster.shop/s0/80.{kept}");
                assert!(more.contains(&kept), "{}: no {kept}: {more:#?}", binary.display());
            }
        }
    }
}

/// Returns the names of all statistics of a proxy with the configuration of a mesh of `services` Services.
async fn statistics(binary: &Path, services: usize, protocol: Protocol) -> Vec<String> {
    let snapshot = Snapshot::next(Arc::new(wide::mesh(services, protocol)), None);
    let view = snapshot.view(&fixture::proxy(PROXY)).unwrap();
    let folder = TempDir::new().unwrap();
    let (server, mut handles) = fixture::server(Some(wide::leaf()));
    let serving = Serving::start(server, folder.path());
    handles.publish(&[(PROXY, &view)]);
    let envoy = Envoy::start_with(
        binary,
        folder.path(),
        PROXY,
        &wide::injected(folder.path(), TrafficStats::None),
        1,
    );
    let has_all = || {
        let connected = handles.proxies.list();
        let has_taken = connected.iter().any(|it| it.settled && it.acknowledged.is_some());
        has_taken && envoy.stat("listener_manager.total_listeners_warming") == Some(0)
    };
    until("the proxy has all", DEADLINE, || (handles.proxies.list(), envoy.log()), has_all).await;
    // A proxy that refuses everything holds nothing, and is settled all the same.
    let refused = handles.nacks.try_recv();
    assert!(refused.is_err(), "{}: {refused:#?}", binary.display());
    assert_eq!(envoy.log(), "", "{} complains", binary.display());
    let page = envoy.admin("/stats");
    let names =
        page.lines().filter_map(|line| line.split_once(": ")).map(|(name, _)| name.to_owned()).collect();
    drop(envoy);
    serving.stop().await;
    names
}
