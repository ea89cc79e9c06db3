//! The proof that the product means what the rulings say: generated worlds, put before a reference evaluator and
//! before a real Envoy with the configuration that the product makes of them.
//!
//! `SMIDGE_SEED` repeats a run, `SMIDGE_DECISIONS` makes a longer one, which the Envoys that there are share
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

/// The seed of every run that names none.
const SEED: u64 = 4;
/// Decisions of a run that names no number.
const DECISIONS: usize = 20_000;
/// Towns of such a run; a longer one has one for so many decisions.
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

/// The newest Envoy, and the others, which have their turn in a longer run.
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

/// The share of one of the Envoys in a run.
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
