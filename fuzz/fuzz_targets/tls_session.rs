//! TLS sessions: whatever is cut, reordered or changed on the way, no panic, and no byte of plaintext
//! that the client did not send.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::tls_session::check(data));
