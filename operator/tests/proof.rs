//! The proof that the product implements the rulings: generated objects, judged by a reference evaluator and by a real
//! Envoy with the configuration that the product makes of them.
//!
//! `SMIDGE_SEED` repeats a run, `SMIDGE_DECISIONS` makes a longer one, which all Envoy binaries at hand share
//! (`docs/design/006-proof.md`).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test ends where it goes wrong"
)]

#[path = "proof/access.rs"]
mod access;
#[path = "proof/app.rs"]
mod app;
#[path = "proof/askers.rs"]
mod askers;
#[path = "proof/audit.rs"]
mod audit;
#[path = "proof/callers.rs"]
mod callers;
#[path = "proof/chance.rs"]
mod chance;
#[path = "proof/judge.rs"]
mod judge;
#[path = "proof/network.rs"]
mod network;
#[path = "proof/path.rs"]
mod path;
#[path = "proof/pattern.rs"]
mod pattern;
#[path = "proof/random.rs"]
mod random;
#[path = "proof/reference.rs"]
mod reference;
#[path = "proof/requests.rs"]
mod requests;
#[path = "proof/routes.rs"]
mod routes;
#[path = "proof/servers.rs"]
mod servers;
#[path = "proof/settings.rs"]
mod settings;
#[path = "proof/shares.rs"]
mod shares;
#[path = "proof/shrink.rs"]
mod shrink;
#[path = "proof/splits.rs"]
mod splits;
#[path = "proof/subjects.rs"]
mod subjects;
#[path = "proof/town.rs"]
mod town;
#[path = "proof/world.rs"]
mod world;

use smidge_xds_testing::{binaries, caller, fixture, proxies};
use std::{env, path::PathBuf};

/// Seed of a run that sets none.
const SEED: u64 = 4;
/// Number of decisions of a run that sets none.
const DECISIONS: usize = 20_000;
/// Number of generated clusters of such a run; a longer run has one for every `DECISIONS_A_TOWN`.
const TOWNS: usize = 12;
const DECISIONS_A_TOWN: usize = 10_000;

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
        let towns = (decisions() / DECISIONS_A_TOWN).max(TOWNS);
        for envoy in envoys {
            block_on(async {
                splits::prove(envoy, seed(), towns as u64).await;
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
