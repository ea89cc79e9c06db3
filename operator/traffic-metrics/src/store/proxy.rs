//! Turns the points of one proxy into the figures of its flows: the difference of each series to its previous value.
//!
//! Pure. Kept by `store`, which bounds the number of proxies and of bytes; bounds series and flows itself.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use super::{
    DropReason, Limits,
    run::{LAPSE, LAPSE_SECONDS, Run, Totals},
    slots::LONGEST,
};
use crate::{
    counters::{Answer, Calls, Counter, Counters, Key},
    directory::{Directory, Instance, ProxyName},
    flow::Flow,
    outcome::{Outcome, outcome},
    series::{Point, Value},
    traffic::Figures,
};

/// Maximum number of runs that are kept; older ones are dropped. A proxy has several after restarts and long gaps: 12 in
/// the longest window, if its pod fails all the time and Kubernetes restarts it every five minutes.
const MAX_RUNS: usize = 16;

/// Time for which a series is unchanged before its proxy evicts it, in nanoseconds: half of the shortest interval of
/// eviction that proxies have, 10 minutes.
const IDLE: u64 = 5 * LAPSE;
/// Time for which a series that is absent is remembered, in nanoseconds.
const ABSENT: u64 = 60 * LAPSE;

/// Memory of a proxy without series, of a counter, a histogram, a flow without its texts, and of what a flow has counted
/// within a slot or at an end of a run; in bytes, with what the allocator and half-empty nodes and tables add.
const PROXY_BYTES: usize = 2_048;
const COUNTER_BYTES: usize = 192;
const HISTOGRAM_BYTES: usize = 320;
const FLOW_BYTES: usize = 384;
const DELTA_BYTES: usize = 144;
const TOTAL_BYTES: usize = 224;

/// A series: its flow, and its last value.
#[derive(Debug)]
struct Series {
    flow: Arc<Flow>,
    outcome: Outcome,
    value: Value,
    /// Counter for Prometheus that its differences are added to.
    counter: Option<Arc<Counter>>,
    /// The same of its pod, if pods are counted.
    of_pod: Option<Arc<Counter>>,
    /// Times of the last push that had it, and of the first one with this value.
    seen: u64,
    changed: u64,
}

impl Series {
    /// Returns true if the proxy has evicted it, so that it counts anew when it comes back: it was idle, and then absent
    /// from pushes up to `previous`. An absence alone can be a lost message of a push.
    fn is_evicted(&self, previous: u64) -> bool {
        previous.saturating_sub(self.seen) > LAPSE && self.seen.saturating_sub(self.changed) >= IDLE
    }

    /// Finds the counters that its differences are added to, also before there are any: one that exists at zero is seen to
    /// increase. An attempt that another one follows is not counted.
    fn attach(
        &mut self,
        point: &Point<'_>,
        instance: Option<&Instance>,
        push: &mut Push<'_>,
    ) -> Result<(), DropReason> {
        let pods = push.pod_counters.as_deref_mut().filter(|_| self.of_pod.is_none());
        if (self.counter.is_some() && pods.is_none()) || self.outcome == Outcome::Repeated {
            return Ok(());
        }
        let Point { metric, ref labels, .. } = *point;
        let calls = Calls::of(&self.flow, &push.name.namespace, instance, push.directory);
        let answer = (!metric.is_histogram()).then(|| Answer::of(metric, labels, self.outcome));
        let limits = (push.limits.counter_bytes, push.limits.namespace_counter_bytes);
        let mut counted = Ok(());
        if let Some(pods) = pods {
            // A machine is no pod.
            let pod = instance.map_or(&push.name.instance, |instance| &instance.pod).clone();
            if !pod.is_empty() {
                let key = Key { calls: calls.clone(), answer: answer.map(Answer::outcome_alone), pod };
                self.of_pod = pods.counter(key, limits, push.now);
                counted = self.of_pod.as_ref().map(drop).ok_or(DropReason::Counters);
            }
        }
        if self.counter.is_none() {
            let key = Key { calls, answer, pod: String::new() };
            self.counter = push.counters.counter(key, limits, push.now);
            counted = self.counter.as_ref().map(drop).ok_or(DropReason::Counters).and(counted);
        }
        counted
    }

    /// Returns true if it does not come back.
    fn has_ended(&self, previous: u64) -> bool {
        self.is_evicted(previous) || previous.saturating_sub(self.seen) > ABSENT
    }
}

/// A push of a proxy, and what is needed to take it.
pub struct Push<'a> {
    /// The proxy.
    pub name: &'a ProxyName,
    /// Time at which it was received, in seconds.
    pub now: u64,
    /// The bounds of the store.
    pub limits: &'a Limits,
    /// Number of bytes that new series may take; they are subtracted.
    pub room: usize,
    /// The counters for Prometheus.
    pub counters: &'a mut Counters,
    /// Those of pods, if they are kept.
    pub pod_counters: Option<&'a mut Counters>,
    /// Directory that has the Services of refused calls.
    pub directory: &'a dyn Directory,
}

/// Statistics of one proxy; by default, of one that has not pushed anything.
#[derive(Debug, Default)]
pub struct Proxy {
    /// Its objects, as last known.
    instance: Option<Arc<Instance>>,
    /// Its runs, the oldest first; the last one goes on.
    pub runs: VecDeque<Run>,
    series: HashMap<u128, Series>,
    histograms: usize,
    flows: BTreeSet<Arc<Flow>>,
    flow_bytes: usize,
    swept: u64,
    empty: Option<u64>,
}

impl Proxy {
    /// Returns the bytes that it takes.
    pub fn bytes(&self) -> usize {
        let of_run =
            |run: &Run| run.slots.deltas() * DELTA_BYTES + (run.first.len() + run.last.len()) * TOTAL_BYTES;
        PROXY_BYTES
            + self.series.len() * COUNTER_BYTES
            + self.histograms * (HISTOGRAM_BYTES - COUNTER_BYTES)
            + self.flow_bytes
            + self.runs.iter().map(of_run).sum::<usize>()
    }

    /// Returns the number of series.
    pub fn series(&self) -> usize {
        self.series.len()
    }

    /// Returns the flows that it has counted.
    pub fn flows(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter().map(|flow| &**flow)
    }

    /// Returns the time of the last push by the replica's clock, in seconds.
    pub fn received(&self) -> Option<u64> {
        self.runs.back().map(|run| run.received.1).max(self.empty)
    }

    /// Takes a push without any series, received at `now`: what the next one has was counted after it.
    pub fn take_empty(&mut self, now: u64) {
        self.empty = Some(now);
        self.age(now);
    }

    /// Returns its objects, as last known.
    pub fn instance(&self) -> Option<&Instance> {
        self.instance.as_deref()
    }

    /// Sets its objects: what it counts from now on is theirs.
    pub fn set_instance(&mut self, instance: Instance) {
        if self.instance() != Some(&instance) {
            self.instance = Some(Arc::new(instance));
            self.series.values_mut().for_each(|series| (series.counter, series.of_pod) = (None, None));
        }
    }

    /// Takes a point of a push.
    pub fn take(&mut self, point: &Point<'_>, push: &mut Push<'_>) -> Result<(), DropReason> {
        let Point { start, time, .. } = *point;
        let now = push.now;
        let is_new_push = match self.runs.back_mut() {
            Some(run) if !run.is_over(start, time) => {
                if time < run.to {
                    return Err(DropReason::OutOfOrder);
                }
                let is_new = time > run.to;
                run.proceed(time, now);
                is_new
            }
            _ => {
                let was_empty = self.empty.is_some_and(|empty| now.saturating_sub(empty) <= LAPSE_SECONDS);
                self.begin(Run::begin(start, time, now, was_empty));
                true
            }
        };
        self.empty = None;
        if is_new_push {
            self.sweep(time, now);
        }
        self.count(point, push)
    }

    fn begin(&mut self, run: Run) {
        let totals = self.totals();
        if let Some(ended) = self.runs.back_mut() {
            ended.last = totals;
        }
        self.series.clear();
        self.histograms = 0;
        self.swept = run.to;
        self.runs.push_back(run);
        if self.runs.len() > MAX_RUNS {
            self.runs.pop_front();
        }
        self.sweep_flows();
    }

    /// Joins what is old, and drops what is older than the longest window.
    pub fn age(&mut self, now: u64) {
        self.runs.iter_mut().for_each(|run| run.slots.age(now));
        while self.runs.len() > 1 && self.runs.front().is_some_and(|run| run.received.1 + LONGEST < now) {
            self.runs.pop_front();
        }
    }

    /// Drops series that have ended, flows without any, and what is older than the longest window.
    fn sweep(&mut self, time: u64, now: u64) {
        self.age(now);
        if time.saturating_sub(self.swept) > LAPSE {
            self.swept = time;
            let previous = self.runs.back().map_or(0, |run| run.previous);
            self.series.retain(|_, series| !series.has_ended(previous));
            self.histograms =
                self.series.values().filter(|it| matches!(it.value, Value::Histogram(_))).count();
            for run in self.runs.iter_mut().filter(|run| run.received.0 + LONGEST < now) {
                run.first.clear();
            }
            self.sweep_flows();
        }
    }

    fn sweep_flows(&mut self) {
        self.flows.retain(|flow| Arc::strong_count(flow) > 1);
        self.flow_bytes = self.flows.iter().map(|flow| FLOW_BYTES + flow.text_len()).sum();
    }

    /// Adds the difference of a point to its series' last value.
    fn count(&mut self, point: &Point<'_>, push: &mut Push<'_>) -> Result<(), DropReason> {
        let Point { digest, time, ref value, .. } = *point;
        let now = push.now;
        let is_new = !self.series.contains_key(&digest);
        if is_new {
            self.insert(point, push)?;
        }
        let (Some(series), Some(run)) = (self.series.get_mut(&digest), self.runs.back_mut()) else {
            return Ok(());
        };
        let counted = series.attach(point, self.instance.as_deref(), push);
        let is_continued = !is_new && !series.is_evicted(run.previous);
        let previous = std::mem::replace(&mut series.value, value.clone());
        if previous != *value {
            series.changed = time;
        }
        series.seen = time;
        if is_new && run.is_baseline(time) {
            add_to(&mut run.first, &series.flow, series.outcome, value);
            return counted;
        }
        let more = difference(value, is_continued.then_some(&previous));
        series.counter.iter().chain(&series.of_pod).for_each(|counter| counter.add(&more));
        match more {
            Value::Count(0) => {}
            Value::Count(calls) => run.slots.count(now, &series.flow, series.outcome, calls),
            Value::Histogram(more) if more.buckets.iter().all(|count| *count == 0) => {}
            Value::Histogram(more) => run.slots.observe(now, &series.flow, &more.buckets),
        }
        counted
    }

    /// Keeps a series that is new.
    fn insert(&mut self, point: &Point<'_>, push: &mut Push<'_>) -> Result<(), DropReason> {
        let limits = push.limits;
        let Point { metric, ref labels, digest, time, ref value, .. } = *point;
        if self.series.len() >= limits.series {
            return Err(DropReason::Series);
        }
        let mut bytes = if metric.is_histogram() { HISTOGRAM_BYTES } else { COUNTER_BYTES };
        let mut flow = Flow::of(metric, labels);
        // Beyond the limit, flows are not distinguished.
        if self.flows.len() >= limits.flows && !self.flows.contains(&flow) {
            flow = flow.unnamed();
        }
        let known = self.flows.get(&flow).cloned();
        if known.is_none() {
            bytes += FLOW_BYTES + flow.text_len();
        }
        push.room = push.room.checked_sub(bytes).ok_or(DropReason::Bytes)?;
        let flow = known.unwrap_or_else(|| {
            self.flow_bytes += FLOW_BYTES + flow.text_len();
            let flow = Arc::new(flow);
            self.flows.insert(Arc::clone(&flow));
            flow
        });
        self.histograms += usize::from(metric.is_histogram());
        let series = Series {
            flow,
            outcome: outcome(metric, labels),
            value: value.clone(),
            counter: None,
            of_pod: None,
            seen: time,
            changed: time,
        };
        self.series.insert(digest, series);
        Ok(())
    }

    /// Returns the cumulative figures of its flows.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::new();
        for series in self.series.values() {
            add_to(&mut totals, &series.flow, series.outcome, &series.value);
        }
        totals
    }
}

fn add_to(totals: &mut Totals, flow: &Arc<Flow>, outcome: Outcome, value: &Value) {
    let figures = totals.entry(Arc::clone(flow)).or_default();
    match value {
        Value::Count(calls) => {
            let mut added = Figures::default();
            match outcome {
                Outcome::Success => added.success = *calls,
                Outcome::Failure => added.failure = *calls,
                Outcome::Refused => added.refused = *calls,
                Outcome::Repeated => {}
            }
            figures.add(&added);
        }
        Value::Histogram(latency) => figures.add(&Figures { latency: latency.buckets, ..Figures::default() }),
    }
}

/// Returns the difference of a cumulative value to the previous one. A value that is smaller was counted from zero.
fn difference(value: &Value, previous: Option<&Value>) -> Value {
    match (value, previous) {
        (Value::Count(value), Some(Value::Count(previous))) => {
            Value::Count(value.checked_sub(*previous).unwrap_or(*value))
        }
        (Value::Histogram(value), Some(Value::Histogram(previous))) => {
            let mut difference = value.clone();
            for (count, previous) in difference.buckets.iter_mut().zip(previous.buckets) {
                match count.checked_sub(previous) {
                    Some(more) => *count = more,
                    None => return Value::Histogram(value.clone()),
                }
            }
            // The sum is an estimate, and may be smaller than the one before.
            difference.sum = value.sum.saturating_sub(previous.sum);
            Value::Histogram(difference)
        }
        (value, _) => value.clone(),
    }
}
