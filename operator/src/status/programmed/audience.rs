//! Whom each object concerns: from the object to what it says in the mesh, from there to the resources that carry it and
//! the classes that see these; and the other way round.
//!
//! Part of `programmed`, which tells it what has changed. Knows nothing of what proxies have answered.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use smidge_xds::{
    mesh::id::ClassId,
    provenance::{Location, Places, SourceRef},
    resources::ResourceType,
    snapshot::Snapshot,
};

use super::Name;
use crate::{
    finding::ObjectRef,
    objects::{Known, KnownObjects},
};

/// Whom an object concerns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AffectedProxies {
    /// Whether a part of what proxies are given says what the object says, even if nobody sees it now.
    pub in_effect: bool,
    /// Every proxy; the classes are not listed then.
    pub everybody: bool,
    /// The proxies of these classes.
    pub classes: BTreeSet<ClassId>,
}

/// A resource by its type and name.
pub(super) type Key = (ResourceType, Arc<str>);

/// The statements that resources carry.
type Carriers = HashMap<Key, BTreeSet<SourceRef>>;

/// The audiences of all objects.
#[derive(Debug, Default)]
pub(super) struct Audiences {
    objects: BTreeMap<Name, Arc<AffectedProxies>>,
    /// Who refers to an object, whether it exists or not.
    users: BTreeMap<ObjectRef, BTreeSet<Name>>,
    /// The objects that the whole inbound side is about.
    settings: BTreeSet<Name>,
    /// What resources carry in the views of any class.
    everywhere: Carriers,
    /// What resources carry in those of one class alone: of a name that classes share, each has a resource of its own.
    own: HashMap<ClassId, Carriers>,
}

impl Audiences {
    pub fn get(&self, object: &Name) -> Option<&Arc<AffectedProxies>> {
        self.objects.get(object)
    }

    /// An object that exists, by the name that everybody holds.
    pub fn name(&self, object: &ObjectRef) -> Option<&Name> {
        self.objects.get_key_value(object).map(|(name, _)| name)
    }

    pub fn has_settings(&self) -> bool {
        !self.settings.is_empty()
    }

    pub fn settings(&self) -> impl Iterator<Item = &Name> {
        self.settings.iter()
    }

    /// Takes over that an object comes or goes, or refers to others. Says which are to be looked at again, known or not.
    pub fn refer(&mut self, object: &ObjectRef, old: Option<&Known>, new: Option<&Known>) -> BTreeSet<Name> {
        let name = self.name(object).cloned().unwrap_or_else(|| Arc::new(object.clone()));
        for used in old.into_iter().flat_map(|known| &known.uses) {
            if let Some(users) = self.users.get_mut(used) {
                users.remove(&name);
                if users.is_empty() {
                    self.users.remove(used);
                }
            }
        }
        for used in new.into_iter().flat_map(|known| &known.uses) {
            self.users.entry(used.clone()).or_default().insert(Arc::clone(&name));
        }
        if new.is_some() {
            self.objects.entry(Arc::clone(&name)).or_default();
        }
        let is_settings = object.kind == "MeshConfig";
        if is_settings && new.is_some() {
            self.settings.insert(Arc::clone(&name));
        } else if is_settings {
            self.settings.remove(&name);
        }
        let used = old.into_iter().chain(new).flat_map(|known| &known.uses);
        used.map(|used| Arc::new(used.clone())).chain([name]).collect()
    }

    /// Takes over which resources carry a statement.
    pub fn carry(&mut self, statement: &SourceRef, earlier: &Snapshot, now: &Snapshot) {
        for (class, key) in carriers(earlier.provenance().places(statement)) {
            let Some(class) = class else {
                remove(&mut self.everywhere, &key, statement);
                continue;
            };
            if let Some(own) = self.own.get_mut(class) {
                remove(own, &key, statement);
                if own.is_empty() {
                    self.own.remove(class);
                }
            }
        }
        for (class, key) in carriers(now.provenance().places(statement)) {
            let carriers = match class {
                Some(class) => self.own.entry(class.clone()).or_default(),
                None => &mut self.everywhere,
            };
            carriers.entry(key).or_default().insert(statement.clone());
        }
    }

    /// The objects that say something: whose statement it is, and those that this one refers to.
    pub fn objects(&self, statement: &SourceRef, objects: &KnownObjects) -> Vec<Name> {
        let Some((object, known)) = object(statement)
            .and_then(|object| self.name(&object).cloned())
            .and_then(|name| objects.get(&*name).map(|known| (name, known)))
        else {
            return Vec::new();
        };
        let used = known.uses.iter().filter_map(|used| self.name(used).cloned());
        used.chain([object]).collect()
    }

    /// Whether a resource carries anything in the views of any class.
    pub fn is_carried_everywhere(&self, key: &Key) -> bool {
        self.everywhere.contains_key(key)
    }

    /// The objects whose statements a resource carries in the views of any class.
    pub fn carried_everywhere(&self, key: &Key, objects: &KnownObjects) -> impl Iterator<Item = Name> {
        let statements = self.everywhere.get(key).into_iter().flatten();
        statements.flat_map(|statement| self.objects(statement, objects))
    }

    /// The objects whose statements a resource carries in the view of this class alone.
    pub fn carried_by(
        &self,
        class: &ClassId,
        key: &Key,
        objects: &KnownObjects,
    ) -> impl Iterator<Item = Name> {
        let statements = self.own.get(class).and_then(|own| own.get(key)).into_iter().flatten();
        statements.flat_map(|statement| self.objects(statement, objects))
    }

    /// Finds out anew whom an object concerns; the audience that it had, and the one that it has. One that does not exist,
    /// or no longer, has none.
    pub fn renew(
        &mut self,
        object: &Name,
        known: &KnownObjects,
        snapshot: &Snapshot,
    ) -> (Arc<AffectedProxies>, Arc<AffectedProxies>) {
        if !known.contains_key(&**object) {
            return (self.objects.remove(object).unwrap_or_default(), Arc::default());
        }
        let now = Arc::new(self.find(object, snapshot));
        let before = self.objects.insert(Arc::clone(object), Arc::clone(&now));
        (before.unwrap_or_default(), now)
    }

    fn find(&self, object: &Name, snapshot: &Snapshot) -> AffectedProxies {
        let is_settings = object.kind == "MeshConfig";
        let mut audience =
            AffectedProxies { in_effect: is_settings, everybody: is_settings, classes: BTreeSet::new() };
        let referrers = self.users.get(&**object).into_iter().flatten().chain([object]);
        let referrers = referrers.filter(|sayer| self.objects.contains_key(*sayer));
        let statements = referrers.filter_map(|sayer| statement(sayer));
        for places in statements.filter_map(|statement| snapshot.provenance().places(&statement)) {
            audience.in_effect = true;
            for (place, _) in places.iter().filter(|(_, resources)| !resources.is_empty()) {
                match snapshot.audience(place) {
                    Some(classes) => audience.classes.extend(classes.into_iter().cloned()),
                    None => audience.everybody = true,
                }
            }
        }
        if audience.everybody {
            audience.classes.clear();
        }
        audience
    }
}

fn remove(carriers: &mut Carriers, key: &Key, statement: &SourceRef) {
    if let Some(statements) = carriers.get_mut(key) {
        statements.remove(statement);
        if statements.is_empty() {
            carriers.remove(key);
        }
    }
}

/// The resources that stand at these places, and the class if they stand there for one alone.
fn carriers(places: Option<&Places>) -> impl Iterator<Item = (Option<&ClassId>, Key)> {
    places.into_iter().flatten().flat_map(|(place, resources)| {
        let class = match place {
            Location::Class(class) => Some(class),
            Location::Identity(_) | Location::Port(..) => None,
        };
        resources.iter().map(move |it| (class, (it.kind, Arc::clone(&it.name))))
    })
}

/// What an object of this name says in the mesh, if its kind says something by itself.
fn statement(object: &ObjectRef) -> Option<SourceRef> {
    let name = || format!("{}/{}", object.namespace, object.name);
    match object.kind.as_str() {
        "TrafficTarget" => Some(SourceRef::Grant(name())),
        "TrafficSplit" => Some(SourceRef::Split(name())),
        _ => None,
    }
}

/// The object that says it.
fn object(statement: &SourceRef) -> Option<ObjectRef> {
    let (kind, name) = match statement {
        SourceRef::Grant(name) => ("TrafficTarget", name),
        SourceRef::Split(name) => ("TrafficSplit", name),
    };
    let (namespace, name) = name.split_once('/')?;
    Some(ObjectRef::new(kind, namespace, name))
}
