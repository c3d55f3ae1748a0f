//! Request heads.

use super::{
    Field, FieldId, Framing, HeadError, HeadLimits, Method, Parse, TargetForm, Version,
    connection::{Options, has_protocol},
    framing::FramingFields,
    section::{Line, Next, Part, Section},
    target::Target,
};
use crate::{
    base::limits::METHOD_BYTES_MAX,
    proto::{
        bytes::{METHOD, QUERY, TARGET, find_not, is, list, parse_u64},
        host::{parse_authority, same_authority},
    },
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Start,
    Method,
    Target,
    Version,
    Fields,
    Done(usize),
    Failed(HeadError),
}

/// A request head as offsets into the buffer it was parsed from. That buffer (it may have grown, or
/// moved) is an argument of every accessor; all but [`RequestHead::started`], [`RequestHead::method`]
/// and [`RequestHead::clear`] mean something only once [`Parse::Complete`] was returned.
#[derive(Clone, Debug)]
pub struct RequestHead {
    step: Step,
    /// First unread byte of the request line.
    at: usize,
    method: Method,
    method_part: Part,
    target_part: Part,
    target: Target,
    version: Version,
    section: Section,
    facts: Facts,
    framing: Framing,
    /// It came over HTTP/2, as the text of HTTP/1.
    over_http2: bool,
}

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            step: Step::Start,
            at: 0,
            method: Method::Get,
            method_part: Part::default(),
            target_part: Part::default(),
            target: Target::default(),
            version: Version::Http11,
            section: Section::default(),
            facts: Facts::default(),
            framing: Framing::Empty,
            over_http2: false,
        }
    }
}

/// What the fields say that ringway acts on.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    framing: FramingFields,
    connection: Options,
    /// The value of Host, without the colon of an empty port.
    host: Option<Part>,
    /// Host had such a colon.
    host_cut: bool,
    expect: Option<Expect>,
    /// Upgrade names a protocol that may be passed on.
    protocol: bool,
    /// TE holds `trailers`.
    te_trailers: bool,
    max_forwards: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Continue,
    Other,
}

impl RequestHead {
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

    /// Parses the head at the start of `buf`. After [`Parse::Partial`] call again with the same
    /// bytes and more: each byte is looked at once. What comes out, error or not, does not depend
    /// on how the bytes were cut.
    ///
    /// Source: RFC 9112 §2 to §6, narrowed to what all recipients read alike.
    ///
    /// # Errors
    /// As soon as no bytes could make it right: see [`HeadError`]. Calling again gives it again.
    pub fn parse(&mut self, buf: &[u8], limits: HeadLimits) -> Result<Parse, HeadError> {
        let bytes_max = limits.bytes_max.min(usize::from(u16::MAX));
        let seen = &buf[..buf.len().min(bytes_max)];
        let result = match self.advance(seen, limits.count_max) {
            Ok(Some(head_bytes)) => Ok(Parse::Complete { head_bytes }),
            Ok(None) if seen.len() < bytes_max => Ok(Parse::Partial),
            //= https://www.rfc-editor.org/rfc/rfc9112#section-3
            //# A server that receives a request-target longer than any URI it wishes
            //# to parse MUST respond with a 414 (URI Too Long) status code
            Ok(None) if self.step != Step::Fields => Err(HeadError::TargetTooLong),
            Ok(None) => Err(HeadError::HeadTooLarge),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.step = Step::Failed(error);
        }
        result
    }

    fn advance(&mut self, buf: &[u8], count_max: usize) -> Result<Option<usize>, HeadError> {
        loop {
            let more = match self.step {
                Step::Start => self.skip_empty_line(buf)?,
                Step::Method => self.read_method(buf)?,
                Step::Target => self.read_target(buf)?,
                Step::Version => self.read_version(buf)?,
                Step::Fields => return self.read_fields(buf, count_max),
                Step::Done(head_bytes) => return Ok(Some(head_bytes)),
                Step::Failed(error) => return Err(error),
            };
            if !more {
                return Ok(None);
            }
        }
    }

    /// Each `read_*` returns whether it came to its end; if not, more bytes are needed.
    fn skip_empty_line(&mut self, buf: &[u8]) -> Result<bool, HeadError> {
        //= https://www.rfc-editor.org/rfc/rfc9112#section-2.2
        //# In the interest of robustness, a server that is expecting to receive
        //# and parse a request-line SHOULD ignore at least one empty line (CRLF)
        //# received prior to the request-line.
        match buf {
            [] | [b'\r'] => return Ok(false),
            [b'\r', b'\n', ..] => self.at = 2,
            [b'\r' | b'\n', ..] => return Err(HeadError::LeadingLine),
            _ => {}
        }
        self.method_part = Part::new(self.at, self.at);
        self.step = Step::Method;
        Ok(true)
    }

    fn read_method(&mut self, buf: &[u8]) -> Result<bool, HeadError> {
        let start = self.method_part.start();
        let end = find_not(buf, self.at, METHOD);
        self.at = end;
        if end - start > METHOD_BYTES_MAX {
            return Err(HeadError::Method);
        }
        if buf.get(start).is_some_and(|first| !first.is_ascii_uppercase()) {
            let empty_line = matches!(buf[start], b'\r' | b'\n');
            return Err(if empty_line { HeadError::LeadingLine } else { HeadError::Method });
        }
        match buf.get(end) {
            None => return Ok(false),
            Some(b' ') => {}
            Some(_) => return Err(HeadError::Method),
        }
        self.method_part = Part::new(start, end);
        self.method = Method::from_bytes(&buf[start..end]);
        self.at = end + 1;
        self.target_part = Part::new(self.at, self.at);
        self.step = Step::Target;
        Ok(true)
    }

    fn read_target(&mut self, buf: &[u8]) -> Result<bool, HeadError> {
        let start = self.target_part.start();
        let mut end = find_not(buf, self.at, TARGET);
        if buf.get(end).is_some_and(|&b| is(b, QUERY)) && buf[start..end].contains(&b'?') {
            end = find_not(buf, end, QUERY);
        }
        self.at = end;
        match buf.get(end) {
            None => return Ok(false),
            Some(b' ') => {}
            Some(b'\n') => return Err(HeadError::BareLf),
            // CR: HTTP/0.9, or white space at the end of a target that others would trim.
            Some(_) => return Err(HeadError::Target),
        }
        self.target_part = Part::new(start, end);
        self.target = Target::parse(self.method, &buf[start..end], start)?;
        self.at = end + 1;
        self.step = Step::Version;
        Ok(true)
    }

    fn read_version(&mut self, buf: &[u8]) -> Result<bool, HeadError> {
        const PATTERN: &[u8; 10] = b"HTTP/d.d\r\n";
        let line = buf.get(self.at..).unwrap_or_default();
        let usual = line.starts_with(b"HTTP/1.1\r\n");
        for (&byte, &wanted) in line.iter().zip(PATTERN).skip(if usual { PATTERN.len() } else { 0 })
        {
            match wanted {
                b'd' if byte.is_ascii_digit() => {}
                _ if byte == wanted && wanted != b'd' => {}
                b'\r' if byte == b'\n' => return Err(HeadError::BareLf),
                b'\n' => return Err(HeadError::BareCr),
                _ => return Err(HeadError::Version),
            }
        }
        let Some(&[_, _, _, _, _, major, _, minor, _, _]) = line.first_chunk::<10>() else {
            return Ok(false);
        };
        self.version = match (major, minor) {
            (b'1', b'1') => Version::Http11,
            (b'1', b'0') => Version::Http10,
            (b'0', b'9') => return Err(HeadError::Version),
            _ => return Err(HeadError::VersionUnsupported),
        };
        self.section.start_at(self.at + PATTERN.len());
        self.step = Step::Fields;
        Ok(true)
    }

    fn read_fields(&mut self, buf: &[u8], count_max: usize) -> Result<Option<usize>, HeadError> {
        loop {
            match self.section.next(buf, count_max)? {
                Next::Partial => return Ok(None),
                Next::Line(line) => self.take_in(buf, line)?,
                Next::End(head_bytes) => {
                    self.conclude(buf)?;
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
            FieldId::Unknown => return self.check_lookalike(line.name.of(buf)),
            FieldId::Host => facts.add_host(value, line.value)?,
            FieldId::ContentLength => facts.framing.add_length(value)?,
            FieldId::TransferEncoding => facts.framing.add_coding(value)?,
            FieldId::Connection => facts.connection.add(value)?,
            FieldId::Upgrade => facts.protocol |= has_protocol(value),
            FieldId::Te => {
                let trailers = |coding: &[u8]| coding.eq_ignore_ascii_case(b"trailers");
                facts.te_trailers |= list(value).any(trailers);
            }
            FieldId::Expect => facts.add_expect(value),
            FieldId::MaxForwards if matches!(self.method, Method::Options | Method::Trace) => {
                facts.add_max_forwards(value)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Readers that fold `-` and `_` into one must not see a field here that we did not.
    fn check_lookalike(&mut self, name: &[u8]) -> Result<(), HeadError> {
        match FieldId::of_lookalike(name) {
            FieldId::ContentLength | FieldId::TransferEncoding | FieldId::KeepAlive => {
                Err(HeadError::FieldNameLookalike)
            }
            id => {
                if id.is_client_identity() {
                    self.section.drop_last();
                }
                Ok(())
            }
        }
    }

    /// What can be told only from all fields together; framing first.
    fn conclude(&mut self, buf: &[u8]) -> Result<(), HeadError> {
        self.framing = self.facts.framing.of_request(self.version)?;
        self.check_host(buf)?;
        self.facts.connection.drop_nominated(&mut self.section, buf, true)?;
        self.conclude_expect()
    }

    fn check_host(&self, buf: &[u8]) -> Result<(), HeadError> {
        match (self.facts.host, self.target.authority) {
            //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2
            //# A server MUST respond with a 400 (Bad Request) status code to any
            //# HTTP/1.1 request message that lacks a Host header field and to any
            //# request message that contains more than one Host header field line or
            //# a Host header field with an invalid field value.
            (None, _) if self.version == Version::Http11 => Err(HeadError::HostMissing),
            //= https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
            //# When a proxy receives a request with an absolute-form of
            //# request-target, the proxy MUST ignore the received Host header field
            //# (if any) and instead replace it with the host information of the
            //# request-target.
            // Where the two differ, someone relies on the other one: refused.
            (Some(host), Some(authority)) if self.target.form != TargetForm::Authority => {
                let port = if self.target.https { 443 } else { 80 };
                match same_authority(host.of(buf), authority.of(buf), port) {
                    true => Ok(()),
                    false => Err(HeadError::HostMismatch),
                }
            }
            _ => Ok(()),
        }
    }

    fn conclude_expect(&mut self) -> Result<(), HeadError> {
        match self.facts.expect {
            //= https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
            //# A server that receives a 100-continue expectation in an HTTP/1.0
            //# request MUST ignore that expectation.
            Some(_) if self.version == Version::Http10 => {}
            //= https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
            //# A server that receives an Expect field value containing a member
            //# other than 100-continue MAY respond with a 417 (Expectation Failed)
            //# status code
            Some(Expect::Other) => return Err(HeadError::Expectation),
            Some(Expect::Continue) if self.has_body() => return Ok(()),
            _ => {}
        }
        self.facts.expect = None;
        for line in self.section.lines_mut() {
            line.dropped |= line.id == FieldId::Expect;
        }
        Ok(())
    }

    fn has_body(&self) -> bool {
        !matches!(self.framing, Framing::Empty | Framing::Length(0))
    }

    /// Whether the request has begun: a byte other than those of the empty line that may stand
    /// before it was received. Valid at any time.
    pub fn started(&self, buf: &[u8]) -> bool {
        !matches!(buf, [] | [b'\r'] | [b'\r', b'\n'])
    }

    /// The method; [`Method::Get`] while it has not been read. Valid at any time.
    pub fn method(&self) -> Method {
        self.method
    }

    /// The method as sent.
    pub fn method_bytes<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        self.method_part.of(buf)
    }

    /// The version the client speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Which form the target has.
    pub fn form(&self) -> TargetForm {
        self.target.form
    }

    /// The target as sent.
    pub fn target<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        self.target_part.of(buf)
    }

    /// The path as sent, without the query; `/` for an absolute form without one, `*` for
    /// [`TargetForm::Asterisk`], all of the target for [`TargetForm::Authority`].
    pub fn path<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        match self.target.form {
            TargetForm::Asterisk => b"*",
            _ => match self.target.path.of(buf) {
                [] => b"/",
                path => path,
            },
        }
    }

    /// What follows the first `?` of the target, as sent.
    pub fn query<'b>(&self, buf: &'b [u8]) -> Option<&'b [u8]> {
        self.target.query.map(|query| query.of(buf))
    }

    /// The host the client means, with its port if it gave one: of the target, else of Host. `None`
    /// only for HTTP/1.0.
    pub fn host<'b>(&self, buf: &'b [u8]) -> Option<&'b [u8]> {
        self.target.authority.or(self.facts.host).map(|host| host.of(buf))
    }

    /// How the body ends.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether the client wants the connection to stay open. Source: RFC 9112 §9.3.
    pub fn keep_alive(&self) -> bool {
        let options = &self.facts.connection;
        !options.close && (self.version == Version::Http11 || options.keep_alive)
    }

    /// Whether the client waits for a 100 before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.facts.expect == Some(Expect::Continue)
    }

    /// Whether the client asks for another protocol, in a way that can be passed on.
    pub fn upgrade(&self) -> bool {
        //= https://www.rfc-editor.org/rfc/rfc9110#section-7.8
        //# A server MUST ignore an Upgrade header field that is received in an
        //# HTTP/1.0 request.
        self.version == Version::Http11
            && self.facts.connection.upgrade
            && self.facts.protocol
            && self.method != Method::Connect
            && !self.has_body()
    }

    /// Max-Forwards of a TRACE or OPTIONS; values above `u32::MAX` are that.
    pub fn max_forwards(&self) -> Option<u32> {
        self.facts.max_forwards
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

    /// Whether the client takes trailers.
    pub(super) fn te_trailers(&self) -> bool {
        self.version == Version::Http11 && self.facts.te_trailers
    }

    pub(super) fn lines(&self) -> &[Line] {
        self.section.lines()
    }

    pub(super) fn method_start(&self) -> usize {
        self.method_part.start()
    }

    /// Where the first field line starts.
    pub(super) fn fields_start(&self) -> usize {
        self.target_part.end() + b" HTTP/1.1\r\n".len()
    }

    /// Whether the Host line says exactly `host`, so that it can be sent as it is.
    pub(super) fn host_field_is(&self, buf: &[u8], host: &[u8]) -> bool {
        !self.facts.host_cut && self.facts.host.is_some_and(|part| part.of(buf) == host)
    }
}

impl Facts {
    fn add_host(&mut self, value: &[u8], part: Part) -> Result<(), HeadError> {
        if self.host.is_some() {
            return Err(HeadError::HostRepeated);
        }
        let authority = parse_authority(value).map_err(|_| HeadError::HostInvalid)?;
        self.host = Some(Part::new(part.start(), part.start() + authority.end()));
        self.host_cut = authority.end() < value.len();
        Ok(())
    }

    fn add_expect(&mut self, value: &[u8]) {
        let expect = match value.eq_ignore_ascii_case(b"100-continue") {
            true => Expect::Continue,
            false => Expect::Other,
        };
        if self.expect != Some(Expect::Other) {
            self.expect = Some(expect);
        }
    }

    fn add_max_forwards(&mut self, value: &[u8]) -> Result<(), HeadError> {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        if !digits || self.max_forwards.is_some() {
            return Err(HeadError::MaxForwards);
        }
        let number = parse_u64(value).and_then(|number| u32::try_from(number).ok());
        self.max_forwards = Some(number.unwrap_or(u32::MAX));
        Ok(())
    }
}
