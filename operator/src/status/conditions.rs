//! Turns what is known of an object into its status. Pure: the time is a parameter.
//!
//! Called by `judge`, again whenever anything about the object may differ, so equal facts give an equal status, down to
//! the times. docs/status.md says what each condition means.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use smidge_crds::status::Status;

use super::programmed::AckCount;
use crate::finding::{AffectedCondition, Finding, ObjectRef};

/// What the mesh takes the object for what it says.
pub const ACCEPTED: &str = "Accepted";
/// All that it refers to is there.
pub const RESOLVED_REFS: &str = "ResolvedRefs";
/// The proxies that it concerns have it.
pub const PROGRAMMED: &str = "Programmed";
/// All of the above.
pub const READY: &str = "Ready";

/// A proxy has refused what the object says.
pub const REJECTED: &str = "Rejected";
/// No proxy sees the object.
pub const NOT_IN_USE: &str = "NotInUse";

/// The API allows 32 KiB; more than this nobody reads.
const MESSAGE: usize = 1024;

/// All that a status is made of.
#[derive(Debug, Clone, Copy)]
pub struct ConditionInputs<'a> {
    /// The object.
    pub object: &'a ObjectRef,
    /// Its generation.
    pub generation: Option<i64>,
    /// What was found about it, errors first.
    pub findings: &'a [&'a Finding],
    /// How far it has come.
    pub tally: &'a AckCount,
    /// Whether some proxies have kept it waiting for so long that it is judged without them.
    pub overdue: bool,
    /// What stands on it now.
    pub present: Option<&'a Status>,
    /// The time.
    pub now: &'a Time,
}

/// A condition before it has a time.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Judgement {
    kind: &'static str,
    holds: bool,
    reason: String,
    message: String,
}

/// The status of the object.
pub fn status(facts: &ConditionInputs<'_>) -> Status {
    let accepted = found(facts, ACCEPTED, AffectedCondition::Accepted, "accepted as written");
    let resolved =
        found(facts, RESOLVED_REFS, AffectedCondition::ResolvedRefs, "all references are resolved");
    let programmed = programmed(facts, &accepted, &resolved);
    let ready = ready(facts, [&accepted, &resolved, &programmed]);
    let conditions = [accepted, resolved, programmed, ready];
    Status {
        observed_generation: facts.generation,
        conditions: conditions.into_iter().map(|judgement| condition(facts, judgement)).collect(),
    }
}

/// Whether two statuses say the same: times count only where a word has changed, which then shows, too.
pub fn is_same(one: &Status, other: &Status) -> bool {
    one.observed_generation == other.observed_generation
        && [ACCEPTED, RESOLVED_REFS, PROGRAMMED, READY]
            .into_iter()
            .all(|kind| of(one, kind) == of(other, kind))
}

/// Whether two statuses say the same but for the prose.
pub fn is_same_but_words(one: &Status, other: &Status) -> bool {
    let bare = |status, kind| {
        of(status, kind).map(|it| (it.status.clone(), it.reason.clone(), it.observed_generation))
    };
    one.observed_generation == other.observed_generation
        && [ACCEPTED, RESOLVED_REFS, PROGRAMMED, READY]
            .into_iter()
            .all(|kind| bare(one, kind) == bare(other, kind))
}

/// The condition of this type.
pub fn of<'s>(status: &'s Status, kind: &str) -> Option<&'s Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether the condition of this type is True.
pub fn holds(status: &Status, kind: &str) -> bool {
    of(status, kind).is_some_and(|condition| condition.status == "True")
}

fn condition(facts: &ConditionInputs<'_>, judgement: Judgement) -> Condition {
    let Judgement { kind, holds, reason, message } = judgement;
    let status = if holds { "True" } else { "False" };
    let before = facts.present.and_then(|present| of(present, kind)).filter(|before| before.status == status);
    Condition {
        last_transition_time: before.map_or(facts.now, |before| &before.last_transition_time).clone(),
        message: fit(message),
        observed_generation: facts.generation,
        reason,
        status: status.to_owned(),
        type_: kind.to_owned(),
    }
}

/// A condition that holds unless a finding makes it false.
fn found(
    facts: &ConditionInputs<'_>,
    kind: &'static str,
    falsifies: AffectedCondition,
    fine: &str,
) -> Judgement {
    let against: Vec<&Finding> =
        facts.findings.iter().copied().filter(|finding| finding.reason.condition() == falsifies).collect();
    match against.first() {
        None => Judgement { kind, holds: true, reason: kind.to_owned(), message: fine.to_owned() },
        Some(first) => Judgement {
            kind,
            holds: false,
            reason: first.reason.to_string(),
            message: listed(against.iter().copied()),
        },
    }
}

/// What was found, one line each.
fn listed<'f>(findings: impl Iterator<Item = &'f Finding>) -> String {
    let lines: Vec<String> = findings.map(line).collect();
    lines.join("\n")
}

fn line(finding: &Finding) -> String {
    let Finding { reason, field, message, hint, .. } = finding;
    let field = field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
    let hint = hint.as_ref().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
    format!("{field}{message} [{reason}]{hint}")
}

fn programmed(facts: &ConditionInputs<'_>, accepted: &Judgement, resolved: &Judgement) -> Judgement {
    let judged = |holds, reason: &str, message: String| Judgement {
        kind: PROGRAMMED,
        holds,
        reason: reason.to_owned(),
        message,
    };
    if facts.object.kind == "UDPRoute" {
        return judged(false, "UdpNotProxied", "UDP is not proxied; nothing allows or denies it".into());
    }
    let AckCount { in_effect, concerned, acknowledged, refused, .. } = *facts.tally;
    // What has won in its place may well be programmed; this is not.
    let against = [accepted, resolved].into_iter().find(|judgement| !judgement.holds);
    let lost = accepted.reason == "Conflicted";
    if let Some(against) = against.filter(|_| lost || !in_effect) {
        let message = format!("not sent to any proxy: {} is False", against.kind);
        return judged(false, &against.reason, message);
    }
    if concerned == 0 {
        return judged(
            true,
            NOT_IN_USE,
            "no connected proxy is affected; sent to those that connect later".into(),
        );
    }
    if acknowledged == concerned {
        let proxies = if concerned == 1 {
            "the one affected proxy".to_owned()
        } else {
            format!("all {concerned} affected proxies")
        };
        return judged(true, PROGRAMMED, format!("acknowledged by {proxies}"));
    }
    let before = present(facts);
    // Whoever was in use, or comes to be, is given time before that shows.
    let unused = before == Some((true, NOT_IN_USE)) && refused == 0 && !facts.overdue;
    if before == Some((true, PROGRAMMED)) || unused {
        return kept(facts, &judged);
    }
    let count = count(facts.tally);
    // Once it was judged without those who refuse, a new leader does not begin again.
    let overdue = facts.overdue || before == Some((true, REJECTED));
    match (refused, acknowledged) {
        (0, 0) => judged(false, "Pending", count),
        (0, _) if overdue => judged(true, PROGRAMMED, count),
        (0, _) => judged(false, "Pending", count),
        (_, 0) => judged(false, REJECTED, count),
        (_, _) => judged(overdue, REJECTED, count),
    }
}

/// An object that all had as it is: whatever is refused or late since then is not its doing.
fn kept(facts: &ConditionInputs<'_>, judged: &impl Fn(bool, &str, String) -> Judgement) -> Judgement {
    let before = facts.present.and_then(|present| of(present, PROGRAMMED));
    match before {
        Some(before) if !facts.overdue => judged(true, &before.reason, before.message.clone()),
        _ => {
            let AckCount { concerned, acknowledged, .. } = facts.tally;
            judged(true, PROGRAMMED, format!("acknowledged by {acknowledged} of {concerned} proxies"))
        }
    }
}

/// What `Programmed` says now, if that is about the present generation.
fn present<'s>(facts: &ConditionInputs<'s>) -> Option<(bool, &'s str)> {
    let condition = facts.present.and_then(|present| of(present, PROGRAMMED))?;
    let is_current = facts.generation.is_some() && condition.observed_generation == facts.generation;
    is_current.then_some((condition.status == "True", condition.reason.as_str()))
}

/// How many have it, and what the others say.
fn count(tally: &AckCount) -> String {
    let AckCount { concerned, acknowledged, refused, words, .. } = tally;
    let text = format!("acknowledged by {acknowledged} of {concerned} proxies");
    if *refused == 0 {
        return text;
    }
    let quoted: Vec<String> = words.iter().map(|(proxy, words)| format!("{proxy}: {words}")).collect();
    format!("{text}, rejected by {refused}\n{}", quoted.join("\n"))
}

fn ready(facts: &ConditionInputs<'_>, conditions: [&Judgement; 3]) -> Judgement {
    // Nothing of UDP is ever programmed, so that says nothing about whether the object is right.
    let is_udp = facts.object.kind == "UDPRoute";
    let counts = |it: &&Judgement| !is_udp || it.kind == ACCEPTED;
    let against = conditions.into_iter().filter(counts).find(|judgement| !judgement.holds);
    if let Some(Judgement { kind, reason, message, .. }) = against {
        let message = format!("{kind} is False: {message}");
        return Judgement { kind: READY, holds: false, reason: reason.clone(), message };
    }
    let rest = facts.findings.iter().copied();
    let rest = listed(rest.filter(|it| it.reason.condition() == AffectedCondition::Nothing));
    let message = if rest.is_empty() { "ready".to_owned() } else { rest };
    Judgement { kind: READY, holds: true, reason: READY.to_owned(), message }
}

fn fit(mut message: String) -> String {
    const MORE: &str = " ...";
    if message.len() > MESSAGE {
        let mut end = MESSAGE - MORE.len();
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message += MORE;
    }
    message
}
