//! Objects mean the same in whichever version they are applied: a small cluster is lowered from generated objects as
//! they are stored, as conversion shows them at every version, and as users would have written them there.
//!
//! Goes through `documents`, as `smidge check` and `smidge render` do. The content that one object keeps on its way
//! between versions is tested in `smidge-crds`; here it is the resulting mesh, and the changes that tools of old
//! versions make. The claims are those of `docs/design/004-conversion.md`. `SMIDGE_SEED` repeats a run,
//! `PROPTEST_CASES` sets the number of cases.

mod allowed;
mod clients;
mod scenario;
mod written;

use std::{cell::RefCell, collections::BTreeMap, env};

use allowed::{Call, calls, pairs};
use clients::{Edit, any_edit};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};
use scenario::{SCENARIO, any_objects};
use serde_json::Value;
use smidge_crds::conversion::{NARROWED_BY, WRITTEN_AS, convert, served};
use smidge_lower::{
    documents::{self, Source},
    finding::{Finding, Reason},
    lower,
};
use smidge_mesh::{Mesh, id::ClusterId};
use written::written;

/// Seed of every run that names none.
const SEED: u64 = 4;
/// Number of cases of a run that names none, for each property.
const WORLDS: u32 = 60;
/// Versions, oldest first; a kind that has fewer is read at its newest.
const VERSIONS: [&str; 4] = ["v1alpha1", "v1alpha2", "v1alpha3", "v1alpha4"];

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Tests `property` with many values, the same ones in every run.
fn hold<S: Strategy>(values: &S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let seed = number("SMIDGE_SEED").unwrap_or(SEED);
    let cases = number("PROPTEST_CASES").map_or(WORLDS, |number| u32::try_from(number).unwrap());
    println!("SMIDGE_SEED={seed} PROPTEST_CASES={cases}");
    let bytes: Vec<u8> = seed.to_le_bytes().repeat(4);
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 500, ..Config::default() };
    match TestRunner::new_with_rng(config, random).run(values, property) {
        Ok(()) => {}
        Err(TestError::Fail(why, value)) => {
            panic!("SMIDGE_SEED={seed}: {why}\nthe smallest such: {value:#?}")
        }
        Err(TestError::Abort(why)) => panic!("SMIDGE_SEED={seed}: {why}"),
    }
}

/// Lowers the test cluster with these objects. Returns the mesh, the findings about meaning, and the number of findings
/// about shape.
fn lowered(objects: &[Value]) -> (Mesh, Vec<Finding>, usize) {
    let mut text = SCENARIO.to_owned();
    for object in objects {
        text.push_str("\n---\n");
        text.push_str(&object.to_string());
    }
    let offline = documents::assemble(&[Source { name: "scenario.yaml".to_owned(), text }]);
    assert_eq!((&offline.unreadable, &offline.findings), (&Vec::new(), &Vec::new()), "{objects:#?}");
    let (mesh, mut findings) = lower(&BTreeMap::from([(ClusterId("cluster".to_owned()), offline.inputs)]));
    let all = findings.len();
    findings.retain(|finding| finding.reason != Reason::FieldFromOtherVersion);
    let of_shape = all - findings.len();
    (mesh, findings, of_shape)
}

/// Returns the object as a client of `version` sees it, or of the newest, if the kind is not served there.
fn at(object: &Value, version: &str) -> Value {
    let api_version = object["apiVersion"].as_str().unwrap();
    let (group, _) = api_version.split_once('/').unwrap();
    let versions = served(group, object["kind"].as_str().unwrap());
    let version = versions.iter().find(|served| **served == version).unwrap_or(&versions[0]);
    convert(object, &format!("{group}/{version}")).unwrap()
}

fn same(
    made: &(Mesh, Vec<Finding>, usize),
    expected: &(Mesh, Vec<Finding>, usize),
    objects: &[Value],
) -> Result<(), TestCaseError> {
    prop_assert_eq!(&made.0, &expected.0, "another mesh from {:#?}", objects);
    prop_assert_eq!(&made.1, &expected.1, "other findings from {:#?}", objects);
    prop_assert_eq!(made.2, 0, "said to be of mixed shape: {:#?}", objects);
    Ok(())
}

/// Version of each object, in turn.
fn any_versions() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(&VERSIONS[..]), 1..12)
}

#[test]
fn the_mesh_is_the_same_whichever_version_is_applied() {
    let granted = RefCell::new(0);
    hold(&(any_objects(), any_versions()), |(objects, versions)| {
        let expected = lowered(&objects);
        *granted.borrow_mut() += expected.0.grants.values().map(|grants| grants.len()).sum::<usize>();
        for version in VERSIONS {
            let shown: Vec<Value> = objects.iter().map(|object| at(object, version)).collect();
            same(&lowered(&shown), &expected, &shown)?;
        }
        let each = objects.iter().zip(versions.iter().cycle());
        let shown: Vec<Value> = each.map(|(object, version)| at(object, version)).collect();
        same(&lowered(&shown), &expected, &shown)
    });
    println!("{} grants", granted.borrow());
    assert!(granted.into_inner() > 30, "scenarios in which nobody may do anything show nothing");
}

#[test]
fn the_mesh_is_the_same_from_manifests_written_for_old_versions() {
    let seen = RefCell::new(BTreeMap::<(String, &str), usize>::new());
    hold(&(any_objects(), any_versions()), |(objects, versions)| {
        let each = objects.iter().zip(versions.iter().cycle());
        let by_hand: Vec<Value> = each
            .map(|(object, version)| {
                let Some(by_hand) = written(object, version) else { return object.clone() };
                let kind = object["kind"].as_str().unwrap().to_owned();
                *seen.borrow_mut().entry((kind, version)).or_default() += 1;
                by_hand
            })
            .collect();
        same(&lowered(&by_hand), &lowered(&objects), &by_hand)
    });
    println!("{:#?}", seen.borrow());
    for kind in ["TrafficTarget", "HTTPRouteGroup", "TCPRoute", "TrafficSplit"] {
        for version in &VERSIONS[..3] {
            assert!(seen.borrow().contains_key(&(kind.to_owned(), version)), "no {kind} at {version}");
        }
    }
}

#[test]
fn a_tool_of_an_old_version_changes_what_it_means_to_and_nothing_else() {
    let done = RefCell::new(BTreeMap::<(Edit, &str), usize>::new());
    hold(&(any_objects(), prop::sample::select(&VERSIONS[..3]), any_edit()), |(objects, version, edit)| {
        let (mut touched, mut wanted) = (objects.clone(), objects);
        for (touched, wanted) in touched.iter_mut().zip(&mut wanted) {
            let mut shown = at(touched, version);
            let is_old = shown["apiVersion"] != wanted["apiVersion"];
            if !is_old || !edit.make(&mut shown, version) {
                continue;
            }
            *done.borrow_mut().entry((edit, version)).or_default() += 1;
            prop_assert!(edit.make(wanted, "v1alpha4"));
            let back = at(&shown, "v1alpha4");
            // The notation of the tool (`"90"` for 90) is recorded, and has no meaning.
            let mut stored = back.clone();
            stored["metadata"]["annotations"].as_object_mut().unwrap().remove(WRITTEN_AS);
            prop_assert_eq!(&stored, &*wanted, "written back was {}", shown);
            *touched = back;
        }
        same(&lowered(&touched), &lowered(&wanted), &touched)
    });
    println!("{:#?}", done.borrow());
    for edit in Edit::ALL {
        assert!(done.borrow().keys().any(|(made, _)| *made == edit), "{edit:?} was never made");
    }
}

/// Returns the object without the notes of conversion.
fn stripped(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.remove(NARROWED_BY);
        annotations.remove(WRITTEN_AS);
    }
    object
}

/// Returns the object with the notes of another one of its kind.
fn forged(object: &Value, donors: &[Value]) -> Value {
    let mut object = stripped(object);
    let donor = donors.iter().find(|donor| donor["kind"] == object["kind"]);
    let notes = donor.and_then(|donor| donor["metadata"]["annotations"].as_object());
    for (name, text) in notes.into_iter().flatten() {
        object["metadata"]["annotations"][name] = text.clone();
    }
    object
}

/// Tests what 004 claims about a user who removes the notes, or writes others: every grant is visible at every version,
/// and a note can only reduce it.
#[test]
fn notes_only_narrow_what_is_in_plain_sight() {
    let narrower = RefCell::new([0_usize; 2]);
    let values = (any_objects(), any_objects(), prop::sample::select(&VERSIONS[..3]));
    hold(&values, |(objects, donors, version)| {
        let shown: Vec<Value> = objects.iter().map(|object| at(object, version)).collect();
        let bare: Vec<Value> = shown.iter().map(stripped).collect();
        let donors: Vec<Value> = donors.iter().map(|object| at(object, version)).collect();
        let lies: Vec<Value> = shown.iter().map(|object| forged(object, &donors)).collect();
        let (honest, visible, lying) =
            (calls(&lowered(&objects).0), calls(&lowered(&bare).0), calls(&lowered(&lies).0));
        for (index, noted) in [&honest, &lying].into_iter().enumerate() {
            let more: Vec<&Call> = noted.difference(&visible).collect();
            prop_assert!(more.is_empty(), "the notes of {:#?} allow {:?}", lies, more);
            narrower.borrow_mut()[index] += usize::from(noted.len() < visible.len());
        }
        prop_assert!(pairs(&honest).is_subset(&pairs(&visible)));
        Ok(())
    });
    println!("narrower by their own notes, by forged ones: {:?}", narrower.borrow());
    assert!(narrower.into_inner().iter().all(|count| *count > 5), "notes that narrow nothing show nothing");
}
