//! Index from each object to the proxies that it concerns: from the object to its source in the mesh, from there to the
//! resources that carry the source and the classes that see these; and the reverse.
//!
//! Part of `programmed`, which reports changes to it. Does not know the answers of proxies.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use smidge_xds::{
    mesh::{id::ClassId, source::SourceRef},
    provenance::{Location, Places},
    resources::ResourceType,
    snapshot::Snapshot,
};

use super::Name;
use crate::{
    finding::ObjectRef,
    kinds,
    objects::{Known, KnownObjects},
};

/// Proxies that an object concerns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AffectedProxies {
    /// True if a part of the proxies' configuration has the object as its source, even if no proxy sees it now.
    pub in_effect: bool,
    /// True if the object concerns every proxy; the classes are not listed then.
    pub every_proxy: bool,
    /// Classes whose proxies the object concerns.
    pub classes: BTreeSet<ClassId>,
}

/// Type and name of a resource.
pub(super) type Key = (ResourceType, Arc<str>);

/// Index from resources to the sources that they carry.
type Carriers = HashMap<Key, BTreeSet<SourceRef>>;

/// Audiences of all objects.
#[derive(Debug, Default)]
pub(super) struct Audiences {
    objects: BTreeMap<Name, Arc<AffectedProxies>>,
    /// Objects that refer to an object, whether that one exists or not.
    users: BTreeMap<ObjectRef, BTreeSet<Name>>,
    /// Objects that affect the whole inbound side.
    settings: BTreeSet<Name>,
    /// Sources that resources carry in the views of any class.
    everywhere: Carriers,
    /// Sources that resources carry in the view of one class alone: of a name that classes share, each class has a
    /// resource of its own.
    own: HashMap<ClassId, Carriers>,
}

impl Audiences {
    pub fn get(&self, object: &Name) -> Option<&Arc<AffectedProxies>> {
        self.objects.get(object)
    }

    /// Returns the shared name of an object that exists.
    pub fn name(&self, object: &ObjectRef) -> Option<&Name> {
        self.objects.get_key_value(object).map(|(name, _)| name)
    }

    pub fn has_settings(&self) -> bool {
        !self.settings.is_empty()
    }

    pub fn settings(&self) -> impl Iterator<Item = &Name> {
        self.settings.iter()
    }

    /// Records that an object was added, was removed, or refers to other objects. Returns the objects whose audience is
    /// to be computed again, known or not.
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
        let is_settings = kinds::is_mesh_wide(&object.kind);
        if is_settings && new.is_some() {
            self.settings.insert(Arc::clone(&name));
        } else if is_settings {
            self.settings.remove(&name);
        }
        let used = old.into_iter().chain(new).flat_map(|known| &known.uses);
        used.map(|used| Arc::new(used.clone())).chain([name]).collect()
    }

    /// Updates the resources that carry a source.
    pub fn attribute(&mut self, statement: &SourceRef, earlier: &Snapshot, now: &Snapshot) {
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

    /// Returns the object of a source, and the objects that it refers to.
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

    /// Returns true if a resource carries a source in the views of any class.
    pub fn is_carried_everywhere(&self, key: &Key) -> bool {
        self.everywhere.contains_key(key)
    }

    /// Returns the objects whose sources a resource carries in the views of any class.
    pub fn carried_everywhere(&self, key: &Key, objects: &KnownObjects) -> impl Iterator<Item = Name> {
        let statements = self.everywhere.get(key).into_iter().flatten();
        statements.flat_map(|statement| self.objects(statement, objects))
    }

    /// Returns the objects whose sources a resource carries in the view of this class alone.
    pub fn carried_by(
        &self,
        class: &ClassId,
        key: &Key,
        objects: &KnownObjects,
    ) -> impl Iterator<Item = Name> {
        let statements = self.own.get(class).and_then(|own| own.get(key)).into_iter().flatten();
        statements.flat_map(|statement| self.objects(statement, objects))
    }

    /// Computes the audience of an object again; returns the old and the new one. An object that does not exist has an
    /// empty audience.
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
        let is_settings = kinds::is_mesh_wide(&object.kind);
        let mut audience =
            AffectedProxies { in_effect: is_settings, every_proxy: is_settings, classes: BTreeSet::new() };
        let referrers = self.users.get(&**object).into_iter().flatten().chain([object]);
        let referrers = referrers.filter(|referrer| self.objects.contains_key(*referrer));
        let statements = referrers.map(|referrer| source(referrer));
        for places in statements.filter_map(|statement| snapshot.provenance().places(&statement)) {
            audience.in_effect = true;
            for (place, _) in places.iter().filter(|(_, resources)| !resources.is_empty()) {
                match snapshot.audience(place) {
                    Some(classes) => audience.classes.extend(classes.into_iter().cloned()),
                    None => audience.every_proxy = true,
                }
            }
        }
        if audience.every_proxy {
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

/// Returns the resources at these locations, each with its class if it is there for one class alone.
fn carriers(places: Option<&Places>) -> impl Iterator<Item = (Option<&ClassId>, Key)> {
    places.into_iter().flatten().flat_map(|(place, resources)| {
        let class = match place {
            Location::Class(class) => Some(class),
            Location::Identity(_) | Location::Port(..) => None,
        };
        resources.iter().map(move |it| (class, (it.kind, Arc::clone(&it.name))))
    })
}

/// Returns the reference to an object in the mesh. Only some kinds are a source by themselves.
fn source(object: &ObjectRef) -> SourceRef {
    SourceRef::new(&object.kind, &object.namespace, &object.name)
}

/// Returns the object of a source.
fn object(source: &SourceRef) -> Option<ObjectRef> {
    let (namespace, name) = source.name.split_once('/')?;
    Some(ObjectRef::new(&*source.kind, namespace, name))
}
