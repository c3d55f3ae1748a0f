//! What the `h2` crate ends a whole connection for, made into what it takes: a field that has an impossible name
//! or value is malformed (RFC 9113 §8.1.1), which is the business of its stream and not of all others that share the
//! connection. Bytes are replaced where they are, so that all lengths stay, also those that the tables of both ends count; the stream
//! is refused beside that, and nothing of the field reaches anybody. `fuzz/fuzz_targets/h2_mend.rs` compares before and after.

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
    /// A value of a pseudo-field.
    Text,
    /// That of `:method`.
    Method,
}

impl Check {
    /// Makes plain text possible; whether it was not.
    pub(super) fn mend(self, text: &mut [u8]) -> bool {
        let is_bad = match self {
            Self::None => return false,
            Self::Name => |byte: u8| !is_of_name(byte),
            Self::Value => |byte: u8| (byte < b' ' && byte != b'\t') || byte == 0x7f,
            Self::Text => |byte: u8| !(b' '..0x7f).contains(&byte),
            Self::Method => |byte: u8| !is_of_name(byte.to_ascii_lowercase()),
        };
        // Without a way out in between, which is faster.
        let has_bad = text.iter().fold(false, |has_bad, byte| has_bad | is_bad(*byte));
        if has_bad {
            text.iter_mut().filter(|byte| is_bad(**byte)).for_each(|byte| *byte = b'-');
        }
        has_bad
    }

    /// Whether the Huffman code at the top of `window`, of `length` bits, is none that such a text has.
    pub(super) fn refuses(self, window: u32, length: u32) -> bool {
        let code = window >> (32 - length);
        match (self, length) {
            (Self::None, _) | (_, 5) => false,
            (Self::Text, 13) => code == 0x1ff8,
            (Self::Text, 19) => code != 0x7_fff0, // a backslash
            (Self::Text, _) => length > 19,
            (Self::Name, 6) => matches!(code, 0x14 | 0x18 | 0x20 | 0x21), // space / = A
            (Self::Name, 7) => code < 0x74,                               // : and B to Y
            (Self::Name, 8) => code > 0xf9,
            (Self::Method, 6) => matches!(code, 0x14 | 0x18 | 0x20),
            (Self::Method, 7) => code == 0x5c,
            (Self::Method, 8) => matches!(code, 0xfa | 0xfb), // , ;
            (Self::Name | Self::Method, 10) => code != 0x3f8,
            (Self::Name | Self::Method, 11) => false,
            (Self::Name | Self::Method, 12) => code != 0xffa,
            (Self::Name | Self::Method, 13) => !matches!(code, 0x1ff9 | 0x1ffd),
            (Self::Name | Self::Method, 14) => code != 0x3ffc,
            (Self::Name | Self::Method, 15) => code != 0x7ffd,
            (Self::Name | Self::Method, _) => true,
            (Self::Value, 13) => code == 0x1ff8,
            (Self::Value, 23) => code == 0x7f_ffd8,
            (Self::Value, 28) => code < 0xfff_fffd,
            (Self::Value, 30) => true,
            (Self::Value, _) => false,
        }
    }

    /// Makes another string of one in the Huffman code, of as many bytes with as many codes in them; whether there is one.
    #[cold]
    pub(super) fn respell(self, bytes: &mut [u8], codes: usize) -> bool {
        /// Codes that a name may have, and their lengths; a value of a field may have the first two, too.
        const CODES: [(usize, u32); 12] = [
            (28, 0xfff_fffe),
            (20, 0xf_ffe6),
            (15, 0x7ffd),
            (14, 0x3ffc),
            (13, 0x1ff9),
            (12, 0xffa),
            (11, 0x7fa),
            (10, 0x3f8),
            (8, 0xf8),
            (7, 0x79),
            (6, 0x16),
            (5, 0),
        ];
        const SHORTEST: usize = 5;
        let possible = if self == Self::Value { &CODES } else { &CODES[2..] };
        let bits = 8 * bytes.len();
        let mut at = 0;
        for others in (0..codes).rev() {
            let room = (bits - at).saturating_sub(SHORTEST * others);
            let longest = possible.iter().find(|(length, _)| *length <= room);
            let Some((length, code)) = longest else { return false };
            write_code(bytes, at, *code, *length);
            at += length;
        }
        // What is left is its padding.
        write_code(bytes, at, u32::MAX, (bits - at).min(7));
        bits - at < 8
    }
}

/// Writes a code of so many bits at a place, counted in bits.
fn write_code(bytes: &mut [u8], start: usize, code: u32, length: usize) {
    for (n, at) in (start..start + length).rev().enumerate() {
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

/// `:method`, plain and in the Huffman code.
pub(super) const METHOD: &[u8] = b":method";
pub(super) const METHOD_CODED: &[u8] = &[0xb9, 0x49, 0x53, 0x39, 0xe4];

/// Pseudo-fields that the crate knows, plain and in the Huffman code.
const KNOWN: [(&[u8], &[u8]); 6] = [
    (METHOD, METHOD_CODED),
    (STATUS, STATUS_CODED),
    (b":path", &[0xb9, 0x58, 0xd3, 0x3f]),
    (b":scheme", &[0xb8, 0x82, 0x4e, 0x5a, 0x4b]),
    (b":authority", &[0xb8, 0x3b, 0x53, 0x39, 0xec, 0x32, 0x7d, 0x7f]),
    (b":protocol", &[0xb9, 0x5d, 0x87, 0x49, 0xc8, 0x7a, 0x3f]),
];

/// Whether a name is that of a pseudo-field that the crate knows.
pub(super) fn is_known(name: &[u8], is_huffman: bool) -> bool {
    KNOWN.iter().any(|(plain, coded)| name == if is_huffman { *coded } else { *plain })
}

/// Makes another field of one whose name begins with a colon.
pub(super) fn unname(first: &mut u8, is_huffman: bool) {
    *first = if is_huffman { 0x79 << 1 | *first & 1 } else { b'-' };
}

/// What a field begins with in place of `entry`, whose name is the pseudo-field of this `index`: where it is kept, a name that is
/// as long and may have all values. Where it is not, there is none of one byte, and it becomes `:path`, which may be any text.
#[cold]
pub(super) fn another_name(entry: u8, index: usize) -> u8 {
    const ALLOW: u8 = 22;
    const EXPIRES: u8 = 36;
    const PATH: u8 = 4;
    const USER_AGENT: u8 = 58;
    let name = match index {
        1 => USER_AGENT,
        4 | 5 => ALLOW,
        _ => EXPIRES,
    };
    if entry & 0x40 != 0 { 0x40 | name } else { entry & 0xf0 | PATH }
}

/// Makes another field of a `:status` whose name ends before `at`; whether that could be done. Its name is given by `index`,
/// or is there.
#[cold]
pub(super) fn rename_status(block: &mut [u8], at: usize, index: usize) -> bool {
    const STATIC_MAX: usize = 61;
    match (&mut block[..at], index) {
        (_, 0) => {}
        ([.., entry], 1..=STATIC_MAX) | ([.., entry @ 0x7e], _) => {
            *entry = another_name(*entry, index);
            return true;
        }
        ([.., 0x0f | 0x1f, more @ 0..0x80], _) => {
            *more = 0; // `accept-charset`
            return true;
        }
        _ => return false, // it is kept, and no name of the table is as long
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
    fn codes_that_names_and_values_may_have() {
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
            for check in [Check::Name, Check::Value, Check::Text, Check::Method] {
                let is_refused = check.refuses(window, *length);
                assert_eq!(is_refused, !is_good(check, *symbol), "{symbol} {check:?}");
            }
            assert!(!Check::None.refuses(window, *length));
        }
    }

    /// All that a string of so many bytes may be, with any number of codes in it.
    #[test]
    fn strings_are_spelled_otherwise_in_as_many_bytes() {
        use super::super::huffman::Huffman;
        for length in 1..60_usize {
            for check in [Check::Name, Check::Value, Check::Text, Check::Method] {
                for codes in (8 * length).div_ceil(30)..=8 * length / 5 {
                    let mut bytes = vec![0; length];
                    let longest = if check == Check::Value { 28 } else { 15 };
                    let is_possible = codes * longest + 7 >= 8 * length;
                    let is_spelled = check.respell(&mut bytes, codes);
                    assert!(is_spelled || !is_possible, "{codes} in {length}, {check:?}");
                    if is_spelled {
                        let mut huffman = Huffman::default();
                        huffman.take(&bytes, check).unwrap();
                        assert_eq!((huffman.codes, huffman.is_bad), (codes, false));
                        huffman.end().unwrap();
                    }
                }
            }
        }
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
