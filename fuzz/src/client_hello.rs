//! The name in a ClientHello: what the first bytes of a connection are depends on nothing that comes
//! later, however they are cut, nor on how often they were looked at before.

use ringway::tls::{
    alert,
    hello::{Hello, Look},
};

/// Looks at every beginning, anew and again.
pub fn check(data: &[u8]) {
    let mut decided: Option<Hello> = None;
    let mut again = Look::default();
    for end in 0..=data.len() {
        let seen = match Look::default().look(&data[..end]) {
            Hello::Http => Hello::Other(alert::UNEXPECTED_MESSAGE), // a method may come letter by letter
            seen => seen,
        };
        if let Hello::Whole(asked) = &seen
            && let Some(name) = &asked.name
        {
            assert!(name.is_ascii() && name.split('.').all(|label| !label.is_empty()));
        }
        if let Some(before) = &decided {
            assert_eq!(*before, seen, "at {end}");
            continue;
        }
        let seen_again = match again.look(&data[..end]) {
            Hello::Http => Hello::Other(alert::UNEXPECTED_MESSAGE),
            seen => seen,
        };
        assert_eq!(seen_again, seen, "at {end}");
        if seen != Hello::Partial {
            decided = Some(seen);
        }
    }
}
