//! Header blocks of endpoints: what no response has is replaced, and nothing else.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::h2_mend::check(data));
