//! The proof that the product implements the rulings: generated objects, judged by a reference evaluator and by a real
//! Envoy with the configuration that the product makes of them.
//!
//! `SMIDGE_SEED` repeats a run, `SMIDGE_DECISIONS` makes a longer one, which all Envoy binaries at hand share
//! (`docs/design/006-proof.md`).

mod access;
mod app;
mod askers;
mod audit;
mod callers;
mod chance;
mod explained;
mod generated;
mod judge;
pub mod network;
mod path;
mod pattern;
mod random;
mod reference;
mod requests;
mod routes;
mod scenario;
mod servers;
mod settings;
mod shares;
mod shrink;
mod splits;
mod subjects;

use smidge_xds_testing::{binaries, caller, fixture, proxies};
use std::{env, path::PathBuf};

/// Seed of a run that sets none.
const SEED: u64 = 4;
/// Number of decisions of a run that sets none.
const DECISIONS: usize = 20_000;
/// Number of calls that are compared with the answers of `explain` in such a run; a longer run has one for every
/// `DECISIONS_PER_CALL`.
const CALLS: usize = 5_000;
const DECISIONS_PER_CALL: usize = 10;
/// Number of generated clusters of such a run; a longer run has one for every `DECISIONS_PER_SCENARIO`.
const SCENARIOS: usize = 12;
const DECISIONS_PER_SCENARIO: usize = 10_000;

fn number(variable: &str) -> Option<u64> {
    env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn seed() -> u64 {
    let seed = number("SMIDGE_SEED").unwrap_or(SEED);
    println!("SMIDGE_SEED={seed}");
    seed
}

/// Returns the newest Envoy, and the others, which take part in a longer run only.
fn envoys() -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut all = binaries::envoys();
    let newest = all.split_off(all.len().saturating_sub(1));
    let is_long = number("SMIDGE_DECISIONS").is_some();
    (newest, if is_long { all } else { Vec::new() })
}

/// Runs a proof to its end.
fn block_on(proof: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(proof);
}

/// Number of decisions for one Envoy of a run.
fn decisions() -> usize {
    let (newest, others) = envoys();
    let envoys = newest.len() + others.len();
    number("SMIDGE_DECISIONS").map_or(DECISIONS, |number| usize::try_from(number).unwrap().div_ceil(envoys))
}

fn prove_access(test: &str, envoys: &[PathBuf]) {
    network::isolated(test, || {
        for envoy in envoys {
            block_on(async {
                access::prove(envoy, seed(), decisions()).await;
            });
        }
    });
}

fn prove_splits(test: &str, envoys: &[PathBuf]) {
    network::isolated(test, || {
        let scenarios = (decisions() / DECISIONS_PER_SCENARIO).max(SCENARIOS);
        for envoy in envoys {
            block_on(async {
                splits::prove(envoy, seed(), scenarios as u64).await;
            });
        }
    });
}

#[test]
fn access() {
    prove_access("access", &envoys().0);
}

#[test]
fn access_of_older_proxies() {
    prove_access("access_of_older_proxies", &envoys().1);
}

#[test]
fn splits() {
    prove_splits("splits", &envoys().0);
}

#[test]
fn splits_of_older_proxies() {
    prove_splits("splits_of_older_proxies", &envoys().1);
}

fn prove_explained(test: &str, envoys: &[PathBuf]) {
    explained::pods::isolated(test, || {
        let calls = number("SMIDGE_DECISIONS").map_or(CALLS, |_| decisions() / DECISIONS_PER_CALL);
        for envoy in envoys {
            block_on(async {
                explained::prove(envoy, seed(), calls).await;
            });
        }
    });
}

#[test]
fn explained() {
    prove_explained("explained", &envoys().0);
}

#[test]
fn explained_by_older_proxies() {
    prove_explained("explained_by_older_proxies", &envoys().1);
}
