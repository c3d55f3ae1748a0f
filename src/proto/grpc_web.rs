//! gRPC-Web: how browsers speak gRPC, which can neither send nor read trailers, and the gRPC it stands
//! for. Messages are framed the same; trailers come as one more frame, and in the `-text` form all of
//! it is written in base64.
//!
//! Source: grpc/doc/PROTOCOL-WEB.md.

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Binary,
    /// In base64.
    Text,
}

/// What a client speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// How its request is written.
    pub request: Form,
    /// How the response has to be.
    pub response: Form,
    /// What messages are written in: `+proto` and the like, or nothing.
    subtype: Box<[u8]>,
}

const TYPE: &[u8] = b"application/grpc-web";
const TEXT: &[u8] = b"-text";

/// What follows a word, however that is written.
fn after<'a>(text: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(word.len())?;
    start.eq_ignore_ascii_case(word).then_some(rest)
}

/// The form that a media type names, and what follows it.
fn form_of(media_type: &[u8]) -> Option<(Form, &[u8])> {
    let rest = media_type.trim_ascii_start();
    let rest = after(rest, TYPE)?;
    let (form, rest) = match after(rest, TEXT) {
        Some(rest) => (Form::Text, rest),
        None => (Form::Binary, rest),
    };
    matches!(rest.first(), None | Some(b'+' | b';' | b' ')).then_some((form, rest))
}

impl Dialect {
    /// What a request says by its Content-Type, and for its response by the Accept, if that names a
    /// form; `None` if it is no gRPC-Web.
    pub fn of(content_type: &[u8], accept: Option<&[u8]>) -> Option<Self> {
        let (request, rest) = form_of(content_type)?;
        let end = rest.iter().position(|byte| matches!(byte, b';' | b' ')).unwrap_or(rest.len());
        let mut accepted = accept.unwrap_or_default().split(|byte| *byte == b',');
        let response = accepted.find_map(form_of).map_or(request, |(form, _)| form);
        Some(Self { request, response, subtype: rest[..end].into() })
    }

    /// Appends the type of the call it stands for.
    pub fn write_call_type(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"application/grpc");
        out.extend_from_slice(&self.subtype);
    }

    /// Appends the type of its response.
    pub fn write_response_type(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(TYPE);
        if self.response == Form::Text {
            out.extend_from_slice(TEXT);
        }
        out.extend_from_slice(&self.subtype);
    }
}

/// The body is no base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Writes one body in the other protocol, piece by piece.
#[derive(Debug)]
pub enum Recoder {
    /// A request in base64.
    Request(Decoder),
    /// A response as it is.
    Binary,
    /// A response in base64.
    Text(Encoder),
}

impl Recoder {
    /// For the request, if it has to be written anew.
    pub fn request(dialect: &Dialect) -> Option<Self> {
        (dialect.request == Form::Text).then(|| Self::Request(Decoder::default()))
    }

    /// For the response.
    pub fn response(dialect: &Dialect) -> Self {
        match dialect.response {
            Form::Binary => Self::Binary,
            Form::Text => Self::Text(Encoder::default()),
        }
    }

    /// Appends what becomes of the next bytes.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Self::Request(decoder) => return decoder.write(bytes, out),
            Self::Binary => out.extend_from_slice(bytes),
            Self::Text(encoder) => encoder.write(bytes, out),
        }
        Ok(())
    }

    /// Appends the end: `trailers` are lines of fields, each with its CRLF.
    ///
    /// # Errors
    /// [`Malformed`] if a request ends in the middle of a group.
    pub fn end(&mut self, trailers: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        match self {
            Self::Request(decoder) => return decoder.end(),
            Self::Binary => write_trailers(trailers, out),
            Self::Text(encoder) => {
                let mut frame = Vec::with_capacity(trailers.len() + 5);
                write_trailers(trailers, &mut frame);
                encoder.write(&frame, out);
                encoder.flush(out);
            }
        }
        Ok(())
    }
}

/// Appends trailers as a frame; none if there are none.
fn write_trailers(trailers: &[u8], out: &mut Vec<u8>) {
    const TRAILERS: u8 = 0x80;
    if trailers.is_empty() {
        return;
    }
    out.push(TRAILERS);
    out.extend_from_slice(&u32::try_from(trailers.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(trailers);
}

/// Reads base64, cut anywhere, that may be padded anywhere: clients write message by message.
/// Source: RFC 4648 §4.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bits of the group that has begun.
    group: u32,
    /// How many characters of it have come.
    count: u8,
    /// How many of these were padding.
    padding: u8,
}

impl Decoder {
    fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        out.reserve(bytes.len() / 4 * 3 + 3);
        for byte in bytes {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' if self.count >= 2 => {
                    self.padding += 1;
                    0
                }
                _ => return Err(Malformed),
            };
            if self.padding > 0 && *byte != b'=' {
                return Err(Malformed);
            }
            self.group = self.group << 6 | u32::from(value);
            self.count += 1;
            if self.count == 4 {
                let [_, group @ ..] = self.group.to_be_bytes();
                out.extend_from_slice(&group[..3 - usize::from(self.padding)]);
                *self = Self::default();
            }
        }
        Ok(())
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.count == 0 { Ok(()) } else { Err(Malformed) }
    }
}

/// Writes base64. Pads at the end of messages only, so that none waits for the next one: bytes that
/// fill no group in the middle of a message wait.
#[derive(Debug, Default)]
pub struct Encoder {
    waiting: [u8; 2],
    waiting_count: usize,
    frames: Frames,
}

impl Encoder {
    fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        out.reserve(bytes.len().div_ceil(3) * 4 + 4);
        self.frames.advance(bytes);
        let mut bytes = bytes;
        if self.waiting_count > 0 {
            let missing = (3 - self.waiting_count).min(bytes.len());
            let mut group = [0; 3];
            group[..self.waiting_count].copy_from_slice(&self.waiting[..self.waiting_count]);
            group[self.waiting_count..self.waiting_count + missing]
                .copy_from_slice(&bytes[..missing]);
            let count = self.waiting_count + missing;
            bytes = &bytes[missing..];
            if count < 3 {
                self.wait(&group[..count]);
            } else {
                self.waiting_count = 0;
                push_group(group, 3, out);
            }
        }
        let mut groups = bytes.chunks_exact(3);
        for group in &mut groups {
            push_group([group[0], group[1], group[2]], 3, out);
        }
        if !groups.remainder().is_empty() {
            self.wait(groups.remainder());
        }
        if self.frames.is_between() {
            self.flush(out);
        }
    }

    fn wait(&mut self, rest: &[u8]) {
        self.waiting[..rest.len()].copy_from_slice(rest);
        self.waiting_count = rest.len();
    }

    fn flush(&mut self, out: &mut Vec<u8>) {
        let count = std::mem::take(&mut self.waiting_count);
        if count > 0 {
            push_group([self.waiting[0], self.waiting[1], 0], count, out);
        }
        self.waiting = [0; 2];
    }
}

fn push_group(group: [u8; 3], count: usize, out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
    for place in 0..4 {
        let value = (bits >> (18 - 6 * place)) as usize & 63;
        out.push(if place <= count { ALPHABET[value] } else { b'=' });
    }
}

/// Where messages begin and end.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; 5],
    head_count: usize,
    left: u32,
}

impl Frames {
    fn advance(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        while !bytes.is_empty() {
            if self.left > 0 {
                let step = bytes.len().min(self.left as usize);
                self.left -= step as u32;
                bytes = &bytes[step..];
                continue;
            }
            self.head[self.head_count] = bytes[0];
            self.head_count += 1;
            bytes = &bytes[1..];
            if self.head_count == 5 {
                self.head_count = 0;
                let [_, length @ ..] = self.head;
                self.left = u32::from_be_bytes(length);
            }
        }
    }

    fn is_between(&self) -> bool {
        self.left == 0 && self.head_count == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(parts: &[&str]) -> Result<Vec<u8>, Malformed> {
        let (mut decoder, mut out) = (Decoder::default(), Vec::new());
        for part in parts {
            decoder.write(part.as_bytes(), &mut out)?;
        }
        decoder.end().map(|()| out)
    }

    #[test]
    fn what_a_client_speaks() {
        let of = |content_type: &str, accept: Option<&str>| {
            let found = Dialect::of(content_type.as_bytes(), accept.map(str::as_bytes))?;
            let mut types = Vec::new();
            found.write_call_type(&mut types);
            types.push(b' ');
            found.write_response_type(&mut types);
            Some((found.request, String::from_utf8(types).unwrap()))
        };
        let is = |form, types: &str| Some((form, types.to_owned()));
        assert_eq!(
            of("application/grpc-web+proto", None),
            is(Form::Binary, "application/grpc+proto application/grpc-web+proto")
        );
        assert_eq!(
            of("Application/GRPC-Web-Text; charset=utf-8", Some("*/*")),
            is(Form::Text, "application/grpc application/grpc-web-text")
        );
        assert_eq!(
            of("application/grpc-web", Some("text/x, application/grpc-web-text")),
            is(Form::Binary, "application/grpc application/grpc-web-text")
        );
        for other in ["application/grpc", "application/grpc-webx", "text/plain", ""] {
            assert_eq!(of(other, None), None, "{other}");
        }
    }

    #[test]
    fn base64_may_be_padded_anywhere() {
        assert_eq!(decoded(&["AAEC"]), Ok(vec![0, 1, 2]));
        assert_eq!(decoded(&["AA==", "AQI="]), Ok(vec![0, 1, 2]));
        assert_eq!(decoded(&["A", "A", "=", "=AQI", "="]), Ok(vec![0, 1, 2]));
        assert_eq!(decoded(&[]), Ok(vec![]));
        for bad in ["AA", "A", "=", "A===", "AA=A", "AA= =", "AA\n==", "AA-_"] {
            assert_eq!(decoded(&[bad]), Err(Malformed), "{bad}");
        }
    }

    #[test]
    fn no_message_waits_for_the_next_one() {
        let mut encoder = Recoder::Text(Encoder::default());
        let mut out = Vec::new();
        encoder.write(b"\0\0\0\0\x02a", &mut out).unwrap();
        assert_eq!(out, b"AAAAAAJh");
        encoder.write(b"b", &mut out).unwrap();
        assert_eq!(out, b"AAAAAAJhYg==");
        encoder.end(b"grpc-status: 0\r\n", &mut out).unwrap();
        let text = std::str::from_utf8(&out).unwrap();
        assert_eq!(decoded(&[text]).unwrap(), b"\0\0\0\0\x02ab\x80\0\0\0\x10grpc-status: 0\r\n");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_however_it_was_cut(
            messages: Vec<Vec<u8>>,
            cuts: Vec<prop::sample::Index>,
        ) {
            let mut whole = Vec::new();
            for message in &messages {
                whole.push(0);
                whole.extend_from_slice(&(message.len() as u32).to_be_bytes());
                whole.extend_from_slice(message);
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            let mut encoder = Encoder::default();
            let (mut text, mut plain) = (Vec::new(), Vec::new());
            for pair in cuts.windows(2) {
                encoder.write(&whole[pair[0]..pair[1]], &mut text);
            }
            let mut decoder = Decoder::default();
            for part in text.chunks(3) {
                decoder.write(part, &mut plain).unwrap();
            }
            prop_assert_eq!(decoder.end(), Ok(()));
            prop_assert_eq!(plain, whole);
        }

        #[test]
        fn bytes_of_a_stranger_never_panic(bytes: Vec<u8>) {
            let mut out = Vec::new();
            let _ = Decoder::default().write(&bytes, &mut out);
            Encoder::default().write(&bytes, &mut out);
            let _ = Dialect::of(&bytes, Some(&bytes));
        }
    }
}
