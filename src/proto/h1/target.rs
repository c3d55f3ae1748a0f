//! The request target.

use super::{HeadError, Method, section::Part};
use crate::proto::{
    bytes::percent_value,
    host::{Authority, parse_authority},
};

/// The four forms of a request target. Source: RFC 9112 §3.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`
    #[default]
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `*` of OPTIONS, also when written in absolute form without path and query.
    Asterisk,
    /// `host:port` of CONNECT.
    Authority,
}

/// A target taken apart. Parts are of the buffer, not of the target.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Target {
    pub(super) form: TargetForm,
    /// The scheme is https: the port that a missing one stands for is 443.
    pub(super) https: bool,
    /// Host and port of the absolute and the authority form, without the colon of an empty port.
    pub(super) authority: Option<Part>,
    /// May be empty in absolute form.
    pub(super) path: Part,
    /// Without the question mark.
    pub(super) query: Option<Part>,
}

impl Target {
    /// Takes apart `target`, which starts at `base` in the buffer and consists of bytes of
    /// [`crate::proto::bytes::TARGET`], behind the question mark of [`crate::proto::bytes::QUERY`].
    pub(super) fn parse(method: Method, target: &[u8], base: usize) -> Result<Self, HeadError> {
        if method == Method::Connect {
            return Self::authority_form(target, base);
        }
        match target.first() {
            Some(b'/') => Self::path_and_query(target, base, 0),
            Some(b'*') if target.len() == 1 && method == Method::Options => Ok(Self {
                form: TargetForm::Asterisk,
                path: Part::new(base, base + 1),
                ..Self::default()
            }),
            _ => Self::absolute_form(method, target, base),
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2.3
    //# authority-form = uri-host ":" port
    fn authority_form(target: &[u8], base: usize) -> Result<Self, HeadError> {
        match parse_authority(target) {
            Ok(authority @ Authority { port: Some(_), .. }) => {
                let part = Part::new(base, base + authority.end());
                let form = TargetForm::Authority;
                Ok(Self { form, authority: Some(part), path: part, ..Self::default() })
            }
            _ => Err(HeadError::Target),
        }
    }

    fn absolute_form(method: Method, target: &[u8], base: usize) -> Result<Self, HeadError> {
        let (https, scheme_length) = scheme(target).ok_or(HeadError::Target)?;
        let rest = &target[scheme_length..];
        let length = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        // The grammar has no user information: an attacker would write `good.test@evil.test`.
        let authority = parse_authority(&rest[..length]).map_err(|_| HeadError::Target)?;
        let start = base + scheme_length;
        let mut parsed = Self::path_and_query(target, base, scheme_length + length)?;
        parsed.form = TargetForm::Absolute;
        parsed.https = https;
        parsed.authority = Some(Part::new(start, start + authority.end()));
        //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2.4
        //# If a proxy receives an OPTIONS request with an absolute-form of
        //# request-target in which the URI has an empty path and no query
        //# component, then the last proxy on the request chain MUST send a
        //# request-target of "*" when it forwards the request to the indicated
        //# origin server.
        if method == Method::Options && length == rest.len() {
            parsed.form = TargetForm::Asterisk;
        }
        Ok(parsed)
    }

    /// Splits `target[from..]` at the question mark.
    fn path_and_query(target: &[u8], base: usize, from: usize) -> Result<Self, HeadError> {
        check_escapes(&target[from..])?;
        let (start, end) = (base + from, base + target.len());
        Ok(match memchr::memchr(b'?', &target[from..]) {
            None => Self { path: Part::new(start, end), ..Self::default() },
            Some(mark) => Self {
                path: Part::new(start, start + mark),
                query: Some(Part::new(start + mark + 1, end)),
                ..Self::default()
            },
        })
    }
}

/// Whether the scheme is https, and the length of scheme and `://`.
fn scheme(target: &[u8]) -> Option<(bool, usize)> {
    let is = |prefix: &[u8]| {
        target.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    if is(b"http://") {
        Some((false, 7))
    } else if is(b"https://") {
        Some((true, 8))
    } else {
        None
    }
}

/// Source: RFC 3986 §2.1.
fn check_escapes(text: &[u8]) -> Result<(), HeadError> {
    let mut escapes = memchr::memchr_iter(b'%', text);
    match escapes.all(|at| percent_value(&text[at + 1..]).is_some()) {
        true => Ok(()),
        false => Err(HeadError::Target),
    }
}
