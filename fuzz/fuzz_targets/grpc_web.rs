//! See `ringway_fuzz::grpc_web`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::grpc_web::check(data));
