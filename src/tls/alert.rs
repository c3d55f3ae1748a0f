//! The alerts that are not rustls' own. Source: RFC 8446 §6.

/// A record, or a message, where it must not be.
pub const UNEXPECTED_MESSAGE: u8 = 10;
/// A record that is longer than records are.
pub const RECORD_OVERFLOW: u8 = 22;
/// Nothing in common.
pub const HANDSHAKE_FAILURE: u8 = 40;
/// A field that contradicts another one, or an earlier message.
pub const ILLEGAL_PARAMETER: u8 = 47;
/// What can't be read.
pub const DECODE_ERROR: u8 = 50;
/// A version that is not spoken.
pub const PROTOCOL_VERSION: u8 = 70;
/// An extension that must be there is not.
pub const MISSING_EXTENSION: u8 = 109;
/// An extension that answers nothing.
pub const UNSUPPORTED_EXTENSION: u8 = 110;

/// A fatal alert as a record in plain text.
pub const fn record(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

/// Has a fatal alert at the end of what is to be sent say something else, if it is in plain text.
pub fn describe(records: &mut [u8], description: u8) {
    if let Some(last) = records.last_chunk_mut::<7>()
        && *last == record(last[6])
    {
        last[6] = description;
    }
}
