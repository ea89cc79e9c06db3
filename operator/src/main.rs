//! The `smidge` binary.
fn main() {}
