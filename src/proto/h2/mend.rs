//! What the `h2` crate ends a whole connection for, made into what it takes: a field of a response that has an impossible name
//! or value is malformed (RFC 9113 §8.1.1), which is the business of its stream and not of all others that share the
//! connection. Bytes are replaced where they are, so that all lengths stay, also those that the tables of both ends count; the stream
//! is refused beside that, and nothing of the field reaches anybody.

/// What a text has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Check {
    /// It was looked at otherwise, or need not be.
    #[default]
    None,
    /// A name of a field.
    Name,
    /// A value of a field.
    Value,
}

impl Check {
    /// Makes plain text possible; whether it was not.
    pub(super) fn mend(self, text: &mut [u8]) -> bool {
        let is_bad = match self {
            Self::None => return false,
            Self::Name => |byte: u8| !is_of_name(byte),
            Self::Value => |byte: u8| (byte < b' ' && byte != b'\t') || byte == 0x7f,
        };
        // Without a way out in between, which is faster.
        let has_bad = text.iter().fold(false, |has_bad, byte| has_bad | is_bad(*byte));
        if has_bad {
            text.iter_mut().filter(|byte| is_bad(**byte)).for_each(|byte| *byte = b'-');
        }
        has_bad
    }

    /// What to put in the place of the Huffman code at the top of `window`, of `length` bits, if there is something. `None` where
    /// nothing is wrong with it.
    pub(super) fn mended(self, window: u32, length: u32) -> Option<Option<u32>> {
        let code = window >> (32 - length);
        let is_bad = match (self, length) {
            (Self::None, _) | (_, 5) => false,
            (Self::Name, 6) => matches!(code, 0x14 | 0x18 | 0x20 | 0x21), // space / = A
            (Self::Name, 7) => code < 0x74,                               // : and B to Y
            (Self::Name, 8) => code > 0xf9,
            (Self::Name, 10) => code != 0x3f8,
            (Self::Name, 11) => false,
            (Self::Name, 12) => code != 0xffa,
            (Self::Name, 13) => !matches!(code, 0x1ff9 | 0x1ffd),
            (Self::Name, 14) => code != 0x3ffc,
            (Self::Name, 15) => code != 0x7ffd,
            (Self::Name, _) => true,
            (Self::Value, 13) => code == 0x1ff8,
            (Self::Value, 23) => code == 0x7f_ffd8,
            (Self::Value, 28) => code < 0xfff_fffd,
            (Self::Value, 30) => true,
            (Self::Value, _) => false,
        };
        is_bad.then_some(match (self, length) {
            (_, 6) => Some(0x16),
            (_, 7) => Some(0x79),
            (_, 8) => Some(0xf8),
            (_, 10) => Some(0x3f8),
            (_, 12) => Some(0xffa),
            (_, 13) => Some(0x1ff9),
            (_, 14) => Some(0x3ffc),
            (_, 15) => Some(0x7ffd),
            (Self::Value, 23) => Some(0x7f_ffd9),
            (Self::Value, 28) => Some(0xfff_fffe),
            _ => None, // no name has a code of this length, or no text
        })
    }
}

/// Writes a code of so many bits before `end`, counted in bits. One that began before `bytes` stays what it is, which the
/// crate has seen.
#[cold]
pub(super) fn write_code(bytes: &mut [u8], end: usize, code: u32, length: u32) {
    let Some(start) = end.checked_sub(length as usize) else { return };
    for (n, at) in (start..end).rev().enumerate() {
        let bit = (code >> n & 1) as u8;
        let place = 7 - at % 8;
        bytes[at / 8] = bytes[at / 8] & !(1 << place) | bit << place;
    }
}

/// Source: RFC 9110 §5.6.2, RFC 9113 §8.2.1.
fn is_of_name(byte: u8) -> bool {
    const TABLE: [bool; 256] = {
        let mut table = [false; 256];
        let all = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz";
        let mut at = 0;
        while at < all.len() {
            table[all[at] as usize] = true;
            at += 1;
        }
        table
    };
    TABLE[byte as usize]
}

/// Whether a text that is here as a whole is the code of a status.
pub(super) fn is_status(text: &[u8], is_huffman: bool) -> bool {
    if !is_huffman {
        return matches!(text, [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9']);
    }
    if !matches!(text.len(), 2 | 3) {
        return false;
    }
    let mut bits = text.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte));
    bits <<= 32 - 8 * text.len();
    let mut left = 8 * text.len() as u32;
    for n in 0..3 {
        let length = match bits >> 26 {
            0 | 1 if n == 0 => return false, // a zero
            0..6 => 5,
            0x19..0x20 => 6,
            _ => return false,
        };
        bits <<= length;
        left = left.saturating_sub(length);
    }
    left < 8 && bits.leading_ones() >= left
}

/// `:status`, plain and in the Huffman code.
pub(super) const STATUS: &[u8] = b":status";
pub(super) const STATUS_CODED: &[u8] = &[0xb8, 0x84, 0x8d, 0x36, 0xa3];

/// Makes another field of one whose name begins with a colon.
pub(super) fn unname(first: &mut u8, is_huffman: bool) {
    *first = if is_huffman { 0x79 << 1 | *first & 1 } else { b'-' };
}

/// Makes another field of a `:status` whose name ends before `at`; whether that could be done. By its index it becomes one whose
/// name is as long where it is kept (`expires`), or any that takes all values (`:path`).
#[cold]
pub(super) fn rename_status(block: &mut [u8], at: usize, is_by_index: bool) -> bool {
    if is_by_index {
        let Some(entry) = at.checked_sub(1).and_then(|at| block.get_mut(at)) else { return false };
        *entry = if *entry & 0x40 != 0 { 0x40 | 36 } else { *entry & 0xf0 | 4 };
        return true;
    }
    for (name, is_huffman) in [(STATUS, false), (STATUS_CODED, true)] {
        if let Some(name) = block[..at].strip_suffix(name).map(<[u8]>::len) {
            unname(&mut block[name], is_huffman);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What has a code of each length, in order. Source: RFC 7541 appendix B.
    const SYMBOLS: [(u32, &[u8]); 10] = [
        (5, b"012aceiost"),
        (6, b" %-./3456789=A_bdfghlmnpru"),
        (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
        (8, b"&*,;XZ"),
        (10, b"!\"()?"),
        (11, b"'+|"),
        (12, b"#>"),
        (13, b"\0$@[]~"),
        (14, b"^}"),
        (15, b"<`{"),
    ];

    #[test]
    fn codes_of_names_and_values_stay_as_long() {
        let mut code = 0_u32;
        let mut all = Vec::new();
        for (length, symbols) in SYMBOLS {
            for symbol in symbols {
                all.push((code >> (32 - length), length, *symbol));
                code += 1 << (32 - length);
            }
        }
        for (code, length, symbol) in &all {
            let window = code << (32 - length) | 0x1_ffff;
            let is_good = |check: Check, symbol: u8| !check.mend(&mut [symbol]);
            for check in [Check::Name, Check::Value] {
                let mended = check.mended(window, *length);
                assert_eq!(mended.is_none(), is_good(check, *symbol), "{symbol} {check:?}");
                if let Some(mended) = mended {
                    let found = all.iter().find(|one| (Some(one.0), one.1) == (mended, *length));
                    assert!(is_good(check, found.expect("a symbol").2), "{symbol} {check:?}");
                }
            }
            assert_eq!(Check::None.mended(window, *length), None);
        }
    }

    #[test]
    fn codes_are_written_where_they_were() {
        let mut bytes = [0xff; 4];
        write_code(&mut bytes, 19, 0, 7);
        assert_eq!(bytes, [0xff, 0xf0, 0x1f, 0xff]);
        write_code(&mut bytes, 5, 0, 6);
        assert_eq!(bytes, [0xff, 0xf0, 0x1f, 0xff], "it began before them");
    }

    #[test]
    fn three_digits_are_a_status() {
        for good in ["100", "200", "999"] {
            assert!(is_status(good.as_bytes(), false), "{good}");
        }
        for bad in ["", "20", "2000", "020", "abc", "+20", " 20"] {
            assert!(!is_status(bad.as_bytes(), false), "{bad}");
        }
        for good in [&[0x10, 0x01][..], &[0x08, 0x19], &[0x68, 0x0d, 0x7f], &[0x7d, 0xf7, 0xff]] {
            assert!(is_status(good, true), "{good:02x?}");
        }
        for bad in [&[0x07][..], &[0x10, 0x00], &[0x00, 0x01], &[0x1c, 0x63], &[0x10, 0x01, 0xff]] {
            assert!(!is_status(bad, true), "{bad:02x?}");
        }
    }
}
