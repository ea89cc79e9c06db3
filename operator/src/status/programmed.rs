//! Counts, for each object, the proxies that it concerns and those that have acknowledged it.
//!
//! An object concerns a proxy that sees a resource which carries what the object says; the proxy has acknowledged the
//! object when it has acknowledged each such resource as it is now. Pure. `Concerns` is made once for what was published,
//! `tally` whenever a proxy has answered; both go by class, not by proxy, so that a thousand objects and a
//! thousand proxies are milliseconds.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use smidge_xds::{
    mesh::id::{ClassId, ProxyId},
    provenance,
    resources::{Kind, Resource},
    server::Answer,
    snapshot::Snapshot,
    view::View,
};

use super::object::KnownObjects;
use crate::finding::ObjectRef;

/// How many of those who refuse are quoted.
const QUOTED: usize = 3;

/// How far an object has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Which object this is about.
    pub uid: String,
    /// The generation that the snapshot was made with.
    pub generation: Option<i64>,
    /// Whether a part of what proxies are given says what the object says, even if no proxy sees it now.
    pub in_effect: bool,
    /// The proxies that see it, connected or not.
    pub concerned: usize,
    /// Those that have it.
    pub acknowledged: usize,
    /// Those that refused it.
    pub refused: usize,
    /// Some of them, with their words.
    pub words: Vec<(String, String)>,
}

impl Tally {
    /// Whether every proxy that it concerns has it.
    pub fn is_complete(&self) -> bool {
        self.acknowledged >= self.concerned
    }

    /// Adds what another replica counted among its own proxies. It counts only for the same state of the object.
    pub fn add(&mut self, other: &Self) {
        if self.uid != other.uid || self.generation != other.generation {
            return;
        }
        self.refused = (self.refused + other.refused).min(self.concerned);
        self.words.extend(other.words.iter().cloned());
        self.words.truncate(QUOTED);
        // While a proxy moves from one replica to another, both may have it; a refusal counts more.
        self.acknowledged = (self.acknowledged + other.acknowledged).min(self.concerned - self.refused);
    }
}

/// The tallies of every object.
pub type Tallies = BTreeMap<ObjectRef, Tally>;

/// Which objects concern which proxies, for one snapshot.
#[derive(Debug, Default)]
pub struct Concerns {
    objects: Vec<(ObjectRef, Tally)>,
    classes: Vec<Class>,
    class_of: BTreeMap<ProxyId, usize>,
}

/// What the proxies of a class have to acknowledge.
#[derive(Debug)]
struct Class {
    view: Arc<View>,
    /// Numbers of objects.
    objects: Vec<usize>,
    relevant: Vec<Relevant>,
}

/// A resource that carries what some objects say.
#[derive(Debug)]
struct Relevant {
    resource: Arc<Resource>,
    objects: Vec<usize>,
}

impl Concerns {
    /// What `objects` have become in `snapshot`, which was made of them.
    pub fn new(objects: &KnownObjects, snapshot: &Snapshot) -> Self {
        let carried = carried(objects, snapshot);
        let mut by_resource: HashMap<*const Resource, Vec<usize>> = HashMap::new();
        let mut concerns = Self::default();
        for (number, (object, known)) in objects.iter().enumerate() {
            let resources = carried.get(object);
            for resource in resources.into_iter().flatten() {
                by_resource.entry(Arc::as_ptr(resource)).or_default().push(number);
            }
            let tally = Tally {
                uid: known.uid.clone(),
                generation: known.generation,
                in_effect: resources.is_some(),
                ..Tally::default()
            };
            concerns.objects.push((object.clone(), tally));
        }
        concerns.add_proxies(snapshot, &by_resource);
        concerns
    }

    fn add_proxies(&mut self, snapshot: &Snapshot, by_resource: &HashMap<*const Resource, Vec<usize>>) {
        let mut numbers: BTreeMap<&ClassId, usize> = BTreeMap::new();
        for (proxy, workload) in &snapshot.mesh().workloads {
            let number = if let Some(number) = numbers.get(&workload.class) {
                *number
            } else {
                let Some(view) = snapshot.view(proxy) else { continue };
                self.classes.push(Class::new(view, by_resource));
                numbers.insert(&workload.class, self.classes.len() - 1);
                self.classes.len() - 1
            };
            self.class_of.insert(proxy.clone(), number);
            for object in self.classes.get(number).into_iter().flat_map(|class| &class.objects) {
                if let Some((_, tally)) = self.objects.get_mut(*object) {
                    tally.concerned += 1;
                }
            }
        }
    }

    /// Counts what the connected proxies have answered.
    pub fn tally(&self, answers: &[Answer]) -> Tallies {
        let mut objects = self.objects.clone();
        // Proxies of a class that took the same view lack the same.
        let mut lacking: HashMap<(usize, *const View), BTreeSet<usize>> = HashMap::new();
        for Answer { proxy, acknowledged, refused } in answers {
            let Some((number, class)) =
                self.class_of.get(proxy).and_then(|number| Some((*number, self.classes.get(*number)?)))
            else {
                continue;
            };
            let Some(taken) = acknowledged else { continue };
            let lacking = lacking.entry((number, Arc::as_ptr(taken))).or_insert_with(|| class.lacking(taken));
            let refusals: BTreeMap<usize, &str> = if refused.is_empty() {
                BTreeMap::new()
            } else {
                class.refusals(|kind, name| refused.get(&(kind, Arc::clone(name))).map(AsRef::as_ref))
            };
            for object in &class.objects {
                let Some((_, tally)) = objects.get_mut(*object) else { continue };
                if lacking.contains(object) {
                    continue;
                }
                match refusals.get(object) {
                    Some(words) => {
                        tally.refused += 1;
                        if tally.words.len() < QUOTED {
                            let who = format!("{}/{}", proxy.namespace, proxy.instance);
                            tally.words.push((who, (*words).to_owned()));
                        }
                    }
                    None => tally.acknowledged += 1,
                }
            }
        }
        objects.into_iter().collect()
    }
}

impl Class {
    fn new(view: Arc<View>, by_resource: &HashMap<*const Resource, Vec<usize>>) -> Self {
        let relevant = view.resources.values().filter_map(|resource| {
            let objects = by_resource.get(&Arc::as_ptr(resource))?.clone();
            Some(Relevant { resource: Arc::clone(resource), objects })
        });
        let relevant: Vec<Relevant> = relevant.collect();
        let objects: BTreeSet<usize> = relevant.iter().flat_map(|it| it.objects.iter().copied()).collect();
        Self { objects: objects.into_iter().collect(), relevant, view }
    }

    /// The objects of which a proxy that took `taken` lacks a part.
    fn lacking(&self, taken: &Arc<View>) -> BTreeSet<usize> {
        if Arc::ptr_eq(taken, &self.view) {
            return BTreeSet::new();
        }
        let has = |it: &&Relevant| {
            let held = taken.resources.get(&(it.resource.kind, Arc::clone(&it.resource.name)));
            held.is_some_and(|held| held.version == it.resource.version)
        };
        let missing = self.relevant.iter().filter(|it| !has(it));
        missing.flat_map(|it| it.objects.iter().copied()).collect()
    }

    /// The objects of which a part was refused, with the words that `of` has for it.
    fn refusals<'w>(&self, of: impl Fn(Kind, &Arc<str>) -> Option<&'w str>) -> BTreeMap<usize, &'w str> {
        let refused = self.relevant.iter().filter_map(|it| {
            let words = of(it.resource.kind, &it.resource.name)?;
            Some(it.objects.iter().map(move |object| (*object, words)))
        });
        refused.flatten().collect()
    }
}

/// The resources that say what an object says; nothing for one that is not in effect.
fn carried<'o>(
    objects: &'o KnownObjects,
    snapshot: &Snapshot,
) -> BTreeMap<&'o ObjectRef, Vec<Arc<Resource>>> {
    let (grants, splits) = (provenance::grants(snapshot), provenance::splits(snapshot));
    let mut carried: BTreeMap<&ObjectRef, Vec<Arc<Resource>>> = BTreeMap::new();
    for (object, known) in objects {
        let name = || format!("{}/{}", object.namespace, object.name);
        let own = match object.kind.as_str() {
            "TrafficTarget" => grants.get(name().as_str()).cloned(),
            "TrafficSplit" => splits.get(name().as_str()).cloned(),
            "MeshConfig" => Some(provenance::inbound(snapshot)),
            _ => None,
        };
        let Some(own) = own else { continue };
        for used in &known.uses {
            if let Some((used, _)) = objects.get_key_value(used) {
                carried.entry(used).or_default().extend(own.iter().cloned());
            }
        }
        carried.entry(object).or_default().extend(own);
    }
    carried
}
