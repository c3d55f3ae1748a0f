//! Bytes of a stranger inside our text: JSON strings, quoted log fields, Prometheus labels.
//!
//! Whatever the bytes, the result is one line that its reader takes apart as it was meant: nobody
//! can inject a line, a field or a terminal's control sequence.

use crate::telemetry::time::write_to;

/// Appends `bytes` as a JSON string with its quotes. Always valid UTF-8 and valid JSON: bytes that
/// are not UTF-8 become `\u00XX` (as if they were Latin-1), control characters of C0 and C1, and
/// the line separators of Unicode are escaped. Source: RFC 8259 §7.
pub fn write_json_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = bytes;
    loop {
        let plain = plain_bytes(rest);
        out.extend_from_slice(&rest[..plain]);
        rest = &rest[plain..];
        let Some(first) = rest.first() else { break };
        let used = if first.is_ascii() {
            write_json_ascii(*first, out);
            1
        } else {
            write_json_beyond_ascii(rest, out)
        };
        rest = &rest[used..];
    }
    out.push(b'"');
}

/// Appends `bytes` for use between the quotes of an Apache log line: `"` and `\` get a backslash,
/// everything but printable ASCII becomes `\xHH`. Source: Apache mod_log_config, "Format Notes".
pub fn write_log_quoted(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            0x20..=0x7E => out.push(*byte),
            _ => write_to(out, format_args!("\\x{byte:02x}")),
        }
    }
}

/// Appends the value of a Prometheus label, without its quotes. Source: Prometheus, "Text-based
/// exposition format", "Comments, help text, and type information".
pub fn write_label(value: &str, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            _ => out.push(byte),
        }
    }
}

/// How many bytes at the front a JSON string holds as they are. Eight at a time without a branch for
/// each, which the compiler makes one comparison of.
fn plain_bytes(bytes: &[u8]) -> usize {
    let (eights, _) = bytes.as_chunks::<8>();
    let is_whole = |eight: &&[u8; 8]| eight.iter().fold(true, |all, byte| all & is_plain(*byte));
    let whole = 8 * eights.iter().take_while(is_whole).count();
    let more = bytes[whole..].iter().position(|byte| !is_plain(*byte));
    more.map_or(bytes.len(), |more| whole + more)
}

/// What a JSON string holds as it is, within ASCII.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7E) && byte != b'"' && byte != b'\\'
}

fn write_json_ascii(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => write_to(out, format_args!("\\u{byte:04x}")),
    }
}

/// Appends the character (or the byte that begins none) at the front of `rest`; returns its length.
fn write_json_beyond_ascii(rest: &[u8], out: &mut Vec<u8>) -> usize {
    let head = &rest[..rest.len().min(4)];
    let valid = match str::from_utf8(head) {
        Ok(text) => text,
        Err(error) => str::from_utf8(&head[..error.valid_up_to()]).unwrap_or(""),
    };
    match valid.chars().next() {
        Some(c @ ('\u{80}'..='\u{9F}' | '\u{2028}' | '\u{2029}')) => {
            write_to(out, format_args!("\\u{:04x}", u32::from(c)));
            c.len_utf8()
        }
        Some(c) => {
            out.extend_from_slice(&rest[..c.len_utf8()]);
            c.len_utf8()
        }
        None => {
            write_to(out, format_args!("\\u{:04x}", rest[0]));
            1
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write_json_string(bytes, &mut out);
        String::from_utf8(out).expect("always UTF-8")
    }

    #[test]
    fn json_of_awkward_bytes() {
        assert_eq!(json(b"plain"), r#""plain""#);
        assert_eq!(json(b"a\"b\\c"), r#""a\"b\\c""#);
        assert_eq!(json(b"\n\r\t\0\x7f"), r#""\n\r\t\u0000\u007f""#);
        assert_eq!(json("grün €".as_bytes()), "\"grün €\"");
        assert_eq!(json(b"\xff\xc3"), r#""\u00ff\u00c3""#);
        assert_eq!(json("\u{9b}31m\u{2028}".as_bytes()), r#""\u009b31m\u2028""#);
        assert_eq!(json(b"\xf0\x9f\x98"), r#""\u00f0\u009f\u0098""#);
    }

    #[test]
    fn log_fields_stay_in_their_quotes() {
        let mut out = Vec::new();
        write_log_quoted(b"a\" 200 0\n\\\xe9", &mut out);
        assert_eq!(out, br#"a\" 200 0\x0a\\\xe9"#);
    }

    #[test]
    fn labels_stay_in_their_quotes() {
        let mut out = Vec::new();
        write_label("a\"b\\c\nd€", &mut out);
        assert_eq!(out, "a\\\"b\\\\c\\nd€".as_bytes());
    }

    proptest! {
        #[test]
        fn any_bytes_make_valid_json_on_one_line(bytes: Vec<u8>) {
            let text = json(&bytes);
            prop_assert!(text.chars().all(|c| !c.is_control()));
            let back: String = serde_json::from_str(&text).expect("valid JSON");
            if let Ok(same) = str::from_utf8(&bytes) {
                prop_assert_eq!(back, same);
            }
        }

        #[test]
        fn any_bytes_make_printable_log_fields(bytes: Vec<u8>) {
            let mut out = Vec::new();
            write_log_quoted(&bytes, &mut out);
            prop_assert!(out.iter().all(|b| (0x20..=0x7E).contains(b)));
        }
    }
}
