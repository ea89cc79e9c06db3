//! Runs libFuzzer on `smidge_fuzz_targets::redirect`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| smidge_fuzz_targets::redirect::run(input));
