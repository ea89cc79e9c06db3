//! Windows of one proxy at one replica: baselines, resets, ends of series, restarts.

use std::time::Duration;

use smidge_traffic_metrics::{
    answer,
    series::{CODE, Metric, PEER_SUBJECT},
    store::{DropReason, Dropped, Limits, Size, Store, slots::LONGEST},
    traffic::{BUCKETS, Figures, Kind},
};

use super::{
    directory::{ask, objects, proxy},
    otlp::{Sample, counter, histogram, push},
};

struct One(Store);

impl One {
    fn new() -> Self {
        Self(Store::new(Limits::default()))
    }

    /// Pushes what a proxy that counts since `start` has counted at `time`.
    fn push(&mut self, start: u64, time: u64, samples: &[Sample]) -> Dropped {
        let message = push(start, time, samples);
        self.0.report(&proxy("db-0"), &message, &objects(), Duration::from_secs(time))
    }

    fn figures(&self, window: u64, now: u64) -> Figures {
        let question = ask(Kind::Pod, None, Some("db-0"), window);
        let traffic = answer::of_store(&self.0, &question, &objects(), Duration::from_secs(now));
        let mut sum = Figures::default();
        traffic.values().flat_map(|edges| edges.values()).for_each(|figures| sum.add(figures));
        sum
    }

    fn success(&self, window: u64, now: u64) -> u64 {
        self.figures(window, now).success
    }
}

fn requests(count: u64) -> Sample {
    counter(Metric::InboundRequests, &[(CODE, "200")], count)
}

fn of(name: &str, count: u64) -> Sample {
    counter(Metric::InboundRequests, &[(PEER_SUBJECT, name), (CODE, "200")], count)
}

#[test]
fn the_first_push_of_an_old_proxy_is_a_baseline() {
    let mut one = One::new();
    one.push(10, 10_000, &[requests(1_000_000)]);
    assert_eq!(one.success(3_600, 10_000), 0);
    one.push(10, 10_010, &[requests(1_000_007)]);
    assert_eq!(one.success(3_600, 10_010), 7);
}

#[test]
fn the_first_push_of_a_young_proxy_counts() {
    let mut one = One::new();
    one.push(9_970, 10_000, &[requests(5)]);
    assert_eq!(one.success(10, 10_000), 5);
}

#[test]
fn a_series_that_is_new_counts_from_zero_once_a_whole_push_has_lacked_it() {
    let mut one = One::new();
    one.push(10, 10_000, &[requests(3)]);
    // The first push may have been the rest of one of which another replica has the beginning.
    one.push(10, 10_010, &[requests(3), of("CN=a", 1_000_000)]);
    assert_eq!(one.success(3_600, 10_010), 0);
    one.push(10, 10_020, &[requests(3), of("CN=a", 1_000_001), of("CN=b", 4)]);
    assert_eq!(one.success(3_600, 10_020), 5);
}

#[test]
fn windows_end_now_and_begin_as_asked() {
    let mut one = One::new();
    for push in 0..400 {
        one.push(1, 10 * push, &[requests(push)]);
    }
    let now = 3_990;
    for window in [10, 30, 60, 300, 600, 1_800, 3_600] {
        let counted = one.success(window, now);
        assert!(counted.abs_diff(window / 10) <= 1.max(window / 120), "{counted} in {window}");
    }
    assert_eq!(one.success(1, now), one.success(10, now));
    assert_eq!(one.success(100_000, now), one.success(3_600, now));
}

#[test]
fn a_smaller_value_was_counted_from_zero() {
    let mut one = One::new();
    let mut latency = [0; BUCKETS];
    latency[2] = 9;
    let slow = |buckets| histogram(Metric::InboundLatency, &[], buckets);
    one.push(1, 10, &[requests(9), slow(latency)]);
    latency[2] = 4;
    one.push(1, 20, &[requests(4), slow(latency)]);
    let figures = one.figures(60, 20);
    assert_eq!((figures.success, figures.latency[2]), (13, 13));
}

#[test]
fn a_restart_is_counted_from_zero_even_if_the_value_is_larger() {
    let mut one = One::new();
    one.push(1, 10, &[requests(3)]);
    one.push(15, 20, &[requests(5)]);
    assert_eq!(one.success(60, 20), 8);
}

#[test]
fn an_evicted_series_comes_back_from_zero_and_a_lost_message_does_not_matter() {
    let mut one = One::new();
    let both = |count| [requests(1), of("CN=a", count)];
    one.push(1, 10, &both(7));
    for push in 2..40 {
        one.push(1, 10 * push, &both(7));
    }
    for time in [400, 410] {
        one.push(1, time, &[requests(1)]);
    }
    one.push(1, 420, &both(9));
    assert_eq!(one.success(3_600, 420), 10, "messages were lost");
    for push in 43..80 {
        one.push(1, 10 * push, &both(9));
    }
    for push in 80..90 {
        one.push(1, 10 * push, &[requests(1)]);
    }
    one.push(1, 900, &both(9));
    assert_eq!(one.success(3_600, 900), 19, "it was evicted");
}

#[test]
fn after_a_long_gap_nothing_is_counted_for_the_gap() {
    let mut one = One::new();
    one.push(1, 10, &[requests(1)]);
    one.push(1, 60, &[requests(4)]);
    assert_eq!(one.success(300, 60), 4);
    one.push(1, 200, &[requests(1_000)]);
    one.push(1, 210, &[requests(1_001)]);
    assert_eq!(one.success(300, 210), 5);
}

#[test]
fn messages_of_one_push_count_once_and_old_ones_not_at_all() {
    let mut one = One::new();
    one.push(1, 10, &[requests(1)]);
    one.push(1, 10, &[requests(1), of("CN=a", 2)]);
    assert_eq!(one.success(60, 10), 3);
    one.push(1, 20, &[requests(2)]);
    assert_eq!(one.push(1, 15, &[requests(1)]), Dropped::from([(DropReason::OutOfOrder, 1)]));
    assert_eq!(one.success(60, 20), 4);
    // A clock that was set back far begins anew.
    one.push(1, 10_000, &[requests(2)]);
    assert!(one.push(1, 100, &[requests(2)]).is_empty());
}

#[test]
fn a_proxy_that_is_gone_is_forgotten_after_the_longest_window() {
    let mut one = One::new();
    one.push(1, 10, &[requests(1)]);
    one.0.sweep(Duration::from_secs(10 + LONGEST));
    assert_eq!(one.0.size().proxies, 1);
    one.0.sweep(Duration::from_secs(11 + LONGEST));
    // What Prometheus has read of it remains.
    assert_eq!(one.0.size(), Size { counters: 1, ..Size::default() });
}

#[test]
fn after_an_empty_push_a_series_counts_from_zero() {
    let mut one = One::new();
    let empty = |one: &mut One, now| {
        assert!(one.0.report(&proxy("db-0"), &[], &objects(), Duration::from_secs(now)).is_empty());
    };
    empty(&mut one, 10_000);
    one.push(1, 10_010, &[requests(3)]);
    assert_eq!(one.success(60, 10_010), 3);
    // All series were evicted.
    empty(&mut one, 10_100);
    one.push(1, 10_110, &[requests(2)]);
    assert_eq!(one.success(300, 10_110), 5);
    one.0.sweep(Duration::from_secs(10_111 + LONGEST));
    assert_eq!(one.0.size().proxies, 0);
}

#[test]
fn a_push_of_nothing_known_is_nothing() {
    let mut one = One::new();
    one.push(1, 10, &[]);
    assert_eq!(one.0.size(), Size::default());
}
