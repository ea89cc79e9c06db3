//! How often properties are tried.

use std::env;

use proptest::test_runner::Config;

/// So many cases, or as many as `PROPTEST_CASES` asks for. A failure prints the smallest input; none is written to a file.
pub fn config(cases: u32) -> Config {
    let asked = env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    Config { cases: asked.unwrap_or(cases), failure_persistence: None, ..Config::default() }
}
