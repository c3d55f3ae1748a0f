//! Looks for a `#` in a Huffman-coded string. Only the lengths of the codes are read: they are in order, so
//! that comparing is enough.
//!
//! Source: RFC 7541 §5.2 and appendix B.

/// A string, byte by byte.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HashScan {
    bits: u64,
    count: u32,
    /// A character came that no pseudo-field has: it is refused anyway.
    is_over: bool,
}

impl HashScan {
    /// Whether there is one among the next bytes.
    pub(super) fn finds(&mut self, bytes: &[u8], is_last: bool) -> bool {
        /// The longest code of a character that an address may have.
        const LONGEST: u32 = 15;
        for byte in bytes {
            self.bits = self.bits << 8 | u64::from(*byte);
            self.count += 8;
            while self.count >= LONGEST && !self.is_over {
                if self.steps_on_hash() {
                    return true;
                }
            }
            if self.is_over {
                return false;
            }
        }
        while is_last && self.count > 0 && !self.is_over {
            if self.steps_on_hash() {
                return true;
            }
        }
        false
    }

    /// Passes one code; whether it was that of `#`.
    fn steps_on_hash(&mut self) -> bool {
        const HASH: u32 = 0xffa;
        // The code is at the top; behind the last bit ones follow, as in the padding.
        let below = 64 - self.count;
        let window = ((self.bits << below | ((1 << below) - 1)) >> 32) as u32;
        let length = match window {
            0..0x5000_0000 => 5,
            0x5000_0000..0xb800_0000 => 6,
            0xb800_0000..0xf800_0000 => 7,
            0xf800_0000..0xfe00_0000 => 8,
            0xfe00_0000..0xff40_0000 => 10,
            0xff40_0000..0xffa0_0000 => 11,
            0xffa0_0000..0xffc0_0000 => 12,
            0xffc0_0000..0xfff0_0000 => 13,
            0xfff0_0000..0xfff8_0000 => 14,
            0xfff8_0000..0xfffe_0000 => 15,
            _ => u32::MAX,
        };
        self.is_over = length > self.count; // the padding, or a longer code
        if self.is_over {
            return false;
        }
        self.count -= length;
        window >> 20 == HASH
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

    #[test]
    fn it_is_found_wherever_it_is() {
        for (text, expected) in [
            ("/a#o", true),
            ("#", true),
            ("/zo?#", true),
            ("/X+@~^{|>a#", true),
            ("/a#\\", true),
            ("/oo?zzZ?X?zo?>o>@~@{{^|+", false),
            ("/", false),
            ("/\\#", false), // refused for another reason
        ] {
            let coded = huffman(text);
            for step in 1..=coded.len() {
                let mut scan = HashScan::default();
                let pieces = coded.len().div_ceil(step);
                let mut numbered = coded.chunks(step).zip(1..);
                let found = numbered.any(|(piece, number)| scan.finds(piece, number == pieces));
                assert_eq!(found, expected, "{text}, cut every {step}");
            }
        }
    }
}
