#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| symbiont_guest::fuzzing::hears(input));
