//! Runs inputs of fuzz targets, and panics if one violates a property of its target.
//!
//! libFuzzer generates inputs in a workspace of its own (`fuzz/fuzz_targets`, `make fuzz`), which is built for
//! coverage; the tests of this crate replay the committed inputs (`fuzz/corpus`) in every test run. Generates no
//! inputs.

#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a panic is what reports a broken promise"
)]

pub mod conversion;
pub mod documents;
pub mod lowering;
pub mod redirect;
pub mod reviews;
pub mod session;
pub mod token;

/// Function that runs one input.
pub type Run = fn(&[u8]);

/// Every target: the name of its program and of its folder in `fuzz/corpus`, and the function that runs an input.
pub const TARGETS: &[(&str, Run)] = &[
    ("conversion", conversion::run),
    ("documents", documents::run),
    ("lowering", lowering::run),
    ("redirect", redirect::run),
    ("reviews", reviews::run),
    ("session", session::run),
    ("token", token::run),
];
