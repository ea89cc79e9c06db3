//! A file of YAML, whatever is in it: read, lowered, and made into what every proxy would be told.

#![no_main]

use std::{collections::BTreeMap, sync::Arc};

use libfuzzer_sys::fuzz_target;
use smidge::{
    documents::{Source, assemble},
    lower::lower,
};
use smidge_xds::{mesh::id::ClusterId, snapshot::Snapshot};

fuzz_target!(|text: &str| {
    let offline = assemble(&[Source { name: "in.yaml".to_owned(), text: text.to_owned() }]);
    for unreadable in &offline.unreadable {
        assert!(!unreadable.message.is_empty(), "{unreadable:?}");
    }
    let world = BTreeMap::from([(ClusterId::default(), offline.inputs)]);
    let (mesh, findings) = lower(&world);
    for finding in &findings {
        drop(finding.to_string());
    }
    let snapshot = Snapshot::next(Arc::new(mesh), None);
    for class in snapshot.mesh().classes.keys() {
        assert!(snapshot.view_of(class).is_some(), "{class:?} has no view");
    }
});
