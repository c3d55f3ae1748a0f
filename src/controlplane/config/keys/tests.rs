//! Tests of the declarations.

use super::*;
use crate::controlplane::config::units::{parse_duration, parse_size};

#[test]
fn every_default_is_a_value_of_its_key() {
    for key in SECTIONS.iter().flat_map(|section| section.keys) {
        let default = key.default;
        if default.is_empty() {
            continue;
        }
        let fits = match key.kind {
            Kind::Duration(min, max, unlimited) => {
                unlimited && default == "unlimited"
                    || parse_duration(default).is_ok_and(|d| (min..=max).contains(&d))
            }
            Kind::Size(min, max, unlimited) => {
                unlimited && default == "unlimited"
                    || parse_size(default).is_ok_and(|size| (min..=max).contains(&size))
            }
            Kind::Integer(min, max) => {
                default.parse().is_ok_and(|number: i64| (min..=max).contains(&number))
            }
            Kind::Boolean => default.parse::<bool>().is_ok(),
            Kind::Choice(choices) | Kind::Choices(choices) => choices.contains(&default),
            _ => true,
        };
        assert!(fits, "{}: {default}", key.name);
    }
}

#[test]
fn defaults_are_those_of_the_bounds() {
    let default = |name| LIMITS.key(name).unwrap().default;
    assert_eq!(
        parse_size(default("header_bytes_max")),
        Ok(limits::HEADER_BYTES_MAX_DEFAULT as u64)
    );
    assert_eq!(default("header_count_max"), limits::HEADER_COUNT_MAX_DEFAULT.to_string());
    let pipes = RUNTIME.key("pipes_max").unwrap().default;
    assert_eq!(pipes, limits::PIPES_MAX_PER_CORE.to_string());
}

#[test]
fn names_are_unique_and_documented() {
    for section in SECTIONS {
        for (at, key) in section.keys.iter().enumerate() {
            assert!(section.keys[..at].iter().all(|other| other.name != key.name));
            assert!(matches!(key.kind, Kind::Later(_)) || !key.doc.is_empty(), "{}", key.name);
        }
    }
}
