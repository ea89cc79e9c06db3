//! Input of a fuzz target → a panic, if it breaks what the target promises.
//!
//! libFuzzer makes inputs up in a workspace of its own (`fuzz/fuzz_targets`, `make fuzz`), which is built for coverage; the
//! tests of this crate replay the committed inputs (`fuzz/corpus`) in every test run. Makes no inputs up.

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

/// Tries one input.
pub type Run = fn(&[u8]);

/// Every target: the name of its program and of its folder in `fuzz/corpus`, and what it does with an input.
pub const TARGETS: &[(&str, Run)] = &[
    ("conversion", conversion::run),
    ("documents", documents::run),
    ("lowering", lowering::run),
    ("redirect", redirect::run),
    ("reviews", reviews::run),
    ("session", session::run),
    ("token", token::run),
];
