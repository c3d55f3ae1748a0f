//! Walks through header blocks as they pass, cut anywhere, for what the `h2` crate drops without a word
//! (pseudo-fields in trailers, a fragment in `:path`) or blames on another rule (broken compression).
//!
//! Nothing is decoded but lengths and indices, and Huffman-coded strings as far as it takes to know that they
//! can be. Of each entry of the sender's dynamic table is remembered whether it is a pseudo-field, and of an
//! endpoint's which one.
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
    /// The blocks are those of responses.
    is_of_responses: bool,
    /// The field is put into the table.
    is_kept: bool,
    /// The first bytes of the name that is being read, as they came, and how many there are.
    name: [u8; NAME_BYTES],
    name_bytes: usize,
    field: Field,
    found: Found,
    /// Which entries of the dynamic table are `:status`, and of these which are interim: as `pseudo`.
    status: u128,
    interim: u128,
    /// The entries of the dynamic table, the newest in bit 0. What was evicted has an index that the crate
    /// refuses, so that sizes don't matter.
    pseudo: u128,
    entries: u32,
    /// Bytes before the block in this frame: the length of the padding, a priority.
    before: u8,
    is_padded: bool,
    padding: usize,
}

/// As much of a name as it takes to know `:status`.
const NAME_BYTES: usize = 8;

/// What a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Regular,
    /// A pseudo-field, but not of responses.
    Pseudo,
    /// `:status`, of an interim response or not.
    Status {
        is_interim: bool,
    },
}

/// What a block of a response has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// A pseudo-field that no response has.
    pub(super) is_foreign: bool,
    /// `:status`.
    pub(super) has_status: bool,
    /// The status is one of an interim response.
    pub(super) is_interim: bool,
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
            is_of_responses: false,
            is_kept: false,
            name: [0; NAME_BYTES],
            name_bytes: 0,
            field: Field::Regular,
            found: Found::default(),
            status: 0,
            interim: 0,
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

    /// A HEADERS frame of a response begins, or of its trailers.
    pub(super) fn begin_response(&mut self, flags: u8) {
        self.begin(flags, false);
        self.is_of_responses = true;
        self.found = Found::default();
    }

    /// What the block of a response had.
    pub(super) fn found(&self) -> Found {
        self.found
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
                if self.is_of_responses {
                    let field = self.field_at(self.number);
                    self.note(field);
                }
                Next::Entry
            }
            Entry::Literal if self.number == 0 => {
                self.name_bytes = 0;
                Next::Length(Text::Name)
            }
            Entry::Literal => {
                let field = self.field_at(self.number);
                self.take_name(self.is_pseudo_at(self.number)?)?;
                self.begin_field(field);
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

    /// What lies at an index that is valid.
    fn field_at(&self, index: usize) -> Field {
        const STATUS: std::ops::RangeInclusive<usize> = 8..=STATIC_PSEUDO_MAX;
        let is = |table: u128, at: usize| at < 128 && table >> at & 1 != 0;
        match index.checked_sub(STATIC_ENTRIES + 1) {
            None if STATUS.contains(&index) => Field::Status { is_interim: false },
            None if index <= STATIC_PSEUDO_MAX => Field::Pseudo,
            None => Field::Regular,
            Some(at) if is(self.status, at) => Field::Status { is_interim: is(self.interim, at) },
            Some(at) if is(self.pseudo, at) => Field::Pseudo,
            Some(_) => Field::Regular,
        }
    }

    /// A field whose value follows; `:status` is known by it.
    fn begin_field(&mut self, field: Field) {
        if !self.is_of_responses {
            return;
        }
        self.field = field;
        if self.is_kept {
            let is_status = matches!(field, Field::Status { .. });
            self.status = self.status << 1 | u128::from(is_status);
            self.interim <<= 1; // its value will say
        }
        if !matches!(field, Field::Status { .. }) {
            self.note(field);
        }
    }

    fn note(&mut self, field: Field) {
        match field {
            Field::Regular => {}
            Field::Pseudo => self.found.is_foreign = true,
            Field::Status { is_interim } => {
                self.found.has_status = true;
                self.found.is_interim = is_interim;
            }
        }
    }

    /// The first byte of a status is here.
    fn note_status(&mut self, first: u8) {
        /// The digit 1 in the Huffman code, of five bits.
        const ONE: u8 = 0b00001;
        let is_interim = if self.is_huffman { first >> 3 == ONE } else { first == b'1' };
        if self.is_kept {
            self.interim |= u128::from(is_interim);
        }
        self.note(Field::Status { is_interim });
    }

    /// What the field is whose name was read.
    fn named(&self) -> Field {
        let name = self.name.get(..self.name_bytes).unwrap_or_default();
        let is_status = match self.is_huffman {
            true => name == [0xb8, 0x84, 0x8d, 0x36, 0xa3],
            false => name == b":status",
        };
        match (is_status, self.is_pseudo) {
            (true, _) => Field::Status { is_interim: false },
            (false, true) => Field::Pseudo,
            (false, false) => Field::Regular,
        }
    }

    /// The name of an entry is known.
    fn take_name(&mut self, is_pseudo: bool) -> Result<(), Refusal> {
        self.is_pseudo = is_pseudo;
        self.is_kept = std::mem::take(&mut self.is_indexing);
        if self.is_kept {
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
            if self.is_of_responses {
                let more = bytes.len().min(NAME_BYTES - self.name_bytes);
                self.name[self.name_bytes..][..more].copy_from_slice(&bytes[..more]);
                self.name_bytes += more;
            }
            if self.left == 0 {
                self.begin_field(self.named());
                self.next = Next::Length(Text::Value);
            }
            return Ok(());
        }
        if is_first
            && self.is_of_responses
            && matches!(self.field, Field::Status { .. })
            && let [first, ..] = bytes
        {
            self.note_status(*first);
        }
        if self.left == 0 {
            self.next = Next::Entry;
        }
        let has_hash = self.is_pseudo
            && match self.is_huffman {
                true => self.huffman.has_hash,
                false => bytes.contains(&b'#'),
            };
        if has_hash && !self.is_of_responses { Err(Refusal::Fragment) } else { Ok(()) }
    }
}

#[cfg(test)]
mod cases;
