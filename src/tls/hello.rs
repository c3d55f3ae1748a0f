//! What a client says first: whether it is TLS, the name it asks for, and which cipher it likes best.
//!
//! Only looks: the same bytes go to the [`super::Session`] afterwards, which judges them. So a
//! hello that is wrong in any other way than that it can't be found is [`Hello::Whole`] without a
//! name. Source: RFC 8446 §4.1.2, §5.1; RFC 6066 §3.

use super::alert;
use crate::base::limits;

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub enum Hello {
    /// More bytes are needed.
    Partial,
    /// A whole ClientHello.
    Whole(Asked),
    /// Plain HTTP, by the look of it.
    Http,
    /// Neither, or a hello of long ago: this is the alert for it.
    Other(u8),
}

/// What a ClientHello asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The name, lower-case and without a final dot.
    pub name: Option<Box<str>>,
    /// Whether ChaCha20 comes first among its suites: it has no instructions for AES.
    pub prefers_chacha: bool,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// Bytes of a ClientHello that are looked at: what is longer the session refuses. With post-quantum key
/// shares they have about 1,800.
const HELLO_BYTES_MAX: usize = 0xffff;

const RECORD_HEADER_BYTES: usize = 5;

/// A version that no hello may have any more, nor an older one.
const SSL3: u16 = 0x0300;

/// A look at the first bytes of a connection, again and again as more of them come.
#[derive(Default)]
pub struct Look {
    /// Bytes that lie behind it: whole records.
    at: usize,
    /// What they hold of the message. Most hellos lie in one record; others are put together.
    joined: Vec<u8>,
}

impl Look {
    /// Goes on with all that has arrived: what was there the last time, and more behind it.
    pub fn look(&mut self, bytes: &[u8]) -> Hello {
        match bytes {
            [] => return Hello::Partial,
            [HANDSHAKE, ..] => {}
            _ if looks_like_http(bytes) => return Hello::Http,
            _ => return Hello::Other(alert::UNEXPECTED_MESSAGE),
        }
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            let [HANDSHAKE, major, _, high, low, after @ ..] = rest else {
                let is_cut = rest.len() < RECORD_HEADER_BYTES
                    && rest.first().is_none_or(|kind| *kind == HANDSHAKE);
                return if is_cut { Hello::Partial } else { Hello::Whole(Asked::default()) };
            };
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if *major != 3 || length == 0 {
                return Hello::Whole(Asked::default()); // the session refuses it
            }
            if length > limits::TLS_RECORD_BYTES {
                return Hello::Other(alert::RECORD_OVERFLOW); // of those that are not encrypted
            }
            let Some(fragment) = after.get(..length) else { return Hello::Partial };
            let message = if self.joined.is_empty() {
                fragment
            } else {
                self.joined.extend(fragment);
                &self.joined
            };
            match message {
                [CLIENT_HELLO, a, b, c, body @ ..] => {
                    let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
                    if let Some(body) = body.get(..length) {
                        return Hello::of(body);
                    }
                    if length > HELLO_BYTES_MAX {
                        return Hello::Whole(Asked::default());
                    }
                }
                [CLIENT_HELLO, ..] => {}
                _ => return Hello::Other(alert::UNEXPECTED_MESSAGE),
            }
            if self.joined.is_empty() {
                self.joined.extend(fragment);
            }
            self.at += RECORD_HEADER_BYTES + length;
        }
    }
}

impl Hello {
    /// The body of a ClientHello. Source: RFC 8446 §D.5 ("MUST abort the handshake").
    fn of(body: &[u8]) -> Self {
        match body {
            [major, minor, ..] if u16::from_be_bytes([*major, *minor]) <= SSL3 => {
                Self::Other(alert::PROTOCOL_VERSION)
            }
            _ => Self::Whole(Asked::read(body)),
        }
    }
}

/// A method and a space, or as much of it as there is. Any record type is below 32.
fn looks_like_http(bytes: &[u8]) -> bool {
    let word = bytes.iter().take(16).take_while(|byte| byte.is_ascii_uppercase()).count();
    (3..16).contains(&word) && bytes.get(word).is_some_and(|byte| *byte == b' ')
}

impl Asked {
    /// Reads the body of a ClientHello, as far as it can be read.
    fn read(body: &[u8]) -> Self {
        let mut asked = Self::default();
        let mut body = Reader(body);
        if asked.read_suites(&mut body).is_some() {
            asked.name = server_name(&mut body);
        }
        asked
    }

    fn read_suites(&mut self, body: &mut Reader<'_>) -> Option<()> {
        body.take(2 + 32)?; // version, random
        body.vector8()?; // session id
        let suites = body.vector16()?;
        // What is there to keep servers tolerant comes first. Source: RFC 8701 §2.
        let is_grease = |suite: &&[u8]| suite[0] == suite[1] && suite[0] & 0x0f == 0x0a;
        let first = suites.chunks_exact(2).find(|suite| !is_grease(suite));
        self.prefers_chacha = matches!(first, Some([0x13, 0x03] | [0xcc, 0xa8..=0xaa]));
        Some(())
    }
}

/// Reads the server_name extension out of what follows the suites of a ClientHello.
fn server_name(body: &mut Reader<'_>) -> Option<Box<str>> {
    body.vector8()?; // compression
    let mut extensions = Reader(body.vector16()?);
    loop {
        let kind = extensions.u16()?;
        let content = extensions.vector16()?;
        if kind != 0 {
            continue;
        }
        let mut names = Reader(Reader(content).vector16()?);
        let [0] = names.take(1)? else { return None };
        return normal(names.vector16()?);
    }
}

/// A name in the form in which names are compared; `None` for what is none.
fn normal(name: &[u8]) -> Option<Box<str>> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let is_name = name.len() <= 253
        && name.split(|byte| *byte == b'.').all(|label| !label.is_empty())
        && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    let name = std::str::from_utf8(name).ok().filter(|_| is_name)?;
    Some(name.to_ascii_lowercase().into())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(*self.take(1)?.first()?);
        self.take(length)
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello message with a name, in records of so many bytes.
    fn hello(name: &str, record_bytes: usize) -> Vec<u8> {
        let vector16 = |bytes: &[u8]| {
            let mut out = (bytes.len() as u16).to_be_bytes().to_vec();
            out.extend(bytes);
            out
        };
        let entry = [&[0][..], &vector16(name.as_bytes())].concat();
        let extensions =
            [&[0, 10][..], &vector16(&[0, 0]), &[0, 0], &vector16(&vector16(&entry))].concat();
        let body =
            [&[3, 3][..], &[7; 32], &[0], &vector16(&[19, 1]), &[1, 0], &vector16(&extensions)]
                .concat();
        let message = [&[1, 0][..], &vector16(&body)].concat();
        let record = |part: &[u8]| [&[22, 3, 1][..], &vector16(part)].concat();
        message.chunks(record_bytes).flat_map(record).collect()
    }

    fn look(bytes: &[u8]) -> Hello {
        Look::default().look(bytes)
    }

    #[test]
    fn the_name_is_found_wherever_it_was_cut() {
        for record_bytes in [usize::MAX, 50, 4, 3, 1] {
            let bytes = hello("WWW.Example.org.", record_bytes);
            let mut again = Look::default();
            for end in 0..bytes.len() {
                assert_eq!(look(&bytes[..end]), Hello::Partial, "{end}");
                assert_eq!(again.look(&bytes[..end]), Hello::Partial, "{end}");
            }
            assert_eq!(again.look(&bytes), look(&bytes));
            let Hello::Whole(asked) = look(&bytes) else { panic!("a hello") };
            assert_eq!(asked.name.as_deref(), Some("www.example.org"));
        }
    }

    #[test]
    fn the_first_suite_tells_what_a_client_is_good_at() {
        let prefers_chacha = |suites: &[u8]| {
            let body = [&[3, 3][..], &[7; 32], &[0, 0, suites.len() as u8], suites].concat();
            Asked::read(&body).prefers_chacha
        };
        assert!(prefers_chacha(&[0x13, 3, 0x13, 1]));
        assert!(prefers_chacha(&[0x5a, 0x5a, 0xcc, 0xa9]), "behind GREASE");
        assert!(!prefers_chacha(&[0x13, 1, 0x13, 3]));
        assert!(!prefers_chacha(&[]));
    }

    #[test]
    fn what_is_no_hello_is_told_apart() {
        assert_eq!(look(b"GET / HTTP/1.1\r\n"), Hello::Http);
        assert_eq!(look(b"PROPFIND /x HTTP/1.1"), Hello::Http);
        assert_eq!(look(b"PRI * HTTP/2.0\r\n"), Hello::Http);
        for bytes in [&b"get / HTTP/1.1"[..], b"\x80\x2e\x01\x03\x01", b"SSH-2.0-x", b"\0"] {
            assert_eq!(look(bytes), Hello::Other(alert::UNEXPECTED_MESSAGE), "{bytes:?}");
        }
        for bytes in [&b"\x16\x02\x01\0\x01"[..], b"\x16\x03\x01\0\0"] {
            assert_eq!(
                look(bytes),
                Hello::Whole(Asked::default()),
                "the session refuses it: {bytes:?}"
            );
        }
        let other = look(b"\x16\x03\x01\0\x04\x02\0\0\0");
        assert_eq!(other, Hello::Other(alert::UNEXPECTED_MESSAGE));
        assert_eq!(look(b"\x16\x03\x01\x40\x01"), Hello::Other(alert::RECORD_OVERFLOW));
        assert_eq!(look(b"\x16\x03\x01\x40\0"), Hello::Partial);
        let mut old = hello("a.test", 99);
        old[10] = 0;
        assert_eq!(look(&old), Hello::Other(alert::PROTOCOL_VERSION));
        for name in ["a b", "a.test..", "a..test", ".a", "."] {
            assert_eq!(look(&hello(name, 99)), Hello::Whole(Asked::default()), "{name}");
        }
    }
}
