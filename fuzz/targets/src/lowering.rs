//! Fuzz target of lowering: objects of the golden cases are added, removed and grafted onto each other in any order.
//! Incremental lowering has the same result as lowering from scratch, and so have the views that are built from it.
//!
//! The input is a program of three bytes for each step: the first byte selects the operation, the others its operands.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, LazyLock},
};

use serde_json::Value;
use smidge::{
    documents::{Source, assemble, parse},
    lower::{Lowering, lower},
};
use smidge_xds::{
    mesh::id::ClusterId,
    resources::{Resource, ResourceType},
    snapshot::Snapshot,
};

/// Maximum number of objects. More of them make a step slow and find nothing new.
const MOST: usize = 40;
/// Maximum number of steps of one input.
const LONGEST: usize = 24;

static POOL: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../operator/tests/golden");
    let mut cases: Vec<_> =
        fs::read_dir(folder).expect("the golden cases").flatten().map(|entry| entry.path()).collect();
    cases.sort();
    let texts = cases.iter().filter_map(|case| fs::read_to_string(case.join("in.yaml")).ok());
    let documents = texts.flat_map(|text| parse(&Source { name: "in.yaml".to_owned(), text }).0);
    documents.map(|document| document.value).collect()
});

/// Collects the JSON pointers of all values in an object that could be replaced.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| places(value, format!("{at}/{}", escaped(key)), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| places(value, format!("{at}/{index}"), found));
        }
        _ => {}
    }
    found.push(at);
}

fn pick<T>(from: &[T], byte: u8, other: u8) -> Option<&T> {
    from.get((usize::from(byte) << 8 | usize::from(other)) % from.len().max(1))
}

/// Replaces a value in `object` by a value of `donor`.
fn graft(object: &mut Value, donor: &Value, byte: u8, other: u8) {
    let (mut to, mut from) = (Vec::new(), Vec::new());
    places(object, String::new(), &mut to);
    places(donor, String::new(), &mut from);
    let value = pick(&from, other, byte).and_then(|place| donor.pointer(place)).cloned();
    let place = pick(&to, byte, other).filter(|place| !place.is_empty());
    if let (Some(value), Some(target)) = (value, place.and_then(|place| object.pointer_mut(place))) {
        *target = value;
    }
}

fn step(objects: &mut Vec<Value>, [what, byte, other]: [u8; 3]) {
    let count = objects.len();
    match what % 4 {
        0 | 1 => {
            if let Some(object) = pick(&POOL, byte, other).filter(|_| count < MOST) {
                objects.push(object.clone());
            }
        }
        2 if count > 0 => drop(objects.remove(usize::from(byte) % count)),
        _ => {
            let donor = pick(&POOL, other, what).cloned();
            if let (Some(object), Some(donor)) = (objects.get_mut(usize::from(byte) % count.max(1)), donor) {
                graft(object, &donor, other, what);
            }
        }
    }
}

/// Runs one input.
pub fn run(program: &[u8]) {
    let mut objects = Vec::new();
    let mut lowering = Lowering::default();
    let mut snapshot: Option<Snapshot> = None;
    let (steps, _) = program.as_chunks::<3>();
    for taken in steps.iter().take(LONGEST) {
        step(&mut objects, *taken);
        let text = objects.iter().map(|object| format!("---\n{object}")).collect::<Vec<_>>().join("\n");
        let inputs = assemble(&[Source { name: "in.yaml".to_owned(), text: text.clone() }]).inputs;
        let clusters = BTreeMap::from([(ClusterId::default(), inputs)]);
        let (mesh, findings) = lowering.next(&clusters);
        let (anew, all) = lower(&clusters);
        assert!(mesh == anew, "the meshes differ after\n{text}");
        assert!(*findings == all, "the findings differ after\n{text}");
        let next = Snapshot::next(Arc::new(mesh), snapshot.as_ref());
        let fresh = Snapshot::next(Arc::new(anew), None);
        for class in fresh.mesh().classes.keys() {
            let (Some(gone_on), Some(fresh)) = (next.view_of(class), fresh.view_of(class)) else {
                panic!("{class:?} has no view after\n{text}");
            };
            // Except for marks that drain connections, which a new view does not have.
            let held = |(key, resource): (&(ResourceType, Arc<str>), &Arc<Resource>)| {
                gone_on.get(key.0, &key.1).is_some_and(|other| other.version.is_held_as(&resource.version))
            };
            let same = gone_on.resources.len() == fresh.resources.len() && fresh.resources.iter().all(held);
            assert!(same, "the views of {class:?} differ after\n{text}");
        }
        snapshot = Some(next);
    }
}
