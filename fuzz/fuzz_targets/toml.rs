//! Configurations: any text is a configuration or a list of mistakes that have a place.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringway_fuzz::toml::check(data));
