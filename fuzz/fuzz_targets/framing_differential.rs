//! Requests that ringway accepts are framed alike by httparse and monoio-http.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::framing_differential::check(data));
