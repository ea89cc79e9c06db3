//! Dependency graph of lowering: invalidated nodes → recomputed values; nodes that a change cannot affect are not
//! recomputed.
//!
//! Driven by `cluster`, which invalidates nodes; `Schema` computes one. A node whose new value equals the old one ends
//! the propagation: its dependents are not recomputed. Knows no object and no meaning.

use std::{
    cmp::Ordering,
    collections::{BTreeSet, HashMap},
    mem,
    sync::Arc,
};

use super::{Context, Findings, Role, Schema};
use crate::finding::Finding;

/// Value of a node, and its relations to other nodes.
struct Entry<S: Schema> {
    value: Option<S::Value>,
    findings: Vec<Finding>,
    /// Nodes that it has read, sorted, and nodes that have read it.
    dependencies: Vec<Arc<S::Node>>,
    dependents: BTreeSet<Arc<S::Node>>,
    /// Nodes that it contributes to, sorted, and nodes that contribute to it.
    contributes_to: Vec<Contribution<S>>,
    contributors: BTreeSet<Arc<S::Node>>,
    is_computed: bool,
}

impl<S: Schema> Default for Entry<S> {
    fn default() -> Self {
        Self {
            value: None,
            findings: Vec::new(),
            dependencies: Vec::new(),
            dependents: BTreeSet::new(),
            contributes_to: Vec::new(),
            contributors: BTreeSet::new(),
            is_computed: false,
        }
    }
}

/// Node that another one contributes to.
pub(super) struct Contribution<S: Schema> {
    pub node: Arc<S::Node>,
    /// Part of the value that it is given; `None`: all of it.
    pub part: Option<S::Value>,
}

/// Result of computing a node, beside its value.
pub(super) struct Computed<S: Schema> {
    pub findings: Vec<Finding>,
    pub dependencies: Vec<Arc<S::Node>>,
    pub contributes_to: Vec<Contribution<S>>,
}

impl<S: Schema> Default for Computed<S> {
    fn default() -> Self {
        Self { findings: Vec::new(), dependencies: Vec::new(), contributes_to: Vec::new() }
    }
}

/// All nodes.
pub(crate) struct Graph<S: Schema> {
    nodes: HashMap<Arc<S::Node>, Entry<S>>,
    dirty: BTreeSet<Arc<S::Node>>,
    findings: Findings,
    /// Output nodes whose value has changed.
    changed: Vec<Arc<S::Node>>,
    recomputed: u64,
}

impl<S: Schema> Default for Graph<S> {
    fn default() -> Self {
        Self {
            nodes: HashMap::new(),
            dirty: BTreeSet::new(),
            findings: Findings::default(),
            changed: Vec::new(),
            recomputed: 0,
        }
    }
}

impl<S: Schema> Graph<S> {
    /// Value of a node.
    pub(crate) fn value(&self, node: &S::Node) -> Option<&S::Value> {
        self.nodes.get(node)?.value.as_ref()
    }

    /// Nodes that contribute to a node.
    pub(crate) fn contributors(&self, node: &S::Node) -> impl Iterator<Item = &Arc<S::Node>> {
        self.nodes.get(node).into_iter().flat_map(|entry| &entry.contributors)
    }

    /// Part that a contributor gives to a node.
    pub(super) fn part(&self, contributor: &S::Node, node: &S::Node) -> Option<&S::Value> {
        find(&self.nodes.get(contributor)?.contributes_to, node)?.part.as_ref()
    }

    /// Number of nodes that contribute to a node.
    pub(crate) fn count(&self, node: &S::Node) -> usize {
        self.nodes.get(node).map_or(0, |entry| entry.contributors.len())
    }

    /// Findings of all nodes.
    pub(crate) fn findings(&mut self) -> &mut Findings {
        &mut self.findings
    }

    /// Output nodes whose value has changed since the last call; one may be listed twice.
    pub(crate) fn take_changed(&mut self) -> Vec<Arc<S::Node>> {
        mem::take(&mut self.changed)
    }

    /// Number of nodes computed since the last call.
    pub(crate) fn take_recomputed(&mut self) -> u64 {
        mem::take(&mut self.recomputed)
    }

    /// Number of nodes that exist.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Marks a node as dirty, as its object has changed.
    pub(crate) fn invalidate(&mut self, node: S::Node) {
        if S::role(&node) == Role::OnDemand && !self.nodes.contains_key(&node) {
            return;
        }
        let node = self.intern(node);
        self.mark_dirty(node);
    }

    /// Computes dirty nodes until none is left.
    pub(crate) fn recompute(&mut self, source: &S::Source) {
        while let Some(node) = self.dirty.pop_first() {
            self.compute(&node, source);
            self.collect(&node);
        }
    }

    /// Shared form of a node.
    pub(crate) fn intern(&mut self, node: S::Node) -> Arc<S::Node> {
        if let Some((shared, _)) = self.nodes.get_key_value(&node) {
            return Arc::clone(shared);
        }
        let node = Arc::new(node);
        self.nodes.insert(Arc::clone(&node), Entry::default());
        node
    }

    /// Returns the value of a node, which is computed if it never was. The caller is about to become its dependent.
    pub(crate) fn ask(&mut self, node: S::Node, source: &S::Source) -> (Arc<S::Node>, Option<S::Value>) {
        if let Some((node, entry)) = self.nodes.get_key_value(&node)
            && entry.is_computed
        {
            return (Arc::clone(node), entry.value.clone());
        }
        let node = self.intern(node);
        self.compute(&node, source);
        let value = self.value(&node).cloned();
        (node, value)
    }

    fn compute(&mut self, node: &Arc<S::Node>, source: &S::Source) {
        let Some(entry) = self.nodes.get(node) else { return };
        self.recomputed += 1;
        if S::role(node) == Role::Contributed && entry.contributors.is_empty() {
            return self.store(node, None, Computed::default());
        }
        let mut context = Context::new(self, node, source);
        let value = S::compute(node, &mut context);
        let mut computed = context.done();
        computed.dependencies.sort_by(compare);
        computed.dependencies.dedup();
        computed.contributes_to.sort_by(|one, other| compare(&one.node, &other.node));
        computed.contributes_to.dedup_by(|one, other| {
            let is_same = one.node == other.node;
            debug_assert!(!is_same || one.part == other.part, "{:?} is given two parts", one.node);
            is_same
        });
        self.store(node, value, computed);
    }

    /// Stores the result of computing a node, and marks its dependents as dirty. Most of a result is usually unchanged.
    fn store(&mut self, node: &Arc<S::Node>, value: Option<S::Value>, computed: Computed<S>) {
        let Computed { findings, dependencies, contributes_to } = computed;
        let Self { nodes, dirty, findings: all, changed, .. } = self;
        let entry = nodes.entry(Arc::clone(node)).or_default();
        entry.is_computed = true;
        let has_changed = entry.value != value;
        if has_changed {
            entry.value = value;
            // A dependent is never a set.
            dirty.extend(entry.dependents.iter().cloned());
            if S::is_output(node) {
                changed.push(Arc::clone(node));
            }
        }
        if entry.findings != findings {
            all.replace(&entry.findings, &findings);
            entry.findings = findings;
        }
        let given = mem::replace(&mut entry.contributes_to, contributes_to);
        let read = (entry.dependencies != dependencies)
            .then(|| (mem::replace(&mut entry.dependencies, dependencies.clone()), dependencies));
        self.contribute(node, &given, has_changed);
        if let Some((old, new)) = read {
            self.depend(node, &old, &new);
        }
    }

    /// Replaces the nodes that a node contributes to, and marks as dirty those whose part of it has changed.
    fn contribute(&mut self, node: &Arc<S::Node>, old: &[Contribution<S>], has_changed: bool) {
        let Some(entry) = self.nodes.get(node) else { return };
        let (mut gone, mut given, mut due) = (Vec::new(), Vec::new(), Vec::new());
        for pair in pairs(old, &entry.contributes_to, |contribution| &contribution.node) {
            match pair {
                (Some(old), None) => gone.push(Arc::clone(&old.node)),
                (None, Some(new)) => given.push(Arc::clone(&new.node)),
                (Some(old), Some(new)) if old.part != new.part || has_changed && new.part.is_none() => {
                    due.push(Arc::clone(&new.node));
                }
                _ => {}
            }
        }
        for gone in gone {
            self.nodes.entry(Arc::clone(&gone)).or_default().contributors.remove(node);
            self.mark_dirty(Arc::clone(&gone));
            self.collect(&gone);
        }
        for given in given {
            self.nodes.entry(Arc::clone(&given)).or_default().contributors.insert(Arc::clone(node));
            self.mark_dirty(given);
        }
        for due in due {
            self.mark_dirty(due);
        }
    }

    /// Replaces the nodes that a node depends on.
    fn depend(&mut self, node: &Arc<S::Node>, old: &[Arc<S::Node>], new: &[Arc<S::Node>]) {
        let differing = pairs(old, new, |it| it);
        for read in differing.iter().filter(|(old, _)| old.is_none()).filter_map(|(_, new)| *new) {
            self.nodes.entry(Arc::clone(read)).or_default().dependents.insert(Arc::clone(node));
        }
        for gone in differing.iter().filter(|(_, new)| new.is_none()).filter_map(|(old, _)| *old) {
            self.drop_dependency(gone, node);
        }
    }

    /// Marks a node as dirty. A set has nothing to compute: its dependents are marked in its place.
    fn mark_dirty(&mut self, node: Arc<S::Node>) {
        if S::role(&node) != Role::Set {
            self.dirty.insert(node);
        } else if let Some(entry) = self.nodes.get(&node) {
            self.dirty.extend(entry.dependents.iter().cloned());
        }
    }

    fn drop_dependency(&mut self, node: &Arc<S::Node>, dependent: &Arc<S::Node>) {
        if let Some(entry) = self.nodes.get_mut(node) {
            entry.dependents.remove(dependent);
        }
        self.collect(node);
    }

    /// Removes a node without a value, dependents and contributors. A node that has read others is kept, as they may
    /// give it a value later, unless it exists on demand only.
    fn collect(&mut self, node: &Arc<S::Node>) {
        let Some(entry) = self.nodes.get(node) else { return };
        let is_alone = entry.dependents.is_empty() && entry.contributors.is_empty();
        let is_nothing = entry.value.is_none() && entry.dependencies.is_empty() && entry.findings.is_empty();
        if !is_alone || !(is_nothing || S::role(node) == Role::OnDemand) || self.dirty.contains(node) {
            return;
        }
        let Some(entry) = self.nodes.remove(node) else { return };
        for read in &entry.dependencies {
            self.drop_dependency(read, node);
        }
    }
}

/// Returns the entry of a node in a sorted list.
fn find<'a, S: Schema>(list: &'a [Contribution<S>], node: &S::Node) -> Option<&'a Contribution<S>> {
    let at = list.binary_search_by(|it| (*it.node).cmp(node)).ok()?;
    list.get(at)
}

/// Compares two nodes: most that are compared are one and the same.
fn compare<N: Ord>(one: &Arc<N>, other: &Arc<N>) -> Ordering {
    if Arc::ptr_eq(one, other) { Ordering::Equal } else { one.cmp(other) }
}

/// Pairs the elements of two lists that have the same node; both are sorted by node.
fn pairs<'a, T, N: Ord + 'a>(
    old: &'a [T],
    new: &'a [T],
    node: impl Fn(&'a T) -> &'a Arc<N>,
) -> Vec<(Option<&'a T>, Option<&'a T>)> {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    let mut pairs = Vec::new();
    loop {
        let order = match (old.peek(), new.peek()) {
            (Some(one), Some(other)) => compare(node(one), node(other)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return pairs,
        };
        pairs.push(match order {
            Ordering::Less => (old.next(), None),
            Ordering::Equal => (old.next(), new.next()),
            Ordering::Greater => (None, new.next()),
        });
    }
}
