//! Whom each object concerns: from the object to what it says in the mesh, from there to the resources that carry it and
//! the classes that see these; and the other way round.
//!
//! Part of `programmed`, which tells it what has changed. Knows nothing of what proxies have answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use smidge_xds::{
    mesh::id::ClassId,
    provenance::{Place, Places, Statement},
    resources::Kind,
    snapshot::Snapshot,
};

use super::Name;
use crate::{
    finding::ObjectRef,
    status::object::{Known, KnownObjects},
};

/// Whom an object concerns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Audience {
    /// Whether a part of what proxies are given says what the object says, even if nobody sees it now.
    pub in_effect: bool,
    /// Every proxy; the classes are not listed then.
    pub everybody: bool,
    /// The proxies of these classes.
    pub classes: BTreeSet<ClassId>,
}

/// A resource in the views of a class, or in views of any class: names that classes share have other content in each.
type Carrier = (Option<ClassId>, Kind, Arc<str>);

/// The audiences of all objects.
#[derive(Debug, Default)]
pub(super) struct Audiences {
    objects: BTreeMap<Name, Audience>,
    /// Who refers to an object, whether it exists or not.
    users: BTreeMap<ObjectRef, BTreeSet<Name>>,
    /// The objects that the whole inbound side is about.
    settings: BTreeSet<Name>,
    carriers: BTreeMap<Carrier, BTreeSet<Statement>>,
}

impl Audiences {
    pub fn get(&self, object: &Name) -> Option<&Audience> {
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
    pub fn carry(&mut self, statement: &Statement, earlier: &Snapshot, now: &Snapshot) {
        for carrier in carriers(earlier.provenance().places(statement)) {
            if let Some(statements) = self.carriers.get_mut(&carrier) {
                statements.remove(statement);
                if statements.is_empty() {
                    self.carriers.remove(&carrier);
                }
            }
        }
        for carrier in carriers(now.provenance().places(statement)) {
            self.carriers.entry(carrier).or_default().insert(statement.clone());
        }
    }

    /// The objects that say something: whose statement it is, and those that this one refers to.
    pub fn objects(&self, statement: &Statement, objects: &KnownObjects) -> Vec<Name> {
        let Some((object, known)) = object(statement)
            .and_then(|object| self.name(&object).cloned())
            .and_then(|name| objects.get(&*name).map(|known| (name, known)))
        else {
            return Vec::new();
        };
        let used = known.uses.iter().filter_map(|used| self.name(used).cloned());
        used.chain([object]).collect()
    }

    /// The objects whose statements a resource in the view of a class carries.
    pub fn carried(&self, class: &ClassId, kind: Kind, name: &Arc<str>, objects: &KnownObjects) -> Vec<Name> {
        let everywhere = self.carriers.get(&(None, kind, Arc::clone(name)));
        let here = self.carriers.get(&(Some(class.clone()), kind, Arc::clone(name)));
        let statements = everywhere.into_iter().chain(here).flatten();
        statements.flat_map(|statement| self.objects(statement, objects)).collect()
    }

    /// Finds out anew whom an object concerns; the audience that it had, and the one that it has. One that does not exist,
    /// or no longer, has none.
    pub fn renew(
        &mut self,
        object: &Name,
        known: &KnownObjects,
        snapshot: &Snapshot,
    ) -> (Audience, Audience) {
        if !known.contains_key(&**object) {
            return (self.objects.remove(object).unwrap_or_default(), Audience::default());
        }
        let now = self.find(object, snapshot);
        let before = self.objects.insert(Arc::clone(object), now.clone());
        (before.unwrap_or_default(), now)
    }

    fn find(&self, object: &Name, snapshot: &Snapshot) -> Audience {
        let is_settings = object.kind == "MeshConfig";
        let mut audience =
            Audience { in_effect: is_settings, everybody: is_settings, classes: BTreeSet::new() };
        let sayers = self.users.get(&**object).into_iter().flatten().chain([object]);
        let sayers = sayers.filter(|sayer| self.objects.contains_key(*sayer));
        let statements = sayers.filter_map(|sayer| statement(sayer));
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

fn carriers(places: Option<&Places>) -> impl Iterator<Item = Carrier> {
    places.into_iter().flatten().flat_map(|(place, resources)| {
        let class = match place {
            Place::Class(class) => Some(class),
            Place::Identity(_) | Place::Port(..) => None,
        };
        resources.iter().map(move |it| (class.cloned(), it.kind, Arc::clone(&it.name)))
    })
}

/// What an object of this name says in the mesh, if its kind says something by itself.
fn statement(object: &ObjectRef) -> Option<Statement> {
    let name = || format!("{}/{}", object.namespace, object.name);
    match object.kind.as_str() {
        "TrafficTarget" => Some(Statement::Grant(name())),
        "TrafficSplit" => Some(Statement::Split(name())),
        _ => None,
    }
}

/// The object that says it.
fn object(statement: &Statement) -> Option<ObjectRef> {
    let (kind, name) = match statement {
        Statement::Grant(name) => ("TrafficTarget", name),
        Statement::Split(name) => ("TrafficSplit", name),
    };
    let (namespace, name) = name.split_once('/')?;
    Some(ObjectRef::new(kind, namespace, name))
}
