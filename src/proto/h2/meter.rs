//! Counts frames that cost work and carry nothing, and looks at the first one.
//!
//! The `h2` crate bounds what a frame may make it remember: resets of streams nobody has accepted
//! yet, CONTINUATION frames, small DATA frames. What costs only time (PING, SETTINGS, PRIORITY,
//! resets of streams under way, frames of unknown types) is metered here, on the raw bytes. Nor does
//! the crate ask that a connection begins with SETTINGS, and it calls all that is wrong with a frame a
//! PROTOCOL_ERROR. What it overlooks in header blocks is found by [`Blocks`].
//!
//! Of empty DATA frames that end nothing the crate takes 100 in the life of a connection, however long that
//! is and whoever shares it. They mean nothing, so most of them are taken out here.
//!
//! What a peer does wrong on one stream, and the crate ends the connection for, is made into what it takes, and told
//! ([`FrameMeter::take_suspect`]): others share the connection. Frames of header blocks pass when they are here as a whole,
//! as what is malformed in them is replaced where it is.

use std::ops::Range;

use super::{
    block::Blocks,
    responses::{Responses, Suspect},
};
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
    /// A header block can't be decoded.
    Compression,
    /// A frame has not the length that its type has.
    FrameSize,
    /// A setting makes windows larger than they may be.
    Window,
    /// A message goes on behind its end.
    Ended,
}

const HEADER_BYTES: usize = 9;
const SETTING_BYTES: usize = 6;

/// What the crate is to see of a piece of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// How many bytes of the piece, which have been moved to its front.
    pub kept: usize,
    /// Why nothing may follow them.
    pub refusal: Option<Refusal>,
}

/// Frames that may still come.
#[derive(Clone, Copy, Debug)]
struct Bucket(u32);

impl Bucket {
    fn fill(&mut self, frames: u32) {
        self.0 = self.0.saturating_add(frames).min(limits::H2_EMPTY_FRAMES_MAX);
    }

    fn take(&mut self) -> Result<(), Refusal> {
        self.0 = self.0.checked_sub(1).ok_or(Refusal::Flood)?;
        Ok(())
    }
}

/// Reads the headers of frames as they pass, cut anywhere, and keeps accounts of the empty ones: buckets
/// of [`limits::H2_EMPTY_FRAMES_MAX`] that fill by [`limits::H2_EMPTY_FRAMES_PER_TICK`].
#[derive(Clone, Debug)]
pub struct FrameMeter {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    payload_left: usize,
    /// What goes in front of what passes, held back until now.
    front: Vec<u8>,
    /// A frame that is held back until it is here as a whole.
    held: Vec<u8>,
    /// The first frame has been seen.
    has_begun: bool,
    /// For frames that no message needs.
    needless: Bucket,
    /// For those that may go with a message. Each frame that carries something brings one more.
    beside: Bucket,
    /// Empty DATA frames that the crate has been shown.
    shown: u32,
    /// Small DATA frames of an endpoint since they were last asked for.
    small: u32,
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
    /// Streams that the peer has ended, the last ones, and where the next one goes.
    ended: [u32; limits::H2_ENDED_STREAMS_KEPT],
    ended_at: usize,
    /// The setting that is being read.
    setting: [u8; SETTING_BYTES],
    setting_bytes: usize,
    is_settings: bool,
    /// The payload that passes opens the window of this stream, or with 0 that of the connection; as much of it as has come.
    opens: Option<u32>,
    opening: u32,
    windows: Windows,
    /// What endpoints answer.
    responses: Responses,
}

/// What a peer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Bytes on each of its streams, to begin with.
    pub of_stream: u32,
    /// Bytes on all of them together, since the connection began.
    pub in_all: u64,
}

impl Default for Windows {
    /// Source: RFC 9113 §6.9.2.
    fn default() -> Self {
        Self { of_stream: 65_535, in_all: 65_535 }
    }
}

impl FrameMeter {
    /// A meter for the frames behind `skip` bytes of preface, which clients send.
    pub fn new(skip: usize, now_tick: u64) -> Self {
        Self {
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            payload_left: skip,
            front: Vec::new(),
            held: Vec::new(),
            has_begun: false,
            needless: Bucket(limits::H2_EMPTY_FRAMES_MAX),
            beside: Bucket(limits::H2_EMPTY_FRAMES_MAX),
            shown: 0,
            small: 0,
            last_tick: now_tick,
            heads: 0,
            head_goes_on: false,
            payload_is_head: false,
            last_stream: (skip > 0).then_some(0),
            blocks: Blocks::new(),
            ended: [0; limits::H2_ENDED_STREAMS_KEPT],
            ended_at: 0,
            setting: [0; SETTING_BYTES],
            setting_bytes: 0,
            is_settings: false,
            opens: None,
            opening: 0,
            windows: Windows::default(),
            responses: Responses::default(),
        }
    }

    /// Whether the first frame has come.
    pub fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// What the peer takes, as far as it has said.
    pub fn windows(&self) -> Windows {
        self.windows
    }

    /// Whether so many small DATA frames of an endpoint have come that those that wait should be put together; begins to
    /// count anew then.
    pub fn take_small(&mut self) -> bool {
        let are_many = self.small >= limits::H2_LINK_SMALL_FRAMES;
        if are_many {
            self.small = 0;
        }
        are_many
    }

    /// A stream on which the peer has done what it must not; to be asked until there is none, before the crate is shown
    /// what has passed.
    pub fn take_suspect(&mut self) -> Option<Suspect> {
        self.responses.suspects.pop()
    }

    /// Where many responses are remembered, forgets those of streams that are not open.
    pub fn forget_unless(&mut self, is_open: impl Fn(u32) -> bool) {
        self.responses.forget_unless(is_open);
    }

    /// What goes in front of what has passed last: what was held back of a frame whose rest has come now.
    pub fn take_front(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.front)
    }

    /// The number of the header block that has begun and is not here as a whole.
    pub fn unfinished_head(&self) -> Option<u32> {
        let is_cut = self.payload_is_head && self.payload_left > 0;
        (self.head_goes_on || is_cut).then_some(self.heads)
    }

    /// Takes the next bytes of the connection, and moves those that pass to the front.
    pub fn pass(&mut self, bytes: &mut [u8], now_tick: u64) -> Passed {
        self.refill(now_tick);
        let mut passed = Passed::default();
        passed.refusal = self.pass_frames(bytes, &mut passed).err();
        passed
    }

    fn pass_frames(&mut self, bytes: &mut [u8], passed: &mut Passed) -> Result<(), Refusal> {
        let mut at = 0;
        while at < bytes.len() {
            if self.payload_left > 0 {
                let end = bytes.len().min(at + self.payload_left);
                self.payload_left -= end - at;
                if self.held.is_empty() {
                    self.take_payload(&mut bytes[at..end])?;
                    keep(bytes, at..end, passed);
                } else {
                    self.take_held(&bytes[at..end])?;
                }
                at = end;
                continue;
            }
            let held = self.header_bytes;
            let end = bytes.len().min(at + HEADER_BYTES - held);
            let whole = held + end - at;
            self.header[held..whole].copy_from_slice(&bytes[at..end]);
            if whole < HEADER_BYTES {
                self.header_bytes = whole; // held back until it is known whether it passes
                break;
            }
            self.header_bytes = 0;
            let passes = self.take_header()?;
            if self.is_held_back(bytes.len() - end) {
                self.held.extend_from_slice(&self.header);
            } else if passes {
                self.front.extend_from_slice(&self.header[..held]);
                keep(bytes, at..end, passed);
            }
            at = end;
        }
        Ok(())
    }

    /// Whether a frame waits for its end, of which so many bytes are here. The crate can do nothing with a part either, and
    /// refuses one that is too long.
    fn is_held_back(&self, bytes_here: usize) -> bool {
        let is_possible = self.payload_left <= limits::H2_FRAME_BYTES_MAX;
        self.payload_is_head && is_possible && bytes_here < self.payload_left
    }

    /// More of a frame that is held back.
    #[cold]
    fn take_held(&mut self, piece: &[u8]) -> Result<(), Refusal> {
        self.held.extend_from_slice(piece);
        if self.payload_left == 0 {
            let mut frame = std::mem::take(&mut self.held);
            self.take_payload(&mut frame[HEADER_BYTES..])?;
            self.front = frame;
        }
        Ok(())
    }

    fn refill(&mut self, now_tick: u64) {
        let ticks = u32::try_from(now_tick.wrapping_sub(self.last_tick)).unwrap_or(u32::MAX);
        self.last_tick = now_tick;
        let more = ticks.saturating_mul(limits::H2_EMPTY_FRAMES_PER_TICK);
        self.needless.fill(more);
        self.beside.fill(more);
    }

    /// The next bytes of a payload.
    fn take_payload(&mut self, piece: &mut [u8]) -> Result<(), Refusal> {
        if self.is_settings {
            return piece.iter().try_for_each(|byte| self.take_setting(*byte));
        }
        if let Some(stream) = self.opens {
            self.take_opening(stream, piece);
            return Ok(());
        }
        if !self.payload_is_head {
            return Ok(());
        }
        self.blocks.take(piece, self.payload_left)?;
        if self.payload_left > 0 || self.head_goes_on {
            return Ok(());
        }
        self.blocks.end()?;
        let found = self.blocks.found();
        if let Some(stream) = self.last_stream {
            if found.is_foreign {
                self.responses.suspect(Suspect::Request(stream)); // which it has opened
            }
            return Ok(());
        }
        self.responses.take_block(found);
        // An interim response waits in the crate until its stream is read, and no window bounds it.
        match found.is_interim {
            true => self.beside.take()?,
            false => self.beside.fill(1),
        }
        Ok(())
    }

    /// More of what opens a window.
    fn take_opening(&mut self, stream: u32, piece: &mut [u8]) {
        piece.iter().for_each(|byte| self.opening = self.opening << 8 | u32::from(*byte));
        if self.payload_left > 0 {
            return;
        }
        let bytes = std::mem::take(&mut self.opening) & (u32::MAX >> 1);
        if stream == 0 {
            self.windows.in_all += u64::from(bytes);
            return;
        }
        //= https://www.rfc-editor.org/rfc/rfc9113#section-6.9
        //# A receiver MUST treat the receipt of a WINDOW_UPDATE frame with a
        //# flow-control window increment of 0 as a stream error (Section 5.4.2)
        //# of type PROTOCOL_ERROR
        if let (0, None, [.., last]) = (bytes, self.last_stream, piece) {
            *last = 1; // the stream is reset, so that nobody sends that byte
            self.responses.suspect(Suspect::Malformed(stream));
        }
    }

    fn take_setting(&mut self, byte: u8) -> Result<(), Refusal> {
        const INITIAL_WINDOW_SIZE: u16 = 4;
        self.setting[self.setting_bytes] = byte;
        self.setting_bytes = (self.setting_bytes + 1) % SETTING_BYTES;
        let [a, b, value @ ..] = self.setting;
        if self.setting_bytes > 0 || u16::from_be_bytes([a, b]) != INITIAL_WINDOW_SIZE {
            return Ok(());
        }
        self.windows.of_stream = u32::from_be_bytes(value);
        //= https://www.rfc-editor.org/rfc/rfc9113#section-6.5.2
        //# Values above the maximum flow-control window size of 2^31-1 MUST
        //# be treated as a connection error (Section 5.4.1) of type
        //# FLOW_CONTROL_ERROR.
        if self.windows.of_stream > u32::MAX >> 1 { Err(Refusal::Window) } else { Ok(()) }
    }

    /// Whether the frame passes whose header is here.
    fn take_header(&mut self) -> Result<bool, Refusal> {
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
        // What may not come inside a header block is the crate's to refuse, whatever else is wrong with it.
        let is_inside = self.head_goes_on && kind != CONTINUATION;
        self.payload_is_head = matches!(kind, HEADERS | CONTINUATION);
        if self.payload_is_head {
            self.heads = self.heads.wrapping_add(u32::from(kind == HEADERS));
            self.head_goes_on = flags & END_HEADERS == 0;
        }
        let id = u32::from_be_bytes(id) & (u32::MAX >> 1);
        self.opens = (kind == WINDOW_UPDATE).then_some(id);
        if matches!(kind, DATA | HEADERS) && !is_inside {
            self.take_message(flags, id)?;
        }
        match (kind, &mut self.last_stream) {
            (HEADERS, Some(last)) => {
                // What opens no stream belongs to one that is open.
                self.blocks.begin(flags, id <= *last);
                *last = id.max(*last);
            }
            (HEADERS, None) => {
                self.blocks.begin_response(flags);
                self.responses.begin(id, flags & END_STREAM != 0);
            }
            (DATA, None) => self.responses.take_data(id, flags & END_STREAM != 0),
            (RST_STREAM, None) => self.responses.end(id),
            (CONTINUATION, _) => self.blocks.go_on(),
            _ => {}
        }
        self.account(kind, flags, id)
    }

    /// A frame of a client's message. The crate tells one behind its end from one that never was no more
    /// than all the rest.
    fn take_message(&mut self, flags: u8, id: u32) -> Result<(), Refusal> {
        let Some(last) = self.last_stream else { return Ok(()) };
        //= https://www.rfc-editor.org/rfc/rfc9113#section-5.1
        //# If an endpoint receives additional frames, other than
        //# WINDOW_UPDATE, PRIORITY, or RST_STREAM, for a stream that is in
        //# this state, it MUST respond with a stream error (Section 5.4.2) of
        //# type STREAM_CLOSED.
        if id <= last && id > 0 && self.ended.contains(&id) {
            return Err(Refusal::Ended);
        }
        if flags & END_STREAM != 0 {
            self.ended[self.ended_at] = id;
            self.ended_at = (self.ended_at + 1) % limits::H2_ENDED_STREAMS_KEPT;
        }
        Ok(())
    }

    /// Counts a frame; whether it passes.
    fn account(&mut self, kind: u8, flags: u8, id: u32) -> Result<bool, Refusal> {
        let is_of_endpoint = self.last_stream.is_none();
        match kind {
            DATA if self.payload_left == 0 && flags & END_STREAM == 0 => {
                self.beside.take()?;
                let is_plain = flags & PADDED == 0;
                let is_open = id > 0 && self.last_stream.is_none_or(|last| id <= last);
                let is_shown = self.shown < limits::H2_EMPTY_DATA_SHOWN || !is_plain || !is_open;
                self.shown += u32::from(is_shown);
                return Ok(is_shown);
            }
            HEADERS if is_of_endpoint => {} // its block says what it is
            DATA | HEADERS => {
                self.beside.fill(1);
                let is_small = kind == DATA && self.payload_left < limits::H2_SMALL_FRAME_BYTES;
                self.small += u32::from(is_of_endpoint && is_small);
            }
            // At most one for each request.
            RST_STREAM if is_of_endpoint => self.beside.take()?,
            // Window updates answer what we sent; the rest is the crate's to bound.
            WINDOW_UPDATE | CONTINUATION => {}
            _ => self.needless.take()?,
        }
        Ok(true)
    }
}

/// Moves bytes behind those that have passed.
fn keep(bytes: &mut [u8], range: Range<usize>, passed: &mut Passed) {
    let count = range.len();
    if range.start != passed.kept {
        bytes.copy_within(range, passed.kept);
    }
    passed.kept += count;
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
const PADDED: u8 = 8;
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
mod cases;
