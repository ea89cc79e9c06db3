//! Answers one question: may FROM call TO, by which objects, and what would let it.
//!
//! Turns a mesh, the inputs and findings that it was made of, and a question into an answer. Called by `cli::explain`
//! for files and for a live cluster. Judges grants by itself, on the mesh model; knows neither Envoy nor a terminal.
//!
//! What a question leaves out may be anything: the verdict is `allowed` only if all of it is.

mod judge;
pub(crate) mod near;
mod objects;
mod question;
pub mod request;
mod subject;
mod suggest;
mod target;

use serde::Serialize;
use smidge_mesh::{Mesh, id::SpiffeId};

pub use judge::{Allowance, Considered};
pub use question::{Asked, QueryError, Question};
pub use suggest::Suggestion;

use crate::{
    finding::{Finding, ObjectRef},
    inputs::Inputs,
};

/// What the mesh does with everything that a question covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All of it passes.
    Allowed,
    /// Some of it passes.
    Partial,
    /// None of it passes.
    Denied,
}

impl Verdict {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Partial => "partial",
            Self::Denied => "denied",
        }
    }

    /// That of several things which may all happen; of none: denied, as nobody would answer.
    pub fn of_all(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter()
            .reduce(|one, other| if one == other { one } else { Self::Partial })
            .unwrap_or(Self::Denied)
    }
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// What the mesh does with the call.
    pub verdict: Verdict,
    /// What decides: the access mode of the destination, `outside` where the mesh has no say, `mixed` where destinations
    /// differ.
    pub mode: String,
    /// The question as it was understood.
    pub question: Asked,
    /// The objects that decide, each with the part it has.
    pub objects: Vec<Use>,
    /// Where the call may go, by port and backend. Several rules of a split each have their own shares.
    pub shares: Vec<Share>,
    /// What is wrong with objects that matter here, errors first.
    pub findings: Vec<Finding>,
    /// What would allow that which is not, or what `audit` would deny.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<Suggestion>,
    /// What else there is to know, a sentence each.
    pub notes: Vec<String>,
}

/// The part that an object has in an answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Use {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// What it does here.
    pub role: Role,
    /// The names of an HTTPRouteGroup's matches that count here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<String>,
}

/// What an object does for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It sets the mode.
    Decides,
    /// It splits the traffic.
    Splits,
    /// It allows the call, or some of it.
    Allows,
    /// It is about the caller and the destination, and does not allow the call.
    Considered,
}

/// One place where the call may go.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// The port that is called: of the Service, or of the workload where that was asked about.
    pub port: u16,
    /// The TrafficSplit that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// The matches that send a request here; empty for everything (else).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<String>,
    /// The Service whose endpoints serve; none where a workload was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Its weight.
    pub weight: u32,
    /// Its share of its rule, in percent.
    pub percent: f64,
    /// What the mesh does with this share.
    pub verdict: Verdict,
    /// Who serves it, each with its own verdict.
    pub destinations: Vec<Destination>,
    /// Whether it gets anything, or nobody does.
    #[serde(skip)]
    counts: bool,
}

/// One identity that serves a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Destination {
    /// Who, as a SPIFFE id.
    pub identity: String,
    /// The port on the instance, which grants are about.
    pub port: u16,
    /// `http` or `tcp`.
    pub protocol: &'static str,
    /// The access mode.
    pub mode: &'static str,
    /// What happens.
    pub verdict: Verdict,
    /// What TrafficTargets alone say.
    pub policy: Verdict,
    /// What allows it.
    pub allowed_by: Vec<Allowance>,
    /// TrafficTargets that name the caller and this destination, and why they do not allow it.
    pub considered: Vec<Considered>,
    /// How many TrafficTargets about this destination name only other callers.
    pub for_others: usize,
    /// Why, where it is no TrafficTarget's doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    #[serde(skip)]
    id: SpiffeId,
    /// A TrafficTarget for others that would allow it.
    #[serde(skip)]
    would_take: Option<String>,
}

/// Answers a question about a mesh that was lowered from `inputs` with `findings`.
pub fn explain(
    mesh: &Mesh,
    inputs: &Inputs,
    findings: &[Finding],
    question: &Question,
) -> Result<Answer, QueryError> {
    let asked = question.read()?;
    let caller = subject::caller(mesh, inputs, &asked.from)?;
    let goal = subject::called(mesh, inputs, &asked.to)?;
    let target::Reached { shares, mut notes } = target::reach(mesh, &caller, &goal, &asked)?;
    notes.splice(0..0, caller.notes.iter().chain(&goal.notes).cloned());
    let verdict = if goal.is_outside { Verdict::Allowed } else { target::verdict(&shares) };
    let suggestion = suggest::suggest(inputs, &caller, (verdict, &shares), &asked, &mut notes);
    let objects = objects::used(inputs, caller.identity.as_ref(), &shares);
    let findings = objects::findings(inputs, findings, &objects, &goal, &shares, verdict);
    Ok(Answer {
        verdict,
        mode: target::mode(&goal, &shares),
        question: asked.echo(&caller, &goal),
        objects,
        shares,
        findings,
        suggestion,
        notes,
    })
}
