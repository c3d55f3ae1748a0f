//! Walks through header blocks as they pass, cut anywhere, for what the `h2` crate drops without a word
//! (pseudo-fields in trailers, a fragment in `:path`) or blames on another rule (broken compression).
//!
//! Nothing is decoded but lengths and indices, and Huffman-coded strings as far as it takes to know that they
//! can be. Of each entry of the sender's dynamic table one thing is
//! remembered: whether it is a pseudo-field.
//!
//! Source: RFC 7541 §2.3, §5 and §6, RFC 9113 §8.1 and §8.3.

use super::{huffman::Huffman, meter::Refusal};

/// Entries of HPACK's static table, of which the first ones are pseudo-fields.
const STATIC_ENTRIES: usize = 61;
const STATIC_PSEUDO_MAX: usize = 14;

/// The size of the dynamic table that a sender may use, as ringway never says another, and how many
/// entries it can have at most: each counts 32 bytes more than its text.
const TABLE_BYTES: usize = 4096;
const TABLE_ENTRIES: u32 = (TABLE_BYTES / 32) as u32;

const _: () = assert!(TABLE_ENTRIES == u128::BITS);

/// The header blocks of one sender, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    next: Next,
    /// Of the integer that is being read.
    number: usize,
    shift: u32,
    /// Bytes of the string that are still to come.
    left: usize,
    is_huffman: bool,
    is_indexing: bool,
    is_pseudo: bool,
    /// No entry of this block has been seen.
    is_fresh: bool,
    is_trailers: bool,
    huffman: Huffman,
    /// The entries of the dynamic table, the newest in bit 0. What was evicted has an index that the crate
    /// refuses, so that sizes don't matter.
    pseudo: u128,
    entries: u32,
    /// Bytes before the block in this frame: the length of the padding, a priority.
    before: u8,
    is_padded: bool,
    padding: usize,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The first one of an entry.
    Entry,
    /// More of the number of an entry.
    Number(Entry),
    /// The first one of a string's length.
    Length(Text),
    /// More of it.
    MoreLength(Text),
    /// A byte of a string.
    Text(Text),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Indexed,
    Literal,
    Size,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Name,
    Value,
}

impl Blocks {
    pub(super) fn new() -> Self {
        Self {
            next: Next::Entry,
            number: 0,
            shift: 0,
            left: 0,
            is_huffman: false,
            is_indexing: false,
            is_pseudo: false,
            is_fresh: true,
            is_trailers: false,
            huffman: Huffman::default(),
            pseudo: 0,
            entries: 0,
            before: 0,
            is_padded: false,
            padding: 0,
        }
    }

    /// A HEADERS frame begins.
    pub(super) fn begin(&mut self, flags: u8, is_trailers: bool) {
        const PADDED: u8 = 0x08;
        const PRIORITY: u8 = 0x20;
        self.is_padded = flags & PADDED != 0;
        self.before = u8::from(self.is_padded) + if flags & PRIORITY != 0 { 5 } else { 0 };
        self.padding = 0;
        self.next = Next::Entry;
        self.is_fresh = true;
        self.is_trailers = is_trailers;
    }

    /// A CONTINUATION begins.
    pub(super) fn go_on(&mut self) {
        (self.before, self.padding) = (0, 0);
    }

    /// The last frame of the block has ended.
    ///
    /// # Errors
    /// When the block has not.
    pub(super) fn end(&self) -> Result<(), Refusal> {
        if self.next == Next::Entry { Ok(()) } else { Err(Refusal::Compression) }
    }

    /// Takes the next piece of a payload, of which `left` bytes follow it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn take(&mut self, piece: &[u8], left: usize) -> Result<(), Refusal> {
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
        let mut block = &piece[..block];
        while let [first, rest @ ..] = block {
            if let Next::Text(text) = self.next {
                let (bytes, rest) = block.split_at(self.left.min(block.len()));
                self.take_text(text, bytes)?;
                block = rest;
                continue;
            }
            self.take_byte(*first)?;
            block = rest;
        }
        Ok(())
    }

    fn take_byte(&mut self, byte: u8) -> Result<(), Refusal> {
        match self.next {
            Next::Entry => {
                let (entry, bits) = match byte {
                    0x80.. => (Entry::Indexed, 7),
                    0x40..0x80 => (Entry::Literal, 6),
                    0x20..0x40 => (Entry::Size, 5),
                    _ => (Entry::Literal, 4),
                };
                self.is_indexing = bits == 6;
                match self.begin_number(byte, bits) {
                    true => self.take_entry(entry)?,
                    false => self.next = Next::Number(entry),
                }
            }
            Next::Number(entry) => {
                if self.more_of_number(byte)? {
                    self.take_entry(entry)?;
                }
            }
            Next::Length(text) => {
                self.is_huffman = byte & 0x80 != 0;
                match self.begin_number(byte, 7) {
                    true => self.begin_text(text),
                    false => self.next = Next::MoreLength(text),
                }
            }
            Next::MoreLength(text) => {
                if self.more_of_number(byte)? {
                    self.begin_text(text);
                }
            }
            Next::Text(_) => {} // `take` has these
        }
        Ok(())
    }

    /// Whether the number is in this byte as a whole.
    fn begin_number(&mut self, byte: u8, bits: u32) -> bool {
        let mask = (1 << bits) - 1;
        self.number = usize::from(byte) & mask;
        self.shift = 0;
        self.number != mask
    }

    /// Whether this was its last byte.
    fn more_of_number(&mut self, byte: u8) -> Result<bool, Refusal> {
        const SHIFT_MAX: u32 = 21; // the crate takes no more bytes either
        if self.shift > SHIFT_MAX {
            return Err(Refusal::Compression);
        }
        self.number += usize::from(byte & 0x7f) << self.shift;
        self.shift += 7;
        Ok(byte & 0x80 == 0)
    }

    fn take_entry(&mut self, entry: Entry) -> Result<(), Refusal> {
        let is_first = std::mem::take(&mut self.is_fresh);
        self.next = match entry {
            Entry::Size => {
                //= https://www.rfc-editor.org/rfc/rfc7541#section-4.2
                //# This dynamic table size
                //# update MUST occur at the beginning of the first header block
                //# following the change to the dynamic table size.
                if !is_first || self.number > TABLE_BYTES {
                    return Err(Refusal::Compression);
                }
                self.is_fresh = true; // another may follow
                Next::Entry
            }
            Entry::Indexed => {
                self.take_name(self.is_pseudo_at(self.number)?)?;
                Next::Entry
            }
            Entry::Literal if self.number == 0 => Next::Length(Text::Name),
            Entry::Literal => {
                self.take_name(self.is_pseudo_at(self.number)?)?;
                Next::Length(Text::Value)
            }
        };
        Ok(())
    }

    fn is_pseudo_at(&self, index: usize) -> Result<bool, Refusal> {
        match index {
            0 => Err(Refusal::Compression),
            1..=STATIC_ENTRIES => Ok(index <= STATIC_PSEUDO_MAX),
            _ => match u32::try_from(index - STATIC_ENTRIES - 1) {
                Ok(at) if at < self.entries => Ok(self.pseudo >> at & 1 != 0),
                _ => Err(Refusal::Compression),
            },
        }
    }

    /// The name of an entry is known.
    fn take_name(&mut self, is_pseudo: bool) -> Result<(), Refusal> {
        self.is_pseudo = is_pseudo;
        if std::mem::take(&mut self.is_indexing) {
            self.pseudo = self.pseudo << 1 | u128::from(is_pseudo);
            self.entries = (self.entries + 1).min(TABLE_ENTRIES);
        }
        //= https://www.rfc-editor.org/rfc/rfc9113#section-8.1
        //# Trailers MUST NOT include pseudo-header fields (Section 8.3).
        if is_pseudo && self.is_trailers { Err(Refusal::PseudoTrailers) } else { Ok(()) }
    }

    fn begin_text(&mut self, text: Text) {
        self.left = self.number;
        self.huffman = Huffman::default();
        self.next = match (self.left, text) {
            (1.., text) => Next::Text(text),
            (0, Text::Name) => Next::Length(Text::Value), // no name: the crate refuses it
            (0, Text::Value) => Next::Entry,
        };
    }

    fn take_text(&mut self, text: Text, bytes: &[u8]) -> Result<(), Refusal> {
        /// A colon in the Huffman code, of seven bits.
        const COLON: u8 = 0b101_1100;
        let is_first = self.left == self.number;
        self.left -= bytes.len();
        if self.is_huffman {
            self.huffman.take(bytes)?;
            if self.left == 0 {
                self.huffman.end()?;
            }
        }
        if text == Text::Name {
            if is_first && let [first, ..] = bytes {
                let is_colon = if self.is_huffman { first >> 1 == COLON } else { *first == b':' };
                self.take_name(is_colon)?;
            }
            if self.left == 0 {
                self.next = Next::Length(Text::Value);
            }
            return Ok(());
        }
        if self.left == 0 {
            self.next = Next::Entry;
        }
        let has_hash = self.is_pseudo
            && match self.is_huffman {
                true => self.huffman.has_hash,
                false => bytes.contains(&b'#'),
            };
        if has_hash { Err(Refusal::Fragment) } else { Ok(()) }
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

    /// What is found in `block` behind `start`, however it is cut.
    fn found(start: &Blocks, is_trailers: bool, block: &[u8]) -> Result<(), Refusal> {
        let mut results = (1..=block.len()).map(|step| {
            let mut blocks = start.clone();
            blocks.begin(0, is_trailers);
            let mut left = block.len();
            for piece in block.chunks(step) {
                left -= piece.len();
                blocks.take(piece, left)?;
            }
            blocks.end()
        });
        let first = results.next().unwrap();
        assert!(results.all(|result| result == first), "{block:02x?}");
        first
    }

    /// A sender that has put `entries` into its table.
    fn sender(entries: &[(&[u8], &[u8])]) -> Blocks {
        let mut blocks = Blocks::new();
        for (name, value) in entries {
            blocks.take(&literal(0x40, name, value), 0).unwrap();
        }
        blocks
    }

    #[test]
    fn pseudo_fields_in_trailers_are_found_wherever_they_are() {
        let long = vec![b':'; 5_000];
        let mut before = Vec::new();
        before.extend([0x3f, 0xe1, 0x1f]); // a size
        before.extend(literal(0x40, b"x-t", &long));
        before.extend(literal(0x40, b"x-u", b"v"));
        before.extend(literal(0, b"grpc-status", b":0#"));
        before.extend(literal(0x10, b"", b"")); // nonsense, but well-formed
        before.extend([0x0f, 0x11, 1, b':', 0x7f, 0x00, 0, 0xbe, 0x9f]); // names by index
        assert_eq!(found(&Blocks::new(), true, &before), Ok(()));
        let known = sender(&[(b":path", b"/x"), (b"x", b":y")]);
        assert_eq!(found(&known, true, &[0xbe]), Ok(()));
        for field in [
            vec![0x84],          // :path /
            vec![0x44, 1, b'/'], // :path by its index
            literal(0, b":path", b"/"),
            literal(0x40, b":x", b""),
            vec![0x00, 0x84, 0xb9, 0x58, 0xd3, 0x3f, 0],
            vec![0xbf],                // what the table has
            vec![0x7f, 0x00, 1, b'z'], // another value for it
        ] {
            let block = [&literal(0, b"x-t", &long), &field[..]].concat();
            assert_eq!(found(&known, true, &block), Err(Refusal::PseudoTrailers), "{field:02x?}");
            assert_eq!(found(&known, false, &block), Ok(()), "{field:02x?}");
        }
    }

    #[test]
    fn entries_move_up_in_the_table() {
        let mut blocks = sender(&[(b":path", b"/x")]);
        for _ in 1..TABLE_ENTRIES {
            blocks.take(&literal(0x40, b"x", b""), 0).unwrap();
        }
        let at = |index: usize| vec![0xff, (index - 127) as u8 | 0x80, ((index - 127) >> 7) as u8];
        let last = STATIC_ENTRIES + TABLE_ENTRIES as usize;
        assert_eq!(found(&blocks, true, &at(last - 1)), Ok(()));
        assert_eq!(found(&blocks, true, &at(last)), Err(Refusal::PseudoTrailers));
        assert_eq!(found(&blocks, true, &at(last + 1)), Err(Refusal::Compression));
    }

    #[test]
    fn broken_compression_is_told() {
        for block in [
            &[0x80][..],                        // index 0
            &[0xbe],                            // nothing there
            &[0xff, 0xff, 0xff, 0xff, 0x0f],    // far beyond
            &[0xff, 0x80, 0x80, 0x80, 0x80, 1], // too long
            &[0x3f, 0xe2, 0x1f],                // a larger table
            &[0x82, 0x20],                      // a size behind a field
            &[0x00, 1, b'a', 2, b'b'],          // ends in a value
            &[0x00, 3, b'a'],                   // ends in a name
            &[0x40],
            &[0x00, 1, b'a', 0x7f],
            &[0x00, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff], // a string that ends itself
            &[0x00, 0x82, 0xf3, 0xff, 1, b'x'],             // a name with too much padding
        ] {
            assert_eq!(
                found(&Blocks::new(), false, block),
                Err(Refusal::Compression),
                "{block:02x?}"
            );
        }
        assert_eq!(found(&Blocks::new(), false, &[0x20, 0x3f, 0xe1, 0x1f, 0x82]), Ok(()));
    }

    #[test]
    fn fragments_are_found() {
        let known = sender(&[(b":path", b"/x")]);
        let huffman = [0x60, 0x7f, 0xf4, 0x3f]; // `/a#a`
        for field in [
            &[0x44, 4, b'/', b'a', b'#', b'o'][..],
            &[0x7e, 1, b'#'],
            &literal(0, b":authority", b"a.test#"),
            &[&[0x04, 0x84][..], &huffman].concat(),
        ] {
            assert_eq!(found(&known, false, field), Err(Refusal::Fragment), "{field:02x?}");
        }
        assert_eq!(found(&known, false, &literal(0, b"x", b"#")), Ok(()));
        assert_eq!(found(&known, false, &[0x44, 3, b'/', b'a', b'?']), Ok(()));
    }
}
