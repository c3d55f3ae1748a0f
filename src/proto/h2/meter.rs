//! Counts frames that cost work and carry nothing.
//!
//! The `h2` crate bounds what a frame may make it remember: resets of streams nobody has accepted
//! yet, CONTINUATION frames, small DATA frames. What costs only time (PING, SETTINGS, PRIORITY,
//! resets of streams under way, frames of unknown types) is metered here, on the raw bytes.

use crate::base::limits;

/// The peer sends more frames that carry nothing than any program has use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood;

const HEADER_BYTES: usize = 9;

/// Reads the headers of frames as they pass, cut anywhere, and keeps an account of the empty ones: a
/// bucket of [`limits::H2_EMPTY_FRAMES_MAX`] that fills by [`limits::H2_EMPTY_FRAMES_PER_TICK`].
#[derive(Clone, Debug)]
pub struct FrameMeter {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    payload_left: usize,
    tokens: u32,
    last_tick: u64,
    /// Header blocks that have begun.
    heads: u32,
    /// Frames of the last one are still to come.
    head_goes_on: bool,
    /// The payload that passes belongs to it.
    payload_is_head: bool,
}

impl FrameMeter {
    /// A meter for the frames behind `skip` bytes of preface.
    pub fn new(skip: usize, now_tick: u64) -> Self {
        Self {
            header: [0; HEADER_BYTES],
            header_bytes: 0,
            payload_left: skip,
            tokens: limits::H2_EMPTY_FRAMES_MAX,
            last_tick: now_tick,
            heads: 0,
            head_goes_on: false,
            payload_is_head: false,
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
    /// When there were too many empty frames.
    pub fn pass(&mut self, mut bytes: &[u8], now_tick: u64) -> Result<(), Flood> {
        self.refill(now_tick);
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = self.payload_left.min(bytes.len());
                self.payload_left -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (HEADER_BYTES - self.header_bytes).min(bytes.len());
            let (head, rest) = bytes.split_at(taken);
            self.header[self.header_bytes..self.header_bytes + taken].copy_from_slice(head);
            self.header_bytes += taken;
            bytes = rest;
            if self.header_bytes == HEADER_BYTES {
                self.header_bytes = 0;
                self.take_header()?;
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

    fn take_header(&mut self) -> Result<(), Flood> {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const WINDOW_UPDATE: u8 = 8;
        const CONTINUATION: u8 = 9;
        const END_HEADERS: u8 = 4;
        let [a, b, c, kind, flags, ..] = self.header;
        self.payload_left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.payload_is_head = matches!(kind, HEADERS | CONTINUATION);
        if self.payload_is_head {
            self.heads = self.heads.wrapping_add(u32::from(kind == HEADERS));
            self.head_goes_on = flags & END_HEADERS == 0;
        }
        let is_empty = match kind {
            DATA => self.payload_left == 0 && flags & 1 == 0,
            // Window updates answer what we sent; the rest is the crate's to bound.
            HEADERS | WINDOW_UPDATE | CONTINUATION => false,
            _ => true,
        };
        if is_empty {
            self.tokens = self.tokens.checked_sub(1).ok_or(Flood)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_head_is_unfinished_until_its_last_byte() {
        let mut bytes = vec![0, 0, 2, 1, 0, 0, 0, 0, 1, 0, 0]; // HEADERS without END_HEADERS
        bytes.extend([0, 0, 1, 9, 4, 0, 0, 0, 1, 0]); // CONTINUATION with it
        bytes.extend(frame(6, b"12345678"));
        bytes.extend([0, 0, 1, 1, 4, 0, 0, 0, 3, 0]); // HEADERS with it
        let mut meter = FrameMeter::new(0, 0);
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
        for _ in 0..limits::H2_EMPTY_FRAMES_MAX {
            meter.pass(&ping, 10).unwrap();
        }
        let mut later = meter.clone();
        assert_eq!(meter.pass(&ping, 10), Err(Flood));
        for _ in 0..limits::H2_EMPTY_FRAMES_PER_TICK {
            later.pass(&ping, 11).unwrap();
        }
        assert_eq!(later.pass(&ping, 11), Err(Flood));
    }
}
