//! Chunked bodies: any cut gives the same payload, trailers and end.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::chunked::check(data));
