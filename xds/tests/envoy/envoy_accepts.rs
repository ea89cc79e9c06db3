//! Every Envoy binary at hand validates every golden configuration: Envoy decides what Envoy accepts.

use smidge_xds::mesh::proxy::TrafficStats;
use smidge_xds_testing::binaries;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

#[test]
fn envoy_accepts_every_golden_configuration() {
    let files = configurations();
    assert!(files.len() > 20, "the golden configurations are not where they were");
    let refusals: Vec<String> = binaries::envoys()
        .iter()
        .flat_map(|envoy| {
            let written_for = files.iter().filter(|file| is_for(envoy, file));
            written_for.filter_map(|file| refusal(envoy, file)).collect::<Vec<_>>()
        })
        .collect();
    assert!(refusals.is_empty(), "{}", refusals.join("\n\n"));
}

/// Returns true if a configuration is one for this version: those with statistics of traffic are not for all.
fn is_for(envoy: &Path, file: &Path) -> bool {
    let has = binaries::traffic(envoy);
    let file = file.to_string_lossy();
    let is_bounded = ["/stats-bounded/", "/stats-routes/"].iter().any(|case| file.contains(case));
    (has == TrafficStats::Bounded || !is_bounded)
        && (has == TrafficStats::Unbounded || !file.contains("/stats-unbounded/"))
}

/// Returns the error with which Envoy refuses a file.
fn refusal(envoy: &Path, file: &Path) -> Option<String> {
    let output = Command::new(envoy)
        .args(["--mode", "validate", "--concurrency", "1", "--log-level", "warning", "-c"])
        .arg(file)
        // Injection sets it; without it, the tracer warns.
        .env("OTEL_RESOURCE_ATTRIBUTES", "service.name=test")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // A warning counts as a refusal: it names a field that the next Envoy will refuse. Matchers of RBAC are the
    // exception: 1.36 has them in their later form already, 1.37 declared them stable.
    let is_young = |line: &str| {
        let matchers = ["network.rbac.v3.RBAC.matcher'", "rbac.v3.RBAC.shadow_matcher'"];
        line.contains("is marked as work-in-progress") && matchers.iter().any(|field| line.contains(field))
    };
    let warned = said.lines().any(|line| line.contains("[warning]") && !is_young(line));
    (warned || !output.status.success())
        .then(|| format!("{} and {}:\n{said}", envoy.display(), file.display()))
}

fn configurations() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let cases = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = cases
        .filter(|case| case.is_dir())
        .flat_map(|case| fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>())
        .filter(|file| file.to_string_lossy().ends_with(".envoy.yaml"))
        .collect();
    files.sort();
    files
}
