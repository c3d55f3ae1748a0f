//! The one normal form of a path: what routes match, and what is forwarded.

use super::bytes::{TARGET, UNRESERVED, is, percent_value};

/// Why a path has no safe normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriError {
    /// It does not start with `/`.
    NotAbsolute,
    /// `%` without two hexadecimal digits.
    PercentEncoding,
    /// `%00` or a zero byte: ends the string for one reader and not for another.
    Nul,
    /// `..` above the root.
    AboveRoot,
}

const UPPER_HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Appends the normal form of `path` to `out`: hex digits in upper case, unreserved characters
/// decoded, dot segments removed, and after that, with `merge_slashes`, runs of `/` made one: `..`
/// takes away an empty segment as RFC 3986 has it, so `/a//../b` is `/a/b`. `%2F` stays. What
/// RFC 3986 allows nowhere in a path (a space, UTF-8, `?`, `#`, ...) is encoded: requests never hold
/// it, literals of patterns may. Idempotent.
///
/// Source: RFC 3986 §5.2.4, §6.2.2.
///
/// # Errors
/// See [`UriError`]; `out` then ends with a part of the path, to be dropped.
pub fn normalise_path(path: &[u8], merge_slashes: bool, out: &mut Vec<u8>) -> Result<(), UriError> {
    if is_normal(path, merge_slashes) {
        out.extend_from_slice(path);
        return Ok(());
    }
    let Some((b'/', rest)) = path.split_first() else { return Err(UriError::NotAbsolute) };
    let base = out.len();
    out.push(b'/');
    let mut segments = rest.split(|&b| b == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let start = out.len();
        push_segment(segment, out)?;
        match &out[start..] {
            b"." => out.truncate(start),
            b".." => {
                out.truncate(start);
                drop_last_segment(base, out)?;
            }
            _ if last => {}
            _ => out.push(b'/'),
        }
    }
    if merge_slashes {
        merge(base, out);
    }
    Ok(())
}

/// Makes runs of `/` in `out[base..]` one.
fn merge(base: usize, out: &mut Vec<u8>) {
    let mut end = base;
    for at in base..out.len() {
        if out[at] != b'/' || end == base || out[end - 1] != b'/' {
            out[end] = out[at];
            end += 1;
        }
    }
    out.truncate(end);
}

/// `out[base..]` ends with `/`: drops it and the segment before it.
fn drop_last_segment(base: usize, out: &mut Vec<u8>) -> Result<(), UriError> {
    out.pop();
    if out.len() == base {
        return Err(UriError::AboveRoot);
    }
    let slash = out[base..].iter().rposition(|&b| b == b'/').unwrap_or(0);
    out.truncate(base + slash + 1);
    Ok(())
}

fn push_segment(segment: &[u8], out: &mut Vec<u8>) -> Result<(), UriError> {
    let mut rest = segment;
    while let Some((&b, after)) = rest.split_first() {
        rest = after;
        match b {
            b'%' => {
                let value = percent_value(after).ok_or(UriError::PercentEncoding)?;
                rest = &after[2..];
                if is(value, UNRESERVED) { out.push(value) } else { push_encoded(value, out)? }
            }
            b'?' => push_encoded(b, out)?,
            _ if is(b, TARGET) => out.push(b),
            _ => push_encoded(b, out)?,
        }
    }
    Ok(())
}

fn push_encoded(value: u8, out: &mut Vec<u8>) -> Result<(), UriError> {
    if value == 0 {
        return Err(UriError::Nul);
    }
    let digit = |nibble: u8| UPPER_HEX[usize::from(nibble)];
    out.extend_from_slice(&[b'%', digit(value >> 4), digit(value & 15)]);
    Ok(())
}

/// Whether [`normalise_path`] would leave `path` as it is. One scan without writing: nearly all
/// paths of real traffic are normal already.
pub fn is_normal(path: &[u8], merge_slashes: bool) -> bool {
    if path.first() != Some(&b'/') {
        return false;
    }
    let mut at = 0;
    while let Some(&b) = path.get(at) {
        at += 1;
        match b {
            b'/' => match &path[at..] {
                [b'/', ..] if merge_slashes => return false,
                [b'.', after @ ..] if !is_name_after_dot(after) => return false,
                _ => {}
            },
            b'%' => {
                if !is_normal_escape(&path[at..]) {
                    return false;
                }
                at += 2;
            }
            b'?' => return false,
            _ if !is(b, TARGET) => return false,
            _ => {}
        }
    }
    true
}

/// Whether a segment that starts with a dot and goes on with `after` is surely neither `.` nor `..`.
/// `..a` is called no name too: it takes the slow way, which keeps it.
fn is_name_after_dot(after: &[u8]) -> bool {
    !matches!(after, [] | [b'/' | b'.' | b'%', ..])
}

fn is_normal_escape(after_percent: &[u8]) -> bool {
    let Some(value) = percent_value(after_percent) else { return false };
    value != 0
        && !is(value, UNRESERVED)
        && !after_percent[..2].iter().any(|digit| digit.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(path: &str, merge: bool) -> Result<String, UriError> {
        let mut out = b"kept".to_vec();
        normalise_path(path.as_bytes(), merge, &mut out)?;
        let text = String::from_utf8(out).unwrap();
        Ok(text.strip_prefix("kept").unwrap().to_owned())
    }

    #[test]
    fn merged() {
        for (path, want) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/a/b.c/~d", "/a/b.c/~d"),
            ("//", "/"),
            ("///a//b//", "/a/b/"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/../../c", "/c"),
            ("/a//../b", "/a/b"),
            ("/a/.//../b", "/a/b"),
            ("//..", "/"),
            ("//../a", "/a"),
            ("/a/..//b", "/b"),
            ("/...", "/..."),
            ("/..a", "/..a"),
            ("/.a", "/.a"),
            ("/a./b..", "/a./b.."),
            ("/%41%7e", "/A~"),
            ("/%2d%2E%5f", "/-._"),
            ("/%2e%2e%2e", "/..."),
            ("/a/%2e/b", "/a/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2F..%2fb", "/a%2F..%2Fb"),
            ("/%25%32%65", "/%252e"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/%5c", "/%5C"),
            ("/%c3%a9", "/%C3%A9"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/a b", "/a%20b"),
            ("/a?b#c", "/a%3Fb%23c"),
            ("/a;b=1,c:d@e!$&'()*+", "/a;b=1,c:d@e!$&'()*+"),
            ("/[id]", "/[id]"),
            ("/a/..;/b", "/a/..;/b"),
            ("/%3B%2B", "/%3B%2B"),
        ] {
            assert_eq!(normal(path, true).as_deref(), Ok(want), "{path}");
            assert_eq!(normal(want, true).as_deref(), Ok(want), "not idempotent: {path}");
            assert!(is_normal(want.as_bytes(), true) || want.contains("/.."), "{want}");
        }
    }

    #[test]
    fn slashes_kept() {
        for (path, want) in [
            ("//", "//"),
            ("//a///b//", "//a///b//"),
            ("/a//../b", "/a/b"),
            ("//..", "/"),
            ("//../a", "/a"),
            ("/a//.", "/a//"),
            ("/./", "/"),
        ] {
            assert_eq!(normal(path, false).as_deref(), Ok(want), "{path}");
            assert_eq!(normal(want, false).as_deref(), Ok(want), "not idempotent: {path}");
        }
    }

    #[test]
    fn refused() {
        for (path, error) in [
            ("", UriError::NotAbsolute),
            ("a", UriError::NotAbsolute),
            ("*", UriError::NotAbsolute),
            ("/..", UriError::AboveRoot),
            ("/../a", UriError::AboveRoot),
            ("/a/../..", UriError::AboveRoot),
            ("/a/../../b", UriError::AboveRoot),
            ("//../..", UriError::AboveRoot),
            ("/./..", UriError::AboveRoot),
            ("/%2e%2e/a", UriError::AboveRoot),
            ("/%zz", UriError::PercentEncoding),
            ("/%", UriError::PercentEncoding),
            ("/%4", UriError::PercentEncoding),
            ("/%4/1", UriError::PercentEncoding),
            ("/a%00b", UriError::Nul),
            ("/a\0b", UriError::Nul),
        ] {
            assert_eq!(normal(path, true), Err(error), "{path}");
        }
    }

    #[test]
    fn what_is_called_normal_is_left_alone_by_the_slow_way() {
        let pieces = ["/", "a", ".", "..", "%2f", "%2F", "%41", "%C3", "%c3", "~", "//", "?"];
        let mut path = String::new();
        for a in pieces {
            for b in pieces {
                for c in pieces {
                    for d in pieces {
                        path.clear();
                        path.extend(["/", a, b, c, d]);
                        for merge in [false, true] {
                            if let Ok(once) = normal(&path, merge) {
                                assert_eq!(normal(&once, merge).as_deref(), Ok(&*once), "{path}");
                                if is_normal(path.as_bytes(), merge) {
                                    assert_eq!(once, path);
                                    assert_eq!(by_segments(&path, merge), path);
                                }
                            } else {
                                assert!(!is_normal(path.as_bytes(), merge), "{path}");
                            }
                        }
                    }
                }
            }
        }
    }

    /// The slow way alone: `/./` in front makes a path not normal and vanishes.
    fn by_segments(path: &str, merge: bool) -> String {
        normal(&format!("/.{path}"), merge).unwrap()
    }
}
