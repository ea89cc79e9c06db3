//! `operator::webhook::injection`: the patch for a pod of a usual size, from the body of the review to the answer's.

use std::hint::black_box;

use criterion::Criterion;
use rcgen::KeyPair;
use smidge::{
    ca::issue::{self, Serial, Subject},
    injector::Settings,
    webhook::injection::{self, Metrics, Strictness},
};
use time::OffsetDateTime;

use crate::review::review;

pub fn bench(criterion: &mut Criterion) {
    let subject = Subject { name: "root", domain: None };
    let (key, serial) = (KeyPair::generate().unwrap(), Serial::new([1; 16]));
    let root = issue::root(key, subject, OffsetDateTime::now_utc(), serial).unwrap();
    let settings = Settings { control_plane_roots: vec![root.pem().to_owned()], ..Settings::default() };
    let (body, metrics) = (review().to_string(), Metrics::default());
    let injected =
        injection::answer(body.as_bytes(), &settings, Strictness::Warn, &metrics, |_| None).unwrap();
    assert!(injected.pointer("/response/patch").is_some(), "{injected}");
    criterion.benchmark_group("injection").bench_function("patch", |bencher| {
        bencher.iter(|| {
            injection::answer(black_box(body.as_bytes()), &settings, Strictness::Warn, &metrics, |_| None)
                .unwrap()
                .to_string()
        });
    });
}
