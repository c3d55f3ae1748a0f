//! The literal text of a path key, brought into the form that request paths have.

use super::error::Problem;
use crate::proto::uri::{self, UriError};

/// Appends `text` as it may stand in a path: characters that can't are percent-encoded, so that
/// `/café menu` means what a client sends for it.
///
/// # Errors
/// A `%` without two hexadecimal digits, `%00`, control characters.
pub(super) fn encode(text: &str, out: &mut Vec<u8>) -> Result<(), Problem> {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let bytes = text.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'%' => {
                let digits = bytes.get(index + 1..index + 3).unwrap_or_default();
                if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(bad_percent());
                }
                if digits == b"00" {
                    return Err(bad_nul());
                }
                out.push(b'%');
            }
            0..=0x1F | 0x7F => {
                return Err(Problem::new("a control character in a path", "remove it"));
            }
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => {
                out.push(b'%');
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
            _ => out.push(*byte),
        }
    }
    Ok(())
}

/// Appends the normal form of `text`, which starts with `/`, as the data plane makes it of a
/// request path.
///
/// # Errors
/// Those of [`encode`], and `..` above the root.
pub(super) fn normalise(text: &str, merge_slashes: bool, out: &mut Vec<u8>) -> Result<(), Problem> {
    let mut encoded = Vec::with_capacity(text.len());
    encode(text, &mut encoded)?;
    uri::normalise_path(&encoded, merge_slashes, out).map_err(|error| match error {
        UriError::AboveRoot => Problem::new(
            ".. leads above the root or removes a parameter",
            "write the path without ..: requests are compared after .. is resolved",
        ),
        UriError::NotAbsolute => Problem::new("it does not start with /", "put a / in front"),
        UriError::PercentEncoding => bad_percent(),
        UriError::Nul => bad_nul(),
    })
}

fn bad_percent() -> Problem {
    Problem::new("% is not followed by two hexadecimal digits", "write %25 for a percent sign")
}

fn bad_nul() -> Problem {
    Problem::new("%00 is never accepted in a path", "remove it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str, merge_slashes: bool) -> String {
        let mut out = Vec::new();
        normalise(text, merge_slashes, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn literals_take_the_form_of_request_paths() {
        assert_eq!(normal("/%7euser/%2f%c3%a9/./x/../%41", true), "/~user/%2F%C3%A9/A");
        assert_eq!(normal("/caf\u{e9} menu", true), "/caf%C3%A9%20menu");
        assert_eq!(normal("/a//b", true), "/a/b");
        assert_eq!(normal("/a//b", false), "/a//b");
    }

    #[test]
    fn what_no_request_can_have_is_refused() {
        for text in ["/%", "/%4", "/%zz", "/%00", "/\u{7}", "/../a", "/a/../../b"] {
            assert!(normalise(text, true, &mut Vec::new()).is_err(), "{text:?}");
        }
    }
}
