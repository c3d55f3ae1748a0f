//! The name in a ClientHello: what the first bytes of a connection are depends on nothing that comes
//! later, however they are cut.

use ringway::tls::hello::{Hello, look};

/// Looks at every beginning.
pub fn check(data: &[u8]) {
    let mut decided: Option<Hello> = None;
    for end in 0..=data.len() {
        let seen = match look(&data[..end]) {
            Hello::Http => Hello::Other, // a method may come letter by letter
            seen => seen,
        };
        if let Hello::Whole(asked) = &seen
            && let Some(name) = &asked.name
        {
            assert!(name.is_ascii() && name.split('.').all(|label| !label.is_empty()));
        }
        match &decided {
            Some(before) => assert_eq!(*before, seen, "at {end}"),
            None if seen == Hello::Partial => {}
            None => decided = Some(seen),
        }
    }
}
