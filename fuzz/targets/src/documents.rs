//! Fuzz target of documents: any YAML file is read, lowered, and turned into the view of every proxy without a panic.

use std::{collections::BTreeMap, sync::Arc};

use smidge::{
    documents::{Source, assemble},
    lower::lower,
};
use smidge_xds::{mesh::id::ClusterId, snapshot::Snapshot};

/// Runs one input; bytes that are not UTF-8 are ignored.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let offline = assemble(&[Source { name: "in.yaml".to_owned(), text: text.to_owned() }]);
    for unreadable in &offline.unreadable {
        assert!(!unreadable.message.is_empty(), "{unreadable:?}");
    }
    let clusters = BTreeMap::from([(ClusterId::default(), offline.inputs)]);
    let (mesh, findings) = lower(&clusters);
    for finding in &findings {
        drop(finding.to_string());
    }
    let snapshot = Snapshot::next(Arc::new(mesh), None);
    for class in snapshot.mesh().classes.keys() {
        assert!(snapshot.view_of(class).is_some(), "{class:?} has no view");
    }
}
