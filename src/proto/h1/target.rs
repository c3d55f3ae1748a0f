//! The request target.

/// The four forms of a request target. Source: RFC 9112 §3.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `*` of OPTIONS, also when written in absolute form without a path.
    Asterisk,
    /// `host:port` of CONNECT.
    Authority,
}
