//! Finds the Envoy binaries of this machine, for tests that use a real one.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use smidge_xds::mesh::proxy::TrafficStats;

/// Returns every Envoy binary that is found, the oldest version first. Finding none is a failure under `CI=true`, and elsewhere a skip that is
/// printed.
pub fn envoys() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = match env::var("SMIDGE_ENVOYS") {
        Ok(list) => list.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect(),
        Err(_) => cached(),
    };
    if found.is_empty() {
        assert!(
            env::var("CI").as_deref() != Ok("true"),
            "no Envoy: set SMIDGE_ENVOYS, or let `make` fetch some"
        );
        println!("skipped: no Envoy in SMIDGE_ENVOYS or ~/.cache/smidge/bin/envoy-*/envoy");
    }
    found.sort_by_key(|envoy| numbers(envoy));
    found
}

/// Returns the numbers of a binary's version, by which versions are ordered.
fn numbers(envoy: &Path) -> Vec<u32> {
    version(envoy).split('.').map(|number| number.parse().unwrap_or_default()).collect()
}

fn cached() -> Vec<PathBuf> {
    let home = env::var("HOME").unwrap_or_default();
    let folders = fs::read_dir(PathBuf::from(home).join(".cache/smidge/bin"));
    folders
        .into_iter()
        .flatten()
        .flatten()
        .filter(|folder| folder.file_name().to_string_lossy().starts_with("envoy-"))
        .map(|folder| folder.path().join("envoy"))
        .filter(|path| path.is_file())
        .collect()
}

/// Returns the version of a binary, by the name of its folder.
pub fn version(envoy: &Path) -> String {
    let folder = envoy.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    folder.strip_prefix("envoy-").unwrap_or_default().to_owned()
}

/// Returns the statistics of traffic that a binary can count.
pub fn traffic(envoy: &Path) -> TrafficStats {
    TrafficStats::of_version(&version(envoy))
}
