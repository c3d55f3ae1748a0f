//! What fields the header blocks of responses have, and which of them are none.

use super::{
    super::mend::{Check, STATUS, STATUS_CODED, is_status, rename_status},
    Blocks, STATIC_ENTRIES, STATIC_PSEUDO_MAX,
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

/// What a block of a response has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Found {
    /// What no response has: another pseudo-field, an impossible name or value.
    pub(in super::super) is_foreign: bool,
    /// `:status`.
    pub(in super::super) has_status: bool,
    /// The status is one of an interim response.
    pub(in super::super) is_interim: bool,
}

impl Blocks {
    /// The value of `:status` begins at `at`, behind a byte that is its length: if it is none, it becomes another
    /// field.
    pub(super) fn take_status(&mut self, block: &mut [u8], at: usize) {
        let value = block.get(at..at + self.left);
        let is_none = value.is_some_and(|value| !is_status(value, self.is_huffman));
        if is_none && rename_status(block, at - 1, self.is_by_index) {
            self.field = Field::Regular;
            self.check = Check::Value;
            self.refuse_field();
        }
    }

    /// The field is one that no response has, also where it is meant again by its index.
    #[cold]
    pub(super) fn refuse_field(&mut self) {
        self.found.is_foreign = true;
        if self.is_kept {
            self.pseudo |= 1;
            self.status &= !1;
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
