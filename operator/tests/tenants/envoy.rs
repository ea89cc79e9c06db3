//! A real Envoy of the victim: the growth of its memory because of a tenant.

use std::{path::Path, sync::Arc, time::Duration};

use smidge_xds::{mesh::proxy::TrafficStats, view::View};
use smidge_xds_testing::{
    binaries, fixture,
    proxies::{Envoy, Serving, until},
    wide::{self, PROXY},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::{
    alone,
    objects::{Shape, Tenant},
    outcome,
};

/// Time limit for an Envoy to accept a view.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Maximum growth of an Envoy's memory because of one other namespace's matches, in bytes.
const GROWTH: u64 = 5 << 20;

/// Returns the memory that an Envoy has allocated once it has accepted the view.
async fn memory(binary: &Path, view: &Arc<View>) -> u64 {
    let folder = TempDir::new().unwrap();
    let (server, handles) = fixture::server(None);
    handles.publish(&[(PROXY, view)]);
    let serving = Serving::start(server, folder.path());
    let envoy = Envoy::start_with(
        binary,
        folder.path(),
        PROXY,
        &wide::injected(folder.path(), TrafficStats::None),
        2,
    );
    let state = || (handles.proxies.list(), envoy.log());
    let has_taken = || {
        let connected = handles.proxies.list();
        let refused = connected.iter().any(|it| it.sent.values().any(|sent| sent[3] != 0));
        assert!(!refused, "refused: {connected:#?}");
        connected.iter().any(|it| {
            it.settled && it.acknowledged.as_ref().is_some_and(|acknowledged| Arc::ptr_eq(acknowledged, view))
        })
    };
    until("the view is taken", TIMEOUT, state, has_taken).await;
    let memory = envoy.stat("server.memory_allocated").unwrap_or_default();
    let mut latest = memory;
    // The statistic is updated every few seconds.
    until(
        "memory is counted anew",
        TIMEOUT,
        || (),
        || {
            let now = envoy.stat("server.memory_allocated").unwrap_or_default();
            let is_steady = now == latest && now > 0;
            latest = now;
            is_steady
        },
    )
    .await;
    serving.stop().await;
    latest
}

/// Every shape of match fills the budget; and the attack that was observed, thirteen thousand matches.
#[test]
fn a_foreign_view_grows_by_little() {
    let _alone = alone();
    let runtime = Runtime::new().unwrap();
    let tenant = |shape, matches| Tenant {
        matches,
        shape,
        targets: 1,
        foreign: true,
        ports: 2,
        splits: 1,
        ..Tenant::default()
    };
    // As many matches as fit the budget of matches from another namespace at two ports.
    let within = [
        (Shape::Bare, 300),
        (Shape::Path, 275),
        (Shape::Program, 24),
        (Shape::Methods, 14),
        (Shape::Headers, 13),
        (Shape::HeaderPrograms, 6),
    ];
    let mut tenants: Vec<Tenant> =
        within.into_iter().map(|(shape, matches)| tenant(shape, matches)).collect();
    tenants.push(tenant(Shape::Program, 13_000));
    let none = outcome(Tenant { targets: 1, foreign: true, ports: 2, ..Tenant::default() }.text());
    for binary in binaries::envoys() {
        let quiet = runtime.block_on(memory(&binary, &none.victim));
        for tenant in &tenants {
            let outcome = outcome(tenant.text());
            let grown = runtime.block_on(memory(&binary, &outcome.victim)).saturating_sub(quiet);
            println!(
                "{}: {:?} x {}: {} KiB more, {} over budget, {} bytes sent",
                binary.display(),
                tenant.shape,
                tenant.matches,
                grown >> 10,
                outcome.over_budget(),
                outcome.sent()
            );
            assert_eq!(outcome.over_budget(), usize::from(tenant.matches > 1000), "{:#?}", outcome.findings);
            assert!(grown < GROWTH, "{tenant:?}: {grown} bytes more than {quiet}");
        }
    }
}
