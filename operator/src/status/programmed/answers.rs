//! Index of the answers of proxies, added up so that the cost of one more answer is that of its difference: proxies of
//! a class that have acknowledged the same view lack the same objects, and most lack none.
//!
//! Part of `programmed`, which judges each answer. Records the objects of which a count has changed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{Hash, Hasher},
    sync::Arc,
};

use smidge_xds::{
    mesh::id::{ClassId, ProxyId},
    server::AckState,
    snapshot::Snapshot,
    view::View,
};

use super::{Name, audience::AffectedProxies};

/// Objects of which a proxy lacks a resource, in order. Shared by all proxies that lack the same for the same reason.
pub(super) type Missing = Arc<[Name]>;

/// Objects of which a proxy has refused a resource, with the message of its NACK.
pub(super) type Refused = BTreeMap<Name, Arc<str>>;

/// State of a proxy: its answer and the verdict on it.
#[derive(Debug)]
pub(super) struct ProxyState {
    pub answer: AckState,
    /// Verdict on the answer; `None` before the proxy has acknowledged a view, or while the mesh does not have the
    /// proxy.
    pub verdict: Option<Verdict>,
}

/// Verdict on an answer.
#[derive(Debug)]
pub(super) struct Verdict {
    pub class: ClassId,
    pub taken: Arc<View>,
    /// Objects of which the proxy lacks a resource. Used only if the class has no group of this view yet.
    pub missing: Missing,
    /// Objects that the proxy does not lack, and has refused.
    pub refused: Refused,
}

/// Answers of all connected proxies.
#[derive(Debug, Default)]
pub(super) struct Answers {
    proxies: HashMap<ProxyId, ProxyState>,
    classes: HashMap<ClassId, Class>,
    /// Objects that concern every proxy.
    shared_view: BTreeSet<Name>,
    every_proxy: Count,
    /// Counts of all other objects.
    counts: HashMap<Name, Count>,
    missing: MissingCounts,
    refused: HashMap<Name, BTreeMap<ProxyId, Arc<str>>>,
    moved: BTreeSet<Name>,
}

/// Number of proxies, connected or not, and number of those that have acknowledged a view.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    pub instances: usize,
    pub answering: usize,
}

#[derive(Debug, Default)]
struct Class {
    /// Objects that concern the class, without those that concern every proxy.
    objects: BTreeSet<Name>,
    answering: usize,
    groups: HashMap<Same<View>, Group>,
    /// Proxies that refuse any resource.
    refusing: BTreeSet<ProxyId>,
}

/// Proxies of a class that have acknowledged one view; without members yet, if it is the view that they are expected to
/// acknowledge next.
#[derive(Debug, Default)]
struct Group {
    members: usize,
    missing: Missing,
}

/// Number of proxies that lack each object. A proxy that moves from one list of objects to another is counted for the
/// list, and the lists are added up when the counts are read: a thousand answers in a row then cost one sum.
#[derive(Debug, Default)]
struct MissingCounts {
    counts: HashMap<Name, usize>,
    pending: HashMap<Same<[Name]>, isize>,
}

impl MissingCounts {
    /// Adds `more`, which can be negative, to the number of proxies that lack these objects.
    fn add(&mut self, objects: &Missing, more: isize) {
        if !objects.is_empty() {
            *self.pending.entry(Same(Arc::clone(objects))).or_default() += more;
        }
    }

    /// Adds up the lists; inserts the objects whose count has changed into `moved`.
    fn settle(&mut self, moved: &mut BTreeSet<Name>) {
        for (objects, more) in self.pending.drain().filter(|(_, more)| *more != 0) {
            for object in &*objects.0 {
                let count = self.counts.entry(Arc::clone(object)).or_default();
                *count = count.saturating_add_signed(more);
                if *count == 0 {
                    self.counts.remove(object);
                }
                moved.insert(Arc::clone(object));
            }
        }
    }
}

/// Shared value that is compared by pointer.
#[derive(Debug)]
struct Same<T: ?Sized>(Arc<T>);

impl<T: ?Sized> PartialEq for Same<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<T: ?Sized> Eq for Same<T> {}

impl<T: ?Sized> Hash for Same<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).cast::<()>().hash(state);
    }
}

impl Answers {
    pub fn get(&self, proxy: &ProxyId) -> Option<&AckState> {
        self.proxies.get(proxy).map(|placed| &placed.answer)
    }

    /// Returns the classes of which a proxy has answered.
    pub fn classes(&self) -> impl Iterator<Item = &ClassId> {
        self.classes.iter().filter(|(_, class)| class.answering > 0).map(|(id, _)| id)
    }

    /// Returns the views that proxies of a class have acknowledged.
    pub fn taken(&self, class: &ClassId) -> Vec<Arc<View>> {
        let groups = self.classes.get(class).into_iter().flat_map(|class| &class.groups);
        groups.filter(|(_, group)| group.members > 0).map(|(view, _)| Arc::clone(&view.0)).collect()
    }

    /// Returns the objects that the proxies of a class with this view lack, if known.
    pub fn missing(&self, class: &ClassId, taken: &Arc<View>) -> Option<&Missing> {
        let group = self.classes.get(class)?.groups.get(&Same(Arc::clone(taken)))?;
        Some(&group.missing)
    }

    /// Returns the proxies of a class that refuse any resource.
    pub fn refusing(&self, class: &ClassId) -> Vec<ProxyId> {
        self.classes.get(class).into_iter().flat_map(|class| class.refusing.iter().cloned()).collect()
    }

    /// Takes the objects of which a count has changed since the last call.
    pub fn take_moved(&mut self) -> BTreeSet<Name> {
        self.missing.settle(&mut self.moved);
        std::mem::take(&mut self.moved)
    }

    /// Marks an object to be counted again.
    pub fn touch(&mut self, object: Option<&Name>) {
        self.moved.extend(object.cloned());
    }

    /// Changes the audience of an object from `old` to `new`. The number of instances of a class is that in `snapshot`.
    pub fn address(
        &mut self,
        object: &Name,
        old: &AffectedProxies,
        new: &AffectedProxies,
        snapshot: &Snapshot,
    ) {
        if new.every_proxy {
            self.shared_view.insert(Arc::clone(object));
        } else {
            self.shared_view.remove(object);
        }
        let mut count = self.counts.remove(object).unwrap_or_default();
        for id in old.classes.difference(&new.classes) {
            if let Some(class) = self.classes.get_mut(id) {
                class.objects.remove(object);
                count.instances -= snapshot.instances(id);
                count.answering -= class.answering;
                self.forget(id);
            }
        }
        for id in new.classes.difference(&old.classes) {
            let class = self.class(id);
            class.objects.insert(Arc::clone(object));
            count.instances += snapshot.instances(id);
            count.answering += class.answering;
        }
        if !new.classes.is_empty() {
            self.counts.insert(Arc::clone(object), count);
        }
        self.moved.insert(Arc::clone(object));
    }

    /// Changes the number of instances of a class from `before` to `now`.
    pub fn resize(&mut self, id: &ClassId, before: usize, now: usize) {
        if before != now {
            self.recount(id, |count| count.instances = count.instances + now - before);
        }
    }

    /// Applies `change` to the counts of the objects that concern a class, and of those that concern every proxy.
    fn recount(&mut self, id: &ClassId, change: impl Fn(&mut Count)) {
        change(&mut self.every_proxy);
        self.moved.extend(self.shared_view.iter().cloned());
        for object in self.classes.get(id).into_iter().flat_map(|class| &class.objects) {
            self.counts.get_mut(object).into_iter().for_each(&change);
            self.moved.insert(Arc::clone(object));
        }
    }

    /// Records an answer that needs no judging, as most do not: the proxy has refused nothing and refuses nothing, and
    /// the objects that proxies with this view lack are known. Returns any other answer.
    pub fn step(&mut self, proxy: &ProxyId, answer: AckState) -> Option<AckState> {
        let Some(ProxyState { answer: before, verdict: Some(verdict) }) = self.proxies.get_mut(proxy) else {
            return Some(answer);
        };
        let Some(taken) = answer.acknowledged.clone().map(Same) else { return Some(answer) };
        let groups = self.classes.get_mut(&verdict.class).map(|class| &mut class.groups);
        let Some(groups) = groups.filter(|_| before.refused.is_empty() && answer.refused.is_empty()) else {
            return Some(answer);
        };
        let Some(group) = groups.get_mut(&taken) else { return Some(answer) };
        group.members += 1;
        self.missing.add(&group.missing, 1);
        leave(groups, &mut self.missing, std::mem::replace(&mut verdict.taken, taken.0));
        *before = answer;
        None
    }

    /// Moves a proxy to the group of its answer, from the one it was in; removes the proxy if `placed` is `None`.
    pub fn place(&mut self, proxy: ProxyId, placed: Option<ProxyState>) {
        let before = self.proxies.remove(&proxy).and_then(|placed| placed.verdict);
        let now = placed.as_ref().and_then(|placed| placed.verdict.as_ref());
        if let Some(before) = &before {
            self.take_out(&proxy, before);
        }
        if let Some((ProxyState { answer, .. }, now)) = placed.as_ref().zip(now) {
            self.put_in(&proxy, now, !answer.refused.is_empty());
        }
        let (old, new) = (before.map(|it| it.class), now.map(|it| &it.class));
        if old.as_ref() != new {
            if let Some(new) = new {
                self.class(new).answering += 1;
                self.recount(new, |count| count.answering += 1);
            }
            if let Some(old) = &old {
                self.class(old).answering -= 1;
                self.recount(old, |count| count.answering -= 1);
                self.forget(old);
            }
        }
        if let Some(placed) = placed {
            self.proxies.insert(proxy, placed);
        }
    }

    fn take_out(&mut self, proxy: &ProxyId, verdict: &Verdict) {
        for object in verdict.refused.keys() {
            if let Some(proxies) = self.refused.get_mut(object) {
                proxies.remove(proxy);
                if proxies.is_empty() {
                    self.refused.remove(object);
                }
            }
            self.moved.insert(Arc::clone(object));
        }
        let Some(class) = self.classes.get_mut(&verdict.class) else { return };
        class.refusing.remove(proxy);
        leave(&mut class.groups, &mut self.missing, Arc::clone(&verdict.taken));
    }

    fn put_in(&mut self, proxy: &ProxyId, verdict: &Verdict, refuses: bool) {
        for (object, words) in &verdict.refused {
            self.refused.entry(Arc::clone(object)).or_default().insert(proxy.clone(), Arc::clone(words));
            self.moved.insert(Arc::clone(object));
        }
        let class = self.classes.entry(verdict.class.clone()).or_default();
        if refuses {
            class.refusing.insert(proxy.clone());
        }
        let group = Group { members: 0, missing: Arc::clone(&verdict.missing) };
        let group = class.groups.entry(Same(Arc::clone(&verdict.taken))).or_insert(group);
        group.members += 1;
        self.missing.add(&group.missing, 1);
    }

    /// Replaces the objects that the proxies of a class with this view lack.
    pub fn renew(&mut self, class: &ClassId, taken: &Arc<View>, missing: Missing) {
        let class = self.classes.get_mut(class);
        let group = class.and_then(|class| class.groups.get_mut(&Same(Arc::clone(taken))));
        if let Some(group) = group.filter(|group| group.missing != missing) {
            let members = isize::try_from(group.members).unwrap_or(isize::MAX);
            self.missing.add(&group.missing, -members);
            self.missing.add(&missing, members);
            group.missing = missing;
        }
    }

    /// Prepares for the proxies of a class to acknowledge this view: those that do lack nothing.
    pub fn expect(&mut self, class: &ClassId, view: Arc<View>) {
        let Some(class) = self.classes.get_mut(class) else { return };
        class.groups.retain(|_, group| group.members > 0);
        class.groups.entry(Same(view)).or_default();
    }

    /// Returns the number of proxies that an object with this audience concerns.
    pub fn count(&self, object: &Name, audience: &AffectedProxies) -> Count {
        if audience.every_proxy {
            return self.every_proxy;
        }
        self.counts.get(object).copied().unwrap_or_default()
    }

    /// Returns the number of proxies that lack an object, and the proxies that refuse it.
    pub fn against(&self, object: &Name) -> (usize, Option<&BTreeMap<ProxyId, Arc<str>>>) {
        (self.missing.counts.get(object).copied().unwrap_or_default(), self.refused.get(object))
    }

    fn class(&mut self, id: &ClassId) -> &mut Class {
        self.classes.entry(id.clone()).or_default()
    }

    /// Forgets a class that no object concerns and of which no proxy has answered.
    fn forget(&mut self, id: &ClassId) {
        let Some(class) = self.classes.get_mut(id).filter(|class| class.answering == 0) else { return };
        class.groups.clear();
        if class.objects.is_empty() {
            self.classes.remove(id);
        }
    }
}

/// Removes one proxy from the group of this view.
fn leave(groups: &mut HashMap<Same<View>, Group>, missing: &mut MissingCounts, taken: Arc<View>) {
    let taken = Same(taken);
    let Some(group) = groups.get_mut(&taken) else { return };
    group.members -= 1;
    missing.add(&group.missing, -1);
    if group.members == 0 {
        groups.remove(&taken);
    }
}
