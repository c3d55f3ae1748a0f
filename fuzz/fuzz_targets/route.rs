//! Routes: no pattern, target rule or path breaks the table; what it finds is what it explains.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::route::check(data));
