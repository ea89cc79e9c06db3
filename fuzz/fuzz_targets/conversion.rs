//! Runs libFuzzer on `smidge_fuzz_targets::conversion`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| smidge_fuzz_targets::conversion::run(input));
