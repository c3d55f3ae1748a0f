//! The one normal form of a path.

/// Why a path has no safe normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriError {
    /// It does not start with `/`.
    NotAbsolute,
    /// `%` without two hexadecimal digits.
    PercentEncoding,
    /// `%00` or a zero byte.
    Nul,
    /// `..` above the root.
    AboveRoot,
}

/// Appends the normal form of `path` to `out`.
pub fn normalise_path(path: &[u8], merge_slashes: bool, out: &mut Vec<u8>) -> Result<(), UriError> {
    let _ = (path, merge_slashes, out);
    todo!()
}

/// Whether [`normalise_path`] would leave `path` as it is.
pub fn is_normal(path: &[u8], merge_slashes: bool) -> bool {
    let _ = (path, merge_slashes);
    todo!()
}
