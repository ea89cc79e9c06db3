//! Runs libFuzzer on `smidge_fuzz_targets::lowering`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| smidge_fuzz_targets::lowering::run(input));
