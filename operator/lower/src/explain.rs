//! Answers one question: may FROM call TO, which objects decide that, and what would allow it.
//!
//! Turns a mesh, the inputs and findings of its lowering, and a question into an answer. Called by `cli::explain` for
//! files and for a live cluster. Evaluates grants itself, on the mesh model; knows neither Envoy nor a terminal.
//!
//! A part that a question leaves out may have any value: the verdict is `allowed` only if all values are.

mod address;
mod inbound;
mod instances;
mod judge;
mod objects;
mod question;
pub mod request;
mod subject;
mod suggest;
mod target;

use serde::Serialize;
use smidge_mesh::{Mesh, id::SpiffeId, source::SourceRef};

pub use judge::{Allowance, Considered};
pub use question::{Asked, QueryError, Question};
pub use suggest::Suggestion;

use crate::{
    finding::{Finding, ObjectRef},
    inputs::Inputs,
};

/// Verdict of the mesh on everything that a question covers.
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
    /// Returns the word of the verdict.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Partial => "partial",
            Self::Denied => "denied",
        }
    }

    /// Returns the verdict over several outcomes that are all possible; denied if there is none, as no instance would
    /// answer.
    pub fn of_all(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter()
            .reduce(|one, other| if one == other { one } else { Self::Partial })
            .unwrap_or(Self::Denied)
    }
}

/// The answer to a question.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// Verdict on the call.
    pub verdict: Verdict,
    /// Origin of the verdict: the access mode of the destination, `outside` where the mesh does not decide, `mixed`
    /// where destinations differ, `none` without a destination.
    pub mode: String,
    /// The question as it was understood.
    pub question: Asked,
    /// Objects that decide, each with its role.
    pub objects: Vec<Use>,
    /// Places where the call may go, by port and backend. Several rules of a split each have their own shares.
    pub shares: Vec<Share>,
    /// Findings about the objects that matter here, errors first.
    pub findings: Vec<Finding>,
    /// Objects that would allow what is not allowed, or what `audit` would deny.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<Suggestion>,
    /// Further notes, a sentence each.
    pub notes: Vec<String>,
}

/// An object that is part of an answer, with its role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Use {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// Role of the object.
    pub role: Role,
    /// Names of the matches of an HTTPRouteGroup that matter here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<String>,
}

/// Role of an object in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It sets the mode.
    Decides,
    /// It splits the traffic.
    Splits,
    /// It allows the call, or some of it.
    Allows,
    /// It names the caller and the destination, and does not allow the call.
    Considered,
}

/// One place where the call may go.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Share {
    /// Port that is called: of the Service, or of the workload if the question names one.
    pub port: u16,
    /// The object that routes calls here, for example a TrafficSplit; `None` for the Service's own endpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<SourceRef>,
    /// Matches that send a request here; empty for all requests, or all others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<String>,
    /// The Service whose endpoints serve; none if the question names a workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Its weight.
    pub weight: u32,
    /// Its share of its rule, in percent.
    pub percent: f64,
    /// Verdict on this share.
    pub verdict: Verdict,
    /// Identities that serve it, each with its own verdict.
    pub destinations: Vec<Destination>,
    /// True if the share receives traffic, or if no share does.
    #[serde(skip)]
    counts: bool,
}

/// One identity that serves a share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Destination {
    /// SPIFFE id of the identity.
    pub identity: String,
    /// Port on the instance, to which grants apply.
    pub port: u16,
    /// `http` or `tcp`.
    pub protocol: &'static str,
    /// The access mode.
    pub mode: &'static str,
    /// Verdict on the call to this destination.
    pub verdict: Verdict,
    /// Verdict of the TrafficTargets alone.
    pub policy: Verdict,
    /// TrafficTargets that allow it.
    pub allowed_by: Vec<Allowance>,
    /// TrafficTargets that name the caller and this destination, with the reasons for which they do not allow it.
    pub considered: Vec<Considered>,
    /// Number of TrafficTargets about this destination that name only other callers.
    pub for_others: usize,
    /// Reason of the verdict, where it is not a TrafficTarget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    #[serde(skip)]
    id: SpiffeId,
    /// True if the call arrives with the caller's identity, which every TrafficTarget asks for.
    #[serde(skip)]
    has_identity: bool,
    /// A TrafficTarget for other callers that would allow it.
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
    let target::Reached { shares, is_outside, mut notes } =
        target::reach((mesh, inputs), &caller, &goal, &asked)?;
    notes.splice(0..0, caller.notes.iter().chain(&goal.notes).cloned());
    let verdict = if is_outside { Verdict::Allowed } else { target::verdict(&shares) };
    let suggestion = suggest::suggest(inputs, &caller, (verdict, &shares), &asked, &mut notes);
    let objects = objects::used(inputs, caller.identity.as_ref(), &shares);
    let findings = objects::findings(inputs, findings, &objects, &goal, &shares, verdict);
    Ok(Answer {
        verdict,
        mode: target::mode(is_outside, &shares),
        question: asked.echo(&caller, &goal),
        objects,
        shares,
        findings,
        suggestion,
        notes,
    })
}
