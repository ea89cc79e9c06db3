//! Keeps what was made of the objects, and makes again what a change can touch: each unit with its value, what it has read,
//! and to whom it gives.
//!
//! Driven by `lower`, which marks what is due and says how a unit is made. A unit that comes to the same value as before
//! stops there: whoever has read it is left alone. Knows no object and no meaning.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    sync::Arc,
};

use smidge_xds::mesh::id::ClusterId;

use super::{
    Lowered,
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
    /// Every finding, with the number of units that have it.
    findings: BTreeMap<Finding, usize>,
    /// Whether the findings are others since that was asked last.
    is_told: bool,
    /// The units that have come to something else.
    changed: BTreeSet<Arc<Unit>>,
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

    /// The findings, errors first.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.keys()
    }

    /// Whether the findings are others than when this was asked last.
    pub fn has_news(&mut self) -> bool {
        !mem::replace(&mut self.is_told, true)
    }

    /// The units that have come to something else since this was asked last.
    pub fn take_changed(&mut self) -> BTreeSet<Arc<Unit>> {
        mem::take(&mut self.changed)
    }

    /// How much was ever made.
    pub fn lowered(&self) -> Lowered {
        Lowered { kept: u64::try_from(self.nodes.len()).unwrap_or(u64::MAX), ..self.lowered }
    }

    /// Notes that the object of a unit has changed.
    pub fn touch(&mut self, unit: Unit) {
        let unit = self.known(unit);
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
    pub fn known(&mut self, unit: Unit) -> Arc<Unit> {
        if let Some((known, _)) = self.nodes.get_key_value(&unit) {
            return Arc::clone(known);
        }
        let unit = Arc::new(unit);
        self.nodes.insert(Arc::clone(&unit), Node::default());
        unit
    }

    /// Makes a unit that nobody has asked for before. Whoever asks is about to be noted as its reader.
    pub fn ensure(&mut self, unit: &Arc<Unit>, cluster: &ClusterId, inputs: &Inputs) {
        if !unit.is_set() && self.nodes.get(unit).is_none_or(|node| !node.is_made) {
            self.make(unit, cluster, inputs);
        }
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

    fn keep(&mut self, unit: &Arc<Unit>, value: Option<Value>, made: Made) {
        let Made { findings, reads, gives } = made;
        let node = self.nodes.entry(Arc::clone(unit)).or_default();
        node.is_made = true;
        let old_findings = mem::replace(&mut node.findings, findings.clone());
        let old_reads = mem::replace(&mut node.reads, reads.clone());
        let old_gives = mem::replace(&mut node.gives, gives.clone());
        let has_changed = node.value != value;
        if has_changed {
            node.value = value;
            let readers = node.readers.clone();
            self.changed.insert(Arc::clone(unit));
            for reader in readers {
                self.mark(reader);
            }
        }
        if old_findings != findings {
            self.say(&old_findings, findings);
        }
        if old_gives != gives {
            for gone in without(&old_gives, &gives) {
                self.nodes.entry(Arc::clone(gone)).or_default().givers.remove(unit);
                self.mark(Arc::clone(gone));
                self.forget_idle(gone);
            }
            for new in without(&gives, &old_gives) {
                self.nodes.entry(Arc::clone(new)).or_default().givers.insert(Arc::clone(unit));
                self.mark(Arc::clone(new));
            }
        }
        if has_changed {
            for given in gives {
                self.mark(given);
            }
        }
        if old_reads != reads {
            for new in without(&reads, &old_reads) {
                self.nodes.entry(Arc::clone(new)).or_default().readers.insert(Arc::clone(unit));
            }
            for gone in without(&old_reads, &reads) {
                self.unread(gone, unit);
            }
        }
    }

    /// A set has nothing to make: its readers are due in its place.
    fn mark(&mut self, unit: Arc<Unit>) {
        if !unit.is_set() {
            self.due.insert(unit);
            return;
        }
        let readers = self.nodes.get(&unit).map(|node| node.readers.clone()).unwrap_or_default();
        self.due.extend(readers);
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

    fn say(&mut self, old: &[Finding], new: Vec<Finding>) {
        for finding in new {
            *self.findings.entry(finding).or_insert_with(|| {
                self.is_told = false;
                0
            }) += 1;
        }
        for finding in old {
            let Some(count) = self.findings.get_mut(finding) else { continue };
            *count -= 1;
            if *count == 0 {
                self.findings.remove(finding);
                self.is_told = false;
            }
        }
    }
}

/// What of `all` is not in `others`, both sorted.
fn without<'a>(all: &'a [Arc<Unit>], others: &'a [Arc<Unit>]) -> impl Iterator<Item = &'a Arc<Unit>> {
    all.iter().filter(|unit| others.binary_search(unit).is_err())
}
