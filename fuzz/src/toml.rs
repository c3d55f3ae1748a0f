//! Configurations: any text is a configuration or a list of mistakes that have a place.

use ringway::controlplane::{
    compile::{Resolve, compile},
    config::load_str,
};

/// Panics if a mistake lies outside the text or lacks a remedy, or if what was accepted does not
/// compile.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains("${") {
        return; // files and variables of this machine are not for a fuzzer
    }
    match load_str("fuzz.toml", text) {
        Ok(loaded) => {
            assert!(compile(loaded.config, 1, Resolve::No).is_ok());
        }
        Err(errors) => {
            let lines = text.split('\n').count();
            let listed = errors.to_string();
            assert!(!listed.is_empty());
            for line in listed.lines() {
                let place = line.strip_prefix("fuzz.toml:");
                let number = place.and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
                assert!(number.is_some_and(|n| (1..=lines).contains(&n)), "{line}");
            }
        }
    }
}
