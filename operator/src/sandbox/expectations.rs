//! Turns a file of expectations into calls, and the outcome of each into a judgement.
//!
//! Pure. A call is judged twice: against what the user expects, and against what `explain` answers. Makes no call.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::call::{Outcome, Protocol};
use crate::explain::{Answer, Question, Verdict};

/// Maximum number of expectations in a file.
const MOST: usize = 1000;
/// Number of calls by which shares are measured.
const CALLS_OF_SHARES: u32 = 400;
/// Number of calls where some are allowed and some are not.
const CALLS_OF_PARTS: u32 = 50;
/// Maximum deviation of a share, in standard deviations of the binomial distribution.
const SIGMAS: f64 = 4.0;

/// A call, and its expected outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The caller, NAMESPACE/WORKLOAD.
    pub from: String,
    /// The Service that is called, NAMESPACE/NAME.
    pub to: String,
    /// The port; the first one if it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Method of the request; GET if it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Path of the request; / if it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Further headers of the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The expected outcome.
    pub expect: Expected,
    /// Shares of the workloads that answer, by NAMESPACE/WORKLOAD, in any unit.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shares: BTreeMap<String, f64>,
}

/// Expected outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expected {
    /// A workload answers.
    Allowed,
    /// No workload answers.
    Denied,
}

/// Error of a file of expectations.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpectationsError {
    /// It is no list of expectations.
    #[error(
        "is no list of expectations: {0} (hint: - {{from: NAMESPACE/WORKLOAD, to: NAMESPACE/SERVICE, expect: allowed}})"
    )]
    Form(String),
    /// It has too many entries, or none.
    #[error("has {0} expectations: expected 1 to {MOST}")]
    Number(usize),
    /// An entry contradicts itself.
    #[error("entry {entry}, shares: {problem}")]
    Shares {
        /// Number of the entry, counted from 1.
        entry: usize,
        /// Description of the problem.
        problem: &'static str,
    },
}

/// Reads a file of expectations.
pub fn read(text: &str) -> Result<Vec<Expectation>, ExpectationsError> {
    let all: Vec<Expectation> = serde_saphyr::from_str(text).map_err(|error| {
        let words = error.to_string();
        ExpectationsError::Form(words.lines().next().unwrap_or_default().to_owned())
    })?;
    if all.is_empty() || all.len() > MOST {
        return Err(ExpectationsError::Number(all.len()));
    }
    for (entry, expectation) in (1..).zip(&all) {
        let shares = &expectation.shares;
        let problem = if !shares.is_empty() && expectation.expect == Expected::Denied {
            Some("a call that is denied has none")
        } else if shares.values().any(|share| !share.is_finite() || *share < 0.0) {
            Some("expected numbers from 0")
        } else if !shares.is_empty() && shares.values().sum::<f64>() <= 0.0 {
            Some("expected at least one that is more than 0")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Err(ExpectationsError::Shares { entry, problem });
        }
    }
    Ok(all)
}

impl Expectation {
    /// Returns an expectation of one call that nothing is expected of.
    pub fn open(from: String, to: String, port: Option<u16>) -> Self {
        Self {
            from,
            to,
            port,
            method: None,
            path: None,
            headers: BTreeMap::new(),
            expect: Expected::Allowed,
            shares: BTreeMap::new(),
        }
    }

    /// Returns the question to `explain` about the port alone, by which the protocol is found.
    pub fn question_of_port(&self) -> Question {
        let to = format!("service:{}", self.to);
        Question { from: self.from.clone(), to, port: self.port, ..Question::default() }
    }

    /// Returns the question to `explain` about the very call that is made.
    pub fn question(&self, port: u16, protocol: Protocol) -> Question {
        let bare = Question { port: Some(port), ..self.question_of_port() };
        match protocol {
            Protocol::Tcp => bare,
            Protocol::Http => Question {
                method: Some(self.method().to_owned()),
                path: Some(self.path().to_owned()),
                headers: self.headers.iter().map(|(name, value)| format!("{name}={value}")).collect(),
                ..bare
            },
        }
    }

    /// Returns the method of the request.
    pub fn method(&self) -> &str {
        self.method.as_deref().unwrap_or("GET")
    }

    /// Returns the path of the request.
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or("/")
    }

    /// Returns the number of calls to make.
    pub fn calls(&self, explained: &Answer) -> u32 {
        if !self.shares.is_empty() {
            CALLS_OF_SHARES
        } else if explained.verdict == Verdict::Partial {
            CALLS_OF_PARTS
        } else {
            1
        }
    }
}

/// Returns the port and protocol of a call, from the answer to the question about its port.
pub fn target(explained: &Answer) -> Option<(u16, Protocol)> {
    let share = explained.shares.first()?;
    let is_tcp = |share: &crate::explain::Share| share.destinations.iter().any(|it| it.protocol == "tcp");
    let of_port = explained.shares.iter().filter(|it| it.port == share.port);
    let protocol = if of_port.into_iter().any(is_tcp) { Protocol::Tcp } else { Protocol::Http };
    Some((share.port, protocol))
}

/// Judgement of a call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    /// The expectation.
    #[serde(flatten)]
    pub expectation: Expectation,
    /// The port that was called.
    pub called: u16,
    /// Verdict of the wire.
    pub wire: Verdict,
    /// Verdict of `explain`.
    pub explain: Verdict,
    /// Number of answers and of refusals.
    pub outcome: Outcome,
    /// Deviations from the expectation, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deviations: Vec<String>,
    /// True if the wire and `explain` contradict each other.
    pub contradicts: bool,
}

/// Returns the verdict of the wire.
pub fn wire(outcome: &Outcome) -> Verdict {
    match (outcome.answers.is_empty(), outcome.refusals.is_empty()) {
        (false, true) => Verdict::Allowed,
        (false, false) => Verdict::Partial,
        (true, _) => Verdict::Denied,
    }
}

/// Judges the outcome of a call.
pub fn judge(expectation: Expectation, called: u16, explain: Verdict, outcome: Outcome) -> Judgement {
    let wire = wire(&outcome);
    let expected = match expectation.expect {
        Expected::Allowed => Verdict::Allowed,
        Expected::Denied => Verdict::Denied,
    };
    let mut deviations = Vec::new();
    if wire != expected {
        deviations.push(format!("expected {}, the wire has {}", expected.as_str(), Answers(&outcome)));
    } else if !expectation.shares.is_empty() {
        deviations = shares(&expectation.shares, &outcome.answers);
    }
    // Where headers that the question leaves out matter, `explain` has no single verdict.
    let contradicts = explain != Verdict::Partial && wire != explain;
    Judgement { expectation, called, wire, explain, outcome, deviations, contradicts }
}

fn shares(expected: &BTreeMap<String, f64>, answers: &BTreeMap<String, u32>) -> Vec<String> {
    let sum: f64 = expected.values().sum();
    let calls: f64 = answers.values().copied().map(f64::from).sum();
    let mut deviations = Vec::new();
    for (name, share) in expected {
        let share = share / sum;
        let number = f64::from(answers.get(name).copied().unwrap_or(0));
        let limit = SIGMAS * (calls * share * (1.0 - share)).sqrt();
        if (number - calls * share).abs() > limit + f64::EPSILON {
            deviations.push(format!(
                "{name} answered {number} of {calls} calls: expected {:.1} ± {limit:.1}",
                calls * share
            ));
        }
    }
    let unexpected = answers.iter().filter(|(name, _)| !expected.contains_key(*name));
    deviations
        .extend(unexpected.map(|(name, number)| format!("{name} answered {number} calls: expected none")));
    deviations
}

/// Answers in words.
pub struct Answers<'a>(pub &'a Outcome);

impl fmt::Display for Answers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { answers, refusals } = self.0;
        let mut separator = "";
        for (what, number) in answers
            .iter()
            .map(|(name, number)| (format!("answers of {name}"), number))
            .chain(refusals.iter().map(|(words, number)| (format!("{words:?}"), number)))
        {
            write!(f, "{separator}{number} × {what}")?;
            separator = ", ";
        }
        if separator.is_empty() { f.write_str("no call") } else { Ok(()) }
    }
}
