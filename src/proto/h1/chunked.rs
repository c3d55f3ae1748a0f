//! The chunked coding: decoded in place, any cut, with bounds on all that is not payload.

use std::ops::Range;

use super::trailer::{TrailerError, Trailers};
use crate::{
    base::{
        limits::{BODY_LENGTH_MAX, CHUNK_EXTENSION_BYTES_MAX, CHUNK_LINE_BYTES_MAX},
        reason::Reason,
    },
    proto::bytes::{TOKEN, hex_value, is, is_ows},
};

/// The last chunk and an empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Hexadecimal digits of a chunk size: what 64 bits hold.
const SIZE_DIGITS_MAX: u8 = 16;

/// What one call of [`ChunkDecoder::decode`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where in the buffer the payload lies now; empty if there was none.
    pub data: Range<usize>,
    /// Bytes of the buffer that belong to this body; all of it unless `done`.
    pub consumed: usize,
    /// Whether the last chunk and its trailers are complete.
    pub done: bool,
}

/// Why a chunked body was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// The size is missing, not hexadecimal, too long, or not followed by CRLF.
    Size,
    /// An extension breaks the grammar.
    Extension,
    /// A size line, or all extensions of the message, are longer than allowed.
    ExtensionTooLong,
    /// A chunk is not followed by CRLF.
    DataEnd,
    /// A trailer line breaks the grammar.
    Trailer,
    /// The trailers are longer or more than allowed.
    TrailerTooLarge,
}

impl ChunkError {
    /// What a client is told when its request body was refused.
    pub const fn reason(self) -> Reason {
        Reason::BadChunk
    }

    /// What is logged when an endpoint's response body was refused.
    pub const fn upstream_reason(self) -> Reason {
        Reason::UpstreamInvalid
    }
}

/// Where in the grammar the next byte stands. Source: RFC 9112 §7.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    SizeStart,
    Size,
    /// White space that has to end with a semicolon.
    BeforeSemicolon,
    ExtensionStart,
    ExtensionName,
    /// White space after a name: an equals sign or a semicolon has to follow.
    AfterName,
    ValueStart,
    Value,
    Quoted,
    QuotedPair,
    AfterQuoted,
    SizeLineEnd,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Done,
    Failed(ChunkError),
}

/// Decodes one chunked body piece by piece. Extensions are checked and dropped.
#[derive(Debug, Default)]
pub struct ChunkDecoder {
    step: Step,
    /// The size being read, then the payload bytes of the chunk still to come.
    remaining: u64,
    size_digits: u8,
    line_bytes: usize,
    extension_bytes: usize,
    trailers: Trailers,
}

impl ChunkDecoder {
    /// Makes it ready for another body; keeps the room it has.
    pub fn reset(&mut self) {
        let mut trailers = std::mem::take(&mut self.trailers);
        trailers.clear();
        *self = Self { trailers, ..Self::default() };
    }

    /// Takes the next bytes of the body, cut anywhere. The payload among them is moved together in
    /// place: afterwards it lies in `buf[chunk.data]`. The first payload bytes do not move, so
    /// `data.start` may be above 0. Bytes after the end of the body are neither read nor changed.
    ///
    /// Once done, further calls consume nothing.
    ///
    /// # Errors
    /// As soon as no bytes could make it right: see [`ChunkError`]; the payload before it is lost.
    /// Calling again gives the error again.
    pub fn decode(&mut self, buf: &mut [u8]) -> Result<Chunk, ChunkError> {
        let mut data = 0..0;
        let mut at = 0;
        while at < buf.len() {
            match self.step {
                Step::Data => at += self.take_data(buf, at, &mut data),
                Step::Trailers => {
                    let (read, done) = self.trailers.read(&buf[at..]).map_err(|error| {
                        self.fail(match error {
                            TrailerError::Grammar => ChunkError::Trailer,
                            TrailerError::TooLarge => ChunkError::TrailerTooLarge,
                        })
                    })?;
                    at += read;
                    if done {
                        self.step = Step::Done;
                    }
                }
                Step::Done => break,
                Step::Failed(error) => return Err(error),
                _ => {
                    self.step = self.take_byte(buf[at]).map_err(|error| self.fail(error))?;
                    at += 1;
                }
            }
        }
        Ok(Chunk { data, consumed: at, done: self.step == Step::Done })
    }

    /// How many bytes may be read so that few or none of them are payload: no more than end a body, where the next chunk may be
    /// the last; 0 inside a chunk.
    pub fn bytes_beside_payload(&self) -> usize {
        match self.step {
            Step::Data | Step::Done | Step::Failed(_) => 0,
            Step::Trailers => usize::MAX,
            _ => b"\r\n".len() + LAST_CHUNK.len(),
        }
    }

    /// The trailer lines that may be passed on, each `name: value` as sent with its CRLF; complete
    /// once [`Chunk::done`] was returned. Fields that frame, route, authenticate or describe the
    /// message are not among them.
    pub fn trailers(&self) -> &[u8] {
        self.trailers.lines()
    }

    fn fail(&mut self, error: ChunkError) -> ChunkError {
        self.step = Step::Failed(error);
        error
    }

    /// Joins the payload at `buf[at..]` to what `data` holds already. Returns its length.
    fn take_data(&mut self, buf: &mut [u8], at: usize, data: &mut Range<usize>) -> usize {
        let here = buf.len() - at;
        let length = usize::try_from(self.remaining).map_or(here, |remaining| remaining.min(here));
        if data.start == data.end {
            *data = at..at + length;
        } else {
            buf.copy_within(at..at + length, data.end);
            data.end += length;
        }
        self.remaining -= length as u64;
        if self.remaining == 0 {
            self.step = Step::DataCr;
        }
        length
    }

    /// One byte of a size line, or of the CRLF after a chunk; returns the step after it.
    fn take_byte(&mut self, byte: u8) -> Result<Step, ChunkError> {
        match (self.step, byte) {
            (Step::DataCr, b'\r') => return Ok(Step::DataLf),
            (Step::DataLf, b'\n') => return Ok(Step::SizeStart),
            (Step::DataCr | Step::DataLf, _) => return Err(ChunkError::DataEnd),
            (Step::SizeLineEnd, b'\n') => return Ok(self.end_size_line()),
            (Step::SizeLineEnd, _) => return Err(ChunkError::Size),
            _ => {}
        }
        self.line_bytes += 1;
        if self.line_bytes > CHUNK_LINE_BYTES_MAX {
            return Err(ChunkError::ExtensionTooLong);
        }
        if matches!(self.step, Step::SizeStart | Step::Size) {
            return self.take_size(byte);
        }
        //= https://www.rfc-editor.org/rfc/rfc9112#section-7.1.1
        //# A recipient MUST ignore unrecognized chunk extensions. A server ought
        //# to limit the total length of chunk extensions received in a request to
        //# an amount reasonable for the services provided,
        self.extension_bytes += 1;
        if self.extension_bytes > CHUNK_EXTENSION_BYTES_MAX {
            return Err(ChunkError::ExtensionTooLong);
        }
        extension_step(self.step, byte).ok_or(ChunkError::Extension)
    }

    fn take_size(&mut self, byte: u8) -> Result<Step, ChunkError> {
        if let Some(digit) = hex_value(byte) {
            //= https://www.rfc-editor.org/rfc/rfc9112#section-7.1
            //# Therefore, recipients MUST anticipate potentially large hexadecimal
            //# numerals and prevent parsing errors due to integer conversion
            //# overflows or precision loss due to integer representation.
            if self.size_digits == SIZE_DIGITS_MAX {
                return Err(ChunkError::Size);
            }
            self.size_digits += 1;
            self.remaining = self.remaining << 4 | u64::from(digit);
            if self.remaining > BODY_LENGTH_MAX {
                return Err(ChunkError::Size);
            }
            return Ok(Step::Size);
        }
        match byte {
            _ if self.step == Step::SizeStart => Err(ChunkError::Size), // not even one digit
            b'\r' => Ok(Step::SizeLineEnd),
            b';' => Ok(Step::ExtensionStart),
            _ if is_ows(byte) => Ok(Step::BeforeSemicolon),
            _ => Err(ChunkError::Size),
        }
    }

    fn end_size_line(&mut self) -> Step {
        self.line_bytes = 0;
        self.size_digits = 0;
        if self.remaining == 0 { Step::Trailers } else { Step::Data }
    }
}

/// The step after `byte` inside the extensions; `None` if it can't stand there.
fn extension_step(step: Step, byte: u8) -> Option<Step> {
    let token = is(byte, TOKEN);
    let space = is_ows(byte);
    Some(match (step, byte) {
        (Step::BeforeSemicolon | Step::ExtensionStart | Step::AfterName | Step::ValueStart, _)
            if space =>
        {
            step
        }
        (Step::ExtensionName, _) if space => Step::AfterName,
        (Step::Value | Step::AfterQuoted, _) if space => Step::BeforeSemicolon,
        (Step::ExtensionStart | Step::ExtensionName, _) if token => Step::ExtensionName,
        (Step::ValueStart | Step::Value, _) if token => Step::Value,
        (Step::ExtensionName | Step::AfterName, b'=') => Step::ValueStart,
        (Step::ValueStart, b'"') => Step::Quoted,
        (Step::Quoted, b'"') => Step::AfterQuoted,
        (Step::Quoted, b'\\') => Step::QuotedPair,
        (Step::Quoted | Step::QuotedPair, b'\t' | b' '..=b'~' | 0x80..) => Step::Quoted,
        (
            Step::BeforeSemicolon
            | Step::ExtensionName
            | Step::AfterName
            | Step::Value
            | Step::AfterQuoted,
            b';',
        ) => Step::ExtensionStart,
        (Step::ExtensionName | Step::Value | Step::AfterQuoted, b'\r') => Step::SizeLineEnd,
        _ => return None,
    })
}

/// Writes the size line of a chunk of `n` bytes, `1f4\r\n` for 500, to the start of `out` and
/// returns its length.
pub fn write_chunk_size(out: &mut [u8; 18], n: usize) -> usize {
    let digits = n.checked_ilog2().map_or(1, |bits| bits as usize / 4 + 1);
    for (index, to) in out.iter_mut().take(digits).enumerate() {
        let nibble = n >> (4 * (digits - 1 - index)) & 15;
        *to = b"0123456789abcdef"[nibble];
    }
    out[digits] = b'\r';
    out[digits + 1] = b'\n';
    digits + 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_lines() {
        let mut out = [0; 18];
        for n in [0, 1, 9, 10, 15, 16, 255, 256, 500, 65_535, 65_536, usize::MAX] {
            let length = write_chunk_size(&mut out, n);
            assert_eq!(out[..length], *format!("{n:x}\r\n").as_bytes());
        }
    }

    /// Nothing inside a chunk, and between two chunks no more than ends a body: who has no window for payload asks.
    #[test]
    fn few_bytes_are_read_beside_payload() {
        let body = b"5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nx-a: b\r\n\r\n";
        for at in 0..=body.len() {
            let mut decoder = ChunkDecoder::default();
            let chunk = decoder.decode(&mut body[..at].to_vec()).unwrap();
            let expected = match at {
                3..8 | 17..20 => 0,
                25.. if chunk.done => 0,
                25.. => usize::MAX, // a trailer section has a bound of its own
                _ => 7,
            };
            assert_eq!(decoder.bytes_beside_payload(), expected, "behind {at} bytes");
        }
    }

    #[test]
    fn payload_is_moved_together_and_the_next_message_left_alone() {
        let mut decoder = ChunkDecoder::default();
        let mut buf = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nGET / HTTP/1.1\r\n".to_vec();
        let chunk = decoder.decode(&mut buf).unwrap();
        assert_eq!(chunk.data, 3..8);
        assert_eq!(&buf[chunk.data], b"abcde");
        assert!(chunk.done);
        assert_eq!(&buf[chunk.consumed..], b"GET / HTTP/1.1\r\n");
        let nothing = decoder.decode(&mut buf[chunk.consumed..]).unwrap();
        assert_eq!(nothing, Chunk { data: 0..0, consumed: 0, done: true });
    }

    #[test]
    fn an_error_stays_until_reset() {
        let mut decoder = ChunkDecoder::default();
        assert_eq!(decoder.decode(&mut b"x".to_vec()), Err(ChunkError::Size));
        assert_eq!(decoder.decode(&mut b"0\r\n\r\n".to_vec()), Err(ChunkError::Size));
        decoder.reset();
        assert!(decoder.decode(&mut b"0\r\n\r\n".to_vec()).unwrap().done);
    }

    #[test]
    fn extensions_are_bounded_over_the_whole_body() {
        let line = format!("1;{}\r\na\r\n", "x".repeat(200));
        let mut decoder = ChunkDecoder::default();
        let chunks = CHUNK_EXTENSION_BYTES_MAX / 201;
        for _ in 0..chunks {
            decoder.decode(&mut line.clone().into_bytes()).unwrap();
        }
        let error = decoder.decode(&mut line.into_bytes());
        assert_eq!(error, Err(ChunkError::ExtensionTooLong));
    }
}
