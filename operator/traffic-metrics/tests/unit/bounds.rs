//! Proxies that push what they should not: each bound holds, and what is dropped is counted.

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use smidge_traffic_metrics::{
    answer, exchange,
    series::{ADDRESS, CODE, Defect, MAX_LABEL, Metric, PEER_ID, PEER_SUBJECT},
    store::{DropReason, Dropped, Limits, Store},
    traffic::{Figures, Kind},
};

use super::{
    directory::{ask, objects, proxy},
    otlp::{Sample, bounds, counter, histogram, message, point, push},
};

fn report(store: &mut Store, name: &str, message: &[u8], now: u64) -> Dropped {
    store.report(&proxy(name), message, &objects(), Duration::from_secs(now))
}

fn callers(count: usize) -> Vec<Sample> {
    (0..count)
        .map(|number| {
            counter(Metric::InboundRequests, &[(PEER_SUBJECT, &format!("CN=c{number}")), (CODE, "200")], 1)
        })
        .collect()
}

fn success(store: &Store, now: u64) -> (usize, u64) {
    let question = ask(Kind::Namespace, None, None, 3_600);
    let traffic = answer::of_store(store, &question, &objects(), Duration::from_secs(now));
    let mut sum = Figures::default();
    traffic.values().flat_map(|edges| edges.values()).for_each(|figures| sum.add(figures));
    (traffic.values().map(BTreeMap::len).sum(), sum.success)
}

#[test]
fn series_beyond_the_limit_are_dropped_and_flows_lose_their_names() {
    let limits = Limits { series: 40, flows: 30, ..Limits::default() };
    let mut store = Store::new(limits);
    let dropped = report(&mut store, "db-0", &push(1, 10, &callers(50)), 10);
    assert_eq!(dropped, Dropped::from([(DropReason::Series, 10)]));
    assert_eq!(store.size().series, 40);
    assert_eq!(success(&store, 10), (31, 40));
    // Those that have ended make room.
    for number in 2..60 {
        let time = 10 * number;
        report(&mut store, "db-0", &push(1, time, &callers(if number < 40 { 50 } else { 1 })), time);
    }
    assert_eq!(store.size().series, 1);
}

#[test]
fn memory_is_bounded_in_all_and_for_a_namespace_and_room_comes_back() {
    let limits = Limits { bytes: 1 << 20, namespace_bytes: 1 << 19, ..Limits::default() };
    let mut store = Store::new(limits.clone());
    let mut dropped = Dropped::new();
    for number in 0..2_000 {
        let time = 10 + number / 100;
        for (reason, count) in report(&mut store, &format!("p{number}"), &push(1, time, &callers(5)), time) {
            *dropped.entry(reason).or_default() += count;
        }
        assert!(store.size().bytes <= limits.namespace_bytes + (4 << 10), "{:?}", store.size());
    }
    assert!(dropped.keys().all(|reason| *reason == DropReason::Bytes) && !dropped.is_empty(), "{dropped:?}");
    let other = smidge_traffic_metrics::directory::ProxyName { namespace: "other".to_owned(), ..proxy("a") };
    assert!(store.report(&other, &push(1, 40, &callers(5)), &objects(), Duration::from_secs(40)).is_empty());
    store.sweep(Duration::from_secs(10_000));
    assert_eq!(store.size().bytes, 0);
}

#[test]
fn the_number_of_proxies_is_bounded() {
    let mut store = Store::new(Limits { proxies: 2, ..Limits::default() });
    let message = push(1, 10, &callers(1));
    let dropped: Vec<Dropped> =
        ["a", "b", "c", "a"].map(|name| report(&mut store, name, &message, 10)).into();
    let none = Dropped::new();
    assert_eq!(dropped, [none.clone(), none.clone(), Dropped::from([(DropReason::Proxies, 1)]), none]);
    assert_eq!(store.size().proxies, 2);
}

#[test]
fn an_answer_of_many_pages_has_every_proxy_once() {
    let mut store = Store::new(Limits::default());
    for count in 1..=129_u64 {
        report(&mut store, &format!("p{count}"), &push(1, 10, &callers(1)), 10);
        assert_eq!(success(&store, 10), (1, count));
    }
}

#[test]
fn every_defect_of_a_point_is_counted() {
    let requests = |labels: &[(&'static str, &str)]| counter(Metric::InboundRequests, labels, 1);
    let times = (1, 2);
    let good = point(times, &requests(&[]), &[]);
    let long = point(times, &requests(&[(PEER_ID, &"x".repeat(MAX_LABEL + 1))]), &[]);
    let slow = |bounds: &[f64]| point(times, &histogram(Metric::InboundLatency, &[], [1; 14]), bounds);
    let (inbound, latency) = (Metric::InboundRequests.name(), Metric::InboundLatency.name());
    for (metric, defect) in [
        ((inbound, 7, 1, vec![good.clone()]), Defect::NotCumulative),
        ((inbound, 9, 2, vec![good.clone()]), Defect::Malformed),
        ((inbound, 7, 2, vec![Vec::new()]), Defect::Malformed),
        ((inbound, 7, 2, vec![vec![0xff]]), Defect::Malformed),
        (
            (inbound, 7, 2, vec![point(times, &counter(Metric::InboundRequests, &[], u64::MAX), &[])]),
            Defect::Malformed,
        ),
        ((inbound, 7, 2, vec![long]), Defect::LabelTooLong),
        ((latency, 9, 2, vec![slow(&bounds()[1..])]), Defect::Bounds),
        ((latency, 9, 2, vec![slow(&[])]), Defect::Bounds),
        (("envoy_other", 7, 2, vec![good; 3]), Defect::UnknownMetric),
    ] {
        let mut store = Store::new(Limits::default());
        let dropped = report(&mut store, "db-0", &message(&[metric]), 10);
        assert_eq!(dropped, Dropped::from([(DropReason::Point(defect), 1)]));
        assert_eq!(store.size(), smidge_traffic_metrics::store::Size::default(), "{defect:?}");
    }
    let mut store = Store::new(Limits::default());
    let whole = push(1, 10, &callers(1));
    let dropped = report(&mut store, "db-0", &whole[..whole.len() - 1], 10);
    assert_eq!(dropped, Dropped::from([(DropReason::Message, 1)]));
}

#[test]
fn times_and_values_of_any_size_are_harmless() {
    let mut store = Store::new(Limits::default());
    let largest = i64::MAX as u64;
    for (start, time) in [(0, 0), (u64::MAX, u64::MAX), (0, u64::MAX), (u64::MAX, 0), (1, 2), (2, 1)] {
        for value in [0, largest, 1, largest] {
            let requests = counter(Metric::InboundRequests, &[(CODE, "200")], value);
            let slow = histogram(Metric::InboundLatency, &[], [0; 14]);
            let points = vec![point((start, time), &requests, &[])];
            let slow = vec![point((start, time), &slow, &bounds())];
            let metrics =
                [(Metric::InboundRequests.name(), 7, 2, points), (Metric::InboundLatency.name(), 9, 2, slow)];
            report(&mut store, "db-0", &message(&metrics), 10);
            let question = ask(Kind::Pod, None, None, u64::MAX);
            let part = exchange::part(&store, &question, &objects(), Duration::from_secs(10));
            let part = exchange::decode(&exchange::encode(&part).unwrap()).unwrap();
            exchange::combine([part.clone(), part]);
        }
    }
}

#[test]
fn parts_that_another_replica_cannot_have_sent_are_refused() {
    let mut store = Store::new(Limits::default());
    report(
        &mut store,
        "db-0",
        &push(1, 10, &[counter(Metric::OutboundRefused, &[(ADDRESS, "10.0.0.1:80")], 3)]),
        10,
    );
    let part = exchange::part(&store, &ask(Kind::Pod, None, None, 60), &objects(), Duration::from_secs(10));
    let text = String::from_utf8(exchange::encode(&part).unwrap()).unwrap();
    assert_eq!(exchange::decode(text.as_bytes()).unwrap(), part);
    for broken in ["[0,0,4503599627370497]", "[0,0,-1]", &format!("[{}0]", "0,".repeat(17)), "[0.5]", "{}"] {
        assert!(text.contains("[0,0,3]"));
        assert!(exchange::decode(text.replace("[0,0,3]", broken).as_bytes()).is_err(), "{broken}");
    }
    assert!(exchange::decode(&vec![b' '; exchange::MAX_PART + 1]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_harmless(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut samples = callers(2);
        samples.push(histogram(Metric::OutboundLatency, &[(PEER_ID, "x")], [1; 14]));
        let mut changed = push(1, 10, &samples);
        for (at, byte) in &changes {
            *at.get_mut(&mut changed) = *byte;
        }
        let mut store = Store::new(Limits::default());
        for (now, message) in [(10, &bytes), (20, &changed), (30, &bytes)] {
            report(&mut store, "db-0", message, now);
            success(&store, now);
        }
        prop_assert!(store.size().series <= 3);
    }
}
