//! Counts, for each object, the proxies that it concerns and those that have acknowledged it.
//!
//! An object concerns a proxy that sees a resource which carries what the object says; the proxy has acknowledged the
//! object when it has acknowledged each such resource as it is now. Pure. `Concerns` goes on from what was published before
//! and from answer to answer, at the cost of what differs: an endpoint concerns no object, a weight one split and those
//! who see it.

mod answers;
mod audience;
mod tally;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imbl::ordmap::DiffItem;
use smidge_xds::{
    delta::changes,
    mesh::id::{ClassId, ProxyId},
    resources::{Kind, Resource},
    server::Answer,
    snapshot::Snapshot,
    view::View,
};

pub use self::tally::{Tallies, Tally};
use self::{
    answers::{Answers, Placed, Verdict},
    audience::Audiences,
};
use super::object::{Known, KnownObjects};
use crate::finding::ObjectRef;

/// An object's name, which many hold.
type Name = Arc<ObjectRef>;

/// Which objects concern which proxies, and who of these has what.
#[derive(Debug, Default)]
pub struct Concerns {
    objects: KnownObjects,
    snapshot: Arc<Snapshot>,
    audiences: Audiences,
    answers: Answers,
    tallies: Tallies,
    work: Work,
}

/// What was done so far: what a change costs is held by tests through these counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Objects that were counted.
    pub objects: u64,
    /// Classes of which it was asked what their proxies lack.
    pub classes: u64,
}

impl Concerns {
    /// Goes on with `objects`, and with `snapshot`, which was made of them.
    pub fn publish(&mut self, objects: &KnownObjects, snapshot: &Arc<Snapshot>) {
        let difference = snapshot.since(&self.snapshot);
        let earlier = std::mem::replace(&mut self.snapshot, Arc::clone(snapshot));
        let mut moved = self.take_objects(objects);
        for statement in &difference.statements {
            self.audiences.carry(statement, &earlier, snapshot);
            moved.extend(self.audiences.objects(statement, objects));
        }
        let mut classes: BTreeSet<ClassId> = BTreeSet::new();
        for object in &moved {
            self.address(object, &mut classes);
        }
        if self.audiences.has_settings() {
            classes.extend(difference.inbound);
        }
        for class in &difference.classes {
            self.answers.resize(class, earlier.instances(class), snapshot.instances(class));
        }
        for proxy in difference.proxies {
            self.place_again(proxy);
        }
        for class in &classes {
            self.look_into(class);
        }
    }

    /// Takes in what a proxy has answered; `None` if it is gone.
    pub fn answer(&mut self, proxy: ProxyId, answer: Option<Answer>) {
        let placed = answer.map(|answer| self.judge(&proxy, answer));
        self.answers.place(proxy, placed);
    }

    /// The counts of all that was taken in.
    pub fn tallies(&mut self) -> &Tallies {
        for object in self.answers.take_moved() {
            let Some(tally) = self.tally(&object) else {
                self.tallies.remove(&*object);
                continue;
            };
            self.work.objects += 1;
            if self.tallies.get(&*object).is_none_or(|present| **present != tally) {
                self.tallies.insert(ObjectRef::clone(&object), Arc::new(tally));
            }
        }
        &self.tallies
    }

    /// What was done so far.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Takes over other objects; those that may concern others than before.
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

    /// Finds out anew whom an object concerns; adds the classes whose proxies may now have it, or lack it.
    fn address(&mut self, object: &Name, classes: &mut BTreeSet<ClassId>) {
        let (old, new) = self.audiences.renew(object, &self.objects, &self.snapshot);
        self.answers.address(object, &old, &new);
        if old.everybody || new.everybody {
            classes.extend(self.answers.classes().cloned());
        } else {
            classes.extend(old.classes.into_iter().chain(new.classes));
        }
    }

    /// Where a proxy stands with its answer.
    fn judge(&self, proxy: &ProxyId, answer: Answer) -> Placed {
        let class = self.snapshot.class(proxy);
        let verdict = class.zip(answer.acknowledged.clone()).map(|(class, taken)| {
            let lacking = self.answers.lacking(class, &taken);
            let lacking = lacking.cloned().unwrap_or_else(|| self.lacking(class, &taken));
            let mut refused = self.refused(class, &answer);
            refused.retain(|object, _| !lacking.contains(object));
            Verdict { class: class.clone(), taken, lacking, refused }
        });
        Placed { answer, verdict }
    }

    fn place_again(&mut self, proxy: ProxyId) {
        if let Some(answer) = self.answers.get(&proxy).cloned() {
            self.answer(proxy, Some(answer));
        }
    }

    /// Finds out anew what the proxies of a class lack and refuse.
    fn look_into(&mut self, class: &ClassId) {
        let taken = self.answers.taken(class);
        self.work.classes += u64::from(!taken.is_empty());
        for taken in taken {
            let lacking = self.lacking(class, &taken);
            self.answers.renew(class, &taken, &lacking);
        }
        for proxy in self.answers.refusing(class) {
            self.place_again(proxy);
        }
    }

    /// The objects of which a proxy that took `taken` lacks a part.
    fn lacking(&self, class: &ClassId, taken: &Arc<View>) -> BTreeSet<Name> {
        let Some(view) = self.snapshot.view_of(class) else { return BTreeSet::new() };
        if Arc::ptr_eq(taken, &view) {
            return BTreeSet::new();
        }
        let changes = changes::between(taken, &view);
        let here = changes.iter().filter(|(kind, name)| view.get(*kind, name).is_some());
        here.flat_map(|(kind, name)| self.carried(class, *kind, name)).collect()
    }

    /// The objects of which a proxy has refused a part, with its words.
    fn refused(&self, class: &ClassId, answer: &Answer) -> answers::Refused {
        let Some(view) = self.snapshot.view_of(class) else { return answers::Refused::new() };
        let here = answer.refused.iter().filter(|((kind, name), _)| view.get(*kind, name).is_some());
        let objects = here.flat_map(|((kind, name), words)| {
            let objects = self.carried(class, *kind, name).into_iter();
            objects.map(|object| (object, Arc::clone(words)))
        });
        objects.collect()
    }

    /// The objects that a resource in the view of a class carries.
    fn carried(&self, class: &ClassId, kind: Kind, name: &Arc<str>) -> Vec<Name> {
        let is_this = |resource: &Arc<Resource>| resource.kind == kind && resource.name == *name;
        let settings = self.audiences.settings().filter(|_| self.snapshot.inbound(class).any(is_this));
        let stated = self.audiences.carried(class, kind, name, &self.objects);
        stated.into_iter().chain(settings.cloned()).collect()
    }

    fn tally(&self, object: &Name) -> Option<Tally> {
        let known = self.objects.get(&**object)?;
        let audience = self.audiences.get(object)?;
        let (concerned, answering) = self.answers.count(audience, &self.snapshot);
        let (lacking, refusals) = self.answers.against(object);
        let quoted = refusals.into_iter().flatten().take(tally::QUOTED);
        let refused = refusals.map_or(0, BTreeMap::len);
        Some(Tally {
            uid: known.uid.clone(),
            generation: known.generation,
            in_effect: audience.in_effect,
            concerned,
            acknowledged: answering.saturating_sub(lacking + refused),
            refused,
            words: quoted
                .map(|(proxy, words)| (format!("{}/{}", proxy.namespace, proxy.instance), words.to_string()))
                .collect(),
        })
    }
}
