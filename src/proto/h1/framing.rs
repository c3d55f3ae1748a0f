//! Where a body ends: decided once, from the version and the two framing fields.

use super::{Framing, HeadError, Version};
use crate::{
    base::limits::BODY_LENGTH_MAX,
    proto::bytes::{is_token, list, parse_u64},
};

/// What a Transfer-Encoding field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// `chunked` alone.
    Chunked,
    /// Codings that can be told apart, but that ringway does not speak.
    Unsupported,
    /// Anything else.
    Invalid,
}

/// Codings of the IANA registry, and one that older RFCs had.
const KNOWN: [&[u8]; 6] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"identity"];

impl Coding {
    /// Reads the value of one Transfer-Encoding field.
    fn of(value: &[u8]) -> Self {
        if value.eq_ignore_ascii_case(b"chunked") {
            return Self::Chunked;
        }
        let mut count = 0;
        let mut known = false;
        let mut chunked = false;
        for coding in list(value) {
            if chunked || !is_token(coding) {
                return Self::Invalid; // chunked is not last, or there are parameters or junk
            }
            count += 1;
            chunked = coding.eq_ignore_ascii_case(b"chunked");
            known = KNOWN.iter().any(|name| coding.eq_ignore_ascii_case(name));
        }
        if chunked || (known && count == 1) { Self::Unsupported } else { Self::Invalid }
    }
}

/// The two framing fields of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FramingFields {
    pub(super) length: Option<u64>,
    coding: Option<Coding>,
}

impl FramingFields {
    /// Takes in a Content-Length field.
    //= https://www.rfc-editor.org/rfc/rfc9112#section-6.3
    //# If a message is received without Transfer-Encoding and with an invalid
    //# Content-Length header field, then the message framing is invalid and
    //# the recipient MUST treat it as an unrecoverable error,
    // The RFC lets repeated identical values pass; we do not: not everyone behind us does.
    pub(super) fn add_length(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.length.is_some() {
            return Err(HeadError::LengthRepeated);
        }
        let length = parse_u64(value).filter(|&length| length <= BODY_LENGTH_MAX);
        self.length = Some(length.ok_or(HeadError::LengthInvalid)?);
        Ok(())
    }

    /// Takes in a Transfer-Encoding field.
    pub(super) fn add_coding(&mut self, value: &[u8]) -> Result<(), HeadError> {
        if self.coding.is_some() {
            return Err(HeadError::CodingRepeated);
        }
        self.coding = Some(Coding::of(value));
        Ok(())
    }

    pub(super) fn has_coding(&self) -> bool {
        self.coding.is_some()
    }

    /// How the body of a request ends. Source: RFC 9112 §6.1, §6.3.
    ///
    /// # Errors
    /// Each one is a smuggling risk: answer, close, forward nothing.
    pub(super) fn of_request(&self, version: Version) -> Result<Framing, HeadError> {
        Ok(self.decide(version)?.unwrap_or(Framing::Empty))
    }

    /// How the body of a response ends whose status and request allow one. Source: RFC 9112 §6.3.
    pub(super) fn of_response(&self, version: Version) -> Result<Framing, HeadError> {
        //= https://www.rfc-editor.org/rfc/rfc9112#section-6.3
        //# Otherwise, this is a response message without a declared message body
        //# length, so the message body length is determined by the number of
        //# octets received prior to the server closing the connection.
        Ok(self.decide(version)?.unwrap_or(Framing::UntilClose))
    }

    fn decide(&self, version: Version) -> Result<Option<Framing>, HeadError> {
        match (self.coding, self.length) {
            //= https://www.rfc-editor.org/rfc/rfc9112#section-6.3
            //# Such a message might indicate an attempt to perform request smuggling
            //# (Section 11.2) or response splitting (Section 11.1) and ought to be
            //# handled as an error.
            (Some(_), Some(_)) => Err(HeadError::LengthAndCoding),
            //= https://www.rfc-editor.org/rfc/rfc9112#section-6.1
            //# A server or client that receives an HTTP/1.0 message containing a
            //# Transfer-Encoding header field MUST treat the message as if the
            //# framing is faulty, even if a Content-Length is present, and close the
            //# connection after processing the message.
            (Some(_), None) if version == Version::Http10 => Err(HeadError::CodingInHttp10),
            (Some(Coding::Chunked), None) => Ok(Some(Framing::Chunked)),
            //= https://www.rfc-editor.org/rfc/rfc9112#section-6.1
            //# A server that receives a request message with a transfer coding it
            //# does not understand SHOULD respond with 501 (Not Implemented).
            (Some(Coding::Unsupported), None) => Err(HeadError::CodingUnsupported),
            (Some(Coding::Invalid), None) => Err(HeadError::CodingInvalid),
            (None, Some(length)) => Ok(Some(Framing::Length(length))),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codings() {
        for (value, coding) in [
            ("chunked", Coding::Chunked),
            ("CHUNKED", Coding::Chunked),
            ("gzip", Coding::Unsupported),
            ("identity", Coding::Unsupported),
            ("gzip, chunked", Coding::Unsupported),
            ("gzip , Chunked", Coding::Unsupported),
            ("foo, chunked", Coding::Unsupported),
            ("", Coding::Invalid),
            (",", Coding::Invalid),
            ("chunked,", Coding::Invalid),
            (",chunked", Coding::Invalid),
            ("chunked, chunked", Coding::Invalid),
            ("chunked, gzip", Coding::Invalid),
            ("chunked, identity", Coding::Invalid),
            ("gzip, deflate", Coding::Invalid),
            ("xchunked", Coding::Invalid),
            ("chunkedx", Coding::Invalid),
            ("x chunked", Coding::Invalid),
            ("chunked;q=1", Coding::Invalid),
            ("gzip;q=1, chunked", Coding::Invalid),
            ("\"chunked\"", Coding::Invalid),
            ("'chunked'", Coding::Invalid),
            ("chu\u{212a}ed", Coding::Invalid), // KELVIN SIGN is no k
            ("cow", Coding::Invalid),
        ] {
            assert_eq!(Coding::of(value.as_bytes()), coding, "{value}");
        }
    }

    #[test]
    fn decisions() {
        let fields = |length, coding| FramingFields { length, coding };
        let chunked = fields(None, Some(Coding::Chunked));
        assert_eq!(chunked.of_request(Version::Http11), Ok(Framing::Chunked));
        assert_eq!(chunked.of_request(Version::Http10), Err(HeadError::CodingInHttp10));
        assert_eq!(fields(None, None).of_request(Version::Http10), Ok(Framing::Empty));
        assert_eq!(fields(None, None).of_response(Version::Http11), Ok(Framing::UntilClose));
        assert_eq!(fields(Some(0), None).of_request(Version::Http11), Ok(Framing::Length(0)));
        for coding in [Coding::Chunked, Coding::Unsupported, Coding::Invalid] {
            let both = fields(Some(0), Some(coding));
            assert_eq!(both.of_request(Version::Http11), Err(HeadError::LengthAndCoding));
            assert_eq!(both.of_response(Version::Http11), Err(HeadError::LengthAndCoding));
        }
    }
}
