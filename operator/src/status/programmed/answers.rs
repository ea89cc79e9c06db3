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
    server::Answer,
    snapshot::Snapshot,
    view::View,
};

use super::{Name, audience::Audience};

/// The objects of which a proxy has refused a part, with what it said.
pub(super) type Refused = BTreeMap<Name, Arc<str>>;

/// A proxy with its answer.
#[derive(Debug)]
pub(super) struct Placed {
    pub answer: Answer,
    /// What that means; nothing before it has taken a view, or while the mesh does not know it.
    pub verdict: Option<Verdict>,
}

/// What an answer means.
#[derive(Debug)]
pub(super) struct Verdict {
    pub class: ClassId,
    pub taken: Arc<View>,
    /// The objects of which it lacks a part, where nobody else of the class has taken this view.
    pub lacking: BTreeSet<Name>,
    /// Objects that it does not lack, and has refused.
    pub refused: Refused,
}

/// The answers of all connected proxies.
#[derive(Debug, Default)]
pub(super) struct Answers {
    proxies: BTreeMap<ProxyId, Placed>,
    classes: BTreeMap<ClassId, Class>,
    /// The objects that concern every proxy.
    everybodys: BTreeSet<Name>,
    /// All proxies, connected or not, and those that have taken a view.
    instances: usize,
    answering: usize,
    /// How many proxies lack an object.
    lacking: BTreeMap<Name, usize>,
    refused: BTreeMap<Name, BTreeMap<ProxyId, Arc<str>>>,
    moved: BTreeSet<Name>,
}

#[derive(Debug, Default)]
struct Class {
    /// The objects that concern it, beyond those that concern everybody.
    objects: BTreeSet<Name>,
    answering: usize,
    groups: HashMap<Same, Group>,
    /// Proxies that refuse anything.
    refusing: BTreeSet<ProxyId>,
}

/// The proxies of a class that took one view.
#[derive(Debug)]
struct Group {
    members: usize,
    lacking: BTreeSet<Name>,
}

/// A view that is the same as another if it is the very one.
#[derive(Debug, Clone)]
struct Same(Arc<View>);

impl PartialEq for Same {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Same {}

impl Hash for Same {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl Answers {
    pub fn get(&self, proxy: &ProxyId) -> Option<&Answer> {
        self.proxies.get(proxy).map(|placed| &placed.answer)
    }

    /// The classes of which somebody has answered.
    pub fn classes(&self) -> impl Iterator<Item = &ClassId> {
        self.classes.iter().filter(|(_, class)| class.answering > 0).map(|(id, _)| id)
    }

    /// The views that proxies of a class have taken.
    pub fn taken(&self, class: &ClassId) -> Vec<Arc<View>> {
        let groups = self.classes.get(class).into_iter().flat_map(|class| class.groups.keys());
        groups.map(|view| Arc::clone(&view.0)).collect()
    }

    /// What those lack who took this view, if there is one.
    pub fn lacking(&self, class: &ClassId, taken: &Arc<View>) -> Option<&BTreeSet<Name>> {
        let group = self.classes.get(class)?.groups.get(&Same(Arc::clone(taken)))?;
        Some(&group.lacking)
    }

    /// The proxies of a class that refuse anything.
    pub fn refusing(&self, class: &ClassId) -> Vec<ProxyId> {
        self.classes.get(class).into_iter().flat_map(|class| class.refusing.iter().cloned()).collect()
    }

    /// The objects of which something was counted otherwise since this was last asked.
    pub fn take_moved(&mut self) -> BTreeSet<Name> {
        std::mem::take(&mut self.moved)
    }

    /// An object is to be counted anew.
    pub fn touch(&mut self, object: Option<&Name>) {
        self.moved.extend(object.cloned());
    }

    /// An object concerned some, and concerns others now.
    pub fn address(&mut self, object: &Name, old: &Audience, new: &Audience) {
        if new.everybody {
            self.everybodys.insert(Arc::clone(object));
        } else {
            self.everybodys.remove(object);
        }
        for id in old.classes.difference(&new.classes) {
            if let Some(class) = self.classes.get_mut(id) {
                class.objects.remove(object);
                self.forget(id);
            }
        }
        for id in new.classes.difference(&old.classes) {
            self.class(id).objects.insert(Arc::clone(object));
        }
        self.moved.insert(Arc::clone(object));
    }

    /// A class had so many instances, and has so many now.
    pub fn resize(&mut self, id: &ClassId, before: usize, now: usize) {
        if before != now {
            self.instances = self.instances + now - before;
            self.recount(id);
        }
    }

    /// What concerns a class, and everybody, is to be counted anew.
    fn recount(&mut self, id: &ClassId) {
        self.moved.extend(self.everybodys.iter().cloned());
        let objects = self.classes.get(id).into_iter().flat_map(|class| &class.objects);
        self.moved.extend(objects.cloned());
    }

    /// Puts a proxy where its answer belongs, from where it was.
    pub fn place(&mut self, proxy: ProxyId, mut placed: Option<Placed>) {
        let before = self.proxies.remove(&proxy).and_then(|placed| placed.verdict);
        let (old, new) = (before.as_ref(), placed.as_ref().and_then(|placed| placed.verdict.as_ref()));
        let (old, new) = (old.map(|it| it.class.clone()), new.map(|it| it.class.clone()));
        if let Some(before) = &before {
            self.take_out(&proxy, before);
        }
        if let Some(Placed { answer, verdict: Some(now) }) = &mut placed {
            self.put_in(&proxy, now, !answer.refused.is_empty());
        }
        if old != new {
            for class in old.iter().chain(&new) {
                self.recount(class);
            }
        }
        if let Some(old) = old {
            self.forget(&old);
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
        class.answering -= 1;
        self.answering -= 1;
        let key = Same(Arc::clone(&verdict.taken));
        let Some(group) = class.groups.get_mut(&key) else { return };
        group.members -= 1;
        let lacking = group.lacking.clone();
        if group.members == 0 {
            class.groups.remove(&key);
        }
        self.lack(&lacking, 1, 0);
    }

    fn put_in(&mut self, proxy: &ProxyId, verdict: &mut Verdict, refuses: bool) {
        for (object, words) in &verdict.refused {
            self.refused.entry(Arc::clone(object)).or_default().insert(proxy.clone(), Arc::clone(words));
            self.moved.insert(Arc::clone(object));
        }
        self.answering += 1;
        let class = self.class(&verdict.class);
        class.answering += 1;
        if refuses {
            class.refusing.insert(proxy.clone());
        }
        let key = Same(Arc::clone(&verdict.taken));
        let lacking = std::mem::take(&mut verdict.lacking);
        let group = class.groups.entry(key).or_insert(Group { members: 0, lacking });
        group.members += 1;
        let lacking = group.lacking.clone();
        self.lack(&lacking, 0, 1);
    }

    /// What those of a class who took this view lack now.
    pub fn renew(&mut self, class: &ClassId, taken: &Arc<View>, lacking: &BTreeSet<Name>) {
        let class = self.classes.get_mut(class);
        let group = class.and_then(|class| class.groups.get_mut(&Same(Arc::clone(taken))));
        if let Some(group) = group.filter(|group| group.lacking != *lacking) {
            let before = std::mem::replace(&mut group.lacking, lacking.clone());
            let members = group.members;
            self.lack(&before, members, 0);
            self.lack(lacking, 0, members);
        }
    }

    /// Of these objects so many fewer, and so many more, lack a part.
    fn lack(&mut self, objects: &BTreeSet<Name>, fewer: usize, more: usize) {
        for object in objects {
            let count = self.lacking.entry(Arc::clone(object)).or_default();
            *count = *count + more - fewer;
            if *count == 0 {
                self.lacking.remove(object);
            }
            self.moved.insert(Arc::clone(object));
        }
    }

    /// How many proxies an audience has, and how many of them have answered.
    pub fn count(&self, audience: &Audience, snapshot: &Snapshot) -> (usize, usize) {
        if audience.everybody {
            return (self.instances, self.answering);
        }
        let of = |id: &ClassId| {
            let answering = self.classes.get(id).map_or(0, |class| class.answering);
            (snapshot.instances(id), answering)
        };
        let counts = audience.classes.iter().map(of);
        counts.fold((0, 0), |(all, answering), (more, and)| (all + more, answering + and))
    }

    /// How many lack an object, and who refuses it.
    pub fn against(&self, object: &Name) -> (usize, Option<&BTreeMap<ProxyId, Arc<str>>>) {
        (self.lacking.get(object).copied().unwrap_or_default(), self.refused.get(object))
    }

    fn class(&mut self, id: &ClassId) -> &mut Class {
        if !self.classes.contains_key(id) {
            self.classes.insert(id.clone(), Class::default());
        }
        self.classes.entry(id.clone()).or_default()
    }

    /// Forgets a class that nothing concerns and of which nobody has answered.
    fn forget(&mut self, id: &ClassId) {
        if self.classes.get(id).is_some_and(|class| class.objects.is_empty() && class.answering == 0) {
            self.classes.remove(id);
        }
    }
}
