//! What proxies have answered, added up so that one more answer costs what it changes: proxies of a class that took the
//! same view lack the same, and most lack nothing.
//!
//! Part of `programmed`, which judges each answer. Notes the objects of which something was counted otherwise.

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

/// The objects of which a proxy lacks a part, in order. Shared by all that lack the same for the same reason.
pub(super) type Missing = Arc<[Name]>;

/// The objects of which a proxy has refused a part, with what it said.
pub(super) type Refused = BTreeMap<Name, Arc<str>>;

/// A proxy with its answer.
#[derive(Debug)]
pub(super) struct ProxyState {
    pub answer: AckState,
    /// What that means; nothing before it has taken a view, or while the mesh does not know it.
    pub verdict: Option<Verdict>,
}

/// What an answer means.
#[derive(Debug)]
pub(super) struct Verdict {
    pub class: ClassId,
    pub taken: Arc<View>,
    /// The objects of which it lacks a part, where nobody else of the class has taken this view.
    pub lacking: Missing,
    /// Objects that it does not lack, and has refused.
    pub refused: Refused,
}

/// The answers of all connected proxies.
#[derive(Debug, Default)]
pub(super) struct Answers {
    proxies: HashMap<ProxyId, ProxyState>,
    classes: HashMap<ClassId, Class>,
    /// The objects that concern every proxy.
    shared_view: BTreeSet<Name>,
    everybody: Count,
    /// Of all other objects.
    counts: HashMap<Name, Count>,
    lacking: Lacks,
    refused: HashMap<Name, BTreeMap<ProxyId, Arc<str>>>,
    moved: BTreeSet<Name>,
}

/// How many proxies there are, connected or not, and how many of them have taken a view.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Count {
    pub instances: usize,
    pub answering: usize,
}

#[derive(Debug, Default)]
struct Class {
    /// The objects that concern it, beyond those that concern everybody.
    objects: BTreeSet<Name>,
    answering: usize,
    groups: HashMap<Same<View>, Group>,
    /// Proxies that refuse anything.
    refusing: BTreeSet<ProxyId>,
}

/// The proxies of a class that took one view; nobody yet, if it is the view that they are about to take.
#[derive(Debug, Default)]
struct Group {
    members: usize,
    lacking: Missing,
}

/// How many proxies lack an object. One that moves from list to list is counted by the list, which is added up when
/// somebody asks: a thousand answers in a row are then one sum.
#[derive(Debug, Default)]
struct Lacks {
    counts: HashMap<Name, usize>,
    pending: HashMap<Same<[Name]>, isize>,
}

impl Lacks {
    /// So many more proxies, or fewer, lack these.
    fn add(&mut self, objects: &Missing, more: isize) {
        if !objects.is_empty() {
            *self.pending.entry(Same(Arc::clone(objects))).or_default() += more;
        }
    }

    /// Adds up; the objects of which the count is another one.
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

/// A value that is the same as another if it is the very one.
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

    /// The classes of which somebody has answered.
    pub fn classes(&self) -> impl Iterator<Item = &ClassId> {
        self.classes.iter().filter(|(_, class)| class.answering > 0).map(|(id, _)| id)
    }

    /// The views that proxies of a class have taken.
    pub fn taken(&self, class: &ClassId) -> Vec<Arc<View>> {
        let groups = self.classes.get(class).into_iter().flat_map(|class| &class.groups);
        groups.filter(|(_, group)| group.members > 0).map(|(view, _)| Arc::clone(&view.0)).collect()
    }

    /// What those lack who took this view, if that is known.
    pub fn lacking(&self, class: &ClassId, taken: &Arc<View>) -> Option<&Missing> {
        let group = self.classes.get(class)?.groups.get(&Same(Arc::clone(taken)))?;
        Some(&group.lacking)
    }

    /// The proxies of a class that refuse anything.
    pub fn refusing(&self, class: &ClassId) -> Vec<ProxyId> {
        self.classes.get(class).into_iter().flat_map(|class| class.refusing.iter().cloned()).collect()
    }

    /// The objects of which something was counted otherwise since this was last asked.
    pub fn take_moved(&mut self) -> BTreeSet<Name> {
        self.lacking.settle(&mut self.moved);
        std::mem::take(&mut self.moved)
    }

    /// An object is to be counted anew.
    pub fn touch(&mut self, object: Option<&Name>) {
        self.moved.extend(object.cloned());
    }

    /// An object concerned some, and concerns others now. Classes have as many instances as `snapshot` says.
    pub fn address(
        &mut self,
        object: &Name,
        old: &AffectedProxies,
        new: &AffectedProxies,
        snapshot: &Snapshot,
    ) {
        if new.everybody {
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

    /// A class had so many instances, and has so many now.
    pub fn resize(&mut self, id: &ClassId, before: usize, now: usize) {
        if before != now {
            self.recount(id, |count| count.instances = count.instances + now - before);
        }
    }

    /// Counts what concerns a class, and everybody, otherwise.
    fn recount(&mut self, id: &ClassId, change: impl Fn(&mut Count)) {
        change(&mut self.everybody);
        self.moved.extend(self.shared_view.iter().cloned());
        for object in self.classes.get(id).into_iter().flat_map(|class| &class.objects) {
            self.counts.get_mut(object).into_iter().for_each(&change);
            self.moved.insert(Arc::clone(object));
        }
    }

    /// Takes in an answer that needs no judging, as most: the proxy has refused nothing and refuses nothing, and what
    /// those lack who took the view is known. Gives back any other.
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
        self.lacking.add(&group.lacking, 1);
        leave(groups, &mut self.lacking, std::mem::replace(&mut verdict.taken, taken.0));
        *before = answer;
        None
    }

    /// Puts a proxy where its answer belongs, from where it was.
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
            if let Some(who) = self.refused.get_mut(object) {
                who.remove(proxy);
                if who.is_empty() {
                    self.refused.remove(object);
                }
            }
            self.moved.insert(Arc::clone(object));
        }
        let Some(class) = self.classes.get_mut(&verdict.class) else { return };
        class.refusing.remove(proxy);
        leave(&mut class.groups, &mut self.lacking, Arc::clone(&verdict.taken));
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
        let group = Group { members: 0, lacking: Arc::clone(&verdict.lacking) };
        let group = class.groups.entry(Same(Arc::clone(&verdict.taken))).or_insert(group);
        group.members += 1;
        self.lacking.add(&group.lacking, 1);
    }

    /// What those of a class who took this view lack now.
    pub fn renew(&mut self, class: &ClassId, taken: &Arc<View>, lacking: Missing) {
        let class = self.classes.get_mut(class);
        let group = class.and_then(|class| class.groups.get_mut(&Same(Arc::clone(taken))));
        if let Some(group) = group.filter(|group| group.lacking != lacking) {
            let members = isize::try_from(group.members).unwrap_or(isize::MAX);
            self.lacking.add(&group.lacking, -members);
            self.lacking.add(&lacking, members);
            group.lacking = lacking;
        }
    }

    /// The proxies of a class are about to take this view, and whoever does lacks nothing.
    pub fn expect(&mut self, class: &ClassId, view: Arc<View>) {
        let Some(class) = self.classes.get_mut(class) else { return };
        class.groups.retain(|_, group| group.members > 0);
        class.groups.entry(Same(view)).or_default();
    }

    /// How many proxies an object concerns that has this audience.
    pub fn count(&self, object: &Name, audience: &AffectedProxies) -> Count {
        if audience.everybody {
            return self.everybody;
        }
        self.counts.get(object).copied().unwrap_or_default()
    }

    /// How many lack an object, and who refuses it.
    pub fn against(&self, object: &Name) -> (usize, Option<&BTreeMap<ProxyId, Arc<str>>>) {
        (self.lacking.counts.get(object).copied().unwrap_or_default(), self.refused.get(object))
    }

    fn class(&mut self, id: &ClassId) -> &mut Class {
        self.classes.entry(id.clone()).or_default()
    }

    /// Forgets a class that nothing concerns and of which nobody has answered.
    fn forget(&mut self, id: &ClassId) {
        let Some(class) = self.classes.get_mut(id).filter(|class| class.answering == 0) else { return };
        class.groups.clear();
        if class.objects.is_empty() {
            self.classes.remove(id);
        }
    }
}

/// One fewer has taken this view.
fn leave(groups: &mut HashMap<Same<View>, Group>, lacking: &mut Lacks, taken: Arc<View>) {
    let taken = Same(taken);
    let Some(group) = groups.get_mut(&taken) else { return };
    group.members -= 1;
    lacking.add(&group.lacking, -1);
    if group.members == 0 {
        groups.remove(&taken);
    }
}
