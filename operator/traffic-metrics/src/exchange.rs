//! Carries the windows of proxies between replicas, and combines the parts of one proxy at several replicas.
//!
//! Pure. Between `store`, which makes the part of its replica, and `answer`, which needs the figures of each proxy once.
//!
//! A proxy pushes to one replica at a time, and moves when its connection ends. Each replica has a run of it: what it has
//! counted between its first and its last push there. As pushes are cumulative, a run also has the totals at both ends,
//! so that runs can be joined to what the proxy has counted in all:
//!
//! - A run that begins after the previous one ended adds its calls, and the difference between the totals at its
//!   beginning and at the previous one's end: the calls of the move itself.
//! - A run that overlaps with another one adds the difference between the totals at the ends of both; nothing, if it ends
//!   earlier.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    directory::{Directory, Instance, Owner, ProxyName},
    flow::Flow,
    store::{
        Store, WINDOWS,
        proxy::Proxy,
        run::{LAPSE, LAPSE_SECONDS, Run, Totals},
        slots::FINE,
    },
    subject::{concerns, roots},
    traffic::{BUCKETS, Figures, Question},
};

/// Maximum size of a part on the wire, in bytes: about 50,000 flows.
pub const MAX_PART: usize = 32 << 20;

/// Maximum value of a figure on the wire; sums of as many as fit a part cannot overflow.
const MAX_COUNT: u64 = 1 << 52;

/// Knowledge of one replica about a question.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Part {
    /// The proxies that have pushed to it.
    pub proxies: Vec<ProxyPart>,
}

/// Knowledge of one replica about one proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyPart {
    name: ProxyName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<Instance>,
    runs: Vec<RunPart>,
}

/// Run of a proxy, with the flows that matter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RunPart {
    start: u64,
    from: u64,
    to: u64,
    /// True if the run began within the window.
    began: bool,
    flows: Vec<FlowPart>,
}

/// Figures of a flow in a run: within the window, and in all at the beginning and at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FlowPart {
    flow: Flow,
    #[serde(rename = "w", default, with = "compact", skip_serializing_if = "is_zero")]
    window: Figures,
    #[serde(rename = "f", default, with = "compact", skip_serializing_if = "is_zero")]
    first: Figures,
    #[serde(rename = "l", default, with = "compact", skip_serializing_if = "is_zero")]
    last: Figures,
}

/// Figures of the flows of a proxy, over all replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combined {
    /// The proxy.
    pub name: ProxyName,
    /// Its objects.
    pub instance: Instance,
    /// Its flows.
    pub flows: BTreeMap<Flow, Figures>,
}

fn is_zero(figures: &Figures) -> bool {
    *figures == Figures::default()
}

/// Number of proxies of a page.
const PAGE: usize = 64;

/// Returns the part of an answer that a replica has.
pub fn part(store: &Store, question: &Question, directory: &dyn Directory, now: Duration) -> Part {
    let (mut part, mut last) = page(store, question, directory, now, None);
    while let Some(after) = last {
        let (next, end) = page(store, question, directory, now, Some(&after));
        part.proxies.extend(next.proxies);
        last = end;
    }
    part
}

/// Returns the part of the proxies after `after`, or of the first ones, and the last of them if there are more. For
/// callers that share the store, so that no page takes long.
pub fn page(
    store: &Store,
    question: &Question,
    directory: &dyn Directory,
    now: Duration,
    after: Option<&ProxyName>,
) -> (Part, Option<ProxyName>) {
    let window = question.window.clamp(WINDOWS.0, WINDOWS.1);
    let from = now.saturating_sub(window).as_secs();
    let roots = roots(question, directory);
    let page: Vec<_> = store.proxies_after(after).take(PAGE).collect();
    let last = page.last().filter(|_| page.len() == PAGE).map(|(name, _)| (*name).clone());
    let part = |(name, proxy): (&ProxyName, &Proxy)| {
        proxy_part(name, proxy, from, |instance, flow| concerns(question, &roots, instance, flow, directory))
    };
    (Part { proxies: page.into_iter().filter_map(part).collect() }, last)
}

/// Returns what is known of a proxy since `from`, in seconds, of the flows that `keep` accepts; `None` if nothing is.
fn proxy_part(
    name: &ProxyName,
    proxy: &Proxy,
    from: u64,
    keep: impl Fn(&Instance, &Flow) -> bool,
) -> Option<ProxyPart> {
    let instance = proxy.instance();
    let known = instance.map_or_else(|| unknown(name), Instance::clone);
    let keep = |flow: &Flow| keep(&known, flow);
    if !proxy.flows().any(keep) {
        return None;
    }
    let mut runs = Vec::new();
    for (index, run) in proxy.runs.iter().enumerate() {
        // One that ended shortly before the window may have to be joined to one within it. The totals of a run are whole
        // from its second push on.
        if run.received.1 + LAPSE_SECONDS < from || run.is_incomplete() {
            continue;
        }
        let current = if index + 1 == proxy.runs.len() { Some(proxy.totals()) } else { None };
        let part = run_part(run, current.as_ref().unwrap_or(&run.last), from, keep);
        if !part.flows.is_empty() {
            runs.push(part);
        }
    }
    let part = ProxyPart { name: name.clone(), instance: instance.cloned(), runs };
    (!part.runs.is_empty()).then_some(part)
}

fn run_part(run: &Run, last: &Totals, from: u64, keep: impl Fn(&Flow) -> bool) -> RunPart {
    let window = run.slots.since(from);
    let began = run.received.0 + FINE / 2 >= from;
    let none = Totals::new();
    let first = if began { &run.first } else { &none };
    let flows: BTreeSet<&Arc<Flow>> = window.keys().chain(first.keys()).chain(last.keys()).collect();
    let flows = flows.into_iter().filter(|flow| keep(flow)).map(|flow| FlowPart {
        flow: Flow::clone(flow),
        window: window.get(flow).copied().unwrap_or_default(),
        first: first.get(flow).copied().unwrap_or_default(),
        last: last.get(flow).copied().unwrap_or_default(),
    });
    RunPart { start: run.start, from: run.from, to: run.to, began, flows: flows.collect() }
}

/// Returns the objects of a proxy of which only the name is known.
fn unknown(name: &ProxyName) -> Instance {
    Instance {
        namespace: name.namespace.clone(),
        pod: name.instance.clone(),
        workload: Owner { kind: "Pod".to_owned(), name: name.instance.clone() },
        ..Instance::default()
    }
}

/// Combines the parts of all replicas: each call of each proxy is counted once.
pub fn combine(parts: impl IntoIterator<Item = Part>) -> Vec<Combined> {
    let mut proxies = BTreeMap::<ProxyName, (Option<Instance>, Vec<RunPart>)>::new();
    for ProxyPart { name, instance, runs } in parts.into_iter().flat_map(|part| part.proxies) {
        let (known, all) = proxies.entry(name).or_default();
        *known = known.take().or(instance);
        all.extend(runs);
    }
    let combined = |(name, (instance, runs)): (ProxyName, (Option<Instance>, Vec<RunPart>))| Combined {
        instance: instance.unwrap_or_else(|| unknown(&name)),
        flows: join(runs),
        name,
    };
    proxies.into_iter().map(combined).filter(|combined| !combined.flows.is_empty()).collect()
}

/// End of the runs that were joined.
struct End {
    start: u64,
    to: u64,
    totals: BTreeMap<Flow, Figures>,
}

/// Joins the runs of one proxy.
fn join(mut runs: Vec<RunPart>) -> BTreeMap<Flow, Figures> {
    // Processes of one proxy follow each other, and have nothing in common.
    runs.sort_by_key(|run| (run.start, run.from, run.to));
    let mut sums = BTreeMap::<Flow, Figures>::new();
    let mut end = None::<End>;
    for run in runs {
        end = end.filter(|end| end.start == run.start);
        let to = run.to.max(end.as_ref().map_or(0, |end| end.to));
        let mut totals: BTreeMap<Flow, Figures> =
            run.flows.iter().map(|part| (part.flow.clone(), part.last)).collect();
        for FlowPart { flow, mut window, first, last } in run.flows {
            let done = end.as_ref().and_then(|end| end.totals.get(&flow)).copied().unwrap_or_default();
            let since_end = |mut totals: Figures| {
                totals.combine(&done, u64::saturating_sub);
                totals
            };
            if let Some(end) = &end {
                if run.began && run.from <= end.to.saturating_add(LAPSE) {
                    window.add(&since_end(first));
                }
                if run.from < end.to {
                    window.combine(&since_end(last), u64::min);
                }
            }
            if !is_zero(&window) {
                sums.entry(flow).or_default().add(&window);
            }
        }
        // A replica may lack a part of a push of which another one has received the rest.
        for (flow, known) in end.take().into_iter().flat_map(|end| end.totals) {
            totals.entry(flow).or_default().combine(&known, u64::max);
        }
        end = Some(End { start: run.start, to, totals });
    }
    sums
}

/// Error of a part on the wire.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// It is not in the form of a part.
    #[error("invalid part of another replica")]
    Invalid(#[from] serde_json::Error),
    /// It is too large.
    #[error(
        "the answer has {0} bytes: expected at most {MAX_PART}; ask for one namespace or a shorter window"
    )]
    TooLarge(usize),
}

/// Encodes a part for another replica.
pub fn encode(part: &Part) -> Result<Vec<u8>, PartError> {
    let body = serde_json::to_vec(part)?;
    if body.len() > MAX_PART { Err(PartError::TooLarge(body.len())) } else { Ok(body) }
}

/// Decodes a part of another replica.
pub fn decode(body: &[u8]) -> Result<Part, PartError> {
    if body.len() > MAX_PART {
        return Err(PartError::TooLarge(body.len()));
    }
    Ok(serde_json::from_slice(body)?)
}

/// Figures as a list of numbers, without the zeros at its end.
mod compact {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use super::{BUCKETS, Figures, MAX_COUNT};

    pub fn serialize<S: Serializer>(figures: &Figures, serializer: S) -> Result<S::Ok, S::Error> {
        let Figures { success, failure, refused, latency } = figures;
        let mut all: Vec<u64> = [*success, *failure, *refused].into_iter().chain(*latency).collect();
        for count in &mut all {
            *count = (*count).min(MAX_COUNT);
        }
        while all.last() == Some(&0) {
            all.pop();
        }
        serializer.collect_seq(all)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Figures, D::Error> {
        let all = Vec::<u64>::deserialize(deserializer)?;
        if all.len() > 3 + BUCKETS || all.iter().any(|count| *count > MAX_COUNT) {
            return Err(D::Error::custom("invalid figures"));
        }
        let mut all = all.into_iter();
        let mut next = || all.next().unwrap_or_default();
        let (success, failure, refused) = (next(), next(), next());
        Ok(Figures { success, failure, refused, latency: std::array::from_fn(|_| next()) })
    }
}
