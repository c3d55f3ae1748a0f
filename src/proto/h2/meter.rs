//! Counts frames that cost work and carry nothing, and looks at the first one.
//!
//! The `h2` crate bounds what a frame may make it remember: resets of streams nobody has accepted
//! yet, CONTINUATION frames, small DATA frames. What costs only time (PING, SETTINGS, PRIORITY,
//! resets of streams under way, frames of unknown types) is metered here, on the raw bytes. Nor does
//! the crate ask that a connection begins with SETTINGS, and it calls all that is wrong with a frame a
//! PROTOCOL_ERROR. What it overlooks in header blocks is found by [`Blocks`].

use super::block::Blocks;
use crate::base::limits;

/// Why a frame is not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The peer sends more frames that carry nothing than any program has use for.
    Flood,
    /// The first one is no SETTINGS.
    NoSettings,
    /// Trailers have a pseudo-field.
    PseudoTrailers,
    /// A pseudo-field has a `#`: parsers differ in what they do with a fragment.
    Fragment,
    /// A header block can't be decoded.
    Compression,
    /// A frame has not the length that its type has.
    FrameSize,
    /// A setting makes windows larger than they may be.
    Window,
}

const HEADER_BYTES: usize = 9;
const SETTING_BYTES: usize = 6;

/// Reads the headers of frames as they pass, cut anywhere, and keeps an account of the empty ones: a
/// bucket of [`limits::H2_EMPTY_FRAMES_MAX`] that fills by [`limits::H2_EMPTY_FRAMES_PER_TICK`].
#[derive(Clone, Debug)]
pub struct FrameMeter {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    payload_left: usize,
    /// The first frame has been seen.
    has_begun: bool,
    tokens: u32,
    last_tick: u64,
    /// Header blocks that have begun.
    heads: u32,
    /// Frames of the last one are still to come.
    head_goes_on: bool,
    /// The payload that passes belongs to it.
    payload_is_head: bool,
    /// The last stream the peer has opened, if it is the one that opens streams.
    last_stream: Option<u32>,
    blocks: Blocks,
    /// The setting that is being read.
    setting: [u8; SETTING_BYTES],
    setting_bytes: usize,
    is_settings: bool,
}

impl FrameMeter {
    /// A meter for the frames behind `skip` bytes of preface, which clients send.
    pub fn new(skip: usize, now_tick: u64) -> Self {
        Self {
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            payload_left: skip,
            has_begun: false,
            tokens: limits::H2_EMPTY_FRAMES_MAX,
            last_tick: now_tick,
            heads: 0,
            head_goes_on: false,
            payload_is_head: false,
            last_stream: (skip > 0).then_some(0),
            blocks: Blocks::new(),
            setting: [0; SETTING_BYTES],
            setting_bytes: 0,
            is_settings: false,
        }
    }

    /// The number of the header block that has begun and is not here as a whole.
    pub fn unfinished_head(&self) -> Option<u32> {
        let is_cut = self.payload_is_head && self.payload_left > 0;
        (self.head_goes_on || is_cut).then_some(self.heads)
    }

    /// Takes the next bytes of the connection.
    ///
    /// # Errors
    /// Why no more of them may be taken, and how many of them may be.
    pub fn pass(&mut self, bytes: &[u8], now_tick: u64) -> Result<(), (usize, Refusal)> {
        self.refill(now_tick);
        let all = bytes.len();
        let mut bytes = bytes;
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len());
                self.payload_left -= skipped;
                let (piece, rest) = bytes.split_at(skipped);
                self.take_payload(piece).map_err(|refusal| (all - bytes.len(), refusal))?;
                bytes = rest;
                continue;
            }
            let taken = (HEADER_BYTES - self.header_bytes).min(bytes.len());
            let (head, rest) = bytes.split_at(taken);
            self.header[self.header_bytes..self.header_bytes + taken].copy_from_slice(head);
            self.header_bytes += taken;
            bytes = rest;
            if self.header_bytes == HEADER_BYTES {
                self.header_bytes = 0;
                let before = all - bytes.len() - taken;
                self.take_header().map_err(|refusal| (before, refusal))?;
            }
        }
        Ok(())
    }

    fn refill(&mut self, now_tick: u64) {
        let ticks = u32::try_from(now_tick.wrapping_sub(self.last_tick)).unwrap_or(u32::MAX);
        self.last_tick = now_tick;
        let more = ticks.saturating_mul(limits::H2_EMPTY_FRAMES_PER_TICK);
        self.tokens = self.tokens.saturating_add(more).min(limits::H2_EMPTY_FRAMES_MAX);
    }

    /// The next bytes of a payload.
    fn take_payload(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        if self.is_settings {
            return piece.iter().try_for_each(|byte| self.take_setting(*byte));
        }
        if !self.payload_is_head || self.last_stream.is_none() {
            return Ok(());
        }
        self.blocks.take(piece, self.payload_left)?;
        if self.payload_left == 0 && !self.head_goes_on { self.blocks.end() } else { Ok(()) }
    }

    fn take_setting(&mut self, byte: u8) -> Result<(), Refusal> {
        const INITIAL_WINDOW_SIZE: u16 = 4;
        self.setting[self.setting_bytes] = byte;
        self.setting_bytes = (self.setting_bytes + 1) % SETTING_BYTES;
        let [a, b, value @ ..] = self.setting;
        let is_window = u16::from_be_bytes([a, b]) == INITIAL_WINDOW_SIZE;
        //= https://www.rfc-editor.org/rfc/rfc9113#section-6.5.2
        //# Values above the maximum flow-control window size of 2^31-1 MUST
        //# be treated as a connection error (Section 5.4.1) of type
        //# FLOW_CONTROL_ERROR.
        let is_over = u32::from_be_bytes(value) > u32::MAX >> 1;
        match self.setting_bytes == 0 && is_window && is_over {
            true => Err(Refusal::Window),
            false => Ok(()),
        }
    }

    fn take_header(&mut self) -> Result<(), Refusal> {
        let [a, b, c, kind, flags, id @ ..] = self.header;
        //= https://www.rfc-editor.org/rfc/rfc9113#section-3.4
        //# This sequence MUST be followed by a SETTINGS frame (Section 6.5),
        //# which MAY be empty.
        let is_ack = kind == SETTINGS && flags & ACK != 0;
        if !std::mem::replace(&mut self.has_begun, true) && (kind != SETTINGS || is_ack) {
            return Err(Refusal::NoSettings);
        }
        self.payload_left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if !may_have(kind, is_ack, self.payload_left) {
            return Err(Refusal::FrameSize);
        }
        self.is_settings = kind == SETTINGS;
        self.payload_is_head = matches!(kind, HEADERS | CONTINUATION);
        if self.payload_is_head {
            self.heads = self.heads.wrapping_add(u32::from(kind == HEADERS));
            self.head_goes_on = flags & END_HEADERS == 0;
        }
        let id = u32::from_be_bytes(id) & (u32::MAX >> 1);
        match (kind, &mut self.last_stream) {
            (HEADERS, Some(last)) => {
                // What opens no stream belongs to one that is open.
                self.blocks.begin(flags, id <= *last);
                *last = id.max(*last);
            }
            (CONTINUATION, _) => self.blocks.go_on(),
            _ => {}
        }
        let is_empty = match kind {
            DATA => self.payload_left == 0 && flags & END_STREAM == 0,
            // Window updates answer what we sent; the rest is the crate's to bound.
            HEADERS | WINDOW_UPDATE | CONTINUATION => false,
            _ => true,
        };
        if is_empty {
            self.tokens = self.tokens.checked_sub(1).ok_or(Refusal::Flood)?;
        }
        Ok(())
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Whether a frame of this kind may have so many bytes. Source: RFC 9113 §6.
fn may_have(kind: u8, is_ack: bool, bytes: usize) -> bool {
    match kind {
        PRIORITY => bytes == 5,
        RST_STREAM | WINDOW_UPDATE => bytes == 4,
        SETTINGS if is_ack => bytes == 0,
        SETTINGS => bytes.is_multiple_of(SETTING_BYTES),
        PING => bytes == 8,
        GOAWAY => bytes >= 8,
        _ => true, // the crate knows the largest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0, 0, payload.len() as u8, kind, 0, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn only_empty_ones_count_however_they_are_cut() {
        let mut bytes = b"preface".to_vec();
        bytes.extend(frame(4, b"")); // SETTINGS
        bytes.extend(frame(0, b"\0\0\0\x06\0\0\0\0\0")); // DATA that looks like a PING
        bytes.extend(frame(6, b"12345678")); // PING
        for step in 1..bytes.len() {
            let mut meter = FrameMeter::new(7, 0);
            for piece in bytes.chunks(step) {
                meter.pass(piece, 0).unwrap();
            }
            assert_eq!(meter.tokens, limits::H2_EMPTY_FRAMES_MAX - 2, "cut every {step}");
        }
    }

    #[test]
    fn trailers_are_looked_at_however_they_are_cut() {
        let head = |kind, flags, id: u8, block: &[u8]| {
            [&[0, 0, block.len() as u8, kind, flags, 0, 0, 0, id], block].concat()
        };
        let start = [b"preface", &SETTINGS[..], &head(1, 4, 1, &[0x84])].concat();
        let path = [0x44, 1, b'/'];
        let padded = [&[3, 0, 0, 0, 1, 9][..], &path, &[0x84; 3]].concat();
        let only_padding = [&[3][..], &[0x8f, 0x84, 0x84, 0x84]].concat();
        for (frames, is_bad) in [
            (head(1, 4, 3, &path), false),
            (head(1, 5, 1, &path), true),
            (head(1, 5 | 8 | 0x20, 1, &padded), true),
            (head(1, 5 | 8, 1, &only_padding), false),
            ([head(1, 1, 1, &[0x8f]), head(9, 4, 1, &path)].concat(), true),
            ([head(1, 5, 1, &[0x8f]), head(0, 0, 3, &path)].concat(), false),
        ] {
            let bytes = [&start[..], &frames].concat();
            for step in 1..bytes.len() {
                let mut meter = FrameMeter::new(7, 0);
                let found = bytes.chunks(step).find_map(|piece| meter.pass(piece, 0).err());
                let found = found.map(|(_, refusal)| refusal);
                let expected = is_bad.then_some(Refusal::PseudoTrailers);
                assert_eq!(found, expected, "cut every {step}");
            }
        }
        assert_eq!(FrameMeter::new(0, 0).last_stream, None, "endpoints open none");
    }

    #[test]
    fn a_head_is_unfinished_until_its_last_byte() {
        let mut bytes = vec![0, 0, 2, 1, 0, 0, 0, 0, 1, 0, 0]; // HEADERS without END_HEADERS
        bytes.extend([0, 0, 1, 9, 4, 0, 0, 0, 1, 0]); // CONTINUATION with it
        bytes.extend(frame(6, b"12345678"));
        bytes.extend([0, 0, 1, 1, 4, 0, 0, 0, 3, 0]); // HEADERS with it
        let mut meter = FrameMeter::new(0, 0);
        meter.pass(&SETTINGS, 0).unwrap();
        let seen: Vec<_> = bytes
            .iter()
            .map(|byte| {
                meter.pass(std::slice::from_ref(byte), 0).unwrap();
                meter.unfinished_head()
            })
            .collect();
        let expected = |at: usize| match at {
            8..20 => Some(1),
            46 => Some(2),
            _ => None,
        };
        for (at, seen) in seen.into_iter().enumerate() {
            assert_eq!(seen, expected(at), "after byte {at}");
        }
    }

    #[test]
    fn a_flood_is_told_and_time_forgives() {
        let mut meter = FrameMeter::new(0, 10);
        let ping = frame(6, b"12345678");
        meter.pass(&SETTINGS, 10).unwrap();
        for _ in 1..limits::H2_EMPTY_FRAMES_MAX {
            meter.pass(&ping, 10).unwrap();
        }
        let mut later = meter.clone();
        assert_eq!(meter.pass(&ping, 10), Err((0, Refusal::Flood)));
        for _ in 0..limits::H2_EMPTY_FRAMES_PER_TICK {
            later.pass(&ping, 11).unwrap();
        }
        assert_eq!(later.pass(&ping, 11), Err((0, Refusal::Flood)));
    }

    #[test]
    fn settings_come_first() {
        let mut ack = SETTINGS;
        ack[4] = 1;
        for first in [&frame(6, b"12345678")[..], &frame(0, b""), &ack] {
            let bytes = [b"preface", first].concat();
            assert_eq!(FrameMeter::new(7, 0).pass(&bytes, 0), Err((7, Refusal::NoSettings)));
        }
    }

    #[test]
    fn what_is_wrong_with_a_frame_is_called_by_its_name() {
        let window = |value: u32| [&[0, 4], &value.to_be_bytes()[..]].concat();
        let mut ack = frame(4, &[0; 6]);
        ack[4] = 1;
        for (frame, expected) in [
            (frame(6, b"1234567"), Some(Refusal::FrameSize)),
            (frame(4, b"12345"), Some(Refusal::FrameSize)),
            (frame(3, b"123"), Some(Refusal::FrameSize)),
            (frame(8, b"12345"), Some(Refusal::FrameSize)),
            (frame(7, b"1234567"), Some(Refusal::FrameSize)),
            (ack, Some(Refusal::FrameSize)),
            (frame(4, &window(1 << 31)), Some(Refusal::Window)),
            (frame(4, &[window(5), window(1 << 31)].concat()), Some(Refusal::Window)),
            (frame(4, &window((1 << 31) - 1)), None),
            (frame(1, &[0x80]), Some(Refusal::Compression)),
        ] {
            for step in 1..frame.len() {
                let mut meter = FrameMeter::new(7, 0);
                meter.pass(b"preface", 0).unwrap();
                meter.pass(&SETTINGS, 0).unwrap();
                let mut frame = frame.clone();
                frame[4] |= if frame[3] == 1 { END_HEADERS } else { 0 };
                let found = frame.chunks(step).find_map(|piece| meter.pass(piece, 0).err());
                assert_eq!(found.map(|(_, refusal)| refusal), expected, "{frame:02x?}");
            }
        }
    }
}
