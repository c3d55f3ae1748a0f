//! Paths: the normal form is one, and holds nothing that climbs.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::path::check(data));
