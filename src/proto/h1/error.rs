//! Why a head was refused.

use crate::base::reason::Reason;

/// Why a head was refused. The connection can't be used any further: where the message ends is
/// unknown or not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// Something other than one CRLF stands before the request line.
    LeadingLine,
    /// The method is not `[A-Z][A-Z0-9_-]*`, or too long.
    Method,
    /// The target is none of the four forms, or has bytes outside RFC 3986 that browsers encode.
    Target,
    /// The version is malformed, or 0.9.
    Version,
    /// The version is well-formed, but neither 1.0 nor 1.1.
    VersionUnsupported,
    /// The status line of a response is malformed.
    StatusLine,
    /// A line ends with LF alone.
    BareLf,
    /// CR without LF.
    BareCr,
    /// A line starts with a space or tab: a folded line, or one before the first field.
    ObsFold,
    /// A field name is empty or not a token, or the colon is missing.
    FieldName,
    /// A field name is written with `_` so that a CGI-like reader takes it for a framing field.
    FieldNameLookalike,
    /// A field value contains a control character.
    FieldValue,
    /// More bytes than allowed, before the request line ended.
    TargetTooLong,
    /// More bytes than allowed.
    HeadTooLarge,
    /// More fields than allowed.
    FieldsTooMany,
    /// Host is missing in an HTTP/1.1 request.
    HostMissing,
    /// More than one Host.
    HostRepeated,
    /// Host or the authority of the target is malformed or empty.
    HostInvalid,
    /// Host differs from the authority of the target.
    HostMismatch,
    /// Content-Length is not a number, or more than a signed 64 bit one holds.
    LengthInvalid,
    /// More than one Content-Length.
    LengthRepeated,
    /// Transfer-Encoding that can't be read without doubt.
    CodingInvalid,
    /// More than one Transfer-Encoding.
    CodingRepeated,
    /// Transfer-Encoding in an HTTP/1.0 message.
    CodingInHttp10,
    /// A transfer coding other than chunked.
    CodingUnsupported,
    /// Transfer-Encoding and Content-Length together.
    LengthAndCoding,
    /// Connection holds something that is not a token, or too many of them.
    Connection,
    /// Connection names a field that frames or routes the message.
    NominatedFraming,
    /// An expectation other than `100-continue`.
    Expectation,
    /// Max-Forwards of a TRACE or OPTIONS is not a number, or repeated.
    MaxForwards,
    /// A 101 that was not asked for.
    SwitchUnasked,
}

impl HeadError {
    /// What a client is told when its request head was refused.
    pub const fn reason(self) -> Reason {
        match self {
            Self::Target => Reason::BadTarget,
            Self::VersionUnsupported => Reason::VersionUnsupported,
            Self::TargetTooLong => Reason::TargetTooLong,
            Self::HeadTooLarge | Self::FieldsTooMany => Reason::HeaderTooLarge,
            Self::HostMissing | Self::HostRepeated | Self::HostInvalid | Self::HostMismatch => {
                Reason::BadHost
            }
            Self::LengthInvalid
            | Self::LengthRepeated
            | Self::CodingInvalid
            | Self::CodingRepeated
            | Self::CodingInHttp10
            | Self::LengthAndCoding
            | Self::NominatedFraming
            | Self::FieldNameLookalike => Reason::BadFraming,
            Self::CodingUnsupported => Reason::CodingUnsupported,
            Self::Expectation => Reason::ExpectationFailed,
            Self::LeadingLine
            | Self::Method
            | Self::Version
            | Self::StatusLine
            | Self::BareLf
            | Self::BareCr
            | Self::ObsFold
            | Self::FieldName
            | Self::FieldValue
            | Self::Connection
            | Self::MaxForwards
            | Self::SwitchUnasked => Reason::BadRequest,
        }
    }

    /// What a client is told when an endpoint's response head was refused.
    pub const fn upstream_reason(self) -> Reason {
        match self {
            Self::HeadTooLarge | Self::FieldsTooMany | Self::TargetTooLong => {
                Reason::UpstreamHeaderTooLarge
            }
            _ => Reason::UpstreamInvalid,
        }
    }
}
