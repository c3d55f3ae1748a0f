//! Finds pseudo-fields in a block of trailers, which the `h2` crate drops without a word.

/// The entries of HPACK's static table that are pseudo-fields are its first ones.
const STATIC_PSEUDO_MAX: u8 = 14;

/// The trailers of a stream, frame by frame.
#[derive(Clone, Debug)]
pub(super) struct Trailers {
    scan: PseudoScan,
    /// Bytes before the block: the length of the padding, a priority.
    before: u8,
    is_padded: bool,
    padding: usize,
}

impl Trailers {
    /// Their HEADERS frame begins.
    pub(super) fn begin(flags: u8) -> Self {
        const PADDED: u8 = 0x08;
        const PRIORITY: u8 = 0x20;
        let is_padded = flags & PADDED != 0;
        let before = u8::from(is_padded) + if flags & PRIORITY != 0 { 5 } else { 0 };
        Self { scan: PseudoScan::new(), before, is_padded, padding: 0 }
    }

    /// A CONTINUATION begins.
    pub(super) fn go_on(&mut self) {
        (self.before, self.padding) = (0, 0);
    }

    /// Whether there is a pseudo-field in the next piece of a payload, of which `left` bytes follow it.
    pub(super) fn find(&mut self, piece: &[u8], left: usize) -> bool {
        let mut piece = piece;
        while let [first, rest @ ..] = piece
            && self.before > 0
        {
            if std::mem::take(&mut self.is_padded) {
                self.padding = usize::from(*first);
            }
            self.before -= 1;
            piece = rest;
        }
        let block = (piece.len() + left).saturating_sub(self.padding).min(piece.len());
        self.scan.finds(&piece[..block])
    }
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The first one of an entry.
    Entry,
    /// More of an index (or of a size); then these strings follow.
    Index(Strings),
    /// The first one of a string's length.
    Length(Strings),
    /// More of the length, which is shifted by this.
    More(Strings, u32),
    /// A byte of a string.
    Text(Strings),
}

/// The strings of an entry that are not behind us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strings {
    None,
    Value,
    NameAndValue,
}

/// Walks through a header block byte by byte, cut anywhere, and decodes nothing. Names that the sender
/// put into the dynamic table are not seen.
///
/// Source: RFC 7541 §6, RFC 9113 §8.1.
#[derive(Clone, Debug)]
struct PseudoScan {
    next: Next,
    left: usize,
    is_huffman: bool,
    is_first: bool,
}

impl PseudoScan {
    fn new() -> Self {
        Self { next: Next::Entry, left: 0, is_huffman: false, is_first: false }
    }

    /// Whether there is a pseudo-field among the next bytes.
    fn finds(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().any(|byte| self.takes(*byte))
    }

    fn takes(&mut self, byte: u8) -> bool {
        match self.next {
            Next::Entry => return self.takes_entry(byte),
            Next::Index(strings) if byte & 0x80 == 0 => self.goes_on(strings),
            Next::Index(_) => {}
            Next::Length(strings) => {
                self.is_huffman = byte & 0x80 != 0;
                self.left = usize::from(byte & 0x7f);
                match self.left {
                    0x7f => self.next = Next::More(strings, 0),
                    _ => self.begins_text(strings),
                }
            }
            Next::More(strings, shift) => {
                let more = usize::from(byte & 0x7f).checked_shl(shift).unwrap_or(usize::MAX);
                self.left = self.left.saturating_add(more);
                match byte & 0x80 {
                    0 => self.begins_text(strings),
                    _ => self.next = Next::More(strings, shift.saturating_add(7)),
                }
            }
            Next::Text(strings) => return self.takes_text(byte, strings),
        }
        false
    }

    fn takes_entry(&mut self, byte: u8) -> bool {
        let (prefix, strings) = match byte {
            0x80.. => (0x7f, Strings::None),
            0x40..0x80 => (0x3f, Strings::Value),
            0x20..0x40 => (0x1f, Strings::None), // another size of the table
            _ => (0x0f, Strings::Value),
        };
        let index = byte & prefix;
        let is_size = prefix == 0x1f;
        if index == prefix {
            self.next = Next::Index(strings);
        } else if index == 0 && strings == Strings::Value {
            self.goes_on(Strings::NameAndValue);
        } else {
            self.goes_on(strings);
        }
        !is_size && (1..=STATIC_PSEUDO_MAX).contains(&index)
    }

    fn takes_text(&mut self, byte: u8, strings: Strings) -> bool {
        /// A colon in the Huffman code, of seven bits.
        const COLON: u8 = 0b101_1100;
        let is_first = std::mem::take(&mut self.is_first);
        let is_colon = if self.is_huffman { byte >> 1 == COLON } else { byte == b':' };
        self.left -= 1;
        if self.left == 0 {
            self.ends_text(strings);
        }
        is_first && is_colon && strings == Strings::NameAndValue
    }

    fn goes_on(&mut self, strings: Strings) {
        self.next = match strings {
            Strings::None => Next::Entry,
            strings => Next::Length(strings),
        };
    }

    fn begins_text(&mut self, strings: Strings) {
        self.is_first = true;
        match self.left {
            0 => self.ends_text(strings),
            _ => self.next = Next::Text(strings),
        }
    }

    fn ends_text(&mut self, strings: Strings) {
        self.goes_on(match strings {
            Strings::NameAndValue => Strings::Value,
            _ => Strings::None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(first: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut entry = vec![first];
        for text in [name, value] {
            if text.len() < 127 {
                entry.push(text.len() as u8);
            } else {
                let rest = text.len() - 127;
                entry.extend([127, (rest % 128) as u8 | 0x80, (rest / 128) as u8]);
            }
            entry.extend_from_slice(text);
        }
        entry
    }

    #[test]
    fn pseudo_fields_are_found_wherever_they_are() {
        let long = vec![b':'; 5_000];
        let mut before = Vec::new();
        before.extend([0x3f, 0xe1, 0x1f, 0xa0]); // a size, an indexed `content-type`
        before.extend(literal(0x40, b"x-t", &long));
        before.extend(literal(0, b"grpc-status", b":0"));
        before.extend(literal(0x10, b"", b"")); // nonsense, but well-formed
        before.extend([0x0f, 0x11, 1, b':', 0x7f, 0x05, 0]); // names by index
        before.extend([0xff, 0x80, 0x01, 0x21, 0x8f]); // large indices, a small size
        assert!(!PseudoScan::new().finds(&before));
        for field in [
            vec![0x84],          // :path /
            vec![0x44, 1, b'/'], // :path by its index
            literal(0, b":path", b"/"),
            literal(0x40, b":x", b""),
            vec![0x00, 0x84, 0xb9, 0x58, 0xd3, 0x3f, 0],
        ] {
            let block = [before.clone(), field.clone()].concat();
            assert!(PseudoScan::new().finds(&block), "{field:02x?}");
            let mut scan = PseudoScan::new();
            assert!(!scan.finds(&block[..before.len()]) && scan.finds(&block[before.len()..]));
        }
    }
}
