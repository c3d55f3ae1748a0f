//! The trailer section of a chunked body: checked line by line, unfit fields left out.

use super::{FieldId, field::starts_with};
use crate::{
    base::limits::{CONTEXT_BYTES_KEPT_MAX, TRAILER_BYTES_MAX, TRAILER_COUNT_MAX},
    proto::bytes::{find_control, is_token},
};

/// Why a trailer section was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TrailerError {
    Grammar,
    TooLarge,
}

/// Names that say how to read the message before it: too late in a trailer.
const FORBIDDEN_PREFIXES: [&[u8]; 3] = [b"if-", b"proxy-", b"access-control-"];

/// A trailer section while it arrives.
#[derive(Debug, Default)]
pub(super) struct Trailers {
    /// Complete lines that passed, then the one that is arriving.
    lines: Vec<u8>,
    /// Where the line that is arriving starts.
    start: usize,
    /// A CR was read, its LF not yet.
    after_cr: bool,
    bytes: usize,
    count: usize,
}

impl Trailers {
    pub(super) fn clear(&mut self) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        lines.shrink_to(CONTEXT_BYTES_KEPT_MAX);
        *self = Self { lines, ..Self::default() };
    }

    /// The lines that passed, each with its CRLF.
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines[..self.start]
    }

    /// Reads from `buf`, which goes on where it last ended. Returns how many bytes belong to the
    /// section, and whether the empty line that ends it was among them.
    pub(super) fn read(&mut self, buf: &[u8]) -> Result<(usize, bool), TrailerError> {
        let budget = TRAILER_BYTES_MAX - self.bytes;
        let seen = &buf[..buf.len().min(budget)];
        let (read, done) = self.read_lines(seen)?;
        self.bytes += read;
        if !done && self.bytes == TRAILER_BYTES_MAX {
            return Err(TrailerError::TooLarge);
        }
        Ok((read, done))
    }

    fn read_lines(&mut self, buf: &[u8]) -> Result<(usize, bool), TrailerError> {
        let mut at = 0;
        while let Some(&byte) = buf.get(at) {
            if self.after_cr {
                if byte != b'\n' {
                    return Err(TrailerError::Grammar);
                }
                at += 1;
                self.after_cr = false;
                if self.lines.len() == self.start {
                    return Ok((at, true));
                }
                self.end_line()?;
                continue;
            }
            let end = find_control(buf, at);
            self.lines.extend_from_slice(&buf[at..end]);
            at = end;
            match buf.get(at) {
                None => break,
                Some(b'\r') => self.after_cr = true,
                Some(_) => return Err(TrailerError::Grammar),
            }
            at += 1;
        }
        Ok((at, false))
    }

    /// Keeps the line that has arrived, or leaves it out.
    fn end_line(&mut self) -> Result<(), TrailerError> {
        self.count += 1;
        if self.count > TRAILER_COUNT_MAX {
            return Err(TrailerError::TooLarge);
        }
        let line = &self.lines[self.start..];
        let name = line.split(|&b| b == b':').next().unwrap_or_default();
        if name.len() == line.len() || !is_token(name) {
            return Err(TrailerError::Grammar); // no colon, obs-fold, space before the colon, ...
        }
        if is_forbidden(name) {
            self.lines.truncate(self.start);
        } else {
            self.lines.extend_from_slice(b"\r\n");
            self.start = self.lines.len();
        }
        Ok(())
    }
}

//= https://www.rfc-editor.org/rfc/rfc9110#section-6.5.1
//# Many fields cannot be processed outside the header section because
//# their evaluation is necessary prior to receiving the content, such as
//# those that describe message framing, routing, authentication, request
//# modifiers, response controls, or content format.
fn is_forbidden(name: &[u8]) -> bool {
    FieldId::of(name) != FieldId::Unknown
        || FieldId::of_lookalike(name) != FieldId::Unknown
        || FORBIDDEN_PREFIXES.iter().any(|prefix| starts_with(name, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Vec<u8>, TrailerError> {
        let mut trailers = Trailers::default();
        let (read, done) = trailers.read(text)?;
        assert!(done, "{}", text.escape_ascii());
        assert_eq!(read, text.len());
        Ok(trailers.lines().to_vec())
    }

    #[test]
    fn kept_and_left_out() {
        for (text, kept) in [
            ("\r\n", ""),
            ("grpc-status: 0\r\n\r\n", "grpc-status: 0\r\n"),
            ("A:1\r\nb: 2\r\n\r\n", "A:1\r\nb: 2\r\n"),
            ("x:\r\n\r\n", "x:\r\n"),
            ("Content-Length: 5\r\nx: 1\r\n\r\n", "x: 1\r\n"),
            ("x: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "x: 1\r\n"),
            ("host: a\r\n\r\n", ""),
            ("Connection: close\r\nkeep-alive: 1\r\n\r\n", ""),
            ("authorization: x\r\ncookie: a\r\nset-cookie: a\r\n\r\n", ""),
            ("content_length: 5\r\nx_forwarded_for: 1\r\n\r\n", ""),
            ("x-forwarded-for: 1\r\nforwarded: a\r\nx-real-ip: 1\r\nvia: a\r\n\r\n", ""),
            ("if-match: a\r\nproxy-x: a\r\ntrailer: a\r\nte: trailers\r\n\r\n", ""),
            ("content-type: a\r\ncontent-encoding: a\r\ncontent-range: a\r\n\r\n", ""),
            ("digest: a\r\ncontent-digest: b\r\n\r\n", "digest: a\r\ncontent-digest: b\r\n"),
        ] {
            assert_eq!(read(text.as_bytes()), Ok(kept.into()), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "x: 1\n\r\n",
            "\n",
            "x\r\n\r\n",
            " x: 1\r\n\r\n",
            "x: 1\r\n y\r\n\r\n",
            "x : 1\r\n\r\n",
            ": 1\r\n\r\n",
            "x: 1\r\r\n",
            "x: \0\r\n\r\n",
            "x: 1\r\n\rx",
            "x y: 1\r\n\r\n",
            "x: \x7f\r\n\r\n",
        ] {
            assert_eq!(read(text.as_bytes()), Err(TrailerError::Grammar), "{text:?}");
        }
    }

    #[test]
    fn bounds() {
        let endless = vec![b'a'; TRAILER_BYTES_MAX];
        assert_eq!(Trailers::default().read(&endless), Err(TrailerError::TooLarge));
        let many = b"a:1\r\n".repeat(TRAILER_COUNT_MAX + 1);
        assert_eq!(Trailers::default().read(&many), Err(TrailerError::TooLarge));
        assert_eq!(Trailers::default().read(&many[5..]), Ok((many.len() - 5, false)));
        let dropped = b"te: a long line of a field that is left out each time\r\n".repeat(40);
        let mut trailers = Trailers::default();
        trailers.read(&dropped).unwrap();
        assert_eq!(trailers.lines(), b"");
    }
}
