//! `xds::snapshot`: the pool of resources and everything built with it, from nothing and after one change.

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion};
use smidge_xds::snapshot::Snapshot;

use crate::scenario::{Change, Scenario};

pub fn bench(criterion: &mut Criterion, scenario: &Scenario) {
    let mut group = criterion.benchmark_group("resources");
    let [mesh, _] = scenario.meshes(Change::Endpoint);
    group.bench_function(BenchmarkId::new("everything", &scenario.size), |bencher| {
        bencher.iter_with_large_drop(|| Snapshot::next(black_box(Arc::clone(&mesh)), None));
    });
    for change in Change::ALL {
        let [before, after] = scenario.meshes(change);
        let snapshot = Snapshot::next(before, None);
        group.bench_function(BenchmarkId::new(change.name(), &scenario.size), |bencher| {
            bencher.iter(|| Snapshot::next(black_box(Arc::clone(&after)), Some(&snapshot)));
        });
    }
}
