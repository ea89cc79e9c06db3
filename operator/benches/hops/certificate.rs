//! `operator::ca`: leaf certificates as the server requests them, a new key each, on one core and on all of them.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use criterion::{Criterion, Throughput};
use futures::executor::block_on;
use rcgen::KeyPair;
use smidge::{
    ca::{
        LeafSource, Metrics,
        issue::{self, Issuer, Profile, Serial, Subject},
        secret::Issuing,
        version::MeshKey,
    },
    clock::Clock,
};
use smidge_xds::{
    mesh::id::{ClusterId, ProxyId, TrustDomain},
    server::{CertSource as _, Holder},
};
use time::OffsetDateTime;
use tokio::sync::watch;

pub fn bench(criterion: &mut Criterion) {
    let source = source();
    let holder = Holder {
        proxy: ProxyId {
            cluster: ClusterId::default(),
            namespace: "bench-0".to_owned(),
            instance: "s0-0".to_owned(),
        },
        identity: "spiffe://cluster.local/ns/bench-0/sa/s0".parse().unwrap(),
        workload_kind: "Deployment".to_owned(),
        workload_name: "s0".to_owned(),
    };
    let mut group = criterion.benchmark_group("certificate");
    group.throughput(Throughput::Elements(1)).measurement_time(Duration::from_secs(2));
    group.bench_function("one core", |bencher| bencher.iter(|| block_on(source.issue(&holder)).unwrap()));
    let cores = thread::available_parallelism().unwrap().get();
    group.bench_function(format!("{cores} cores"), |bencher| {
        bencher.iter_custom(|turns| {
            let each = turns.div_ceil(cores as u64);
            let started = Instant::now();
            thread::scope(|scope| {
                for _ in 0..cores {
                    scope.spawn(|| (0..each).for_each(|_| drop(block_on(source.issue(&holder)).unwrap())));
                }
            });
            // Scaled to the requested number: threads that cannot share it evenly issue a few more.
            started.elapsed().mul_f64(turns as f64 / (each * cores as u64) as f64)
        });
    });
}

/// Certificate source of a mesh: a root, an intermediate below it, and leaf certificates below that.
fn source() -> LeafSource {
    let (domain, now) = (TrustDomain::default(), OffsetDateTime::now_utc());
    let subject = |name| Subject { name, domain: Some(&domain) };
    let root = issue::root(KeyPair::generate().unwrap(), subject("root"), now, Serial::new([1; 16])).unwrap();
    let key = KeyPair::generate().unwrap();
    let profile = Profile::Intermediate(subject("intermediate"));
    let issued = issue::issue(&root, &key, profile, now, Serial::new([2; 16])).unwrap();
    let issuing = Issuing { issuer: Issuer::new(issued.certificate, key).unwrap(), previous: None };
    LeafSource::new(
        watch::channel(Arc::new(issuing)).1,
        watch::channel(0).1,
        MeshKey::new(&[3; MeshKey::LENGTH]).unwrap(),
        Clock::system(),
        Metrics::default(),
    )
}
