//! What rustls' record layer does not see to: on the way of every record, between rustls and the AEAD.
//!
//! Records that RFC 8446 wants refused with another alert than rustls has for them are refused here, before
//! rustls does; and an alert that [`super::Session`] provokes gets its description, as nobody but the one
//! who seals it can still change it. Nothing that rustls refuses is taken, and of nothing else than a fatal
//! alert anything is changed. Put there by [`super::suites`]; tests: `super::told`.

use std::cell::Cell;

use rustls::{
    ContentType, Error, InvalidMessage,
    crypto::cipher::{
        InboundOpaqueMessage, InboundPlainMessage, MessageDecrypter, MessageEncrypter,
        OutboundChunks, OutboundOpaqueMessage, OutboundPlainMessage,
    },
};

/// Bytes of a record in front of its content.
pub(super) const HEADER_BYTES: usize = 5;
/// Bytes of an encrypted record, at most. Source: RFC 8446 §5.2.
const SEALED_BYTES_MAX: usize = (1 << 14) + 256;
/// Bytes of any record, fewer than which rustls takes. Source: RFC 5246 §6.2.3.
const RECORD_BYTES_MAX: u16 = (1 << 14) + 2048;
/// Bytes of a handshake message in front of its content.
pub(super) const MESSAGE_HEADER_BYTES: usize = 4;
/// Types of handshake messages. Source: RFC 8446 §4.
const FINISHED: u8 = 20;
const KEY_UPDATE: u8 = 24;
/// The level of an alert that ends the connection. Source: RFC 8446 §6.
const FATAL: u8 = 2;

thread_local! {
    /// The description that the next fatal alert gets.
    static DESCRIPTION: Cell<Option<u8>> = const { Cell::new(None) };
    /// Whether a key update was sealed.
    static HAS_SEALED_UPDATE: Cell<bool> = const { Cell::new(false) };
    /// Whether the last record could not be decrypted.
    static IS_SKIPPING: Cell<bool> = const { Cell::new(false) };
}

/// Has the next fatal alert say `description`, unless [`take_description`] is called before.
pub(super) fn describe_next(description: u8) {
    DESCRIPTION.set(Some(description));
}

/// What the last fatal alert was to say.
pub(super) fn take_description() -> Option<u8> {
    DESCRIPTION.take()
}

/// Whether a key update was sealed since this was last asked.
pub(super) fn take_has_sealed_update() -> bool {
    HAS_SEALED_UPDATE.take()
}

/// Looks whether `take_in` ended with records that could not be decrypted and were not refused: early data of a
/// session that is not resumed.
pub(super) fn skips<T>(take_in: impl FnOnce() -> T) -> (T, bool) {
    IS_SKIPPING.set(false);
    let result = take_in();
    (result, IS_SKIPPING.get())
}

/// Bytes of the whole records at the front of `input`.
pub(super) fn whole_bytes(input: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(&[_, _, _, high, low]) = input[whole..].first_chunk() {
        let end = whole + HEADER_BYTES + usize::from(u16::from_be_bytes([high, low]));
        if end > input.len() {
            break;
        }
        whole = end;
    }
    whole
}

/// Whether `input` begins with the header of a record that is longer than any may be; rustls takes it for one that
/// can't be read.
pub(super) fn is_overlong(input: &[u8]) -> bool {
    matches!(input.first_chunk(), Some(&[20..=23, 3, _, high, low])
        if u16::from_be_bytes([high, low]) >= RECORD_BYTES_MAX)
}

/// Seals records.
pub(super) struct Sealing(pub(super) Box<dyn MessageEncrypter>);

impl MessageEncrypter for Sealing {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        seq: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        if message.typ == ContentType::ApplicationData {
            return self.0.encrypt(message, seq);
        }
        let first = message.payload.split_at(1).0.to_vec();
        if let (ContentType::Alert, Some(&FATAL), Some(description)) =
            (message.typ, first.first(), DESCRIPTION.get())
        {
            let payload = OutboundChunks::Single(&[FATAL, description]);
            return self.0.encrypt(OutboundPlainMessage { payload, ..message }, seq);
        }
        if message.typ == ContentType::Handshake && first == [KEY_UPDATE] {
            HAS_SEALED_UPDATE.set(true);
        }
        self.0.encrypt(message, seq)
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        self.0.encrypted_payload_len(payload_len)
    }
}

/// Opens records.
pub(super) struct Opening {
    inner: Box<dyn MessageDecrypter>,
    is_tls13: bool,
    finished_bytes: u32,
    /// Whether a record was opened.
    has_opened: bool,
    /// The header of the handshake message under way, and how much of it is here.
    header: ([u8; MESSAGE_HEADER_BYTES], usize),
    /// Bytes of that message that are missing.
    missing: usize,
}

impl Opening {
    pub(super) fn new(
        inner: Box<dyn MessageDecrypter>,
        finished_bytes: u32,
        is_tls13: bool,
    ) -> Self {
        let header = ([0; MESSAGE_HEADER_BYTES], 0);
        Self { inner, is_tls13, finished_bytes, has_opened: false, header, missing: 0 }
    }

    /// Follows the messages of the handshake, and refuses a Finished of another length than it has, which is
    /// one that can't be read, rather than one that does not fit. Source: RFC 8446 §6.2.
    fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let (header, here) = &mut self.header;
            if *here < MESSAGE_HEADER_BYTES {
                let (now, rest) = bytes.split_at(bytes.len().min(MESSAGE_HEADER_BYTES - *here));
                header[*here..*here + now.len()].copy_from_slice(now);
                *here += now.len();
                bytes = rest;
                if *here < MESSAGE_HEADER_BYTES {
                    break;
                }
                let [kind, length @ ..] = *header;
                let length = u32::from_be_bytes([0, length[0], length[1], length[2]]);
                if kind == FINISHED && length < self.finished_bytes {
                    return Err(InvalidMessage::MissingData("Finished").into());
                }
                if kind == FINISHED && length > self.finished_bytes {
                    return Err(InvalidMessage::TrailingData("Finished").into());
                }
                self.missing = length as usize;
            }
            let now = self.missing.min(bytes.len());
            self.missing -= now;
            bytes = &bytes[now..];
            if self.missing == 0 {
                *here = 0;
            }
        }
        Ok(())
    }
}

impl MessageDecrypter for Opening {
    fn decrypt<'a>(
        &mut self,
        message: InboundOpaqueMessage<'a>,
        seq: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        if self.is_tls13 {
            // Plain text where there must be none; RFC 8446 §5.
            if message.typ != ContentType::ApplicationData {
                return Err(out_of_place(message.typ));
            }
            // Genuine or not; RFC 8446 §5.2.
            if message.payload.len() > SEALED_BYTES_MAX {
                return Err(Error::PeerSentOversizedRecord);
            }
        }
        let opened = self.inner.decrypt(message, seq);
        if !self.has_opened || opened.is_err() {
            self.has_opened |= opened.is_ok();
            IS_SKIPPING.set(matches!(opened, Err(Error::DecryptError)));
        }
        let opened = opened?;
        if opened.typ != ContentType::ApplicationData {
            // Records of these kinds that hold nothing; RFC 8446 §5.4.
            if self.is_tls13 && opened.payload.is_empty() {
                return Err(out_of_place(opened.typ));
            }
            if opened.typ == ContentType::Handshake {
                self.follow(opened.payload)?;
            }
        }
        Ok(opened)
    }
}

/// The error that is told by `unexpected_message`.
pub(super) fn out_of_place(got_type: ContentType) -> Error {
    Error::InappropriateMessage { expect_types: vec![ContentType::ApplicationData], got_type }
}
