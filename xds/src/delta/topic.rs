//! State of one kind on a stream: the client's subscriptions, and where it does not have what it should have.
//!
//! Used by `Session`, which knows the view and the order among kinds. Names that the client holds exactly as the view
//! has them cost no memory here beyond their subscription: only the differences are stored.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::Request;
use crate::resources::{ResourceType, Version};

/// Maximum number of unknown names for which a client may wait. Further ones are ignored: known names are shared with
/// the view, but these are the client's own, and cost memory and a lookup for each event.
const MAX_UNKNOWN_NAMES: usize = 1024;
/// Maximum number of unknown names that a client may claim to hold: more than any mesh loses while a proxy is away.
/// These cannot be ignored, as the client must learn that they are gone.
const CLAIMS: usize = 16_384;
/// Maximum length of the client's own names, and of all versions, in bytes. Names of this server have at most 200
/// bytes.
const LENGTH: usize = 256;

/// State of a name at the client, where that may not be what the view has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing, and it waits for no answer.
    Nothing,
    /// This version, sent on this stream.
    Sent(Version),
    /// This version, from an earlier stream, as the client reports.
    Initial(Version),
    /// Anything; it waits for an answer.
    Requested,
    /// Possibly any version: it refused the last response, and applies parts of some that it refuses; or it must be
    /// sent all again.
    Unknown,
}

/// A name of which the client may not have what the view has.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) held: Held,
    /// Last refusal of the client: of a version, or of the removal. Not sent again before something else was.
    refused: Option<Content>,
}

/// Error of a client that claims to hold more than it can have been sent.
#[derive(Debug)]
pub(super) struct Excess;

/// Content of a response for a name: its version, or that it does not exist.
type Content = Option<Version>;

#[derive(Debug)]
struct Outstanding {
    nonce: u64,
    sent: Vec<(Arc<str>, Content)>,
}

/// Action for a pending name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// None: the client has it, or no longer wants it.
    Forget,
    /// None yet.
    Wait,
    /// Send the resource.
    Update,
    /// Send at once that it does not exist, as the client waits for it.
    Deny,
    /// Remove it, after everything that is new.
    Remove,
}

/// State of a name in the view.
pub(super) enum Offer<'a> {
    Present(&'a Version),
    Absent,
    /// It will exist at an unknown time.
    Pending,
}

/// The state of one kind.
#[derive(Debug, Default)]
pub(super) struct Topic {
    opened: bool,
    wildcard: bool,
    named: BTreeSet<Arc<str>>,
    /// Those of `named` that the view does not have.
    unknown_names: BTreeSet<Arc<str>>,
    /// True if a wildcard subscription waits for an answer, even if that is empty.
    pub(super) unanswered: bool,
    pub(super) pending: BTreeMap<Arc<str>, Pending>,
    outstanding: Option<Outstanding>,
}

impl Topic {
    pub(super) fn is_outstanding(&self) -> bool {
        self.outstanding.is_some()
    }

    /// Returns true if the client has sent a request for this kind.
    pub(super) fn is_opened(&self) -> bool {
        self.opened
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.named.contains(name)
    }

    /// Returns the versions that the client reports from an earlier stream, for names of which nothing was sent since.
    pub(super) fn claims(&self) -> impl Iterator<Item = (&Arc<str>, &Version)> {
        self.pending.iter().filter_map(|(name, lag)| match &lag.held {
            Held::Initial(version) => Some((name, version)),
            _ => None,
        })
    }

    fn concerns(&self, name: &str) -> bool {
        self.wildcard || self.is_named(name)
    }

    /// Returns true if this is the nonce of the response that the client has not answered.
    pub(super) fn awaits(&self, nonce: &str) -> bool {
        // As numbers, as every message is checked. Nonces of this server have no sign and no leading zero.
        let number =
            nonce.starts_with(|first| matches!(first, '1'..='9')).then(|| nonce.parse().ok()).flatten();
        number.is_some() && number == self.outstanding.as_ref().map(|outstanding| outstanding.nonce)
    }

    /// Handles the client's ACK or NACK. Returns the names in the response if it was refused. A stale nonce is ignored.
    pub(super) fn on_answer(&mut self, nonce: &str, refused: bool) -> Option<Vec<Arc<str>>> {
        if !self.awaits(nonce) {
            return None;
        }
        let sent = self.outstanding.take()?.sent;
        if !refused {
            return None;
        }
        let names = sent.iter().map(|(name, _)| Arc::clone(name)).collect();
        for (name, content) in sent {
            if self.concerns(&name) {
                let lag = Pending { held: Held::Unknown, refused: Some(content) };
                self.pending.insert(name, lag);
            }
        }
        Some(names)
    }

    /// Handles subscriptions and, in the first message, the initial versions; returns `Excess` if these are too many.
    /// `shared` returns the view's own copy of a name, if it has the name.
    pub(super) fn on_subscriptions<'v>(
        &mut self,
        kind: ResourceType,
        request: &Request,
        shared: impl Fn(&str) -> Option<Arc<str>>,
        names: impl Iterator<Item = &'v Arc<str>>,
    ) -> Result<(), Excess> {
        let first = !std::mem::replace(&mut self.opened, true);
        if first {
            self.on_claims(&request.initial_versions, &shared)?;
        }
        for name in &request.unsubscribe {
            self.unsubscribe(name);
        }
        // A client whose first message unsubscribes from a name wants nothing yet.
        let wants_nothing_by_name = request.subscribe.is_empty() && request.unsubscribe.is_empty();
        let legacy = first && kind.is_wildcard() && wants_nothing_by_name;
        if legacy || request.subscribe.iter().any(|name| name == "*") {
            // Initial versions are the answer to this subscription.
            self.unanswered = !first || request.initial_versions.is_empty();
            let again = std::mem::replace(&mut self.wildcard, true);
            names.for_each(|name| self.cover(name, again));
            // A client that subscribes to everything again still accepts a response that was under way meanwhile.
            let sent: Vec<_> =
                self.outstanding.iter().flat_map(|it| &it.sent).map(|(name, _)| Arc::clone(name)).collect();
            if !first {
                for name in &sent {
                    self.invalidate(name);
                }
            }
        }
        for name in request.subscribe.iter().filter(|name| *name != "*") {
            self.subscribe(name, first, &shared);
        }
        Ok(())
    }

    fn on_claims(
        &mut self,
        claims: &HashMap<String, String>,
        shared: &impl Fn(&str) -> Option<Arc<str>>,
    ) -> Result<(), Excess> {
        let mut strange = 0;
        for (name, version) in claims {
            let known = shared(name);
            strange += usize::from(known.is_none());
            if strange > CLAIMS || name.len() > LENGTH || version.len() > LENGTH {
                return Err(Excess);
            }
            let name = known.unwrap_or_else(|| Arc::from(name.as_str()));
            self.pending.insert(name, Pending { held: Held::Initial(Version::new(version)), refused: None });
        }
        Ok(())
    }

    fn subscribe(&mut self, name: &str, first: bool, shared: &impl Fn(&str) -> Option<Arc<str>>) {
        let known = shared(name);
        let is_strange = known.is_none() && !self.is_named(name);
        if is_strange && (name.len() > LENGTH || self.unknown_names.len() >= MAX_UNKNOWN_NAMES) {
            return;
        }
        let name = known.unwrap_or_else(|| Arc::from(name));
        if is_strange {
            self.unknown_names.insert(Arc::clone(&name));
        }
        self.named.insert(Arc::clone(&name));
        self.ask(name, first);
    }

    /// Covers `name` by the wildcard: for the first time, or `again`, and then all of it is sent again.
    fn cover(&mut self, name: &Arc<str>, again: bool) {
        if again {
            self.invalidate(name);
        } else if !self.is_named(name) {
            self.pending.entry(Arc::clone(name)).or_insert(Pending { held: Held::Nothing, refused: None });
        }
    }

    /// Marks the endpoints `name` to be sent again even if they did not change, as their cluster did.
    pub(super) fn repeat(&mut self, name: &Arc<str>) {
        if self.is_named(name) {
            self.invalidate(name);
        }
    }

    /// Marks `name` to be sent again, unless the client refused its current version.
    pub(super) fn invalidate(&mut self, name: &Arc<str>) {
        let lag =
            self.pending.entry(Arc::clone(name)).or_insert(Pending { held: Held::Unknown, refused: None });
        if lag.held != Held::Requested {
            lag.held = Held::Unknown;
        }
    }

    /// Records that the client waits for `name`, unless it has just reported a version of it.
    fn ask(&mut self, name: Arc<str>, first: bool) {
        match self.pending.get(&name) {
            Some(Pending { held: Held::Initial(_), .. }) if first => {}
            // A new subscription clears what was refused: the client may have dropped it and want it for another use.
            _ => drop(self.pending.insert(name, Pending { held: Held::Requested, refused: None })),
        }
    }

    fn unsubscribe(&mut self, name: &str) {
        if name == "*" {
            self.wildcard = false;
            self.unanswered = false;
            let named = &self.named;
            self.pending.retain(|name, _| named.contains(name));
            return;
        }
        self.unknown_names.remove(name);
        match self.named.take(name) {
            // "Leaving a specific name under a wildcard": the client cannot know whether the wildcard covers it.
            Some(name) if self.wildcard => self.ask(name, false),
            _ if self.wildcard => {}
            _ => drop(self.pending.remove(name)),
        }
    }

    /// Records that the view now has `name`, or no longer has it.
    pub(super) fn on_presence(&mut self, name: &Arc<str>, is_present: impl FnOnce() -> bool) {
        if !self.is_named(name) {
            return;
        }
        if !is_present() {
            self.unknown_names.insert(Arc::clone(name));
        } else if self.unknown_names.remove(name) {
            // From now on the view's own copy is used.
            self.named.replace(Arc::clone(name));
        }
    }

    /// Records that the view has something else under `name` than before: `old`.
    pub(super) fn on_change(&mut self, name: &Arc<str>, old: Option<&Version>) {
        if !self.concerns(name) {
            return;
        }
        match self.pending.get_mut(name) {
            None => {
                let held = old.map_or(Held::Nothing, |version| Held::Sent(version.clone()));
                self.pending.insert(Arc::clone(name), Pending { held, refused: None });
            }
            // From now on a drain mark counts: it changed while this client was connected.
            Some(lag) => {
                if let (Held::Initial(version), Some(_)) = (&lag.held, old) {
                    lag.held = Held::Sent(version.clone());
                }
            }
        }
    }

    /// Records that a response with this content is being sent: none of its names is pending any more.
    pub(super) fn on_sent(&mut self, nonce: u64, sent: Vec<(Arc<str>, Content)>) {
        self.unanswered = false;
        for (name, _) in &sent {
            self.pending.remove(name);
        }
        self.outstanding = Some(Outstanding { nonce, sent });
    }

    /// Returns the names that were refused and not sent anew.
    pub(super) fn refused(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pending.iter().filter(|(_, lag)| lag.refused.is_some()).map(|(name, _)| name)
    }

    /// Drops names that need nothing any more; gives the rest to `visit`, in order, with the action for each.
    pub(super) fn review<'v>(
        &mut self,
        offer: impl Fn(&Arc<str>) -> Offer<'v>,
        mut visit: impl FnMut(&Arc<str>, Verdict),
    ) {
        let Self { wildcard, named, pending, .. } = self;
        pending.retain(|name, lag| {
            let verdict = lag.judge(*wildcard || named.contains(name), &offer(name));
            if verdict != Verdict::Forget {
                visit(name, verdict);
            }
            verdict != Verdict::Forget
        });
    }
}

impl Pending {
    /// Returns the action for a name of which the client has `self` and the view has `offer`.
    fn judge(&self, concerned: bool, offer: &Offer) -> Verdict {
        let content = match offer {
            Offer::Pending => return Verdict::Wait,
            Offer::Present(version) => Some(*version),
            Offer::Absent => None,
        };
        if self.refused.as_ref().is_some_and(|refused| refused.as_ref() == content) {
            return Verdict::Wait;
        }
        match (&self.held, content) {
            (Held::Requested, None) => Verdict::Deny,
            (Held::Requested, Some(_)) => Verdict::Update,
            (Held::Nothing, None) => Verdict::Forget,
            (_, None) => Verdict::Remove,
            (_, Some(_)) if !concerned => Verdict::Forget,
            (Held::Sent(held), Some(version)) if held == version => Verdict::Forget,
            (Held::Initial(held), Some(version)) if version.is_held_as(held) => Verdict::Forget,
            (_, Some(_)) => Verdict::Update,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_compared_to_the_letter() {
        let mut topic = Topic::default();
        assert!(!topic.awaits("") && !topic.awaits("0"));
        topic.on_sent(10, Vec::new());
        assert!(topic.awaits("10"));
        for other in ["", "1", "100", "010", "+10", " 10", "10 ", "ten", "99999999999999999999"] {
            assert!(!topic.awaits(other), "{other}");
        }
    }
}
