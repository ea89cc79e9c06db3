//! Bounds on what one tenant can make others compute, hold or send: the operator's memory, the bytes of other
//! namespaces' proxies, and the memory of their Envoys.
//!
//! A tenant has a namespace, with pods and whatever objects it likes; its victim is an account of another namespace
//! that it names as a source. Bounds are of bytes and of counts, so that a busy machine fails nothing. `PROPTEST_CASES`
//! sets the number of random tenants.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test ends where it goes wrong")]

mod envoy;
mod objects;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use objects::{Shape, Tenant, VICTIM};
use peak_alloc::PeakAlloc;
use proptest::{prelude::*, test_runner::TestRunner};
use smidge::{
    documents::{self, Source},
    finding::{Finding, Reason},
    lower::lower,
};
use smidge_xds::{
    mesh::id::{ClusterId, ProxyId},
    snapshot::Snapshot,
    view::View,
};
use smidge_xds_testing::properties;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Returns a lock, as a test that measures memory must run alone.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Results for a tenant's objects.
struct Outcome {
    /// Peak memory of the operator while it lowered them and made resources, beyond the objects themselves, in bytes.
    peak: usize,
    /// Size of all resources, in bytes.
    pool: usize,
    victim: Arc<View>,
    findings: Vec<Finding>,
}

impl Outcome {
    /// Number of bytes that the victim's proxy is sent.
    fn sent(&self) -> usize {
        self.victim.resources.values().map(|resource| resource.body.len()).sum()
    }

    fn over_budget(&self) -> usize {
        self.findings.iter().filter(|finding| finding.reason == Reason::BudgetExceeded).count()
    }
}

fn outcome(text: String) -> Outcome {
    let inputs = documents::assemble(&[Source { name: "in.yaml".to_owned(), text }]).inputs;
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let (mesh, findings) = lower(&BTreeMap::from([(ClusterId::default(), inputs)]));
    let of_victim = |proxy: &&ProxyId| proxy.namespace == VICTIM;
    let victim = mesh.workloads.keys().find(of_victim).expect("the victim is in the mesh").clone();
    let snapshot = Snapshot::next(Arc::new(mesh), None);
    let victim = snapshot.view(&victim).unwrap();
    let peak = MEMORY.peak_usage().saturating_sub(before);
    let pool = snapshot.resources().iter().map(|(_, resource)| resource.body.len()).sum();
    Outcome { peak, pool, victim, findings }
}

/// Number of bytes that the victim is sent because of the tenant.
fn foreign(outcome: &Outcome) -> usize {
    outcome.sent().saturating_sub(self::outcome(Tenant::default().text()).sent())
}

const MEGABYTE: usize = 1 << 20;

#[test]
fn targets_that_share_a_group_cost_targets_and_matches() {
    let _alone = alone();
    // Six hundred TrafficTargets of one group with two thousand matches, 300 KB in all.
    let tenant = Tenant { matches: 2000, shape: Shape::Path, targets: 600, ..Tenant::default() };
    let outcome = outcome(tenant.text());
    assert_eq!(outcome.over_budget(), 0, "{:#?}", outcome.findings);
    println!("peak {} KiB, resources {} KiB", outcome.peak >> 10, outcome.pool >> 10);
    assert!(outcome.pool < 3 * MEGABYTE, "{} bytes of resources", outcome.pool);
    assert!(outcome.peak < 100 * MEGABYTE, "{} bytes at the peak", outcome.peak);
}

#[test]
fn a_target_for_each_match_of_a_group_costs_no_product() {
    let _alone = alone();
    let tenant =
        Tenant { matches: 1500, shape: Shape::Path, targets: 600, by_name: true, ..Tenant::default() };
    let outcome = outcome(tenant.text());
    println!("peak {} KiB, resources {} KiB", outcome.peak >> 10, outcome.pool >> 10);
    assert!(outcome.peak < 100 * MEGABYTE, "{} bytes at the peak", outcome.peak);
}

#[test]
fn many_services_reach_another_namespace_within_a_budget() {
    let _alone = alone();
    let tenant = Tenant { services: 3000, targets: 1, foreign: true, ..Tenant::default() };
    let outcome = outcome(tenant.text());
    assert_eq!(outcome.over_budget(), 1, "{:#?}", outcome.findings);
    // No cluster of a target that exceeds the budget; the shared listener still has every Service's address.
    let clusters = outcome.victim.resources.keys().filter(|(_, name)| name.contains("evil")).count();
    assert_eq!(clusters, 0, "{:#?}", outcome.victim.resources.keys().take(20).collect::<Vec<_>>());
}

/// Each class of an account has a copy of its rules for each port, whether a Service sends there or not.
#[test]
fn many_ports_and_classes_of_an_account_share_its_budget() {
    let _alone = alone();
    let tenant = Tenant { matches: 2000, shape: Shape::Path, targets: 1, shapes: 20, ..Tenant::default() };
    let outcome = outcome(tenant.text());
    println!("peak {} KiB, resources {} KiB", outcome.peak >> 10, outcome.pool >> 10);
    assert!(outcome.over_budget() >= 1, "{:#?}", outcome.findings);
    assert!(outcome.pool < 8 * MEGABYTE, "{} bytes of resources", outcome.pool);
}

/// A binding of many accounts as the destination of many targets is a product that must not be computed.
#[test]
fn many_targets_of_many_destinations_cost_no_product() {
    let _alone = alone();
    let tenant = Tenant { targets: 1500, bound: 1900, opens_bound: true, ..Tenant::default() };
    let outcome = outcome(tenant.text());
    println!("peak {} KiB, resources {} KiB", outcome.peak >> 10, outcome.pool >> 10);
    assert!(outcome.over_budget() >= 1500, "{}", outcome.over_budget());
    assert!(outcome.peak < 100 * MEGABYTE, "{} bytes at the peak", outcome.peak);
}

/// Each backend is a cluster for every proxy that may call the root, with pods or without.
#[test]
fn many_backends_reach_another_namespace_within_a_budget() {
    let _alone = alone();
    let tenant = Tenant { backends: 2000, targets: 1, foreign: true, ..Tenant::default() };
    let outcome = outcome(tenant.text());
    assert_eq!(outcome.over_budget(), 1, "{:#?}", outcome.findings);
    let clusters = outcome.victim.resources.keys().filter(|(_, name)| name.contains("back")).count();
    assert_eq!(clusters, 0, "{:#?}", outcome.victim.resources.keys().take(20).collect::<Vec<_>>());
}

#[test]
fn random_tenants_stay_within_bounds() {
    let _alone = alone();
    let mut runner = TestRunner::new(properties::config(12));
    let most = Mutex::new((0, 0, 0));
    let hold = |tenant: Tenant| {
        let text = tenant.text();
        if text.len() > MEGABYTE {
            return Err(TestCaseError::reject("more than a megabyte"));
        }
        let outcome = outcome(text);
        let foreign = foreign(&outcome);
        let mut most = most.lock().unwrap();
        *most = (most.0.max(outcome.peak), most.1.max(outcome.pool), most.2.max(foreign));
        prop_assert!(outcome.peak < 200 * MEGABYTE, "{} bytes at the peak", outcome.peak);
        prop_assert!(outcome.pool < 60 * MEGABYTE, "{} bytes of resources", outcome.pool);
        prop_assert!(foreign < 4 * MEGABYTE, "{foreign} bytes to the victim");
        Ok(())
    };
    runner.run(&objects::tenant(), hold).unwrap_or_else(|error| panic!("{error}"));
    let (peak, pool, sent) = most.into_inner().unwrap();
    println!("at most: peak {} KiB, resources {} KiB, sent {} KiB", peak >> 10, pool >> 10, sent >> 10);
}
