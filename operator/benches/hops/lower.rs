//! `operator::lower`: from nothing, and going on from the state before one change.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use smidge::lower::{Lowering, lower};

use crate::scenario::{Change, Scenario};

pub fn bench(criterion: &mut Criterion, scenario: &Scenario) {
    let mut group = criterion.benchmark_group("lower");
    group.bench_function(BenchmarkId::new("everything", &scenario.size), |bencher| {
        bencher.iter_with_large_drop(|| lower(black_box(&scenario.clusters)));
    });
    for change in Change::ALL {
        let scenarios = [&scenario.clusters, &scenario.after(change)];
        let mut lowering = Lowering::default();
        drop(lowering.next(scenarios[0]));
        // Alternates between the two states: either way it is one change.
        let mut published = 0;
        group.bench_function(BenchmarkId::new(change.name(), &scenario.size), |bencher| {
            bencher.iter(|| {
                published += 1;
                lowering.next(black_box(scenarios[published % 2]))
            });
        });
    }
}
