//! Response heads.

use super::{
    Field, FieldId, Framing, HeadError, HeadLimits, Method, Parse, Version,
    connection::{Options, has_protocol},
    framing::FramingFields,
    section::{Line, Next, Section},
};
use crate::proto::bytes::find_control;

/// What a response answers: its framing depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseTo {
    /// The method that was sent.
    pub method: Method,
    /// Whether an upgrade was asked for.
    pub upgrade: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Status,
    Phrase,
    LineEnd,
    Fields,
    Done(usize),
    Failed(HeadError),
}

/// A response head as offsets into the buffer it was parsed from. That buffer is an argument of
/// every accessor that yields bytes; all but [`ResponseHead::clear`] mean something only once
/// [`Parse::Complete`] was returned.
#[derive(Clone, Debug)]
pub struct ResponseHead {
    step: Step,
    /// First unread byte of the status line.
    at: usize,
    status: u16,
    version: Version,
    phrase_space: bool,
    fields_start: usize,
    section: Section,
    facts: Facts,
    framing: Framing,
    may_have_body: bool,
    keep_alive: bool,
    /// It came over HTTP/2, as the text of HTTP/1.
    over_http2: bool,
}

impl Default for ResponseHead {
    fn default() -> Self {
        Self {
            step: Step::Status,
            at: 0,
            status: 0,
            version: Version::Http11,
            phrase_space: false,
            fields_start: 0,
            section: Section::default(),
            facts: Facts::default(),
            framing: Framing::Empty,
            may_have_body: true,
            keep_alive: false,
            over_http2: false,
        }
    }
}

/// What the fields say that ringway acts on.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    framing: FramingFields,
    connection: Options,
    /// Connection could not be read: what it meant to say is unknown.
    connection_broken: bool,
    /// Upgrade names a protocol that may be passed on.
    protocol: bool,
    date: bool,
}

impl ResponseHead {
    /// Makes it ready for another head; keeps the room it has.
    pub fn clear(&mut self) {
        let mut section = std::mem::take(&mut self.section);
        section.clear();
        *self = Self { section, ..Self::default() };
    }

    /// Notes that this head is the text of a message of HTTP/2, for those who are told.
    pub fn note_http2(&mut self) {
        self.over_http2 = true;
    }

    /// Whether it is.
    pub fn is_over_http2(&self) -> bool {
        self.over_http2
    }

    /// Parses the head at the start of `buf`, which answers `of`. After [`Parse::Partial`] call
    /// again with the same bytes and more: each byte is looked at once. What comes out, error or
    /// not, does not depend on how the bytes were cut.
    ///
    /// An interim head ([`ResponseHead::is_interim`]) is followed by another one: `clear`, and parse
    /// from `head_bytes` on.
    ///
    /// Source: RFC 9112 §4 to §6, narrowed to what all recipients read alike.
    ///
    /// # Errors
    /// As soon as no bytes could make it right: see [`HeadError`]. Calling again gives it again.
    pub fn parse(
        &mut self,
        buf: &[u8],
        limits: HeadLimits,
        of: ResponseTo,
    ) -> Result<Parse, HeadError> {
        let bytes_max = limits.bytes_max.min(usize::from(u16::MAX));
        let seen = &buf[..buf.len().min(bytes_max)];
        let result = match self.advance(seen, limits.count_max, of) {
            Ok(Some(head_bytes)) => Ok(Parse::Complete { head_bytes }),
            Ok(None) if seen.len() < bytes_max => Ok(Parse::Partial),
            Ok(None) => Err(HeadError::HeadTooLarge),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.step = Step::Failed(error);
        }
        result
    }

    fn advance(
        &mut self,
        buf: &[u8],
        count_max: usize,
        of: ResponseTo,
    ) -> Result<Option<usize>, HeadError> {
        loop {
            let more = match self.step {
                Step::Status => self.read_status(buf)?,
                Step::Phrase => self.read_phrase(buf)?,
                Step::LineEnd => self.read_line_end(buf)?,
                Step::Fields => return self.read_fields(buf, count_max, of),
                Step::Done(head_bytes) => return Ok(Some(head_bytes)),
                Step::Failed(error) => return Err(error),
            };
            if !more {
                return Ok(None);
            }
        }
    }

    /// Each `read_*` returns whether it came to its end; if not, more bytes are needed.
    fn read_status(&mut self, buf: &[u8]) -> Result<bool, HeadError> {
        const PATTERN: &[u8; 12] = b"HTTP/1.v sdd";
        let known = if buf.starts_with(b"HTTP/1.1 ") { 9 } else { 0 };
        for (&byte, &wanted) in buf.iter().zip(PATTERN).skip(known) {
            let fits = match wanted {
                b'v' => matches!(byte, b'0' | b'1'),
                b's' => matches!(byte, b'1'..=b'9'),
                b'd' => byte.is_ascii_digit(),
                _ => byte == wanted,
            };
            if !fits {
                return Err(HeadError::StatusLine);
            }
        }
        let Some(&[.., minor, _, hundreds, tens, ones, after]) = buf.first_chunk::<13>() else {
            return Ok(false);
        };
        let digit = |byte: u8| u16::from(byte - b'0');
        self.version = if minor == b'1' { Version::Http11 } else { Version::Http10 };
        self.status = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
        self.at = 13;
        self.step = match after {
            b' ' => Step::Phrase,
            b'\r' => Step::LineEnd, // the phrase is optional, and some leave its space out too
            b'\n' => return Err(HeadError::BareLf),
            _ => return Err(HeadError::StatusLine),
        };
        self.phrase_space = after == b' ';
        Ok(true)
    }

    fn read_phrase(&mut self, buf: &[u8]) -> Result<bool, HeadError> {
        self.at = find_control(buf, self.at);
        match buf.get(self.at) {
            None => return Ok(false),
            Some(b'\r') => {}
            Some(b'\n') => return Err(HeadError::BareLf),
            Some(_) => return Err(HeadError::StatusLine),
        }
        self.at += 1;
        self.step = Step::LineEnd;
        Ok(true)
    }

    fn read_line_end(&mut self, buf: &[u8]) -> Result<bool, HeadError> {
        match buf.get(self.at) {
            None => return Ok(false),
            Some(b'\n') => {}
            Some(_) => return Err(HeadError::BareCr),
        }
        self.fields_start = self.at + 1;
        self.section.start_at(self.fields_start);
        self.step = Step::Fields;
        Ok(true)
    }

    fn read_fields(
        &mut self,
        buf: &[u8],
        count_max: usize,
        of: ResponseTo,
    ) -> Result<Option<usize>, HeadError> {
        loop {
            match self.section.next(buf, count_max)? {
                Next::Partial => return Ok(None),
                Next::Line(line) => self.take_in(buf, line)?,
                Next::End(head_bytes) => {
                    self.conclude(buf, of)?;
                    self.step = Step::Done(head_bytes);
                    return Ok(Some(head_bytes));
                }
            }
        }
    }

    /// One more field line.
    fn take_in(&mut self, buf: &[u8], line: Line) -> Result<(), HeadError> {
        let value = line.value.of(buf);
        let facts = &mut self.facts;
        match line.id {
            FieldId::Unknown if FieldId::of_lookalike(line.name.of(buf)).is_framing() => {
                self.section.drop_last();
            }
            FieldId::ContentLength => facts.framing.add_length(value)?,
            FieldId::TransferEncoding => facts.framing.add_coding(value)?,
            // Sloppy servers write parameters here; the message itself is still clear.
            FieldId::Connection => facts.connection_broken |= facts.connection.add(value).is_err(),
            FieldId::Upgrade => facts.protocol |= has_protocol(value),
            FieldId::Date => facts.date = true,
            _ => {}
        }
        Ok(())
    }

    /// What can be told only from all fields together.
    fn conclude(&mut self, buf: &[u8], of: ResponseTo) -> Result<(), HeadError> {
        let declared = self.facts.framing.of_response(self.version)?;
        //= https://www.rfc-editor.org/rfc/rfc9110#section-7.8
        //# A server MUST NOT switch to a protocol that was not indicated by the
        //# client in the corresponding request's Upgrade header field.
        if self.status == 101 && !(of.upgrade && self.facts.protocol) {
            return Err(HeadError::SwitchUnasked);
        }
        self.facts.connection.drop_nominated(&mut self.section, buf, false)?;
        //= https://www.rfc-editor.org/rfc/rfc9112#section-6.3
        //# Any response to a HEAD request and any response with a 1xx
        //# (Informational), 204 (No Content), or 304 (Not Modified) status code
        //# is always terminated by the first empty line after the header fields,
        //# regardless of the header fields present in the message, and thus
        //# cannot contain a message body or trailer section.
        let bodiless = matches!(self.status, 100..=199 | 204 | 304);
        self.may_have_body = !bodiless && of.method != Method::Head;
        self.framing = if self.may_have_body { declared } else { Framing::Empty };
        self.keep_alive = self.may_reuse();
        Ok(())
    }

    fn may_reuse(&self) -> bool {
        let options = &self.facts.connection;
        let wanted = match self.version {
            Version::Http11 => !options.close,
            Version::Http10 => options.keep_alive && !options.close,
        };
        // A body announced where none may be: it could come after all, as the next "response".
        let announced = matches!(self.status, 100..=199 | 204)
            && (self.facts.framing.has_coding() || self.facts.framing.length.unwrap_or(0) > 0);
        wanted
            && !announced
            && !self.facts.connection_broken
            && !self.is_upgrade()
            && self.framing != Framing::UntilClose
    }

    /// The status: 100..=999.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The version the endpoint speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// How the body ends. [`Framing::Empty`] for a 101: what follows is the other protocol.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// The Content-Length field, also where it does not tell the length of a body (HEAD, 304).
    pub fn content_length(&self) -> Option<u64> {
        self.facts.framing.length
    }

    /// Whether the connection may carry another request once this body has ended.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether another response follows: 1xx, but not 101.
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    /// Whether the connection now speaks another protocol: 101.
    pub fn is_upgrade(&self) -> bool {
        self.status == 101
    }

    /// Leaves fields out of what is forwarded, by their names in lower case.
    pub fn drop_fields(&mut self, buf: &[u8], is_meant: impl Fn(&[u8]) -> bool) {
        self.section.drop_fields(buf, is_meant);
    }

    /// All field lines, in order.
    pub fn fields<'b>(&'b self, buf: &'b [u8]) -> impl Iterator<Item = Field<'b>> {
        self.section.fields(buf)
    }

    /// The values of the fields of this name, in order; `name` in any case.
    pub fn field_values<'b>(
        &'b self,
        buf: &'b [u8],
        name: &'b [u8],
    ) -> impl Iterator<Item = &'b [u8]> {
        self.section.values(buf, name)
    }

    pub(super) fn lines(&self) -> &[Line] {
        self.section.lines()
    }

    pub(super) fn fields_start(&self) -> usize {
        self.fields_start
    }

    pub(super) fn has_phrase_space(&self) -> bool {
        self.phrase_space
    }

    pub(super) fn has_date(&self) -> bool {
        self.facts.date
    }

    /// Whether status and request method allow a body.
    pub(super) fn may_have_body(&self) -> bool {
        self.may_have_body
    }
}
