//! Walks through header blocks as they pass, cut anywhere, for what the `h2` crate drops without a word
//! (pseudo-fields in trailers, a fragment in `:path`), blames on another rule (broken compression), or on all
//! streams of a connection (impossible names and values), which is mended.
//!
//! Nothing is decoded but lengths and indices, and Huffman-coded strings as far as it takes to know that they
//! can be. Of each entry of the sender's dynamic table is remembered whether it is a pseudo-field, and of an
//! endpoint's which one.
//!
//! Source: RFC 7541 §2.3, §5 and §6, RFC 9113 §8.1 and §8.3.

mod of_response;

pub(super) use of_response::Found;

use of_response::Field;

use super::{
    huffman::Huffman,
    mend::{Check, METHOD, METHOD_CODED, STATUS, STATUS_CODED, is_known, unname},
    meter::Refusal,
};

/// Entries of HPACK's static table, of which the first ones are pseudo-fields.
const STATIC_ENTRIES: usize = 61;
const STATIC_PSEUDO_MAX: usize = 14;
/// Those of them that are `:method`.
const METHOD_INDEX: usize = 2;
const METHOD_POST_INDEX: usize = 3;

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
    /// The index that the name is given by; 0 if it is not.
    index: usize,
    /// The name is one in place of none.
    is_given: bool,
    /// What the text that is being read has to be.
    check: Check,
    field: Field,
    found: Found,
    /// Which entries of the dynamic table are `:status`, and of these which are interim: as `pseudo`.
    status: u128,
    interim: u128,
    /// The entries of the dynamic table, the newest in bit 0. What was evicted has an index that the crate
    /// refuses, so that sizes don't matter.
    pseudo: u128,
    /// Those of a client that no request may have.
    refused: u128,
    /// Those that have a name in place of none: who means that name by its index means one of another length.
    nameless: u128,
    entries: u32,
    /// Bytes before the block in this frame: the length of the padding, a priority.
    before: u8,
    is_padded: bool,
    padding: usize,
}

/// As much of a name as it takes to know `:status`.
const NAME_BYTES: usize = 8;

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
            index: 0,
            is_given: false,
            check: Check::None,
            field: Field::Regular,
            found: Found::default(),
            status: 0,
            interim: 0,
            pseudo: 0,
            refused: 0,
            nameless: 0,
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
        self.is_given = false;
        self.is_trailers = is_trailers;
        self.found = Found::default();
    }

    /// A HEADERS frame of a response begins, or of its trailers.
    pub(super) fn begin_response(&mut self, flags: u8) {
        self.begin(flags, false);
        self.is_of_responses = true;
    }

    /// Whether what is impossible is replaced: not in trailers of requests, whose streams are under way.
    fn mends(&self) -> bool {
        self.is_of_responses || !self.is_trailers
    }

    /// What the block had.
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

    /// Takes the next piece of a payload, of which `left` bytes follow it. What no message may have is replaced.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn take(&mut self, piece: &mut [u8], left: usize) -> Result<(), Refusal> {
        let mut begin = 0;
        while self.before > 0 && begin < piece.len() {
            if std::mem::take(&mut self.is_padded) {
                self.padding = usize::from(piece[begin]);
            }
            self.before -= 1;
            begin += 1;
        }
        let piece = &mut piece[begin..];
        let block = (piece.len() + left).saturating_sub(self.padding).min(piece.len());
        let block = &mut piece[..block];
        let mut at = 0;
        while at < block.len() {
            if let Next::Text(text) = self.next {
                let end = block.len().min(at + self.left);
                self.take_text(text, &mut block[at..end])?;
                at = end;
                continue;
            }
            let was = self.next;
            let byte = block[at];
            at += 1;
            if was == Next::Entry && self.is_plain(byte) {
                (self.is_fresh, self.is_pseudo, self.is_kept) = (false, false, false);
                continue;
            }
            self.take_byte(byte)?;
            match (was, self.next) {
                (Next::Length(Text::Name), Next::Length(Text::Value)) if self.mends() => {
                    at = self.take_no_name(block, at)?;
                }
                _ if !self.is_of_responses => {}
                (Next::Entry, Next::Length(Text::Value)) => self.take_index(&mut block[at - 1]),
                (Next::Length(Text::Value), _) => self.take_value_length(block, at),
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a byte is a whole field of a request that is in a table, and one that may be: what most bytes of
    /// most blocks are.
    fn is_plain(&self, byte: u8) -> bool {
        let index = usize::from(byte & 0x7f);
        let is_there = index <= STATIC_ENTRIES + self.entries as usize;
        let is_whole = byte > 0x80 && byte < 0xff;
        let is_any = !self.is_of_responses && !self.is_trailers && self.refused == 0;
        is_whole && is_there && is_any
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
                self.refuse_if(self.is_refused_at(self.number))?;
                if self.is_of_responses {
                    let field = self.field_at(self.number);
                    self.note(field);
                }
                Next::Entry
            }
            Entry::Literal if self.number == 0 => {
                self.name_bytes = 0;
                self.index = 0;
                Next::Length(Text::Name)
            }
            Entry::Literal => {
                let field = self.field_at(self.number);
                if self.is_nameless_at(self.number) {
                    return Err(Refusal::Compression);
                }
                let is_refused = self.is_refused_at(self.number);
                self.take_name(self.is_pseudo_at(self.number)?)?;
                self.refuse_if(is_refused)?;
                self.index = self.number;
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

    /// The name of an entry is known.
    fn take_name(&mut self, is_pseudo: bool) -> Result<(), Refusal> {
        self.is_pseudo = is_pseudo;
        self.is_kept = std::mem::take(&mut self.is_indexing);
        if self.is_kept {
            self.pseudo = self.pseudo << 1 | u128::from(is_pseudo);
            self.refused <<= 1;
            self.nameless <<= 1;
            self.entries = (self.entries + 1).min(TABLE_ENTRIES);
        }
        //= https://www.rfc-editor.org/rfc/rfc9113#section-8.1
        //# Trailers MUST NOT include pseudo-header fields (Section 8.3).
        if is_pseudo && self.is_trailers { Err(Refusal::PseudoTrailers) } else { Ok(()) }
    }

    /// The first bytes of a name are here.
    fn begin_name(&mut self, bytes: &mut [u8]) -> Result<(), Refusal> {
        /// A colon in the Huffman code, of seven bits.
        const COLON: u8 = 0b101_1100;
        let [first, ..] = bytes else { return Ok(()) };
        let is_colon = if self.is_huffman { *first >> 1 == COLON } else { *first == b':' };
        self.take_name(is_colon)?;
        if is_colon && !self.is_of_responses {
            let is_whole = bytes.len() == self.left;
            if self.mends() && is_whole && !is_known(bytes, self.is_huffman) {
                unname(&mut bytes[0], self.is_huffman);
                self.refuse_field();
            } else {
                self.check = Check::None;
            }
        } else if is_colon {
            let status = if self.is_huffman { STATUS_CODED } else { STATUS };
            match self.left == status.len() && status.starts_with(bytes) {
                true => self.check = Check::None,
                false => unname(&mut bytes[0], self.is_huffman), // it is counted as what it was
            }
        }
        Ok(())
    }

    /// Looks at the next bytes of a text.
    fn walk(&mut self, bytes: &mut [u8]) -> Result<(), Refusal> {
        if !self.is_huffman {
            if self.check.mend(bytes) {
                self.refuse_field();
            }
            return Ok(());
        }
        self.huffman.take(bytes, self.check)?;
        if self.left > 0 {
            return Ok(());
        }
        self.huffman.end()?;
        if self.huffman.is_bad {
            self.refuse_field();
            // What has come before is with the crate, which refuses it.
            let is_whole = bytes.len() == self.number;
            if is_whole && !self.check.respell(bytes, self.huffman.codes) {
                return Err(Refusal::Compression);
            }
        }
        Ok(())
    }

    fn begin_text(&mut self, text: Text) {
        self.left = self.number;
        self.huffman = Huffman::default();
        self.check = match text {
            _ if !self.mends() => Check::None,
            Text::Name => Check::Name,
            Text::Value if self.is_of_responses => self.check_of_value(),
            Text::Value => self.check_of_request(),
        };
        self.next = match (self.left, text) {
            (1.., text) => Next::Text(text),
            (0, Text::Name) => Next::Length(Text::Value),
            (0, Text::Value) => Next::Entry,
        };
    }

    fn take_text(&mut self, text: Text, bytes: &mut [u8]) -> Result<(), Refusal> {
        let is_first = self.left == self.number;
        if is_first && text == Text::Name {
            self.begin_name(bytes)?;
        }
        self.left -= bytes.len();
        self.walk(bytes)?;
        if text == Text::Name {
            if self.is_of_responses || self.is_pseudo {
                let more = bytes.len().min(NAME_BYTES - self.name_bytes);
                self.name[self.name_bytes..][..more].copy_from_slice(&bytes[..more]);
                self.name_bytes += more;
            }
            if self.left == 0 {
                let name = self.name.get(..self.name_bytes).unwrap_or_default();
                if !self.is_of_responses && (name == METHOD || name == METHOD_CODED) {
                    self.index = METHOD_INDEX;
                }
                self.begin_field(self.named());
                if std::mem::take(&mut self.is_given) {
                    self.nameless |= 1;
                    self.refuse_field();
                }
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
        if has_hash && !self.is_of_responses {
            self.refuse_field(); // parsers differ in what they do with a fragment
        }
        Ok(())
    }

    /// What a value of a client has to be.
    fn check_of_request(&self) -> Check {
        match self.index {
            _ if !self.is_pseudo => Check::Value,
            METHOD_INDEX | METHOD_POST_INDEX => Check::Method,
            _ => Check::Text,
        }
    }

    /// Whether what lies at an index is what no request may have.
    fn is_refused_at(&self, index: usize) -> bool {
        let at = index.checked_sub(STATIC_ENTRIES + 1);
        at.is_some_and(|at| at < 128 && self.refused >> at & 1 != 0)
    }

    fn refuse_if(&mut self, is_refused: bool) -> Result<(), Refusal> {
        if is_refused && self.is_trailers {
            return Err(Refusal::PseudoTrailers);
        }
        if is_refused {
            self.refuse_field();
        }
        Ok(())
    }
}

#[cfg(test)]
mod cases;
