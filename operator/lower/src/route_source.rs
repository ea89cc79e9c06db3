//! Sources of a Service's routes → the one in effect, and a finding for each of the others.
//!
//! Used by `kubernetes::mesh_service`. Compares kinds only: of two TrafficSplits of a Service, `smi::split` chooses the
//! older one. Reads no object.

use crate::finding::{Finding, ObjectRef, Reason};

/// Returns the route of the kind with the highest rank. `candidates` has at most one object of a kind; a kind without a
/// rank comes last.
pub(crate) fn in_effect<R>(
    mut candidates: Vec<(ObjectRef, R)>,
    rank: &[&str],
    mut report: impl FnMut(Finding),
) -> Option<R> {
    candidates
        .sort_by_key(|(object, _)| rank.iter().position(|kind| *kind == object.kind).unwrap_or(rank.len()));
    let mut candidates = candidates.into_iter();
    let (winner, route) = candidates.next()?;
    for (loser, _) in candidates {
        let message = format!(
            "{winner} routes the calls of the same Service, and its kind comes first; this one has no effect"
        );
        report(Finding::new(loser, Reason::Conflicted, message).at("spec"));
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::ROUTE_SOURCES;

    #[test]
    fn the_kind_of_the_highest_rank_is_in_effect_and_the_others_are_reported() {
        let object = |kind: &str| ObjectRef::new(kind, "shop", "web");
        let candidates =
            || vec![(object("TrafficSplit"), 1), (object("HTTPRoute"), 2), (object("Unranked"), 3)];
        let mut findings = Vec::new();
        let winner =
            in_effect(candidates(), &["HTTPRoute", "TrafficSplit"], |finding| findings.push(finding));
        assert_eq!(winner, Some(2));
        let losers: Vec<String> = findings.iter().map(ToString::to_string).collect();
        let message = "HTTPRoute shop/web routes the calls of the same Service, and its kind comes first; this one has no effect";
        assert_eq!(
            losers,
            ["TrafficSplit", "Unranked"]
                .map(|kind| format!("error: {kind} shop/web: spec: {message} [Conflicted]"))
        );
        let alone =
            in_effect(vec![(object("TrafficSplit"), 1)], &ROUTE_SOURCES, |finding| panic!("{finding}"));
        assert_eq!(alone, Some(1));
        assert_eq!(in_effect::<u8>(Vec::new(), &ROUTE_SOURCES, |finding| panic!("{finding}")), None);
    }
}
