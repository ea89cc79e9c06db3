//! Keeps what was made of the objects, and makes again what a change can touch: each unit with its value, what it has read,
//! and to whom it gives.
//!
//! Driven by `lower`, which marks what is due and says how a unit is made. A unit that comes to the same value as before
//! stops there: whoever has read it is left alone. Knows no object and no meaning.

use std::{
    collections::{BTreeSet, HashMap},
    mem,
    sync::Arc,
};

use smidge_xds::mesh::id::ClusterId;

use super::{
    Lowered,
    found::Found,
    look::Look,
    unit::{Unit, Value},
};
use crate::{finding::Finding, inputs::Inputs};

/// What one unit is made of, and what it has come to.
#[derive(Debug, Default)]
struct Node {
    value: Option<Value>,
    findings: Vec<Finding>,
    /// What it has read, sorted, and who has read it.
    reads: Vec<Arc<Unit>>,
    readers: BTreeSet<Arc<Unit>>,
    /// To whom it gives, sorted, and who gives to it.
    gives: Vec<Arc<Unit>>,
    givers: BTreeSet<Arc<Unit>>,
    is_made: bool,
}

/// What came of making a unit, beside its value.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub findings: Vec<Finding>,
    pub reads: Vec<Arc<Unit>>,
    pub gives: Vec<Arc<Unit>>,
}

/// All units of a cluster.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<Arc<Unit>, Node>,
    due: BTreeSet<Arc<Unit>>,
    found: Found,
    /// The parts of the mesh that have come to something else.
    changed: Vec<Arc<Unit>>,
    lowered: Lowered,
}

impl Graph {
    /// What a unit has come to.
    pub fn value(&self, unit: &Unit) -> Option<&Value> {
        self.nodes.get(unit)?.value.as_ref()
    }

    /// Who gives to a unit.
    pub fn givers(&self, unit: &Unit) -> impl Iterator<Item = &Arc<Unit>> {
        self.nodes.get(unit).into_iter().flat_map(|node| &node.givers)
    }

    /// How many give to a unit.
    pub fn count(&self, unit: &Unit) -> usize {
        self.nodes.get(unit).map_or(0, |node| node.givers.len())
    }

    /// What is wrong with the objects.
    pub fn found(&mut self) -> &mut Found {
        &mut self.found
    }

    /// The parts of the mesh that have come to something else since this was asked last; one may be named twice.
    pub fn take_changed(&mut self) -> Vec<Arc<Unit>> {
        mem::take(&mut self.changed)
    }

    /// How much was made since this was asked last, and how much there is.
    pub fn take_lowered(&mut self) -> Lowered {
        Lowered { kept: u64::try_from(self.nodes.len()).unwrap_or(u64::MAX), ..mem::take(&mut self.lowered) }
    }

    /// Notes that the object of a unit has changed.
    pub fn touch(&mut self, unit: Unit) {
        let unit = self.shared(unit);
        self.mark(unit);
    }

    /// Makes whatever is due, until nothing is.
    pub fn settle(&mut self, cluster: &ClusterId, inputs: &Inputs) {
        while let Some(unit) = self.due.pop_first() {
            self.make(&unit, cluster, inputs);
            self.forget_idle(&unit);
        }
    }

    /// The unit as it is shared.
    pub fn shared(&mut self, unit: Unit) -> Arc<Unit> {
        if let Some((shared, _)) = self.nodes.get_key_value(&unit) {
            return Arc::clone(shared);
        }
        let unit = Arc::new(unit);
        self.nodes.insert(Arc::clone(&unit), Node::default());
        unit
    }

    /// A unit with what it has come to; it is made if nobody has asked for it before. Whoever asks is about to be noted as
    /// its reader.
    pub fn ask(&mut self, unit: Unit, cluster: &ClusterId, inputs: &Inputs) -> (Arc<Unit>, Option<Value>) {
        if let Some((unit, node)) = self.nodes.get_key_value(&unit)
            && node.is_made
        {
            return (Arc::clone(unit), node.value.clone());
        }
        let unit = self.shared(unit);
        self.make(&unit, cluster, inputs);
        let value = self.value(&unit).cloned();
        (unit, value)
    }

    fn make(&mut self, unit: &Arc<Unit>, cluster: &ClusterId, inputs: &Inputs) {
        let Some(node) = self.nodes.get(unit) else { return };
        let Lowered { services, workloads, units, .. } = &mut self.lowered;
        *units += 1;
        *services += u64::from(matches!(**unit, Unit::Service(_)));
        *workloads += u64::from(matches!(**unit, Unit::Workload(_)));
        if unit.is_given() && node.givers.is_empty() {
            return self.keep(unit, None, Made::default());
        }
        let mut look = Look::new(self, unit, cluster, inputs);
        let value = super::make(unit, &mut look);
        let mut made = look.done();
        for units in [&mut made.reads, &mut made.gives] {
            units.sort();
            units.dedup();
        }
        self.keep(unit, value, made);
    }

    /// Keeps what came of a unit, and marks whoever is concerned. Most of it is what it was.
    fn keep(&mut self, unit: &Arc<Unit>, value: Option<Value>, made: Made) {
        let Made { findings, reads, gives } = made;
        let Self { nodes, due, found, changed, .. } = self;
        let node = nodes.entry(Arc::clone(unit)).or_default();
        node.is_made = true;
        let has_changed = node.value != value;
        if has_changed {
            node.value = value;
            // Nobody who has read something is a set.
            due.extend(node.readers.iter().cloned());
            if unit.is_of_mesh() {
                changed.push(Arc::clone(unit));
            }
        }
        if node.findings != findings {
            found.replace(&node.findings, &findings);
            node.findings = findings;
        }
        let heirs = if has_changed { gives.clone() } else { Vec::new() };
        let given = (node.gives != gives).then(|| (mem::replace(&mut node.gives, gives.clone()), gives));
        let read = (node.reads != reads).then(|| (mem::replace(&mut node.reads, reads.clone()), reads));
        if let Some((old, new)) = given {
            self.give(unit, &old, &new);
        }
        if let Some((old, new)) = read {
            self.read(unit, &old, &new);
        }
        for heir in heirs {
            self.mark(heir);
        }
    }

    /// A unit gives to `new` now where it gave to `old`.
    fn give(&mut self, unit: &Arc<Unit>, old: &[Arc<Unit>], new: &[Arc<Unit>]) {
        for gone in without(old, new) {
            self.nodes.entry(Arc::clone(gone)).or_default().givers.remove(unit);
            self.mark(Arc::clone(gone));
            self.forget_idle(gone);
        }
        for given in without(new, old) {
            self.nodes.entry(Arc::clone(given)).or_default().givers.insert(Arc::clone(unit));
            self.mark(Arc::clone(given));
        }
    }

    /// A unit has read `new` now where it had read `old`.
    fn read(&mut self, unit: &Arc<Unit>, old: &[Arc<Unit>], new: &[Arc<Unit>]) {
        for read in without(new, old) {
            self.nodes.entry(Arc::clone(read)).or_default().readers.insert(Arc::clone(unit));
        }
        for gone in without(old, new) {
            self.unread(gone, unit);
        }
    }

    /// A set has nothing to make: its readers are due in its place.
    fn mark(&mut self, unit: Arc<Unit>) {
        if !unit.is_set() {
            self.due.insert(unit);
        } else if let Some(node) = self.nodes.get(&unit) {
            self.due.extend(node.readers.iter().cloned());
        }
    }

    fn unread(&mut self, unit: &Arc<Unit>, reader: &Arc<Unit>) {
        if let Some(node) = self.nodes.get_mut(unit) {
            node.readers.remove(reader);
        }
        self.forget_idle(unit);
    }

    /// Forgets a unit that is nothing and that nobody has to do with. One that was made of others is kept, as they may
    /// make something of it yet, unless it is there only for those who ask.
    fn forget_idle(&mut self, unit: &Arc<Unit>) {
        let Some(node) = self.nodes.get(unit) else { return };
        let is_alone = node.readers.is_empty() && node.givers.is_empty();
        let is_nothing = node.value.is_none() && node.reads.is_empty() && node.findings.is_empty();
        if !is_alone || !(is_nothing || unit.is_asked()) || self.due.contains(unit) {
            return;
        }
        let Some(node) = self.nodes.remove(unit) else { return };
        for read in &node.reads {
            self.unread(read, unit);
        }
    }
}

/// What of `all` is not in `others`, both sorted.
fn without<'a>(all: &'a [Arc<Unit>], others: &'a [Arc<Unit>]) -> impl Iterator<Item = &'a Arc<Unit>> {
    all.iter().filter(|unit| others.binary_search(unit).is_err())
}
