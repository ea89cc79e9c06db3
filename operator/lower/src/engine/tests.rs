//! Sums as a schema: cells hold numbers from outside, sums add the cells that contribute to them, and reports read
//! sums.

use std::{cell::RefCell, collections::BTreeMap};

use super::*;

struct Sums;

/// Cells, the set of all cells, the sum of a group, whether that sum is even (on demand), a report on a group, and the
/// tens of a cell, which are the part that it gives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Node {
    Cell(u8),
    Cells,
    Sum(u8),
    IsEven(u8),
    Report(u8),
    Tens(u8),
}

#[derive(Default)]
struct Sheet {
    /// The number of each cell, and its group.
    cells: BTreeMap<u8, (u8, u32)>,
    computed: RefCell<Vec<Node>>,
}

impl Schema for Sums {
    type Node = Node;
    type Value = u32;
    type Source = Sheet;

    fn role(node: &Node) -> Role {
        match node {
            Node::Cell(_) | Node::Report(_) => Role::Source,
            Node::Cells => Role::Set,
            Node::Sum(_) | Node::Tens(_) => Role::Contributed,
            Node::IsEven(_) => Role::OnDemand,
        }
    }

    fn is_output(node: &Node) -> bool {
        matches!(node, Node::Report(_))
    }

    fn compute(node: &Arc<Node>, context: &mut Context<'_, Self>) -> Option<u32> {
        context.source().computed.borrow_mut().push(Node::clone(node));
        match **node {
            Node::Cell(cell) => {
                let (group, number) = *context.source().cells.get(&cell)?;
                context.contribute_to(Node::Sum(group));
                context.contribute_to(Node::Cells);
                context.contribute_part(Node::Tens(cell), number / 10);
                Some(number)
            }
            Node::Cells => None,
            Node::Sum(_) => Some(context.contributors().iter().filter_map(|cell| context.value(cell)).sum()),
            Node::IsEven(group) => context.read(Node::Sum(group)).filter(|sum| sum % 2 == 0),
            Node::Tens(cell) => context.part(&Node::Cell(cell)).copied(),
            Node::Report(group) => context.read(Node::IsEven(group)).map(|_| 1),
        }
    }
}

fn compute(graph: &mut Graph<Sums>, sheet: &Sheet) -> Vec<Node> {
    graph.recompute(sheet);
    sheet.computed.take()
}

fn sheet() -> (Graph<Sums>, Sheet) {
    let (mut graph, mut sheet) = (Graph::default(), Sheet::default());
    sheet.cells = BTreeMap::from([(1, (0, 2)), (2, (0, 4)), (3, (9, 5))]);
    (1..=3).for_each(|cell| graph.invalidate(Node::Cell(cell)));
    graph.invalidate(Node::Report(0));
    compute(&mut graph, &sheet);
    assert_eq!(graph.take_changed(), [Arc::new(Node::Report(0))]);
    (graph, sheet)
}

#[test]
fn a_change_recomputes_what_depends_on_it_and_nothing_else() {
    let (mut graph, mut sheet) = sheet();
    sheet.cells.insert(2, (0, 5));
    graph.invalidate(Node::Cell(2));
    assert_eq!(compute(&mut graph, &sheet), [Node::Cell(2), Node::Sum(0), Node::IsEven(0), Node::Report(0)]);
    assert_eq!(graph.value(&Node::Report(0)), None);
    assert_eq!(graph.value(&Node::Sum(9)), Some(&5));
}

#[test]
fn a_value_that_stays_stops_the_change() {
    let (mut graph, mut sheet) = sheet();
    sheet.cells.insert(2, (0, 6));
    graph.invalidate(Node::Cell(2));
    // The sum is another even number: `IsEven` has another value, but the report has not.
    compute(&mut graph, &sheet);
    assert!(graph.take_changed().is_empty());
    graph.invalidate(Node::Cell(1));
    assert_eq!(compute(&mut graph, &sheet), [Node::Cell(1)]);
}

#[test]
fn a_contributor_that_goes_elsewhere_invalidates_both_groups() {
    let (mut graph, mut sheet) = sheet();
    sheet.cells.insert(1, (9, 2));
    graph.invalidate(Node::Cell(1));
    compute(&mut graph, &sheet);
    assert_eq!((graph.value(&Node::Sum(0)), graph.value(&Node::Sum(9))), (Some(&4), Some(&7)));
}

#[test]
fn nodes_without_dependents_and_contributors_are_collected() {
    let (mut graph, mut sheet) = sheet();
    assert_eq!(graph.count(&Node::Cells), 3);
    sheet.cells.clear();
    (1..=3).for_each(|cell| graph.invalidate(Node::Cell(cell)));
    compute(&mut graph, &sheet);
    // The report was invalidated from outside, so it remains with what it reads.
    assert_eq!(graph.count(&Node::Cells), 0);
    assert_eq!(graph.value(&Node::Sum(9)), None);
    assert!(graph.len() <= 3, "{} nodes", graph.len());
}

#[test]
fn a_part_that_stays_leaves_the_node_that_has_it_alone() {
    let (mut graph, mut sheet) = sheet();
    sheet.cells.insert(1, (0, 3));
    graph.invalidate(Node::Cell(1));
    assert!(!compute(&mut graph, &sheet).contains(&Node::Tens(1)));
    sheet.cells.insert(1, (0, 33));
    graph.invalidate(Node::Cell(1));
    assert!(compute(&mut graph, &sheet).contains(&Node::Tens(1)));
    assert_eq!(graph.value(&Node::Tens(1)), Some(&3));
    assert_eq!(graph.value(&Node::Tens(2)), Some(&0));
}
