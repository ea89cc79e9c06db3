//! Configuration of property tests.

use std::env;

use proptest::test_runner::Config;

/// Returns a configuration with `cases` cases, or with the number in `PROPTEST_CASES`. A failure prints the smallest
/// input; no input is written to a file.
pub fn config(cases: u32) -> Config {
    let asked = env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    Config { cases: asked.unwrap_or(cases), failure_persistence: None, ..Config::default() }
}
