//! The proof of `explain`: generated clusters and calls, with its answers compared to real calls from a pod with one
//! Envoy to pods with others, each with the configuration that the product makes for it.
//!
//! An answer `allowed` means that the call is served by a pod that the answer names, `denied` that none serves it; after
//! `partial` either is right. A question covers more than one call where a split, several pods or headers that it
//! does not name decide.

pub mod calls;
pub mod pods;
pub mod scenario;
pub mod wire;

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::Value;
use smidge::{
    documents::{self, Source},
    explain::{Answer, QueryError, Verdict, explain},
    finding::Finding,
    inputs::Inputs,
    lower::lower,
};
use smidge_xds::{
    mesh::{
        Mesh,
        id::{ClusterId, ProxyId},
    },
    snapshot::Snapshot,
};

use crate::differential::{
    caller::Authority,
    generated::{SHOP, yaml},
    judge::Judge,
};
use calls::{Call, calls};
use pods::{CALLED, CALLER, OUTSIDE};
use scenario::scenario;
use wire::{Outcome, make};

/// Number of calls in each scenario.
const CALLS: usize = 80;
/// Time in which the workers of a proxy apply a configuration that it has acknowledged.
const LATE: Duration = Duration::from_secs(2);
/// Interval between progress messages of a long run.
const PROGRESS: Duration = Duration::from_secs(10);

/// Results of a run.
#[derive(Debug, Default)]
struct Tally {
    scenarios: u64,
    calls: usize,
    served: usize,
    verdicts: BTreeMap<&'static str, usize>,
    bytes_served: usize,
    from_outside: usize,
    to_pods: usize,
    /// Calls that were answered by the previous configuration: a proxy's workers apply one after it is acknowledged.
    late: usize,
}

impl Tally {
    fn add(&mut self, call: &Call, answer: &Result<Answer, QueryError>, outcome: &Outcome) {
        let is_served = matches!(outcome, Outcome::Served(_));
        self.calls += 1;
        self.served += usize::from(is_served);
        self.bytes_served += usize::from(is_served && call.http.is_none());
        self.from_outside += usize::from(is_served && call.from == OUTSIDE);
        self.to_pods += usize::from(is_served && call.question.to.starts_with("workload:"));
        let verdict = answer.as_ref().map_or("no question", |answer| answer.verdict.as_str());
        *self.verdicts.entry(verdict).or_default() += 1;
    }

    /// Checks the proportions: a proof that hardly ever allows, denies or decides would prove nothing.
    fn assert_is_fair(&self) {
        let Self { calls, verdicts, bytes_served, from_outside, to_pods, late, .. } = self;
        let of = |verdict| verdicts.get(verdict).copied().unwrap_or(0);
        for (what, count, least) in [
            ("allowed", of("allowed"), 200),
            ("denied", of("denied"), 200),
            ("bytes served", *bytes_served, 30),
            ("served to a caller outside the mesh", *from_outside, 10),
            ("served at a pod's address", *to_pods, 20),
        ] {
            assert!(count * 1000 >= calls * least, "hardly anything was {what}: {self}");
        }
        assert!(late * 1000 <= *calls, "too much agreed late: {self}");
        assert!(of("partial") * 5 <= *calls, "too much was partial: {self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenarios, calls, served, verdicts, bytes_served, from_outside, to_pods, late } = self;
        write!(f, "{calls} calls in {scenarios} scenarios, {served} served")?;
        for (verdict, count) in verdicts {
            write!(f, ", {count} {verdict}")?;
        }
        write!(
            f,
            "; of those served {bytes_served} bytes, {from_outside} from outside, {to_pods} to pods; {late} late"
        )
    }
}

/// A cluster as `explain` and the proxies have it.
struct Cluster {
    mesh: Arc<Mesh>,
    inputs: Inputs,
    findings: Vec<Finding>,
}

impl Cluster {
    fn new(objects: &[Value], root: &str) -> Self {
        let source = Source { name: "generated.yaml".to_owned(), text: yaml(objects) };
        let mut offline = documents::assemble(&[source]);
        offline.inputs.roots.insert(root.to_owned());
        let clusters = BTreeMap::from([(ClusterId::default(), offline.inputs)]);
        let (mesh, findings) = lower(&clusters);
        let inputs = clusters.into_values().next().unwrap();
        Self { mesh: Arc::new(mesh), inputs, findings }
    }

    fn ask(&self, call: &Call) -> Result<Answer, QueryError> {
        explain(&self.mesh, &self.inputs, &self.findings, &call.question)
    }
}

/// The proxies of all pods.
struct Proxies {
    authority: Arc<Authority>,
    judges: Vec<(&'static str, Judge)>,
    snapshot: Option<Snapshot>,
}

impl Proxies {
    fn start(envoy: &Path) -> Self {
        let authority = Arc::new(Authority::generate());
        let pods = [CALLER].into_iter().chain(CALLED);
        let judges = pods.map(|pod| (pod, pods::proxy(envoy, &authority, pod))).collect();
        Self { authority, judges, snapshot: None }
    }

    async fn serve(&mut self, objects: &[Value]) -> Cluster {
        let cluster = Cluster::new(objects, &self.authority.pem);
        let next = Snapshot::next(Arc::clone(&cluster.mesh), self.snapshot.as_ref());
        let served = self.judges.iter_mut().map(|(pod, judge)| {
            let (namespace, instance) = (SHOP.to_owned(), (*pod).to_owned());
            let view = next.view(&ProxyId { cluster: ClusterId::default(), namespace, instance }).unwrap();
            async move { judge.show(&view, || yaml(objects)).await }
        });
        join_all(served).await;
        self.snapshot = Some(next);
        cluster
    }
}

/// Compares answers with calls through one Envoy binary until there are `count` of them.
pub async fn prove(envoy: &Path, seed: u64, count: usize) {
    pods::applications();
    let mut proxies = Proxies::start(envoy);
    let mut tally = Tally::default();
    let (start, mut printed) = (Instant::now(), Instant::now());
    for index in 0.. {
        if tally.calls >= count {
            break;
        }
        let objects = scenario(seed, index);
        let cluster = proxies.serve(&objects).await;
        tally.scenarios += 1;
        let calls = calls(seed, index, &objects, CALLS);
        for (call, outcome) in calls.iter().zip(all(&calls)) {
            let answer = cluster.ask(call);
            let why = disagreement(&cluster, call, &answer, &outcome);
            if why.is_some() && agrees_soon(&cluster, call) {
                tally.late += 1;
            } else if let Some(why) = why {
                println!("after {} calls, {:?}", tally.calls, start.elapsed());
                let head = format!("generated {index} of seed {seed}: {why}\n{call}\n{outcome}");
                fail(&mut proxies, objects, call, &head).await;
            }
            tally.add(call, &answer, &outcome);
        }
        if printed.elapsed() > PROGRESS {
            printed = Instant::now();
            println!("{} s: {tally}", start.elapsed().as_secs());
        }
    }
    println!("{}, seed {seed}: {tally}; {} s, no disagreement", envoy.display(), start.elapsed().as_secs());
    tally.assert_is_fair();
}

/// Makes all calls, each from its pod.
fn all(calls: &[Call]) -> Vec<Outcome> {
    let mut outcomes: Vec<Option<Outcome>> = vec![None; calls.len()];
    for from in [CALLER, OUTSIDE] {
        let numbered = || calls.iter().enumerate().filter(|(_, call)| call.from == from);
        let some: Vec<&Call> = numbered().map(|(_, call)| call).collect();
        for ((index, _), outcome) in numbered().zip(make(from, &some)) {
            outcomes[index] = Some(outcome);
        }
    }
    outcomes.into_iter().flatten().collect()
}

/// Returns the difference between an answer and the outcome of the call, if there is one.
fn disagreement(
    cluster: &Cluster,
    call: &Call,
    answer: &Result<Answer, QueryError>,
    outcome: &Outcome,
) -> Option<String> {
    let answer = match (answer, outcome) {
        (Ok(answer), _) => answer,
        // What no request can have is not asked about.
        (Err(QueryError::Request { .. }), _) | (Err(_), Outcome::Refused(_)) => return None,
        (Err(error), Outcome::Served(_)) => return Some(format!("the question is refused: {error}")),
    };
    match (answer.verdict, outcome) {
        (Verdict::Allowed, Outcome::Refused(_)) if !is_bytes_to_http(cluster, call, answer) => {
            Some("explain answers allowed".to_owned())
        }
        (Verdict::Denied, Outcome::Served(_)) => Some("explain answers denied".to_owned()),
        (_, Outcome::Served(pod)) if !names(answer, pod) => {
            Some(format!("explain does not name {pod} as one that serves it"))
        }
        _ => None,
    }
}

/// Returns true if an answer names a pod as one that may serve the call.
fn names(answer: &Answer, pod: &str) -> bool {
    let destinations =
        answer.shares.iter().filter(|share| share.weight > 0).flat_map(|share| &share.destinations);
    let identity = format!("spiffe://cluster.local/ns/{SHOP}/sa/{pod}");
    let mut serving = destinations.filter(|it| it.verdict != Verdict::Denied);
    pod == OUTSIDE || serving.any(|it| it.identity == identity)
}

/// Returns true if bytes are sent to a port that is read as HTTP: a question without a request is about any request.
fn is_bytes_to_http(cluster: &Cluster, call: &Call, answer: &Answer) -> bool {
    let at = call.address.parse().unwrap();
    let ports = cluster.mesh.services.values().flat_map(|service| &service.ports);
    let mut called = ports.filter(|(number, port)| **number == call.port && port.addresses.contains(&at));
    let mut served = answer.shares.iter().flat_map(|share| &share.destinations);
    call.http.is_none()
        && (called.any(|(_, port)| !port.protocol.has_tcp()) || served.any(|it| it.protocol == "http"))
}

/// Makes a disagreement smaller, and prints it.
async fn fail(proxies: &mut Proxies, mut objects: Vec<Value>, call: &Call, head: &str) -> ! {
    let cluster = proxies.serve(&objects).await;
    assert!(differs(&cluster, call).is_some(), "{head}\nnot again, in\n{}", yaml(&objects));
    let mut index = 0;
    while index < objects.len() {
        let mut fewer = objects.clone();
        let removed = fewer.remove(index);
        if removed["kind"] == "Pod" {
            index += 1;
            continue;
        }
        let cluster = proxies.serve(&fewer).await;
        if differs(&cluster, call).is_some() {
            objects = fewer;
        } else {
            index += 1;
        }
    }
    let cluster = proxies.serve(&objects).await;
    let answer = cluster.ask(call);
    panic!("{head}\n\nin\n{}\nexplain answers {answer:#?}\n{:?}", yaml(&objects), differs(&cluster, call));
}

/// Asks again until the call agrees with the answer; false if it does not within `LATE`.
fn agrees_soon(cluster: &Cluster, call: &Call) -> bool {
    let start = Instant::now();
    while differs(cluster, call).is_some() {
        if start.elapsed() > LATE {
            return false;
        }
    }
    true
}

fn differs(cluster: &Cluster, call: &Call) -> Option<String> {
    let outcome = make(call.from, &[call]).remove(0);
    disagreement(cluster, call, &cluster.ask(call), &outcome).map(|why| format!("{why}: {outcome}"))
}
