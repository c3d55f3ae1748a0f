//! Cookies that keep a client where it is: what they say, and how they are found.

use crate::policy::route::hash_bytes;

/// Digits of a token in hexadecimal.
const TOKEN_DIGITS: usize = 16;

const TOKEN_SEED: u32 = 3;

/// What stands in a cookie for an endpoint or upstream: a hash of its name, so that the name isn't
/// told. The same on every ringway and after a restart; no secret, so who guesses the name can check it.
pub fn token_of(name: &str) -> u64 {
    hash_bytes(TOKEN_SEED, name.as_bytes())
}

/// Appends a token as it stands in a cookie: 16 hexadecimal digits.
pub(in crate::policy) fn write_token(token: u64, out: &mut Vec<u8>) {
    for digit in (0..TOKEN_DIGITS).rev() {
        let value = (token >> (4 * digit)) as u8 & 0xF;
        out.push(b"0123456789abcdef"[usize::from(value)]);
    }
}

/// The token that a cookie's value is, if it is one.
pub(in crate::policy) fn read_token(value: &[u8]) -> Option<u64> {
    if value.len() != TOKEN_DIGITS {
        return None;
    }
    value.iter().try_fold(0, |token, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        Some(token << 4 | u64::from(digit))
    })
}

/// The first value of a cookie in the Cookie fields of a request. Without the quotes that a value may
/// have. Source: RFC 6265 §4.2.1, §5.4.
pub fn cookie<'a>(fields: impl Iterator<Item = &'a [u8]>, name: &[u8]) -> Option<&'a [u8]> {
    let mut pairs = fields.flat_map(|field| field.split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name)?.strip_prefix(b"=")?;
        let unquoted = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        Some(unquoted.unwrap_or(value))
    })
}

/// A cookie that keeps a client with what it was given: an endpoint of an upstream, or a choice of a
/// split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StickyCookie {
    name: Box<[u8]>,
    /// What follows the value, from `; ` on.
    attributes: Box<[u8]>,
    /// By index.
    tokens: Box<[u64]>,
    /// Ascending, with their indices.
    by_token: Box<[(u64, u16)]>,
}

impl StickyCookie {
    /// A cookie that tells things with these names apart, by their indices. `attributes` begin with
    /// `; ` unless they are empty.
    pub fn new<'a>(name: &str, attributes: &str, things: impl Iterator<Item = &'a str>) -> Self {
        let empty = Self {
            name: name.as_bytes().into(),
            attributes: attributes.as_bytes().into(),
            tokens: Box::default(),
            by_token: Box::default(),
        };
        empty.over(things)
    }

    /// The same cookie for things with these names.
    #[must_use]
    pub fn over<'a>(&self, things: impl Iterator<Item = &'a str>) -> Self {
        let tokens: Box<[u64]> = things.take(usize::from(u16::MAX)).map(token_of).collect();
        let numbered = tokens.iter().enumerate().map(|(index, token)| (*token, index as u16));
        let mut by_token: Box<[(u64, u16)]> = numbered.collect();
        by_token.sort_unstable();
        let (name, attributes) = (self.name.clone(), self.attributes.clone());
        Self { name, attributes, tokens, by_token }
    }

    /// What a client was given before, by the Cookie fields of its request.
    pub fn find<'a>(&self, fields: impl Iterator<Item = &'a [u8]>) -> Option<u16> {
        let token = read_token(cookie(fields, &self.name)?)?;
        let place = self.by_token.binary_search_by_key(&token, |(token, _)| *token).ok()?;
        self.by_token.get(place).map(|(_, index)| *index)
    }

    /// Appends the field that gives a client the thing at `index`. `secure`: for HTTPS only.
    pub fn write(&self, index: u16, secure: bool, out: &mut Vec<u8>) {
        let Some(token) = self.tokens.get(usize::from(index)) else { return };
        out.extend_from_slice(b"set-cookie: ");
        out.extend_from_slice(&self.name);
        out.push(b'=');
        write_token(*token, out);
        out.extend_from_slice(&self.attributes);
        if secure {
            out.extend_from_slice(b"; Secure");
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let find = |fields: &[&'static str], name: &str| {
            cookie(fields.iter().map(|field| field.as_bytes()), name.as_bytes())
        };
        assert_eq!(find(&["a=1; b=2;c=3"], "b"), Some(&b"2"[..]));
        assert_eq!(find(&["a=1; b=2;c=3"], "c"), Some(&b"3"[..]));
        assert_eq!(find(&["ab=1", "b=\"x\""], "b"), Some(&b"x"[..]));
        assert_eq!(find(&["b=1; b=2"], "b"), Some(&b"1"[..]), "the first counts");
        assert_eq!(find(&["b=x=y"], "b"), Some(&b"x=y"[..]));
        assert_eq!(find(&["b="], "b"), Some(&b""[..]));
        assert_eq!(find(&["xb=1; b ; B=2; ;=", ""], "b"), None);
        assert_eq!(find(&[], "b"), None);
    }

    #[test]
    fn a_cookie_leads_back_to_what_it_was_given_for() {
        let names = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
        let sticky = StickyCookie::new("sid", "; Path=/; HttpOnly", names.into_iter());
        for index in 0..3 {
            let mut line = Vec::new();
            sticky.write(index, index == 1, &mut line);
            let line = String::from_utf8(line).expect("ASCII");
            let value = line.strip_prefix("set-cookie: ").and_then(|line| line.split(';').next());
            let found = sticky.find(value.into_iter().map(str::as_bytes));
            assert_eq!(found, Some(index), "{line}");
            assert!(!line.contains("10.0"), "the name isn't told");
            let end = if index == 1 { "; HttpOnly; Secure\r\n" } else { "; HttpOnly\r\n" };
            assert!(line.ends_with(end), "{line}");
        }
        let find = |text: &'static str| sticky.find([text.as_bytes()].into_iter());
        assert_eq!(find("sid=0000000000000000"), None);
        assert_eq!(find("other=1"), None);
    }

    #[test]
    fn tokens_come_back_as_they_were_written() {
        for token in [0, 1, u64::MAX, token_of("10.0.0.1:80")] {
            let mut text = Vec::new();
            write_token(token, &mut text);
            assert_eq!(read_token(&text), Some(token));
        }
        for text in ["", "0", "00000000000000000", "000000000000000g", "+000000000000001"] {
            assert_eq!(read_token(text.as_bytes()), None, "{text}");
        }
        assert!(token_of("10.0.0.1:80") != token_of("10.0.0.1:81"));
    }
}
