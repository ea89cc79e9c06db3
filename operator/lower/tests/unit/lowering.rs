//! Incremental lowering yields the same as lowering everything: the same mesh, the same findings, at the cost of what
//! has changed.
//!
//! The objects are those of all golden cases, which share names and namespaces: added, replaced, changed and removed in
//! any order, they form clusters that no user would write. `PROPTEST_CASES` sets the number of cases.

mod cost;
mod ending;
mod machines;
mod rollout;
mod steps;
mod unready;

use std::{fs, path::Path};

use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use smidge_lower::{
    Lowered, Lowering,
    documents::{self, Source},
    inputs::{Clusters, Inputs},
    lower,
};
use smidge_mesh::{
    id::{ClusterId, TrustDomain},
    settings::AccessLogs,
};
use smidge_xds_testing::properties;
use steps::{Pool, Step, step};

/// Returns the objects of some text.
fn inputs(text: &str) -> Inputs {
    documents::assemble(&[Source { name: "in.yaml".to_owned(), text: text.to_owned() }]).inputs
}

/// Returns the objects of every golden case.
fn golden() -> Vec<Inputs> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let mut cases: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    assert!(cases.len() > 50, "the golden cases were not found");
    cases.iter().map(|case| inputs(&fs::read_to_string(case.join("in.yaml")).unwrap())).collect()
}

/// Takes every step in one lowering and compares with a new one. The second cluster is added and removed.
fn hold(pool: &Pool, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut clusters = Clusters::from([(ClusterId::default(), Inputs::default())]);
    let mut lowering = Lowering::default();
    let (mut taken, mut before) = (Vec::new(), Lowered::default());
    for step in steps {
        taken.push(pool.take(step, &mut clusters));
        compare(&mut lowering, &clusters, &taken)?;
        let now = lowering.lowered();
        prop_assert!(now.nodes >= before.nodes && now.services >= before.services, "it counts down");
        before = now;
    }
    Ok(())
}

/// Updates the lowering to `clusters`, which must yield the same as a new one.
fn compare(lowering: &mut Lowering, clusters: &Clusters, taken: &[String]) -> Result<(), TestCaseError> {
    let (mesh, findings) = lowering.next(clusters);
    let (anew, all) = lower(clusters);
    prop_assert_eq!(&mesh, &anew, "the meshes differ after {:#?}", taken);
    prop_assert_eq!(&*findings, &all, "the findings differ after {:#?}", taken);
    Ok(())
}

/// Tests every case under another value of every setting of the mesh that lowering reads, there and back. Found by the
/// steps below: with IdentityBindings, findings of the other trust domain stayed.
#[test]
fn a_setting_that_changes_is_read_again() {
    type Change = fn(&mut Inputs);
    let settings: [(&str, Change); 4] = [
        ("the trust domain", |inputs| inputs.trust_domain = TrustDomain("example.org".to_owned())),
        ("the cluster's domain", |inputs| inputs.cluster_domain = "example.org".to_owned()),
        ("the system namespace", |inputs| inputs.system_namespace = "shop".to_owned()),
        ("access logs", |inputs| inputs.access_logs = AccessLogs::Errors),
    ];
    for (number, case) in golden().into_iter().enumerate() {
        for (setting, change) in settings {
            let mut other = case.clone();
            change(&mut other);
            let mut lowering = Lowering::default();
            for (step, inputs) in [("with", &other), ("without", &case), ("again with", &other)] {
                let taken = format!("case {number}, {step} another value of {setting}");
                let clusters = Clusters::from([(ClusterId::default(), inputs.clone())]);
                compare(&mut lowering, &clusters, &[taken]).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
}

#[test]
fn step_by_step_comes_to_the_same_as_at_once() {
    let pool = Pool::new(golden());
    let mut runner = TestRunner::new(properties::config(48));
    runner.run(&vec(step(), 1..60), |steps| hold(&pool, &steps)).unwrap_or_else(|error| panic!("{error}"));
}

/// The same objects in two clusters, which are at fault in the same way.
#[test]
fn findings_of_two_clusters_stay_apart() {
    let text = "apiVersion: split.smi-spec.io/v1alpha4\nkind: TrafficSplit\nmetadata: {name: s, namespace: shop}\n\
                spec: {service: web, backends: []}\n";
    let [own, other] = ["own", "other"].map(|name| ClusterId(name.to_owned()));
    let mut clusters = Clusters::from([(own.clone(), inputs(text)), (other.clone(), inputs(text))]);
    clusters.get_mut(&other).unwrap().trust_domain = TrustDomain("other.example".to_owned());
    let mut lowering = Lowering::new(own.clone());
    let (mesh, findings) = lowering.next(&clusters);
    let objects: Vec<String> = findings.iter().map(|finding| finding.object.to_string()).collect();
    assert_eq!(objects, ["TrafficSplit shop/s", "TrafficSplit shop/s in cluster other"]);
    assert_eq!(
        mesh.trust.domain,
        TrustDomain::default(),
        "the mesh's domain is that of the control plane's cluster"
    );
    clusters.remove(&other);
    assert_eq!(lowering.next(&clusters).1.len(), 1, "the other cluster has gone");
    clusters.remove(&own);
    assert!(lowering.next(&clusters).1.is_empty());
}

#[test]
fn what_is_taken_away_leaves_nothing() {
    let pool = Pool::new(golden());
    let mut lowering = Lowering::default();
    for case in pool.cases() {
        lowering.next(&Clusters::from([(ClusterId::default(), case.clone())]));
    }
    let empty = Clusters::from([(ClusterId::default(), Inputs::default())]);
    let (mesh, findings) = lowering.next(&empty);
    assert_eq!((mesh, findings.to_vec()), lower(&empty));
    // The settings of the mesh as a whole were read, and are kept for the next reader.
    assert!(lowering.lowered().kept <= 1, "{:?}", lowering.lowered());
}
