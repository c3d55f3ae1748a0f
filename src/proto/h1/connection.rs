//! The Connection field: what it says of the connection, and the fields it nominates for removal.

use super::{FieldId, HeadError, section::Section};
use crate::{
    base::limits::CONNECTION_OPTIONS_MAX,
    proto::bytes::{is_token, list},
};

/// What all Connection fields of a head say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
    /// At least one option is the name of another field, maybe.
    nominates: bool,
    count: usize,
}

impl Options {
    /// Adds one field line.
    ///
    /// # Errors
    /// Something is not a token, or there are more than [`CONNECTION_OPTIONS_MAX`]. The options
    /// before it are taken in.
    pub(super) fn add(&mut self, value: &[u8]) -> Result<(), HeadError> {
        for option in list(value) {
            self.count += 1;
            if self.count > CONNECTION_OPTIONS_MAX {
                return Err(HeadError::Connection);
            }
            if option.is_empty() {
                continue; // RFC 9110 §5.6.1.2: a reasonable number of empty elements is ignored
            }
            if !is_token(option) {
                return Err(HeadError::Connection);
            }
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.nominates = true;
            }
        }
        Ok(())
    }

    /// Marks the nominated fields as not for the next hop. Fields for all recipients stay.
    ///
    /// # Errors
    /// With `strict`, an option names a field that frames or routes the message: whoever obeys it
    /// reads another message than whoever does not. Without, such an option is ignored; framing is
    /// made anew anyway.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
    //# Intermediaries MUST parse a received Connection header field before a
    //# message is forwarded and, for each connection-option in this field,
    //# remove any header or trailer field(s) from the message with the same
    //# name as the connection-option, and then remove the Connection header
    //# field itself
    pub(super) fn drop_nominated(
        &self,
        section: &mut Section,
        buf: &[u8],
        strict: bool,
    ) -> Result<(), HeadError> {
        if !self.nominates {
            return Ok(());
        }
        for index in 0..section.lines().len() {
            let line = section.lines()[index];
            if line.id != FieldId::Connection {
                continue;
            }
            for option in list(line.value.of(buf)).take(CONNECTION_OPTIONS_MAX) {
                let id = FieldId::of(option);
                if strict && id.is_framing() {
                    return Err(HeadError::NominatedFraming);
                }
                if !id.is_end_to_end() {
                    drop_named(section, buf, option);
                }
            }
        }
        Ok(())
    }
}

fn drop_named(section: &mut Section, buf: &[u8], name: &[u8]) {
    for line in section.lines_mut() {
        if line.name.of(buf).eq_ignore_ascii_case(name) {
            line.dropped = true;
        }
    }
}

/// Whether an Upgrade value names a protocol other than h2c.
//= https://www.rfc-editor.org/rfc/rfc9110#section-7.8
//# Upgrade          = #protocol
//# protocol         = protocol-name ["/" protocol-version]
pub(super) fn has_protocol(value: &[u8]) -> bool {
    protocols(value).next().is_some()
}

/// The protocols of an Upgrade value that ringway passes on. h2c is not among them: behind it the
/// endpoint would read frames that nobody here has checked.
pub(super) fn protocols(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    list(value).filter(|protocol| {
        let mut parts = protocol.splitn(2, |&b| b == b'/');
        let name = parts.next().unwrap_or_default();
        is_token(name) && parts.next().is_none_or(is_token) && !name.eq_ignore_ascii_case(b"h2c")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let mut options = Options::default();
        assert_eq!(options.add(b"Close , ,keep-ALIVE,"), Ok(()));
        assert!(options.close && options.keep_alive && !options.upgrade && !options.nominates);
        assert_eq!(options.add(b"x-a"), Ok(()));
        assert!(options.nominates);
        for bad in [&b"\"close\""[..], b"close;x", b"keep alive", b"a,b c", b"close=1", b"\x80"] {
            assert_eq!(Options::default().add(bad), Err(HeadError::Connection));
        }
        let many = vec![b','; CONNECTION_OPTIONS_MAX];
        assert_eq!(Options::default().add(&many), Err(HeadError::Connection));
        assert_eq!(Options::default().add(&many[1..]), Ok(()));
    }

    #[test]
    fn upgrade_protocols() {
        assert!(has_protocol(b"websocket"));
        assert!(has_protocol(b"h2c, websocket"));
        assert!(has_protocol(b"TLS/1.0"));
        for none in
            [&b""[..], b"h2c", b"H2C", b"h2c/1", b"web socket", b",", b"a/", b"/a", b"a/b/c"]
        {
            assert!(!has_protocol(none), "{}", none.escape_ascii());
        }
    }
}
