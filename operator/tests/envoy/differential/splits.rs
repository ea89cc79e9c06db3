//! The proof of splits: generated clusters and calls, with the shares of the reference compared to those that a
//! caller's Envoy sends with the configuration of the product.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::differential::{
    askers::{self, Heard},
    chance::{Counts, intruder, is_far},
    generated::yaml,
    judge::Judge,
    path,
    random::Random,
    reference::{Http, Smi, list, text},
    requests,
    scenario::{CALLER, HTTP, ROOTS, TCP, UNDECLARED, scenario},
    servers::{self, INNER},
    shares::{Scenario, Shares},
};

/// Number of requests to each called Service of a cluster, and of connections to its TCP port.
const REQUESTS: usize = 1300;
const CONNECTIONS: usize = 160;
/// Interval between progress messages of a long run.
const PROGRESS: Duration = Duration::from_secs(10);

/// Results of a run.
#[derive(Debug, Default)]
struct Tally {
    scenarios: u64,
    calls: usize,
    /// Number of kinds of calls, each to a port, that a split shares out; the next fields count special cases.
    shared: usize,
    shared_tcp: usize,
    to_nobody: usize,
    beside_zero: usize,
    detected: usize,
    matched: usize,
    unmatched: usize,
    /// Number of Services with several splits, at least one of them by matches.
    several: usize,
}

impl Tally {
    /// Checks the counts: a proof in which nothing was split would prove nothing.
    fn assert_is_fair(&self) {
        let Self {
            shared, shared_tcp, to_nobody, beside_zero, detected, matched, unmatched, several, ..
        } = self;
        for (what, count) in [
            ("shared", shared),
            ("shared TCP", shared_tcp),
            ("to nobody", to_nobody),
            ("beside a weight of 0", beside_zero),
            ("detected", detected),
            ("matched", matched),
            ("unmatched", unmatched),
            ("split several times", several),
        ] {
            assert!(*count > 0, "nothing was {what}: {self}");
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenarios, calls, shared, shared_tcp, to_nobody, beside_zero, .. } = self;
        let Self { detected, matched, unmatched, several, .. } = self;
        write!(
            f,
            "{calls} calls in {scenarios} scenarios; of the kinds of calls {shared} shared, {shared_tcp} of them TCP, {to_nobody} in \
             part to nobody, {beside_zero} beside a weight of 0, {detected} shared and detected; {matched} requests matched, {unmatched} did \
             not; {several} Services with several splits"
        )
    }
}

/// Calls of one kind, which all have the same shares.
struct Kind<'a> {
    called: &'a str,
    port: u16,
    shares: Shares,
    /// Empty for TCP.
    requests: Vec<&'a Http>,
}

/// Compares shares of one Envoy in `scenarios` generated clusters.
pub async fn prove(envoy: &Path, seed: u64, scenarios: u64) {
    let mut judge = Judge::start(envoy);
    servers::start(&judge.authority).await;
    let mut tally = Tally::default();
    let (start, mut said) = (Instant::now(), Instant::now());
    for index in 0..scenarios {
        let objects = scenario(seed, index);
        let scenario = Scenario(&objects);
        judge.serve(&objects, CALLER).await;
        for called in ROOTS {
            let requests = made(seed, index, scenario, called);
            for kind in kinds(scenario, called, &requests, &mut tally) {
                if let Err(why) = holds(scenario, &kind, &mut tally).await {
                    let Kind { called, port, shares, .. } = kind;
                    panic!(
                        "after {} calls, scenario {index} of seed {seed}: port {port} of {called}: {why}\nthe reference says {shares:?} in\n{}\n\
                         Once it is clear who is right, keep the scenario as \
                         operator/tests/golden/proof-<what it shows>/in.yaml.\n",
                        tally.calls,
                        yaml(&objects)
                    );
                }
            }
        }
        tally.scenarios += 1;
        if said.elapsed() > PROGRESS {
            said = Instant::now();
            println!("{} s: {tally}", start.elapsed().as_secs());
        }
    }
    println!("{}, seed {seed}: {tally}; {} s, no disagreement", envoy.display(), start.elapsed().as_secs());
    tally.assert_is_fair();
}

/// Generates requests to a Service, many of which meet a match.
fn made(seed: u64, index: u64, scenario: Scenario<'_>, called: &str) -> Vec<Http> {
    let mut random = Random::new(seed ^ u64::from(called.as_bytes()[0]), index);
    let matches: Vec<&Value> =
        Smi(scenario.0).of_kind("HTTPRouteGroup").flat_map(|group| list(group, "/spec/matches")).collect();
    let splits = scenario.splits(called);
    let is_by_match = |split: &Value| split["spec"].get("matches").is_some();
    let has_matches = splits.iter().any(|split| is_by_match(split));
    let mut made = Vec::new();
    while made.len() < REQUESTS {
        // Without this, most requests would match nothing.
        let tries = if has_matches && random.percent(50) { 4 } else { 1 };
        for left in (0..tries).rev() {
            let meant = (!matches.is_empty()).then(|| matches[random.below(matches.len())]);
            let mut http = requests::http(&mut random, meant);
            if random.percent(3) {
                // A caller must not set the header that the proxy writes for itself.
                http.headers.push((INNER.to_owned(), random.pick(&["/books", "/api", "/"]).to_owned()));
            }
            // A request that the server refuses has no share.
            let is_read = path::normal(&http.target).is_some();
            let is_taken = || scenario.taker(called, Some(&http)).is_some_and(is_by_match);
            if is_read && (left == 0 || is_taken()) {
                made.push(http);
                break;
            }
        }
    }
    made
}

/// Groups the calls to a Service by their shares in the reference.
fn kinds<'a>(
    scenario: Scenario<'a>,
    called: &'a str,
    requests: &'a [Http],
    tally: &mut Tally,
) -> Vec<Kind<'a>> {
    let splits = scenario.splits(called);
    let has_matches = splits.iter().any(|split| split["spec"].get("matches").is_some());
    tally.several += usize::from(splits.len() > 1 && has_matches);
    let mut takers: BTreeMap<Option<&str>, Vec<&Http>> = BTreeMap::new();
    for http in requests {
        let taker = scenario.taker(called, Some(http));
        takers.entry(taker.map(|split| text(split, "/metadata/name"))).or_default().push(http);
        if has_matches {
            let is_matched = taker.is_some_and(|split| split["spec"].get("matches").is_some());
            *if is_matched { &mut tally.matched } else { &mut tally.unmatched } += 1;
        }
    }
    let mut kinds: Vec<Kind<'a>> = takers
        .into_values()
        .map(|requests| Kind {
            called,
            port: HTTP,
            shares: scenario.shares(called, HTTP, Some(requests[0])),
            requests,
        })
        .collect();
    kinds.push(Kind { called, port: TCP, shares: scenario.shares(called, TCP, None), requests: Vec::new() });
    for kind in &kinds {
        let is_shared = kind.shares.len() > 1;
        tally.shared += usize::from(is_shared);
        tally.shared_tcp += usize::from(is_shared && kind.port == TCP);
        let undeclared = [UNDECLARED, "raw"].map(|name| json!(name));
        let port = scenario.port(called, kind.port);
        let is_detected = !has_matches && port.is_some_and(|it| undeclared.contains(&it["name"]));
        tally.detected += usize::from(is_shared && is_detected);
        tally.to_nobody += usize::from(kind.shares.contains_key(&None));
        let zero = |backend: &Value| {
            let name = text(backend, "/service").to_owned();
            backend["weight"] == 0 && !kind.shares.contains_key(&Some(name))
        };
        tally.beside_zero += usize::from(
            is_shared && splits.iter().any(|split| list(split, "/spec/backends").iter().any(zero)),
        );
    }
    kinds
}

/// Makes the calls of a kind and compares the answering Services. Counts that are far from the shares are counted
/// again: chance is not far twice.
async fn holds(scenario: Scenario<'_>, kind: &Kind<'_>, tally: &mut Tally) -> Result<(), String> {
    let mut far = Vec::new();
    for _ in 0..2 {
        let counts = counted(scenario, kind, tally).await?;
        if let Some(who) = intruder(&counts, &kind.shares) {
            return Err(format!("{who:?} has no share and answered: {counts:?}"));
        }
        if !is_far(&counts, &kind.shares) {
            return Ok(());
        }
        far.push(counts);
    }
    Err(format!("far from the shares, twice: {far:?}"))
}

async fn counted(scenario: Scenario<'_>, kind: &Kind<'_>, tally: &mut Tally) -> Result<Counts, String> {
    let address = scenario.address(kind.called);
    let heard = match kind.port {
        HTTP => askers::http(address, &kind.requests).await,
        _ => askers::tcp(address, CONNECTIONS).await,
    };
    tally.calls += heard.len();
    let mut counts = Counts::new();
    for (index, Heard { who, at, seen }) in heard.into_iter().enumerate() {
        if let Some(service) = &who {
            if !scenario.endpoints(service, kind.port).contains(&at) {
                return Err(format!("{service} is not served at {at}"));
            }
            if let Some(http) = kind.requests.get(index)
                && path::read(&http.target).as_ref() != Some(&seen)
            {
                return Err(format!("{seen:?} was read of {http:?}"));
            }
        }
        *counts.entry(who).or_default() += 1;
    }
    Ok(counts)
}
