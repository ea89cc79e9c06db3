//! `xds::view`: the view of one proxy, built anew, and with one resource of other content.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Bencher, BenchmarkId, Criterion};
use smidge_xds::{
    mesh::{Mesh, id::ProxyId},
    snapshot::Snapshot,
};

use crate::scenario::{Change, Scenario};

pub fn bench(criterion: &mut Criterion, scenario: &Scenario) {
    let mut group = criterion.benchmark_group("view");
    let [before, after] = scenario.meshes(Change::Endpoint);
    let proxies = one_of_each_class(&before);
    group.bench_function(BenchmarkId::new("anew", &scenario.size), |bencher| {
        all(bencher, &proxies, || Snapshot::next(Arc::clone(&before), None));
    });
    let seen = Snapshot::next(Arc::clone(&before), None);
    for proxy in &proxies {
        drop(seen.view(proxy));
    }
    group.bench_function(BenchmarkId::new("endpoint", &scenario.size), |bencher| {
        all(bencher, &proxies, || Snapshot::next(Arc::clone(&after), Some(&seen)));
    });
}

/// Requests the views of `proxies`, one after the other. A snapshot builds each once, so that there must be several.
fn all(bencher: &mut Bencher<'_>, proxies: &[ProxyId], snapshot: impl Fn() -> Snapshot) {
    bencher.iter_custom(|turns| {
        let mut took = Duration::ZERO;
        let mut left = usize::try_from(turns).unwrap();
        while left > 0 {
            let snapshot = snapshot();
            let now = left.min(proxies.len());
            let started = Instant::now();
            for proxy in &proxies[..now] {
                black_box(snapshot.view(proxy));
            }
            took += started.elapsed();
            left -= now;
        }
        took
    });
}

fn one_of_each_class(mesh: &Mesh) -> Vec<ProxyId> {
    let mut all: Vec<_> =
        mesh.workloads.iter().map(|(proxy, it)| (it.class.clone(), proxy.clone())).collect();
    all.sort();
    all.dedup_by(|a, b| a.0 == b.0);
    all.into_iter().map(|(_, proxy)| proxy).collect()
}
