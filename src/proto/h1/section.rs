//! The field lines of a head, read once from front to back, resumable at any byte.

use super::{Field, FieldId, HeadError};
use crate::{
    base::limits::CONTEXT_BYTES_KEPT_MAX,
    proto::bytes::{TOKEN, find_byte, find_control, find_not, is_ows, is_token},
};

/// A part of the buffer. 16 bits do: heads are at most 65,535 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Part {
    start: u16,
    end: u16,
}

impl Part {
    /// The part from `start` to before `end`, both below 65,536.
    pub(super) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= usize::from(u16::MAX));
        Self { start: start as u16, end: end as u16 }
    }

    pub(super) fn start(self) -> usize {
        usize::from(self.start)
    }

    pub(super) fn end(self) -> usize {
        usize::from(self.end)
    }

    /// Its bytes; none if `buf` is not the buffer the part is of.
    pub(super) fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start()..self.end()).unwrap_or_default()
    }
}

/// One field line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) name: Part,
    pub(super) value: Part,
    /// After the CRLF.
    pub(super) end: u16,
    pub(super) id: FieldId,
    /// Not for the next hop.
    pub(super) dropped: bool,
}

const _: () = assert!(size_of::<Line>() == 12); // a usual head has its lines in three cache lines

impl Line {
    pub(super) fn start(&self) -> usize {
        self.name.start()
    }

    pub(super) fn end(&self) -> usize {
        usize::from(self.end)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    LineStart,
    Name,
    ValueStart,
    Value,
    LineEnd,
    LastLineEnd,
}

/// What [`Section::next`] came to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    /// The end of the buffer.
    Partial,
    /// The end of a field line, the last one of [`Section::lines`].
    Line(Line),
    /// The end of the section; the message goes on here.
    End(usize),
}

/// The field lines of a head.
#[derive(Clone, Debug, Default)]
pub(super) struct Section {
    lines: Vec<Line>,
    step: Step,
    /// First unread byte.
    at: usize,
    name_start: usize,
    name_end: usize,
    value_start: usize,
    value_end: usize,
}

impl Section {
    /// Forgets all; keeps room for the next head, but not for a giant one.
    pub(super) fn clear(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        lines.shrink_to(CONTEXT_BYTES_KEPT_MAX / size_of::<Line>());
        *self = Self { lines, ..Self::default() };
    }

    /// Sets where the section starts: after the CRLF of the first line.
    pub(super) fn start_at(&mut self, at: usize) {
        self.at = at;
    }

    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    pub(super) fn lines_mut(&mut self) -> &mut [Line] {
        &mut self.lines
    }

    /// Marks the line read last as not for the next hop.
    pub(super) fn drop_last(&mut self) {
        if let Some(line) = self.lines.last_mut() {
            line.dropped = true;
        }
    }

    /// Marks lines by their names, which are told in lower case, as not for the next hop.
    pub(super) fn drop_fields(&mut self, buf: &[u8], is_meant: impl Fn(&[u8]) -> bool) {
        for line in &mut self.lines {
            line.dropped |= is_meant(&line.name.of(buf).to_ascii_lowercase());
        }
    }

    pub(super) fn fields<'b>(&'b self, buf: &'b [u8]) -> impl Iterator<Item = Field<'b>> {
        self.lines.iter().map(move |line| Field {
            name: line.name.of(buf),
            value: line.value.of(buf),
            id: line.id,
            hop_by_hop: line.dropped,
        })
    }

    pub(super) fn values<'b>(
        &'b self,
        buf: &'b [u8],
        name: &'b [u8],
    ) -> impl Iterator<Item = &'b [u8]> {
        let lines = self.lines.iter();
        let same = move |line: &&Line| line.name.of(buf).eq_ignore_ascii_case(name);
        lines.filter(same).map(move |line| line.value.of(buf))
    }

    /// Reads on to the end of a line, of the section or of the buffer, whichever comes first. No
    /// byte is looked at again because the buffer has grown.
    ///
    /// A line that is all there is read at once, if nothing is unusual about it.
    pub(super) fn next(&mut self, buf: &[u8], count_max: usize) -> Result<Next, HeadError> {
        if self.step == Step::LineStart
            && self.lines.len() < count_max
            && let Some(line) = whole_line(buf, self.at)
        {
            self.at = line.end();
            self.lines.push(line);
            return Ok(Next::Line(line));
        }
        self.next_part(buf, count_max)
    }

    /// The same step by step, from where it stopped the last time; says what is wrong.
    fn next_part(&mut self, buf: &[u8], count_max: usize) -> Result<Next, HeadError> {
        loop {
            let Some(&byte) = buf.get(self.at) else { return Ok(Next::Partial) };
            match self.step {
                Step::LineStart => self.start_line(byte, count_max)?,
                Step::Name => {
                    let end = find_not(buf, self.at, TOKEN);
                    self.at = end;
                    if let Some(&after) = buf.get(end) {
                        self.end_name(after)?;
                    }
                }
                Step::ValueStart if is_ows(byte) => self.at += 1,
                Step::ValueStart => {
                    self.value_start = self.at;
                    self.step = Step::Value;
                }
                Step::Value => {
                    self.at = find_control(buf, self.at);
                    if let Some(&after) = buf.get(self.at) {
                        self.end_value(after)?;
                    }
                }
                Step::LineEnd => {
                    self.end_cr(byte)?;
                    return Ok(Next::Line(self.push_line(buf)));
                }
                Step::LastLineEnd => {
                    self.end_cr(byte)?;
                    return Ok(Next::End(self.at));
                }
            }
        }
    }

    fn start_line(&mut self, byte: u8, count_max: usize) -> Result<(), HeadError> {
        match byte {
            b'\r' => {
                // However the lines were cut, what is known in the end is the same.
                (self.name_start, self.name_end, self.value_start, self.value_end) = (0, 0, 0, 0);
                self.at += 1;
                self.step = Step::LastLineEnd;
            }
            b'\n' => return Err(HeadError::BareLf),
            //= https://www.rfc-editor.org/rfc/rfc9112#section-5.2
            //# A server that receives an obs-fold in a request message that is not
            //# within a "message/http" container MUST either reject the message by
            //# sending a 400 (Bad Request), preferably with a representation
            //# explaining that obsolete line folding is unacceptable, or
            b' ' | b'\t' => return Err(HeadError::ObsFold),
            _ if self.lines.len() >= count_max => return Err(HeadError::FieldsTooMany),
            _ => {
                self.name_start = self.at;
                self.step = Step::Name;
            }
        }
        Ok(())
    }

    /// `after` is the first byte that can't be in a name.
    fn end_name(&mut self, after: u8) -> Result<(), HeadError> {
        //= https://www.rfc-editor.org/rfc/rfc9112#section-5.1
        //# A server MUST reject, with a response status code of 400 (Bad Request),
        //# any received request message that contains whitespace between a
        //# header field name and colon.
        if after != b':' || self.at == self.name_start {
            return Err(if after == b'\n' { HeadError::BareLf } else { HeadError::FieldName });
        }
        self.name_end = self.at;
        self.at += 1;
        self.step = Step::ValueStart;
        Ok(())
    }

    /// `after` is the first control character.
    fn end_value(&mut self, after: u8) -> Result<(), HeadError> {
        match after {
            b'\r' => {
                self.value_end = self.at;
                self.at += 1;
                self.step = Step::LineEnd;
                Ok(())
            }
            //= https://www.rfc-editor.org/rfc/rfc9112#section-2.2
            //# Although the line terminator for the start-line and fields is the
            //# sequence CRLF, a recipient MAY recognize a single LF as a line
            //# terminator and ignore any preceding CR.
            // We do not: where one reader sees a line end and another does not, smuggling starts.
            b'\n' => Err(HeadError::BareLf),
            //= https://www.rfc-editor.org/rfc/rfc9110#section-5.5
            //# Field values containing CR, LF, or NUL characters are invalid and
            //# dangerous, due to the varying ways that implementations might parse
            //# and interpret those characters;
            _ => Err(HeadError::FieldValue),
        }
    }

    /// `byte` stands after a CR.
    fn end_cr(&mut self, byte: u8) -> Result<(), HeadError> {
        //= https://www.rfc-editor.org/rfc/rfc9112#section-2.2
        //# A recipient of such a bare CR MUST consider that element to be invalid
        //# or replace each bare CR with SP before processing the element or
        //# forwarding the message.
        if byte != b'\n' {
            return Err(HeadError::BareCr);
        }
        self.at += 1;
        Ok(())
    }

    fn push_line(&mut self, buf: &[u8]) -> Line {
        let mut value_end = self.value_end;
        while value_end > self.value_start && is_ows(buf[value_end - 1]) {
            value_end -= 1;
        }
        let name = Part::new(self.name_start, self.name_end);
        let id = FieldId::of(name.of(buf));
        let line = Line {
            name,
            value: Part::new(self.value_start, value_end),
            end: self.at as u16,
            id,
            dropped: id.is_hop_by_hop(),
        };
        self.lines.push(line);
        self.step = Step::LineStart;
        line
    }
}

/// The field line at `at`, if it ends in `buf` and is written as nearly all are: one space before the
/// value, none behind it.
fn whole_line(buf: &[u8], at: usize) -> Option<Line> {
    if *buf.get(at)? == b'\r' {
        return None; // the end of the section
    }
    let name_end = find_byte(buf, at, b':');
    let name = buf.get(at..name_end)?;
    let id = FieldId::of(name);
    if !(id.is_whole_name() || is_token(name)) || buf.get(name_end + 1) != Some(&b' ') {
        return None;
    }
    let value_start = name_end + 2;
    let value_end = find_control(buf, value_start);
    let value = buf.get(value_start..value_end)?;
    let is_trimmed = !matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']);
    let ends = buf.get(value_end) == Some(&b'\r') && buf.get(value_end + 1) == Some(&b'\n');
    (is_trimmed && ends).then(|| Line {
        name: Part::new(at, name_end),
        value: Part::new(value_start, value_end),
        end: (value_end + 2) as u16,
        id,
        dropped: id.is_hop_by_hop(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair = (Vec<u8>, Vec<u8>);

    fn read(text: &[u8]) -> Result<Vec<Pair>, HeadError> {
        let mut section = Section::default();
        loop {
            match section.next(text, 3)? {
                Next::Partial => panic!("not complete"),
                Next::Line(_) => {}
                Next::End(end) => {
                    assert_eq!(end, text.len());
                    let pair = |field: Field<'_>| (field.name.to_vec(), field.value.to_vec());
                    return Ok(section.fields(text).map(pair).collect());
                }
            }
        }
    }

    fn pair(name: &str, value: &str) -> Pair {
        (name.into(), value.into())
    }

    #[test]
    fn lines_are_split_and_trimmed() {
        assert_eq!(read(b"\r\n"), Ok(vec![]));
        assert_eq!(
            read(b"a: b \t\r\nC:\r\nd-e: \t \r\n\r\n"),
            Ok(vec![pair("a", "b"), pair("C", ""), pair("d-e", "")])
        );
        assert_eq!(read(b"a::b: c\r\n\r\n"), Ok(vec![pair("a", ":b: c")]));
    }

    #[test]
    fn what_is_refused() {
        for (text, error) in [
            (&b"a:b\n\r\n"[..], HeadError::BareLf),
            (b"\n", HeadError::BareLf),
            (b"a\n", HeadError::BareLf),
            (b"a:b\rc\r\n\r\n", HeadError::BareCr),
            (b"a:b\r\r\n\r\n", HeadError::BareCr),
            (b"a:b\r\n\r\r\n", HeadError::BareCr),
            (b"a : b\r\n\r\n", HeadError::FieldName),
            (b"a\t: b\r\n\r\n", HeadError::FieldName),
            (b"a b: c\r\n\r\n", HeadError::FieldName),
            (b": b\r\n\r\n", HeadError::FieldName),
            (b"ab\r\n\r\n", HeadError::FieldName),
            (b"a\x80: b\r\n\r\n", HeadError::FieldName),
            (b"a\0: b\r\n\r\n", HeadError::FieldName),
            (b" a: b\r\n\r\n", HeadError::ObsFold),
            (b"a: b\r\n c\r\n\r\n", HeadError::ObsFold),
            (b"a: b\r\n\tc\r\n\r\n", HeadError::ObsFold),
            (b"a: b\0\r\n\r\n", HeadError::FieldValue),
            (b"a: \x7f\r\n\r\n", HeadError::FieldValue),
            (b"a:\x0b\r\n\r\n", HeadError::FieldValue),
            (b"a:1\r\nb:1\r\nc:1\r\nd:1\r\n\r\n", HeadError::FieldsTooMany),
        ] {
            assert_eq!(read(text), Err(error), "{}", text.escape_ascii());
        }
    }
}
