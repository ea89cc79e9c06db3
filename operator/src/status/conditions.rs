//! Turns the findings and acknowledgement counts of an object into its status. Pure: the time is a parameter.
//!
//! Called by `judge`, again whenever anything about the object may differ, so equal inputs give an equal status,
//! including the times. docs/status.md documents each condition.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use smidge_crds::{config::ExternalWorkloadSpec, object::Kind as _, specs::UdpRouteSpec, status::Status};

use super::programmed::AckCount;
use crate::finding::{AffectedCondition, Finding, ObjectRef, Reason};

/// Condition type: the mesh accepts the object as written.
pub const ACCEPTED: &str = "Accepted";
/// Condition type: all objects that it refers to exist.
pub const RESOLVED_REFS: &str = "ResolvedRefs";
/// Condition type: the proxies that it concerns have acknowledged it.
pub const PROGRAMMED: &str = "Programmed";
/// Condition type: all of the above.
pub const READY: &str = "Ready";

/// Reason: a proxy has refused a resource of the object.
pub const REJECTED: &str = "Rejected";
/// Reason: no proxy sees the object.
pub const NOT_IN_USE: &str = "NotInUse";

/// Maximum length of a message, in bytes. The API allows 32 KiB; messages longer than this are not useful to readers.
const MESSAGE: usize = 1024;

/// Inputs of a status.
#[derive(Debug, Clone, Copy)]
pub struct ConditionInputs<'a> {
    /// The object.
    pub object: &'a ObjectRef,
    /// Generation of the object.
    pub generation: Option<i64>,
    /// Findings about the object, errors first.
    pub findings: &'a [&'a Finding],
    /// Acknowledgement counts of the object.
    pub acks: &'a AckCount,
    /// True if some proxies have been behind for so long that the object is judged without them.
    pub overdue: bool,
    /// Present status of the object.
    pub present: Option<&'a Status>,
    /// Present time.
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

/// Computes the status of the object.
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

/// Returns true if two statuses are equal, times included: a time changes only together with another field.
pub fn is_same(one: &Status, other: &Status) -> bool {
    one.observed_generation == other.observed_generation
        && [ACCEPTED, RESOLVED_REFS, PROGRAMMED, READY]
            .into_iter()
            .all(|kind| of(one, kind) == of(other, kind))
}

/// Returns true if two statuses are equal but for messages and times.
pub fn is_same_but_words(one: &Status, other: &Status) -> bool {
    let bare = |status, kind| {
        of(status, kind).map(|it| (it.status.clone(), it.reason.clone(), it.observed_generation))
    };
    one.observed_generation == other.observed_generation
        && [ACCEPTED, RESOLVED_REFS, PROGRAMMED, READY]
            .into_iter()
            .all(|kind| bare(one, kind) == bare(other, kind))
}

/// Returns the condition of this type.
pub fn of<'s>(status: &'s Status, kind: &str) -> Option<&'s Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind)
}

/// Returns true if the condition of this type is True.
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

/// Builds a condition that is True unless a finding makes it False.
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

/// Formats findings, one line each.
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
    if let Some((holds, reason, message)) = uncounted(&facts.object.kind, accepted) {
        return judged(holds, reason, message.into());
    }
    let AckCount { in_effect, concerned, acknowledged, refused, .. } = *facts.acks;
    // The object that has won the conflict may be programmed; this one is not.
    let against = [accepted, resolved].into_iter().find(|judgement| !judgement.holds);
    let lost = accepted.reason == Reason::Conflicted.as_str();
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
    let before = present(facts);
    let had = |reason: &str| before.filter(|it| it.status == "True" && it.reason == reason);
    if acknowledged == concerned {
        let message = had(PROGRAMMED).map(|it| it.message.clone()).filter(|message| is_complete(message));
        return judged(true, PROGRAMMED, message.unwrap_or_else(|| complete(concerned)));
    }
    // Later refusals or delays are not caused by a generation that proxies had. Its count stays as well: that of proxies
    // which come and go would be written again for each of them.
    let kept = had(PROGRAMMED).or_else(|| {
        // Proxies begin to use it; or, after a restart, those that refused it are slower to connect than others.
        had(NOT_IN_USE).or_else(|| had(REJECTED)).filter(|_| refused == 0 && !facts.overdue)
    });
    if let Some(before) = kept {
        return judged(true, &before.reason, before.message.clone());
    }
    let count = count(facts.acks);
    // After an object was judged without the proxies that refuse, a new leader does not start the time limit again.
    let overdue = facts.overdue || had(REJECTED).is_some();
    match (refused, acknowledged) {
        (0, 0) => judged(false, "Pending", count),
        (0, _) if overdue => judged(true, PROGRAMMED, count),
        (0, _) => judged(false, "Pending", count),
        (_, 0) => judged(false, REJECTED, count),
        (_, _) => judged(overdue, REJECTED, count),
    }
}

/// Returns the condition, as status, reason and message, of kinds whose content no acknowledgement is counted for.
fn uncounted<'a>(kind: &str, accepted: &'a Judgement) -> Option<(bool, &'a str, &'static str)> {
    if kind == UdpRouteSpec::KIND {
        return Some((false, "UdpNotProxied", "UDP is not proxied; nothing allows or denies it"));
    }
    if kind != ExternalWorkloadSpec::KIND {
        return None;
    }
    Some(if accepted.holds {
        let message = "sent to proxies as an endpoint of the Services that select it, which is not counted";
        (true, "NotCounted", message)
    } else {
        (false, &accepted.reason, "not all of it is sent to proxies: Accepted is False")
    })
}

/// Start of the message of an object that every proxy has acknowledged.
const BY_ALL: &str = "acknowledged by all ";
const BY_THE_ONE: &str = "acknowledged by the one ";

fn complete(concerned: usize) -> String {
    if concerned == 1 {
        format!("{BY_THE_ONE}affected proxy")
    } else {
        format!("{BY_ALL}{concerned} affected proxies")
    }
}

/// Returns true if every proxy had acknowledged the object when the message was written.
fn is_complete(message: &str) -> bool {
    [BY_ALL, BY_THE_ONE].iter().any(|start| message.starts_with(start))
}

/// Returns the present `Programmed` condition, if it is about the present generation.
fn present<'s>(facts: &ConditionInputs<'s>) -> Option<&'s Condition> {
    let condition = facts.present.and_then(|present| of(present, PROGRAMMED))?;
    (facts.generation.is_some() && condition.observed_generation == facts.generation).then_some(condition)
}

/// Formats the number of proxies that have acknowledged the object, and the messages of those that refuse it.
fn count(acks: &AckCount) -> String {
    let AckCount { concerned, acknowledged, refused, words, .. } = acks;
    let text = format!("acknowledged by {acknowledged} of {concerned} proxies");
    if *refused == 0 {
        return text;
    }
    let quoted: Vec<String> = words.iter().map(|(proxy, words)| format!("{proxy}: {words}")).collect();
    format!("{text}, rejected by {refused}\n{}", quoted.join("\n"))
}

fn ready(facts: &ConditionInputs<'_>, conditions: [&Judgement; 3]) -> Judgement {
    // A UDPRoute is never programmed, so that condition does not indicate whether the object is correct.
    let is_udp = facts.object.kind == UdpRouteSpec::KIND;
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
        message.truncate(message.floor_char_boundary(MESSAGE - MORE.len()));
        message += MORE;
    }
    message
}
