//! One kind's side of a stream: what the client asked for, and where it is behind what it should have.
//!
//! Used by `Session`, which knows the view and the order among kinds. Names that the client holds exactly as the view
//! has them cost no memory here beyond their subscription: only the differences are written down.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::Request;
use crate::resources::{ResourceType, Version};

/// How many names that do not exist a client may wait for. Further ones are passed over: names that exist are shared with
/// the view, but these are the client's own, and cost memory and a look for each event.
const STRANGERS: usize = 1024;
/// How many names that do not exist a client may claim to hold: more than any mesh loses while a proxy is away. These cannot
/// be passed over, as the client must hear that they are gone.
const CLAIMS: usize = 16_384;
/// How long the client's own names may be, and all versions. Those of ours have no more than 200 bytes.
const LENGTH: usize = 256;

/// What the client is believed to have of a name, where that may not be what the view has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing, and it waits for no answer.
    Nothing,
    /// This version, sent on this stream.
    Sent(Version),
    /// This version, says the client, from an earlier stream.
    Initial(Version),
    /// Whatever it has, it waits for an answer.
    Requested,
    /// It may have any: it refused the last answer, and takes part of some that it refuses; or it must hear all again.
    Unknown,
}

/// A name of which the client may not have what the view has.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) held: Held,
    /// What it refused last: a version, or the removal. Not said again before something else was.
    refused: Option<Told>,
}

/// The client claims more than it can have been told.
#[derive(Debug)]
pub(super) struct Excess;

/// What was said of a name: its version, or that it does not exist.
type Told = Option<Version>;

#[derive(Debug)]
struct Outstanding {
    nonce: u64,
    told: Vec<(Arc<str>, Told)>,
}

/// What to do about a name that lags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing: the client has it, or lost interest.
    Forget,
    /// Nothing yet.
    Wait,
    /// Send the resource.
    Update,
    /// Say at once that it does not exist, for the client waits for it.
    Deny,
    /// Remove it, after everything that is new.
    Remove,
}

/// What the view has under a name.
pub(super) enum Offer<'a> {
    Present(&'a Version),
    Absent,
    /// It will exist; nobody can say when.
    Pending,
}

/// The state of one kind.
#[derive(Debug, Default)]
pub(super) struct Topic {
    opened: bool,
    wildcard: bool,
    named: BTreeSet<Arc<str>>,
    /// Those of them that the view does not have.
    unknown_names: BTreeSet<Arc<str>>,
    /// A wildcard subscription waits for an answer, even if that is empty.
    pub(super) unanswered: bool,
    pub(super) pending: BTreeMap<Arc<str>, Pending>,
    outstanding: Option<Outstanding>,
}

impl Topic {
    pub(super) fn is_outstanding(&self) -> bool {
        self.outstanding.is_some()
    }

    /// The client has spoken of this kind.
    pub(super) fn is_opened(&self) -> bool {
        self.opened
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.named.contains(name)
    }

    /// What the client says it holds from an earlier stream, where nothing was sent since.
    pub(super) fn claims(&self) -> impl Iterator<Item = (&Arc<str>, &Version)> {
        self.pending.iter().filter_map(|(name, lag)| match &lag.held {
            Held::Initial(version) => Some((name, version)),
            _ => None,
        })
    }

    fn concerns(&self, name: &str) -> bool {
        self.wildcard || self.is_named(name)
    }

    /// Whether this is the nonce of the response that the client has not answered.
    pub(super) fn awaits(&self, nonce: &str) -> bool {
        // As numbers, for every message is asked about. None of ours has a sign or a zero in front.
        let number =
            nonce.starts_with(|first| matches!(first, '1'..='9')).then(|| nonce.parse().ok()).flatten();
        number.is_some() && number == self.outstanding.as_ref().map(|outstanding| outstanding.nonce)
    }

    /// The client's ACK or NACK: the names in the response if it was refused. A stale nonce says nothing.
    pub(super) fn on_answer(&mut self, nonce: &str, refused: bool) -> Option<Vec<Arc<str>>> {
        if !self.awaits(nonce) {
            return None;
        }
        let told = self.outstanding.take()?.told;
        if !refused {
            return None;
        }
        let names = told.iter().map(|(name, _)| Arc::clone(name)).collect();
        for (name, told) in told {
            if self.concerns(&name) {
                let lag = Pending { held: Held::Unknown, refused: Some(told) };
                self.pending.insert(name, lag);
            }
        }
        Some(names)
    }

    /// Takes over subscriptions and, from the first message, what the client brought along; `Excess` if that is too much.
    /// `shared` gives the view's own copy of a name, if it has the name.
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
        // Who begins by dropping a name wants nothing yet.
        let wants_nothing_by_name = request.subscribe.is_empty() && request.unsubscribe.is_empty();
        let legacy = first && kind.is_wildcard() && wants_nothing_by_name;
        if legacy || request.subscribe.iter().any(|name| name == "*") {
            // What it brought along is the answer to what it asked for.
            self.unanswered = !first || request.initial_versions.is_empty();
            let again = std::mem::replace(&mut self.wildcard, true);
            names.for_each(|name| self.cover(name, again));
            // A response that was under way meanwhile is taken by a client that wants everything again.
            let told: Vec<_> =
                self.outstanding.iter().flat_map(|it| &it.told).map(|(name, _)| Arc::clone(name)).collect();
            if !first {
                for name in &told {
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
        if is_strange && (name.len() > LENGTH || self.unknown_names.len() >= STRANGERS) {
            return;
        }
        let name = known.unwrap_or_else(|| Arc::from(name));
        if is_strange {
            self.unknown_names.insert(Arc::clone(&name));
        }
        self.named.insert(Arc::clone(&name));
        self.ask(name, first);
    }

    /// The wildcard covers `name`: for the first time, or `again`, and then all of it is told again.
    fn cover(&mut self, name: &Arc<str>, again: bool) {
        if again {
            self.invalidate(name);
        } else if !self.is_named(name) {
            self.pending.entry(Arc::clone(name)).or_insert(Pending { held: Held::Nothing, refused: None });
        }
    }

    /// Tells the endpoints `name` again even if they did not change, as their cluster did.
    pub(super) fn repeat(&mut self, name: &Arc<str>) {
        if self.is_named(name) {
            self.invalidate(name);
        }
    }

    /// The client must hear of `name` again, unless it refused it as it is.
    pub(super) fn invalidate(&mut self, name: &Arc<str>) {
        let lag =
            self.pending.entry(Arc::clone(name)).or_insert(Pending { held: Held::Unknown, refused: None });
        if lag.held != Held::Requested {
            lag.held = Held::Unknown;
        }
    }

    /// The client waits for `name`, unless it has just said what it holds of it.
    fn ask(&mut self, name: Arc<str>, first: bool) {
        match self.pending.get(&name) {
            Some(Pending { held: Held::Initial(_), .. }) if first => {}
            // Asking anew clears what was refused: the client may have dropped it and want it for another use.
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

    /// The view has come to have `name`, or to have it no longer.
    pub(super) fn on_presence(&mut self, name: &Arc<str>, is_present: impl FnOnce() -> bool) {
        if !self.is_named(name) {
            return;
        }
        if !is_present() {
            self.unknown_names.insert(Arc::clone(name));
        } else if self.unknown_names.remove(name) {
            // From now on it is the view's own.
            self.named.replace(Arc::clone(name));
        }
    }

    /// The view has something else under `name` than before: `old`.
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

    /// A response with this content is on its way: none of its names lags any more.
    pub(super) fn on_sent(&mut self, nonce: u64, told: Vec<(Arc<str>, Told)>) {
        self.unanswered = false;
        for (name, _) in &told {
            self.pending.remove(name);
        }
        self.outstanding = Some(Outstanding { nonce, told });
    }

    /// The names that were refused and not told anew.
    pub(super) fn refused(&self) -> impl Iterator<Item = &Arc<str>> {
        self.pending.iter().filter(|(_, lag)| lag.refused.is_some()).map(|(name, _)| name)
    }

    /// Drops what needs nothing any more; gives the rest to `visit`, in order, with what is to be done about it.
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
    /// What to do about a name of which the client has `self` and the view has `offer`.
    fn judge(&self, concerned: bool, offer: &Offer) -> Verdict {
        let told = match offer {
            Offer::Pending => return Verdict::Wait,
            Offer::Present(version) => Some(*version),
            Offer::Absent => None,
        };
        if self.refused.as_ref().is_some_and(|refused| refused.as_ref() == told) {
            return Verdict::Wait;
        }
        match (&self.held, told) {
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
    fn a_nonce_is_what_was_said_to_the_letter() {
        let mut topic = Topic::default();
        assert!(!topic.awaits("") && !topic.awaits("0"));
        topic.on_sent(10, Vec::new());
        assert!(topic.awaits("10"));
        for other in ["", "1", "100", "010", "+10", " 10", "10 ", "ten", "99999999999999999999"] {
            assert!(!topic.awaits(other), "{other}");
        }
    }
}
