//! Field names that ringway knows, and what it does with each.

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
