//! What fields the header blocks of responses have, and which of them are none.

use super::{
    super::{
        mend::{Check, STATUS, STATUS_CODED, another_name, is_status, rename_status},
        meter::Refusal,
    },
    Blocks, Next, STATIC_ENTRIES, STATIC_PSEUDO_MAX, Text,
};

/// What a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Regular,
    /// A pseudo-field, but not of responses.
    Pseudo,
    /// `:status`, of an interim response or not.
    Status {
        is_interim: bool,
    },
}

/// What a block has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Found {
    /// What no message has: an impossible name or value, and of a response another pseudo-field.
    pub(in super::super) is_foreign: bool,
    /// `:status`.
    pub(in super::super) has_status: bool,
    /// The status is one of an interim response.
    pub(in super::super) is_interim: bool,
}

impl Blocks {
    /// The name of a field is given by an index of one byte. That of a pseudo-field of requests becomes one whose value may be
    /// anything: one that is as long, where it is kept.
    pub(super) fn take_index(&mut self, entry: &mut u8) {
        if self.field == Field::Pseudo && self.index <= STATIC_PSEUDO_MAX {
            *entry = another_name(*entry, self.index);
        }
    }

    /// The length of a value begins before `at`, and ends there if it is one byte.
    pub(super) fn take_value_length(&mut self, block: &mut [u8], at: usize) {
        if matches!(self.field, Field::Status { .. }) {
            self.take_status(block, at);
        }
        if self.is_path() {
            block[at - 1] &= 0x7f; // in the Huffman code it might become no text
            self.is_huffman = false;
            self.check = self.check_of_value();
        }
    }

    /// A `:status` that is none becomes another field.
    fn take_status(&mut self, block: &mut [u8], at: usize) {
        let value = block.get(at..at + self.left);
        let is_long = matches!(self.next, Next::MoreLength(_));
        let is_none = value.is_some_and(|value| !is_status(value, self.is_huffman));
        if (is_long || is_none) && rename_status(block, at - 1, self.index) {
            let is_path = self.index > 0 && self.index <= STATIC_PSEUDO_MAX && !self.is_kept;
            self.field = if is_path { Field::Pseudo } else { Field::Regular };
            self.check = self.check_of_value();
            self.refuse_field();
        }
    }

    /// Whether the field has become `:path`, whose value is not kept and has to be text.
    fn is_path(&self) -> bool {
        let is_of_table = (1..=STATIC_PSEUDO_MAX).contains(&self.index);
        self.field == Field::Pseudo && is_of_table && !self.is_kept
    }

    pub(super) fn check_of_value(&self) -> Check {
        if self.is_path() { Check::Text } else { Check::Value }
    }

    /// A name of no bytes, whose length ends before `at`, gets some if that can be done: a field that is not kept becomes
    /// `accept-charset`, by an index of two bytes. The value of one that is becomes its name, so that the entry stays as long. Where
    /// to go on.
    #[cold]
    pub(super) fn take_no_name(&mut self, block: &mut [u8], at: usize) -> Result<usize, Refusal> {
        if !self.is_indexing && at > 1 {
            block[at - 2] |= 0x0f;
            block[at - 1] = 0;
            self.take_name(false)?;
            self.begin_field(Field::Regular);
            self.refuse_field();
            return Ok(at);
        }
        let bytes = block.get(at).map_or(0, |length| usize::from(length & 0x7f));
        match block.get_mut(at - 1..=at + bytes) {
            Some(field) if (1..0x7f).contains(&bytes) => {
                field.rotate_left(1);
                self.next = Next::Length(Text::Name);
                self.is_given = true;
                Ok(at - 1)
            }
            _ => Ok(at),
        }
    }

    /// The field is one that no message has, also where it is meant again by its index.
    #[cold]
    pub(super) fn refuse_field(&mut self) {
        self.found.is_foreign = true;
        if self.is_kept && self.is_of_responses {
            self.pseudo |= 1;
            self.status &= !1;
        } else if self.is_kept {
            self.refused |= 1;
        }
    }

    /// What lies at an index that is valid.
    pub(super) fn field_at(&self, index: usize) -> Field {
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

    /// Whether the name that lies at an index was given in place of none.
    pub(super) fn is_nameless_at(&self, index: usize) -> bool {
        let at = index.checked_sub(STATIC_ENTRIES + 1);
        at.is_some_and(|at| at < 128 && self.nameless >> at & 1 != 0)
    }

    /// A field whose value follows; `:status` is known by it.
    pub(super) fn begin_field(&mut self, field: Field) {
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

    pub(super) fn note(&mut self, field: Field) {
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
    pub(super) fn note_status(&mut self, first: u8) {
        /// The digit 1 in the Huffman code, of five bits.
        const ONE: u8 = 0b00001;
        let is_interim = if self.is_huffman { first >> 3 == ONE } else { first == b'1' };
        if self.is_kept {
            self.interim |= u128::from(is_interim);
        }
        self.note(Field::Status { is_interim });
    }

    /// What the field is whose name was read.
    pub(super) fn named(&self) -> Field {
        let name = self.name.get(..self.name_bytes).unwrap_or_default();
        let is_status = match self.is_huffman {
            true => name == STATUS_CODED,
            false => name == STATUS,
        };
        match (is_status, self.is_pseudo) {
            (true, _) => Field::Status { is_interim: false },
            (false, true) => Field::Pseudo,
            (false, false) => Field::Regular,
        }
    }
}
