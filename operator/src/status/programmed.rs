//! Counts, for each object, the proxies that it concerns and those that have acknowledged it.
//!
//! An object concerns a proxy that sees a resource of which the object is a source; the proxy has acknowledged the
//! object when it has acknowledged the present version of each such resource. Pure. `AckTracker` is updated with each
//! publication and each answer, at the cost of the difference: a change of endpoints concerns no object, a change of a
//! weight one split and the proxies that see it.

mod ack_count;
mod answers;
mod audience;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use imbl::ordmap::DiffItem;
use smidge_xds::{
    delta::changes,
    mesh::id::{ClassId, ProxyId},
    resources::Resource,
    server::AckState,
    snapshot::Snapshot,
    view::View,
};

pub use self::ack_count::{AckCount, AckCounts};
use self::{
    answers::{Answers, Count, Missing, ProxyState, Verdict},
    audience::{AffectedProxies, Audiences, Key},
};
use crate::{
    finding::ObjectRef,
    objects::{Known, KnownObjects},
};

/// Name of an object, shared by many holders.
type Name = Arc<ObjectRef>;

/// Index from new resources to the objects that a proxy lacks, if no source of one class alone is among them: computed
/// once for all classes.
type Memo = HashMap<Vec<Key>, Missing>;

/// Tracker of the proxies that each object concerns, and of those that have acknowledged it.
#[derive(Debug, Default)]
pub struct AckTracker {
    objects: KnownObjects,
    snapshot: Arc<Snapshot>,
    audiences: Audiences,
    answers: Answers,
    counts: AckCounts,
    work: Work,
}

/// Number of computations so far, by which tests bound the cost of a change.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Objects that were counted.
    pub objects: u64,
    /// Classes for which the objects that their proxies lack were computed.
    pub classes: u64,
}

impl AckTracker {
    /// Updates the tracker to `objects`, and to `snapshot`, which was built from them.
    pub fn publish(&mut self, objects: &KnownObjects, snapshot: &Arc<Snapshot>) {
        let difference = snapshot.since(&self.snapshot);
        let earlier = std::mem::replace(&mut self.snapshot, Arc::clone(snapshot));
        let mut moved = self.take_objects(objects);
        for statement in &difference.sources {
            self.audiences.attribute(statement, &earlier, snapshot);
            moved.extend(self.audiences.objects(statement, objects));
        }
        for class in &difference.classes {
            self.answers.resize(class, earlier.instances(class), snapshot.instances(class));
        }
        let mut concerned: Vec<Arc<AffectedProxies>> = Vec::new();
        for object in &moved {
            concerned.extend(self.address(object));
        }
        let content_changed = difference.content_changed.iter();
        let content_changed =
            content_changed.flat_map(|statement| self.audiences.objects(statement, objects));
        concerned.extend(content_changed.filter_map(|object| self.audiences.get(&object).cloned()));
        // A split and the routes that it uses have the same audience.
        concerned.dedup();
        for proxy in difference.proxies {
            self.recompute_state(proxy);
        }
        let all = concerned.iter().any(|audience| audience.every_proxy);
        let all: Vec<ClassId> = self.answers.classes().filter(|_| all).cloned().collect();
        let inbound = difference.inbound.iter().filter(|_| self.audiences.has_settings());
        let classes = concerned.iter().flat_map(|audience| &audience.classes).chain(&all).chain(inbound);
        let mut memo = Memo::new();
        for class in classes.collect::<HashSet<_>>() {
            self.recompute_class(class, &mut memo);
        }
    }

    /// Records the answer of a proxy; `None` if the proxy is gone.
    pub fn answer(&mut self, proxy: ProxyId, answer: Option<AckState>) {
        let Some(answer) = answer else { return self.answers.place(proxy, None) };
        if let Some(answer) = self.answers.step(&proxy, answer) {
            self.place(proxy, answer);
        }
    }

    fn place(&mut self, proxy: ProxyId, answer: AckState) {
        let placed = self.judge(&proxy, answer);
        self.answers.place(proxy, Some(placed));
    }

    /// Recounts the objects that have changed; returns the counts of all objects.
    pub fn counts(&mut self) -> &AckCounts {
        for object in self.answers.take_moved() {
            let Some(ack_count) = self.ack_count(&object) else {
                self.counts.remove(&*object);
                continue;
            };
            self.work.objects += 1;
            if self.counts.get(&*object).is_none_or(|present| **present != ack_count) {
                self.counts.insert(ObjectRef::clone(&object), Arc::new(ack_count));
            }
        }
        &self.counts
    }

    /// Returns the number of computations so far.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Replaces the objects; returns those that may concern other proxies than before.
    fn take_objects(&mut self, objects: &KnownObjects) -> BTreeSet<Name> {
        let earlier = std::mem::replace(&mut self.objects, objects.clone());
        let mut moved = BTreeSet::new();
        for item in earlier.diff(objects) {
            let (object, old, new) = match item {
                DiffItem::Add(object, new) => (object, None, Some(&**new)),
                DiffItem::Remove(object, old) => (object, Some(&**old), None),
                DiffItem::Update { old: (_, old), new: (object, new) } => {
                    (object, Some(&**old), Some(&**new))
                }
            };
            let uses = |known: &'_ Known| known.uses.clone();
            let is = |known: &'_ Known| (known.uid.clone(), known.generation);
            if old.map(uses) != new.map(uses) {
                moved.extend(self.audiences.refer(object, old, new));
            }
            if old.map(is) != new.map(is) {
                self.answers.touch(self.audiences.name(object));
            }
        }
        moved
    }

    /// Recomputes the audience of an object; returns the old and the new one, whose proxies may now have or lack the
    /// object.
    fn address(&mut self, object: &Name) -> [Arc<AffectedProxies>; 2] {
        let (old, new) = self.audiences.renew(object, &self.objects, &self.snapshot);
        self.answers.address(object, &old, &new, &self.snapshot);
        [old, new]
    }

    /// Computes the state of a proxy from its answer.
    fn judge(&self, proxy: &ProxyId, answer: AckState) -> ProxyState {
        let class = self.snapshot.class(proxy);
        let verdict = class.zip(answer.acknowledged.clone()).map(|(class, taken)| {
            let view = || self.snapshot.view_of(class);
            let anew = || Some(self.missing(class, &taken, &view()?, &mut Memo::new()));
            let missing = self.answers.missing(class, &taken).cloned().or_else(anew).unwrap_or_default();
            let mut refused = self.refused(class, &answer);
            refused.retain(|object, _| !missing.contains(object));
            Verdict { class: class.clone(), taken, missing, refused }
        });
        ProxyState { answer, verdict }
    }

    fn recompute_state(&mut self, proxy: ProxyId) {
        if let Some(answer) = self.answers.get(&proxy).cloned() {
            self.place(proxy, answer);
        }
    }

    /// Recomputes the objects that the proxies of a class lack and refuse.
    fn recompute_class(&mut self, class: &ClassId, memo: &mut Memo) {
        let taken = self.answers.taken(class);
        if taken.is_empty() {
            return;
        }
        self.work.classes += 1;
        if let Some(view) = self.snapshot.view_of(class) {
            for taken in taken {
                let missing = self.missing(class, &taken, &view, memo);
                self.answers.renew(class, &taken, missing);
            }
            self.answers.expect(class, view);
        }
        for proxy in self.answers.refusing(class) {
            self.recompute_state(proxy);
        }
    }

    /// Returns the objects of which a proxy that has `taken` and should have `view` lacks a resource.
    fn missing(&self, class: &ClassId, taken: &Arc<View>, view: &Arc<View>, memo: &mut Memo) -> Missing {
        if Arc::ptr_eq(taken, view) {
            return Missing::default();
        }
        let (mut everywhere, mut objects) = (Vec::new(), BTreeSet::new());
        for key in changes::between(taken, view).iter() {
            let is_everywhere = self.audiences.is_carried_everywhere(key);
            let own = self.carried_by(class, key);
            if (is_everywhere || !own.is_empty()) && view.get(key.0, &key.1).is_some() {
                objects.extend(own);
                everywhere.extend(Some(key.clone()).filter(|_| is_everywhere));
            }
        }
        if objects.is_empty() {
            let known = memo.get(&everywhere).cloned();
            return known.unwrap_or_else(|| {
                let missing: BTreeSet<Name> = self.carried_everywhere(&everywhere).collect();
                let missing: Missing = missing.into_iter().collect();
                memo.insert(everywhere, Arc::clone(&missing));
                missing
            });
        }
        objects.extend(self.carried_everywhere(&everywhere));
        objects.into_iter().collect()
    }

    /// Returns the objects of which a proxy has refused a resource, with the message of its NACK.
    fn refused(&self, class: &ClassId, answer: &AckState) -> answers::Refused {
        let Some(view) = self.snapshot.view_of(class) else { return answers::Refused::new() };
        let here = answer.refused.iter().filter(|((kind, name), _)| view.get(*kind, name).is_some());
        let objects = here.flat_map(|(key, words)| {
            let objects = self.carried_everywhere([key]).chain(self.carried_by(class, key));
            objects.map(|object| (object, Arc::clone(words)))
        });
        objects.collect()
    }

    fn carried_everywhere<'a>(
        &'a self,
        keys: impl IntoIterator<Item = &'a Key>,
    ) -> impl Iterator<Item = Name> {
        keys.into_iter().flat_map(|key| self.audiences.carried_everywhere(key, &self.objects))
    }

    /// Returns the objects that are sources of a resource in the view of this class alone.
    fn carried_by(&self, class: &ClassId, key: &Key) -> Vec<Name> {
        let (kind, name) = key;
        let is_this = |resource: &Arc<Resource>| resource.kind == *kind && resource.name == *name;
        let settings = self.audiences.settings().filter(|_| self.snapshot.inbound(class).any(is_this));
        self.audiences.carried_by(class, key, &self.objects).chain(settings.cloned()).collect()
    }

    fn ack_count(&self, object: &Name) -> Option<AckCount> {
        let known = self.objects.get(&**object)?;
        let audience = self.audiences.get(object)?;
        let Count { instances: concerned, answering } = self.answers.count(object, audience);
        let (missing, refusals) = self.answers.against(object);
        let quoted = refusals.into_iter().flatten().take(ack_count::QUOTED);
        let refused = refusals.map_or(0, BTreeMap::len);
        Some(AckCount {
            uid: known.uid.clone(),
            generation: known.generation,
            in_effect: audience.in_effect,
            concerned,
            acknowledged: answering.saturating_sub(missing + refused),
            refused,
            words: quoted
                .map(|(proxy, words)| (format!("{}/{}", proxy.namespace, proxy.instance), words.to_string()))
                .collect(),
        })
    }
}
