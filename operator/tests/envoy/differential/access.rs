//! The proof of access: generated objects and requests, judged by the reference and by an Envoy with the configuration
//! that the product makes of them, until the required number of decisions agree.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::differential::{
    app,
    audit::ask,
    callers::{Answer, Callers},
    generated::{DETECTED_PORTS, Generated, HTTP_PORTS, TCP_PORTS, yaml},
    judge::Judge,
    path,
    reference::{Request, Says, Smi, Verdict},
    requests::requests,
    shrink::shrink,
};

/// Number of requests to each destination of a generated cluster.
const REQUESTS: usize = 120;
/// Number of decisions from which proportions are checked; a shorter run may have met a few unusual clusters.
const ENOUGH: usize = 10_000;
/// Interval between progress messages of a long run.
const PROGRESS: Duration = Duration::from_secs(10);

/// Results of a run.
#[derive(Debug, Default)]
pub struct Tally {
    generated: u64,
    pub decisions: usize,
    verdicts: BTreeMap<Verdict, usize>,
    over_http2: usize,
    bytes_allowed: usize,
    in_plaintext: usize,
    detected: usize,
}

impl Tally {
    fn add(&mut self, request: &Request, verdict: Verdict) {
        self.decisions += 1;
        *self.verdicts.entry(verdict).or_default() += 1;
        let is_bytes = matches!(&request.says, Says::Bytes(_));
        self.bytes_allowed += usize::from(is_bytes && verdict == Verdict::Allowed);
        self.in_plaintext += usize::from(request.from.is_none() && verdict != Verdict::Closed);
        self.detected += usize::from(DETECTED_PORTS.contains(&request.port) && verdict == Verdict::Allowed);
        self.over_http2 += usize::from(matches!(&request.says, Says::Http(http) if http.is_h2));
    }

    /// Checks the proportions: a proof that hardly ever allows, or hardly ever denies, would prove nothing.
    fn assert_is_fair(&self) {
        if self.decisions < ENOUGH {
            return;
        }
        let share = |verdict| self.verdicts.get(&verdict).copied().unwrap_or(0) * 1000 / self.decisions;
        for (verdict, least) in [
            (Verdict::Allowed, 200),
            (Verdict::Denied, 250),
            (Verdict::Audited, 20),
            (Verdict::Refused, 5),
            (Verdict::Closed, 5),
        ] {
            assert!(share(verdict) >= least, "{verdict:?} in {} of 1,000: {self}", share(verdict));
        }
        assert!(self.detected * 20 >= self.decisions, "hardly any call was detected: {self}");
        assert!(self.bytes_allowed * 1000 >= self.decisions, "hardly any TCP was allowed: {self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} decisions in {} generated", self.decisions, self.generated)?;
        for (verdict, count) in &self.verdicts {
            write!(f, ", {count} {verdict:?}")?;
        }
        let Self { over_http2, bytes_allowed, in_plaintext, detected, .. } = self;
        write!(
            f,
            ", {over_http2} over HTTP/2, {bytes_allowed} allowed over TCP, {in_plaintext} in plaintext"
        )?;
        write!(f, ", {detected} allowed at ports with detection")
    }
}

/// Compares verdicts of one Envoy until there are `decisions` of them.
pub async fn prove(envoy: &Path, seed: u64, decisions: usize) -> Tally {
    for port in HTTP_PORTS {
        app::http(port).await;
    }
    for port in TCP_PORTS {
        app::tcp(port).await;
    }
    for port in DETECTED_PORTS {
        app::either(port).await;
    }
    let mut judge = Judge::start(envoy);
    let mut callers = Callers::new(&judge.authority);
    let mut tally = Tally::default();
    let (start, mut said) = (Instant::now(), Instant::now());
    for (generated, questions) in generated(seed) {
        if tally.decisions >= decisions {
            break;
        }
        tally.generated += 1;
        for (destination, requests, verdicts) in questions {
            judge.serve(&generated.objects, destination).await;
            let answers = ask(&judge, &mut callers, &requests, &verdicts).await;
            for ((request, verdict), answer) in requests.iter().zip(verdicts).zip(answers) {
                if answer.verdict != verdict || is_misread(request, &answer) {
                    println!("after {} decisions", tally.decisions);
                    fail(&mut judge, &mut callers, generated, request, &answer).await;
                }
                tally.add(request, verdict);
            }
        }
        if said.elapsed() > PROGRESS {
            said = Instant::now();
            println!("{} s: {tally}", start.elapsed().as_secs());
        }
    }
    println!("{}, seed {seed}: {tally}; {} s, no disagreement", envoy.display(), start.elapsed().as_secs());
    tally.assert_is_fair();
    tally
}

/// Requests to a destination, and the verdict of the reference on each.
type Questions = Vec<(&'static str, Vec<Request>, Vec<Verdict>)>;

/// The generated clusters of a seed, made ahead while the Envoy is tested.
fn generated(seed: u64) -> impl Iterator<Item = (Generated, Questions)> {
    let (sender, receiver) = mpsc::sync_channel(4);
    thread::spawn(move || {
        for index in 0.. {
            let generated = Generated::generate(seed, index);
            let questions = generated.destinations.iter().map(|destination| {
                let requests = requests(&generated, destination, REQUESTS);
                let verdicts =
                    requests.iter().map(|request| Smi(&generated.objects).verdict(request)).collect();
                (*destination, requests, verdicts)
            });
            let questions = questions.collect();
            if sender.send((generated, questions)).is_err() {
                // The receiver needs no more.
                break;
            }
        }
    });
    receiver.into_iter()
}

/// Returns true if the workload read another path than the one that was judged.
fn is_misread(request: &Request, answer: &Answer) -> bool {
    let Says::Http(http) = &request.says else { return false };
    let judged = path::read(&http.target);
    matches!(answer.verdict, Verdict::Allowed | Verdict::Audited) && answer.seen != judged
}

async fn fail(
    judge: &mut Judge,
    callers: &mut Callers,
    generated: Generated,
    request: &Request,
    answer: &Answer,
) -> ! {
    let Generated { seed, index, objects, .. } = generated;
    let verdict = Smi(&objects).verdict(request);
    let head = format!(
        "generated {index} of seed {seed}: the reference says {verdict:?}, the Envoy {answer:?}\nto {request:#?}"
    );
    println!("{head}\nin\n{}\nmaking it smaller", yaml(&objects));
    assert!(answer.verdict != verdict, "the workload read another path than was judged: {head}");
    judge.serve(&objects, &request.to.1).await;
    let again = ask(judge, callers, std::slice::from_ref(request), &[verdict]).await.remove(0);
    assert!(
        again != Answer { verdict, ..again.clone() },
        "it does not come again, the answer is now {again:?}: {head}"
    );
    let (objects, request) = shrink(judge, callers, objects, request.clone()).await;
    judge.serve(&objects, &request.to.1).await;
    let verdict = Smi(&objects).verdict(&request);
    let answer = ask(judge, callers, std::slice::from_ref(&request), &[verdict]).await.remove(0);
    panic!(
        "{head}\n\nsmaller: the reference says {verdict:?}, the Envoy {answer:?}\nto {request:#?}\nin\n{}\nOnce it is clear \
         who is right, keep the generated as operator/tests/golden/proof-<what it shows>/in.yaml.\n",
        yaml(&objects)
    );
}
