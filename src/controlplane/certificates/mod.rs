//! Certificates and keys: read, checked, and remembered as long as somebody uses them.
//!
//! Called while a configuration is read (`config::tls`), so that what is wrong with a certificate
//! is told like any other mistake. What did not change is the same object afterwards ([`kept`]):
//! tickets stay valid over reloads.

pub mod authorities;
pub mod files;
pub mod kept;
pub mod pair;

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A day, seconds.
pub const DAY: i64 = 86_400;
