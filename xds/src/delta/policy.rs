//! Names the extensions that are an inbound port's policy, and finds those that changed while a client was away.
//!
//! Pure: part of `Session`, which drains connections for it. Does not know what a policy allows.

use super::topic::Topic;
use crate::{resources::ResourceType, view::View};

/// Prefix of the extensions that are an inbound port's policy.
pub(super) const INBOUND: &str = "inbound/";

fn is_tcp_policy(name: &str) -> bool {
    name.starts_with(INBOUND) && name.ends_with("/tcp")
}

/// Returns true if the policy of a TCP port changed while the client was away.
pub(super) fn has_missed_policy(topic: &Topic, view: &View) -> bool {
    topic.claims().filter(|(name, _)| is_tcp_policy(name)).any(|(name, held)| {
        let now = view.get(ResourceType::Extension, name);
        now.is_some_and(|now| !now.version.is_held_as(held))
    })
}
