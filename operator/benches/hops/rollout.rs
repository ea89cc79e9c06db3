//! A pod that takes the place of another one in a Service of 10 to 5,000 pods, which ten others call: lowering, and the
//! snapshot that follows.

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion};
use smidge::{
    inputs::{Clusters, Inputs},
    lower::Lowering,
};
use smidge_xds::{
    mesh::{Mesh, id::ClusterId},
    snapshot::Snapshot,
};

use crate::{scenario::add, shape};

/// Numbers of pods of the Service.
const PODS: [usize; 4] = [10, 100, 1_000, 5_000];
/// The Services that call it, of one pod each.
const CALLERS: std::ops::Range<usize> = 1..11;

pub fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rollout");
    for pods in PODS {
        let size = format!("1 service, {pods} pods");
        let states = [cluster(pods, pods - 1), cluster(pods, pods)];
        let mut lowering = Lowering::default();
        drop(lowering.next(&states[0]));
        // Alternates between the two states: either way one pod goes and one comes.
        let mut done = 0;
        group.bench_function(BenchmarkId::new("lower", &size), |bencher| {
            bencher.iter(|| {
                done += 1;
                lowering.next(black_box(&states[done % 2]))
            });
        });
        let meshes: Vec<Arc<Mesh>> = states.iter().map(|state| lowering.next(state).0.into()).collect();
        let mut snapshot = Snapshot::next(Arc::clone(&meshes[0]), None);
        group.bench_function(BenchmarkId::new("snapshot", &size), |bencher| {
            bencher.iter(|| {
                done += 1;
                snapshot = Snapshot::next(Arc::clone(&meshes[done % 2]), Some(&snapshot));
            });
        });
    }
}

/// Returns a cluster with a Service of this number of pods, of which the last has the number `last`.
fn cluster(pods: usize, last: usize) -> Clusters {
    let mut inputs = Inputs::default();
    let named = (0..pods - 1).chain([last]).map(|pod| (pod, shape::address(pod))).collect::<Vec<_>>();
    let mut objects = shape::namespaces(0, CALLERS.end);
    objects.push(shape::service(0));
    objects.extend(named.iter().map(|(pod, address)| shape::pod(0, *pod, address)));
    objects.extend(shape::slices(0, &named));
    objects.push(shape::target(0, &CALLERS.collect::<Vec<_>>()));
    objects.extend(CALLERS.map(|service| shape::pod(service, 0, &format!("10.1.0.{service}"))));
    for object in objects {
        add(&mut inputs, object);
    }
    BTreeMap::from([(ClusterId::default(), inputs)])
}
