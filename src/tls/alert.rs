//! The alerts that are made by hand, in plain text. Source: RFC 8446 §6.

/// A record, or a message, where it must not be.
pub const UNEXPECTED_MESSAGE: u8 = 10;
/// A record that is longer than records are.
pub const RECORD_OVERFLOW: u8 = 22;
/// Nothing in common.
pub const HANDSHAKE_FAILURE: u8 = 40;
/// What can't be read.
pub const DECODE_ERROR: u8 = 50;
/// A version that is not spoken.
pub const PROTOCOL_VERSION: u8 = 70;
/// An extension that must be there is not.
pub const MISSING_EXTENSION: u8 = 109;

/// A fatal alert as a record.
pub const fn record(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}
