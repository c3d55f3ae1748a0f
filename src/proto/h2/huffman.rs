//! Walks through Huffman-coded strings: whether they are well-formed, and have a `#`. Only the lengths of the
//! codes are read: they are in order, so that comparing is enough.
//!
//! Source: RFC 7541 §5.2 and appendix B.

use super::{mend::Check, meter::Refusal};

/// A string, byte by byte.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Huffman {
    /// Of a code that has begun, at the top; zeros follow.
    bits: u64,
    count: u32,
    /// A `#` came.
    pub(super) has_hash: bool,
    /// Something came that no such text has.
    pub(super) is_bad: bool,
    /// How many codes have come.
    pub(super) codes: usize,
}

impl Huffman {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// The string has the code that ends it.
    pub(super) fn take(&mut self, bytes: &[u8], check: Check) -> Result<(), Refusal> {
        const HASH: u32 = 0xffa;
        const END: u32 = 0xffff_fffc;
        for byte in bytes {
            self.bits |= u64::from(*byte) << (56 - self.count);
            self.count += 8;
            loop {
                let window = (self.bits >> 32) as u32;
                let length = length(window);
                if length > self.count {
                    break;
                }
                //= https://www.rfc-editor.org/rfc/rfc7541#section-5.2
                //# A Huffman-encoded string literal
                //# containing the EOS symbol MUST be treated as a decoding error.
                if window >= END {
                    return Err(Refusal::Compression);
                }
                self.has_hash |= window >> 20 == HASH;
                self.bits <<= length;
                self.count -= length;
                self.codes += 1;
                self.is_bad |= check.refuses(window, length);
            }
        }
        Ok(())
    }

    /// The string ends.
    ///
    /// # Errors
    /// What follows the last code is not its padding: fewer than eight ones.
    pub(super) fn end(self) -> Result<(), Refusal> {
        let is_padding = self.count < 8 && self.bits.leading_ones() == self.count;
        if is_padding { Ok(()) } else { Err(Refusal::Compression) }
    }
}

/// The bits of the code that is at the top; more than there are, if it is cut.
fn length(window: u32) -> u32 {
    match window {
        0..0x5000_0000 => 5,
        0x5000_0000..0xb800_0000 => 6,
        0xb800_0000..0xf800_0000 => 7,
        0xf800_0000..0xfe00_0000 => 8,
        _ => rare_length(window),
    }
}

/// Of those that few texts have.
fn rare_length(window: u32) -> u32 {
    match window {
        0..0xff40_0000 => 10,
        0xff40_0000..0xffa0_0000 => 11,
        0xffa0_0000..0xffc0_0000 => 12,
        0xffc0_0000..0xfff0_0000 => 13,
        0xfff0_0000..0xfff8_0000 => 14,
        0xfff8_0000..0xfffe_0000 => 15,
        0xfffe_0000..0xfffe_6000 => 19,
        0xfffe_6000..0xfffe_e000 => 20,
        0xfffe_e000..0xffff_4800 => 21,
        0xffff_4800..0xffff_b000 => 22,
        0xffff_b000..0xffff_ea00 => 23,
        0xffff_ea00..0xffff_f600 => 24,
        0xffff_f600..0xffff_f800 => 25,
        0xffff_f800..0xffff_fbc0 => 26,
        0xffff_fbc0..0xffff_fe20 => 27,
        0xffff_fe20..0xffff_fff0 => 28,
        _ => 30,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes of printable characters that an address may have. Source: RFC 7541 appendix B.
    fn huffman(text: &str) -> Vec<u8> {
        let code = |c: char| match c {
            '/' => (0x18, 6),
            'a' => (0x3, 5),
            'o' => (0x7, 5),
            'z' => (0x7b, 7),
            'X' => (0xfc, 8),
            'Z' => (0xfd, 8),
            '?' => (0x3fc, 10),
            '+' => (0x7fb, 11),
            '|' => (0x7fc, 11),
            '#' => (0xffa, 12),
            '>' => (0xffb, 12),
            '@' => (0x1ffa, 13),
            '~' => (0x1ffd, 13),
            '^' => (0x3ffc, 14),
            '{' => (0x7ffe, 15),
            '\\' => (0x7fff0, 19),
            _ => panic!("{c} has no code here"),
        };
        let mut bits: Vec<u8> = Vec::new();
        for c in text.chars() {
            let (code, length) = code(c);
            bits.extend((0..length).rev().map(|n| (code >> n & 1) as u8));
        }
        bits.resize(bits.len().next_multiple_of(8), 1);
        bits.chunks(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit)).collect()
    }

    /// What is said of a string however it is cut: whether it has a `#`, if it is well-formed.
    fn judge(coded: &[u8]) -> Result<bool, Refusal> {
        let mut all = (1..=coded.len()).map(|step| {
            let mut scan = Huffman::default();
            coded.chunks(step).try_for_each(|piece| scan.take(piece, Check::None))?;
            scan.end().map(|()| scan.has_hash)
        });
        let first = all.next().unwrap();
        assert!(all.all(|one| one == first), "{coded:02x?}");
        first
    }

    #[test]
    fn a_hash_is_found_wherever_it_is() {
        for (text, expected) in [
            ("/a#o", true),
            ("#", true),
            ("/zo?#", true),
            ("/X+@~^{|>a#", true),
            ("/a#\\", true),
            ("/\\#", true),
            ("/oo?zzZ?X?zo?>o>@~@{{^|+", false),
            ("/", false),
        ] {
            assert_eq!(judge(&huffman(text)), Ok(expected), "{text}");
        }
    }

    #[test]
    fn all_codes_have_their_length() {
        const COUNTS: [(u32, u32); 21] = [
            (5, 10),
            (6, 26),
            (7, 32),
            (8, 6),
            (10, 5),
            (11, 3),
            (12, 2),
            (13, 6),
            (14, 2),
            (15, 3),
            (19, 3),
            (20, 8),
            (21, 13),
            (22, 26),
            (23, 29),
            (24, 12),
            (25, 4),
            (26, 15),
            (27, 19),
            (28, 29),
            (30, 4),
        ];
        assert_eq!(COUNTS.iter().map(|(_, count)| count).sum::<u32>(), 257);
        let mut code = 0_u64;
        for (bits, count) in COUNTS {
            for _ in 0..count {
                assert_eq!(length(code as u32), bits, "{code:08x}");
                code += 1 << (32 - bits);
                assert_eq!(length((code - 1) as u32), bits, "{code:08x}");
            }
        }
        assert_eq!(code, 1 << 32);
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        for coded in [
            &[0xff, 0xff, 0xff, 0xff][..],   // ends itself
            &[0x1f, 0xff, 0xff, 0xff, 0xff], // behind an `a`
            &[0x1f, 0xff],                   // padding of more than seven bits
            &[0xff],                         // nothing but that
            &[0x18],                         // padding of zeros
            &[0x1e],                         // with a zero
            &[0xff, 0xfe],                   // half a code
        ] {
            assert_eq!(judge(coded), Err(Refusal::Compression), "{coded:02x?}");
        }
        for coded in [&[0x1f][..], &[0x18, 0xc6, 0x31, 0x8c, 0x63]] {
            assert_eq!(judge(coded), Ok(false), "{coded:02x?}");
        }
    }
}
