//! What a request asks for, in the form that routes are matched against.

use crate::{
    base::reason::Reason,
    dataplane::context::RequestContext,
    policy::route::FieldSource,
    proto::{
        h1::{RequestHead, TargetForm},
        host::{normalise_host, parse_authority},
        uri::{UriError, normalise_path},
    },
};

/// The fields of a head, as conditions ask for them.
pub(super) struct Fields<'a> {
    pub(super) head: &'a RequestHead,
    pub(super) bytes: &'a [u8],
}

impl FieldSource for Fields<'_> {
    fn values<'s>(&'s self, name: &[u8]) -> impl Iterator<Item = &'s [u8]> {
        self.head
            .fields(self.bytes)
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| field.value)
    }
}

/// Fills `host` and `path` of the context from its head.
///
/// # Errors
/// When the path has no safe normal form, or the host is none.
pub(super) fn normalise(
    context: &mut RequestContext,
    bytes: &[u8],
    merge_slashes: bool,
) -> Result<(), Reason> {
    let RequestContext { head, host, path, .. } = context;
    host.clear();
    path.clear();
    if let Some(authority) = head.host(bytes) {
        let parts = parse_authority(authority).map_err(|_| Reason::BadHost)?;
        normalise_host(&authority[parts.host], host);
    }
    if head.form() == TargetForm::Asterisk {
        path.push(b'*');
        return Ok(());
    }
    normalise_path(head.path(bytes), merge_slashes, path).map_err(|error| match error {
        UriError::NotAbsolute | UriError::PercentEncoding | UriError::Nul | UriError::AboveRoot => {
            Reason::BadTarget
        }
    })
}
