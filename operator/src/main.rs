//! The `smidge` binary.

use std::process::ExitCode;

/// A thousand streams on a few threads free memory that other threads allocated; this allocator keeps that cheap and in
/// place.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if smidge::cli::cni::is_plugin() {
        return smidge::cli::cni::run_plugin();
    }
    smidge::cli::run(smidge::cli::parse())
}
