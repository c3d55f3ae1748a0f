//! Field names that ringway knows, and what it does with each.

use crate::proto::bytes::{find_byte, is_name};

/// What is said of the client by X-Forwarded fields: all names that start so.
const X_FORWARDED: &[u8] = b"x-forwarded-";

/// Bytes of the longest known name, with room to spare.
const KNOWN_BYTES_MAX: usize = 32;

/// A field name ringway acts on; all others are [`FieldId::Unknown`] and pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FieldId {
    /// Any other name.
    Unknown,
    /// Age
    Age,
    /// Authorization
    Authorization,
    /// Cache-Control
    CacheControl,
    /// Connection
    Connection,
    /// Content-Encoding
    ContentEncoding,
    /// Content-Length
    ContentLength,
    /// Content-Range
    ContentRange,
    /// Content-Type
    ContentType,
    /// Cookie
    Cookie,
    /// Date
    Date,
    /// Expect
    Expect,
    /// Expires
    Expires,
    /// Forwarded
    Forwarded,
    /// Host
    Host,
    /// HTTP2-Settings
    Http2Settings,
    /// Keep-Alive
    KeepAlive,
    /// Location
    Location,
    /// Max-Forwards
    MaxForwards,
    /// Proxy-Authenticate
    ProxyAuthenticate,
    /// Proxy-Authentication-Info
    ProxyAuthenticationInfo,
    /// Proxy-Authorization
    ProxyAuthorization,
    /// Proxy-Connection
    ProxyConnection,
    /// Range
    Range,
    /// Retry-After
    RetryAfter,
    /// Set-Cookie
    SetCookie,
    /// TE
    Te,
    /// Trailer
    Trailer,
    /// Transfer-Encoding
    TransferEncoding,
    /// Upgrade
    Upgrade,
    /// Vary
    Vary,
    /// Via
    Via,
    /// WWW-Authenticate
    WwwAuthenticate,
    /// X-Forwarded-For
    XForwardedFor,
    /// X-Forwarded-Host
    XForwardedHost,
    /// X-Forwarded-Proto
    XForwardedProto,
    /// Any other X-Forwarded-*
    XForwardedOther,
    /// X-Real-IP
    XRealIp,
}

impl FieldId {
    /// The id of a name; case does not count. No hashing: length and last letter leave at most one
    /// candidate of those known.
    pub fn of(name: &[u8]) -> Self {
        let Some(&last) = name.last() else { return Self::Unknown };
        let (id, lower): (Self, &[u8]) = match (name.len(), last | 0x20) {
            (2, b'e') => (Self::Te, b"te"),
            (3, b'a') => (Self::Via, b"via"),
            (3, b'e') => (Self::Age, b"age"),
            (4, b't') => (Self::Host, b"host"),
            (4, b'e') => (Self::Date, b"date"),
            (4, b'y') => (Self::Vary, b"vary"),
            (5, b'e') => (Self::Range, b"range"),
            (6, b'e') => (Self::Cookie, b"cookie"),
            (6, b't') => (Self::Expect, b"expect"),
            (7, b'e') => (Self::Upgrade, b"upgrade"),
            (7, b'r') => (Self::Trailer, b"trailer"),
            (7, b's') => (Self::Expires, b"expires"),
            (8, b'n') => (Self::Location, b"location"),
            (9, b'd') => (Self::Forwarded, b"forwarded"),
            (9, b'p') => (Self::XRealIp, b"x-real-ip"),
            (10, b'n') => (Self::Connection, b"connection"),
            (10, b'e') => match name[0] | 0x20 {
                b'k' => (Self::KeepAlive, b"keep-alive"),
                _ => (Self::SetCookie, b"set-cookie"),
            },
            (11, b'r') => (Self::RetryAfter, b"retry-after"),
            (12, b'e') => (Self::ContentType, b"content-type"),
            (12, b's') => (Self::MaxForwards, b"max-forwards"),
            (13, b'n') => (Self::Authorization, b"authorization"),
            (13, b'l') => (Self::CacheControl, b"cache-control"),
            (13, b'e') => (Self::ContentRange, b"content-range"),
            (14, b'h') => (Self::ContentLength, b"content-length"),
            (14, b's') => (Self::Http2Settings, b"http2-settings"),
            (15, b'r') => (Self::XForwardedFor, b"x-forwarded-for"),
            (16, b'g') => (Self::ContentEncoding, b"content-encoding"),
            (16, b't') => (Self::XForwardedHost, b"x-forwarded-host"),
            (16, b'n') => (Self::ProxyConnection, b"proxy-connection"),
            (16, b'e') => (Self::WwwAuthenticate, b"www-authenticate"),
            (17, b'g') => (Self::TransferEncoding, b"transfer-encoding"),
            (17, b'o') => (Self::XForwardedProto, b"x-forwarded-proto"),
            (18, b'e') => (Self::ProxyAuthenticate, b"proxy-authenticate"),
            (19, b'n') => (Self::ProxyAuthorization, b"proxy-authorization"),
            (25, b'o') => (Self::ProxyAuthenticationInfo, b"proxy-authentication-info"),
            _ => (Self::Unknown, b""),
        };
        if is_name(name, lower) {
            id
        } else if name[0] | 0x20 == b'x' && starts_with(name, X_FORWARDED) {
            Self::XForwardedOther
        } else {
            Self::Unknown
        }
    }

    /// Whether all bytes of its name are known by it.
    pub(super) const fn is_whole_name(self) -> bool {
        !matches!(self, Self::Unknown | Self::XForwardedOther)
    }

    /// The known field that a name written with `_` is taken for by readers that, like CGI, fold
    /// `-` and `_` into one; [`FieldId::Unknown`] for all others.
    pub fn of_lookalike(name: &[u8]) -> Self {
        if find_byte(name, 0, b'_') == name.len() {
            return Self::Unknown;
        }
        let mut folded = [0_u8; KNOWN_BYTES_MAX];
        let length = name.len().min(KNOWN_BYTES_MAX);
        for (to, &from) in folded.iter_mut().zip(name) {
            *to = if from == b'_' { b'-' } else { from };
        }
        Self::of(&folded[..length]) // no known name is as long as a cut one
    }

    /// Whether it is for one connection only: never forwarded, nominated or not.
    ///
    //= https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
    //# Furthermore, intermediaries SHOULD remove or replace fields that are
    //# known to require removal before forwarding, whether or not they appear
    //# as a connection-option, after applying those fields' semantics.
    pub const fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::Http2Settings
                | Self::KeepAlive
                | Self::ProxyAuthenticate
                | Self::ProxyAuthenticationInfo
                | Self::ProxyAuthorization
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }

    /// Whether it says where the message ends or where it goes: to nominate it is an attack.
    pub const fn is_framing(self) -> bool {
        matches!(self, Self::Host | Self::ContentLength | Self::TransferEncoding)
    }

    /// Whether it is for all recipients, so that nominating it does not remove it.
    ///
    //= https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
    //# A sender MUST NOT send a connection option corresponding to a field
    //# that is intended for all recipients of the content.
    pub const fn is_end_to_end(self) -> bool {
        !matches!(self, Self::Unknown | Self::Trailer) && !self.is_hop_by_hop()
    }

    /// Whether it tells who the client is, so that only trusted peers may say it.
    pub const fn is_client_identity(self) -> bool {
        matches!(
            self,
            Self::Forwarded
                | Self::XForwardedFor
                | Self::XForwardedHost
                | Self::XForwardedOther
                | Self::XForwardedProto
                | Self::XRealIp
        )
    }
}

/// Whether `name` starts with `lower` and goes on, whatever its case.
pub(super) fn starts_with(name: &[u8], lower: &[u8]) -> bool {
    name.len() > lower.len() && name[..lower.len()].eq_ignore_ascii_case(lower)
}

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'b> {
    /// As sent: any case.
    pub name: &'b [u8],
    /// Without the white space around it.
    pub value: &'b [u8],
    /// Which known field it is.
    pub id: FieldId,
    /// Not for the next hop: dropped by `write_*_head`.
    pub hop_by_hop: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_in_any_case() {
        for (name, id) in [
            ("te", FieldId::Te),
            ("Host", FieldId::Host),
            ("KEEP-ALIVE", FieldId::KeepAlive),
            ("Set-Cookie", FieldId::SetCookie),
            ("Content-Length", FieldId::ContentLength),
            ("transfer-ENCODING", FieldId::TransferEncoding),
            ("x-forwarded-for", FieldId::XForwardedFor),
            ("X-Forwarded-Port", FieldId::XForwardedOther),
            ("X-Forwarded-Client-Cert", FieldId::XForwardedOther),
            ("X-Forwarded-", FieldId::Unknown),
            ("X-Forwarded", FieldId::Unknown),
            ("content_length", FieldId::Unknown),
            ("Content-Lengths", FieldId::Unknown),
            ("Content-Lengtp", FieldId::Unknown),
            ("hosT", FieldId::Host),
            ("hos\x14", FieldId::Unknown),
            ("", FieldId::Unknown),
        ] {
            assert_eq!(FieldId::of(name.as_bytes()), id, "{name}");
        }
    }

    #[test]
    fn lookalikes() {
        for (name, id) in [
            ("content_length", FieldId::ContentLength),
            ("Transfer_Encoding", FieldId::TransferEncoding),
            ("keep_alive", FieldId::KeepAlive),
            ("X_Forwarded_For", FieldId::XForwardedFor),
            ("X-Forwarded_For", FieldId::XForwardedFor),
            ("x_real_ip", FieldId::XRealIp),
            ("X_Forwarded_A_Very_Long_Name_Of_More_Than_32_Bytes", FieldId::XForwardedOther),
            ("content-length", FieldId::Unknown),
            ("my_header", FieldId::Unknown),
            ("_", FieldId::Unknown),
        ] {
            assert_eq!(FieldId::of_lookalike(name.as_bytes()), id, "{name}");
        }
    }
}
