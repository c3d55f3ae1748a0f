//! Requests of HTTP/2: refused, or read by the strict parser as what they were.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::h2_request::check(data));
