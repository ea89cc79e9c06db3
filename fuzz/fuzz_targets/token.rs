//! Runs libFuzzer on `smidge_fuzz_targets::token`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| smidge_fuzz_targets::token::run(input));
