//! A proxy that moves between replicas, restarts and splits its pushes is counted once.

use std::time::Duration;

use proptest::prelude::*;
use smidge_traffic_metrics::{
    answer, exchange,
    series::{CODE, Metric, PEER_SUBJECT},
    store::{Limits, Store},
    traffic::{Figures, Kind},
};

use super::{
    directory::{ask, objects, proxy},
    otlp::{Sample, counter, push},
};

const REPLICAS: usize = 3;
const SERIES: usize = 4;
/// Number of runs that a replica keeps.
const RUNS: usize = 16;

/// One series is there from the start, so that no push is empty.
const INITIAL: [Option<u64>; SERIES] = [Some(0), None, None, None];

#[derive(Debug, Clone)]
enum Step {
    /// The proxy counts calls of a series.
    Calls { series: usize, calls: u64 },
    /// It pushes everything to a replica.
    Push { replica: usize, after: u64 },
    /// It pushes the first series to one replica, and the rest to another one.
    Split { replicas: (usize, usize), at: usize, after: u64 },
    /// It restarts.
    Restart { after: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let replica = 0..REPLICAS;
    let step = prop_oneof![
        4 => (0..SERIES, 1..100_u64).prop_map(|(series, calls)| Step::Calls { series, calls }),
        // Several pushes to one replica are more likely than moves.
        4 => (1..20_u64).prop_map(|after| Step::Push { replica: 0, after }),
        3 => (replica.clone(), 1..20_u64).prop_map(|(replica, after)| Step::Push { replica, after }),
        1 => ((replica.clone(), replica), 0..SERIES, 1..20_u64)
            .prop_map(|(replicas, at, after)| Step::Split { replicas, at, after }),
        1 => (1..20_u64).prop_map(|after| Step::Restart { after }),
    ];
    prop::collection::vec(step, 1..80)
}

/// A proxy, replicas, and what was pushed.
struct Model {
    stores: Vec<Store>,
    now: u64,
    start: u64,
    values: [Option<u64>; SERIES],
    pushed: [u64; SERIES],
    ended: u64,
    /// For each replica: time of its last push, start of the process, number of runs.
    runs: [(u64, u64, usize); REPLICAS],
    last_push: u64,
    last_replica: usize,
}

impl Model {
    fn new() -> Self {
        Self {
            stores: (0..REPLICAS).map(|_| Store::new(Limits::default())).collect(),
            now: 1_000,
            start: 1_000,
            values: INITIAL,
            pushed: [0; SERIES],
            ended: 0,
            runs: [(0, 0, 0); REPLICAS],
            last_push: 1_000,
            last_replica: 0,
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Calls { series, calls } => *self.values[series].get_or_insert(0) += calls,
            Step::Push { replica, after } => {
                self.now += after;
                self.push(replica, 0..SERIES);
            }
            Step::Split { replicas: (first, second), at, after } => {
                self.now += after;
                self.push(first, 0..at);
                self.push(second, at..SERIES);
            }
            Step::Restart { after } => {
                // A replica that gets one push only does not know that it was whole.
                for _ in 0..2 {
                    self.now += 1;
                    self.push(self.last_replica, 0..SERIES);
                }
                self.now += after;
                self.start = self.now;
                self.ended += self.pushed.iter().sum::<u64>();
                (self.values, self.pushed) = (INITIAL, [0; SERIES]);
            }
        }
        // A proxy pushes all the time.
        if self.now - self.last_push > 40 {
            self.push(0, 0..SERIES);
        }
    }

    fn push(&mut self, replica: usize, series: std::ops::Range<usize>) {
        let samples: Vec<Sample> = series
            .clone()
            .filter_map(|number| {
                let labels = [(PEER_SUBJECT, &*format!("CN=c{number}")), (CODE, "200")];
                Some(counter(Metric::InboundRequests, &labels, self.values[number]?))
            })
            .collect();
        (self.last_push, self.last_replica) = (self.now, replica);
        if samples.is_empty() {
            return;
        }
        let message = push(self.start, self.now, &samples);
        let now = Duration::from_secs(self.now);
        let dropped = self.stores[replica].report(&proxy("db-0"), &message, &objects(), now);
        assert!(dropped.is_empty(), "{dropped:?}");
        for number in series {
            self.pushed[number] = self.values[number].unwrap_or_default();
        }
        let (last, start, runs) = &mut self.runs[replica];
        if *runs == 0 || self.now - *last > 60 || *start != self.start {
            *runs += 1;
        }
        (*last, *start) = (self.now, self.start);
    }

    fn counted(&self) -> u64 {
        let (objects, question) = (objects(), ask(Kind::Pod, None, None, 3_600));
        let part = |store: &Store| {
            let part = exchange::part(store, &question, &objects, Duration::from_secs(self.now));
            exchange::decode(&exchange::encode(&part).unwrap()).unwrap()
        };
        let combined = exchange::combine(self.stores.iter().map(part));
        let mut sum = Figures::default();
        let traffic = answer::traffic(&question, combined, &objects);
        traffic.values().flat_map(|edges| edges.values()).for_each(|figures| sum.add(figures));
        sum.success
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn each_call_is_counted_once(steps in steps(), last in 0..REPLICAS) {
        let mut model = Model::new();
        for step in &steps {
            model.take(step);
            let counted = model.counted();
            prop_assert!(counted <= model.ended + model.pushed.iter().sum::<u64>(), "{} too many", counted);
        }
        // A push that was split is whole with the next one, and a replica knows it with the second one that it gets.
        model.take(&Step::Push { replica: last, after: 10 });
        model.take(&Step::Push { replica: last, after: 10 });
        if model.runs.iter().all(|(_, _, runs)| *runs <= RUNS) {
            prop_assert_eq!(model.counted(), model.ended + model.pushed.iter().sum::<u64>());
        }
    }
}

#[test]
fn a_move_loses_nothing_and_counts_nothing_twice() {
    let mut model = Model::new();
    model.take(&Step::Calls { series: 0, calls: 5 });
    for (replica, calls) in [(0, 3), (0, 2), (1, 7), (1, 1), (2, 4), (0, 6), (1, 1)] {
        model.take(&Step::Calls { series: 0, calls });
        model.take(&Step::Calls { series: replica, calls: 1 });
        model.take(&Step::Push { replica, after: 10 });
        assert_eq!(model.counted(), model.pushed.iter().sum::<u64>());
    }
}
