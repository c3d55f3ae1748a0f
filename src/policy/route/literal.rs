//! The literal text of a path key, brought into the form that request paths have.

use super::error::Problem;

/// Appends `text` as it may stand in a path: characters that can't are percent-encoded.
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
                    return Err(Problem::new(
                        "% is not followed by two hexadecimal digits",
                        "write %25 for a percent sign",
                    ));
                }
                if digits == b"00" {
                    return Err(Problem::new("%00 is never accepted in a path", "remove it"));
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
