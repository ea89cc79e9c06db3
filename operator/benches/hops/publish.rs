//! `operator::publish`: from the edit that a watch sends to the snapshot that wakes streams, with all steps between.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion};
use prometheus_client::registry::Registry;
use smidge::{
    publish::{Metrics, Outputs, publish},
    source::{Edit, Scope},
};
use smidge_xds::{mesh::id::ClusterId, server::SnapshotHub, snapshot::Snapshot};
use tokio::{
    runtime::Runtime,
    sync::{mpsc, watch},
};

use crate::{
    scenario::{self, Change, Scenario},
    shape::Object,
};

pub fn bench(criterion: &mut Criterion, scenario: &Scenario) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("publish");
    // Between two changes the operator must become idle, or the second one is held back as part of a burst: most of the
    // time here is spent waiting for that, and not measured.
    group.measurement_time(Duration::from_millis(20)).warm_up_time(Duration::from_millis(5));
    group.sample_size(10);
    for change in Change::ALL {
        let mut publisher = Publisher::start(&runtime, scenario, change);
        group.bench_function(BenchmarkId::new(change.name(), &scenario.size), |bencher| {
            bencher.iter_custom(|published| (0..published).map(|_| publisher.published(&runtime)).sum());
        });
    }
}

/// A running pipeline, and an object that alternates between two states.
struct Publisher {
    edits: mpsc::Sender<Edit>,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    objects: [Object; 2],
    published: usize,
    took: Duration,
}

impl Publisher {
    fn start(runtime: &Runtime, scenario: &Scenario, change: Change) -> Self {
        let (edits, waiting) = mpsc::channel(16);
        let (snapshots, seen) = watch::channel(None);
        let outputs = Outputs {
            snapshots,
            hub: SnapshotHub::new(|snapshot: &Snapshot, proxy| snapshot.view(proxy)),
            findings: watch::Sender::default(),
            awaited: watch::Sender::new(BTreeSet::new()),
            published: watch::Sender::new(None),
        };
        let metrics = Metrics::register(&mut Registry::default());
        let clusters = watch::Sender::new(scenario.clusters.clone());
        runtime.spawn(publish(ClusterId::default(), clusters, waiting, outputs, metrics));
        let objects = [scenario.edited(change), scenario.original(change)];
        let mut publisher = Self { edits, snapshots: seen, objects, published: 0, took: Duration::ZERO };
        publisher.published(runtime);
        publisher
    }

    fn published(&mut self, runtime: &Runtime) -> Duration {
        runtime.block_on(async {
            tokio::time::sleep(Duration::from_millis(12).max(self.took * 5 / 2)).await;
            let object = self.objects[self.published % 2].clone();
            self.published += 1;
            let edit = Edit {
                cluster: ClusterId::default(),
                scope: Scope::object(object.kind, (object.namespace.clone(), object.name.clone())),
                apply: Box::new(move |inputs| {
                    scenario::add(inputs, object);
                    smidge::kinds::Change::Semantic
                }),
                completes: None,
            };
            let started = Instant::now();
            assert!(self.edits.send(edit).await.is_ok(), "the pipeline has ended");
            self.snapshots.changed().await.unwrap();
            self.took = started.elapsed();
            self.took
        })
    }
}
