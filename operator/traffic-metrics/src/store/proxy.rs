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
    directory::Instance,
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

    /// Returns true if it does not come back.
    fn has_ended(&self, previous: u64) -> bool {
        self.is_evicted(previous) || previous.saturating_sub(self.seen) > ABSENT
    }
}

/// Statistics of one proxy; by default, of one that has not pushed anything.
#[derive(Debug, Default)]
pub struct Proxy {
    /// Its objects, as last known.
    pub instance: Option<Arc<Instance>>,
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

    /// Takes a point that was received at `now`, in seconds. `room` is the number of bytes that new series may take; they
    /// are subtracted.
    pub fn take(
        &mut self,
        point: &Point<'_>,
        now: u64,
        limits: &Limits,
        room: &mut usize,
    ) -> Result<(), DropReason> {
        let Point { start, time, .. } = *point;
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
        self.count(point, now, limits, room)
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
            self.histograms = self.series.values().filter(|it| matches!(it.value, Value::Buckets(_))).count();
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
    fn count(
        &mut self,
        point: &Point<'_>,
        now: u64,
        limits: &Limits,
        room: &mut usize,
    ) -> Result<(), DropReason> {
        let Point { digest, time, ref value, .. } = *point;
        let is_new = !self.series.contains_key(&digest);
        if is_new {
            self.insert(point, limits, room)?;
        }
        let (Some(series), Some(run)) = (self.series.get_mut(&digest), self.runs.back_mut()) else {
            return Ok(());
        };
        let is_continued = !is_new && !series.is_evicted(run.previous);
        let previous = std::mem::replace(&mut series.value, value.clone());
        if previous != *value {
            series.changed = time;
        }
        series.seen = time;
        if is_new && run.is_baseline(time) {
            add_to(&mut run.first, &series.flow, series.outcome, value);
            return Ok(());
        }
        match difference(value, is_continued.then_some(&previous)) {
            Value::Count(0) => {}
            Value::Count(calls) => run.slots.count(now, &series.flow, series.outcome, calls),
            Value::Buckets(buckets) if buckets.iter().all(|count| *count == 0) => {}
            Value::Buckets(buckets) => run.slots.observe(now, &series.flow, &buckets),
        }
        Ok(())
    }

    /// Keeps a series that is new.
    fn insert(&mut self, point: &Point<'_>, limits: &Limits, room: &mut usize) -> Result<(), DropReason> {
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
        *room = room.checked_sub(bytes).ok_or(DropReason::Bytes)?;
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
        Value::Buckets(latency) => figures.add(&Figures { latency: **latency, ..Figures::default() }),
    }
}

/// Returns the difference of a cumulative value to the previous one. A value that is smaller was counted from zero.
fn difference(value: &Value, previous: Option<&Value>) -> Value {
    match (value, previous) {
        (Value::Count(value), Some(Value::Count(previous))) => {
            Value::Count(value.checked_sub(*previous).unwrap_or(*value))
        }
        (Value::Buckets(value), Some(Value::Buckets(previous))) => {
            let mut difference = value.clone();
            for (count, previous) in difference.iter_mut().zip(previous.iter()) {
                match count.checked_sub(*previous) {
                    Some(more) => *count = more,
                    None => return Value::Buckets(value.clone()),
                }
            }
            Value::Buckets(difference)
        }
        (value, _) => value.clone(),
    }
}
