//! Response heads: any cut gives the same, and what is rewritten reads the same.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::response_head::check(data));
