//! HTTP/1.1 read in the plainest way: all bytes at hand, split at line ends, no state. Shares
//! nothing with `proto`. Strict: whatever two readers could understand differently is refused.

/// Name in lower case, value without the white space around it.
pub(crate) type Fields = Vec<(String, Vec<u8>)>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// The words of the first line: method, target, version; or version, status, phrase.
    pub(crate) start: [Vec<u8>; 3],
    pub(crate) fields: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
    /// Whether all of it was there.
    pub(crate) whole: bool,
    /// From the first byte to after the last.
    pub(crate) length: usize,
}

impl Message {
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        let same = self.fields.iter().filter(|field| field.0 == name);
        same.map(|field| &*field.1).collect()
    }

    pub(crate) fn status(&self) -> u16 {
        String::from_utf8_lossy(&self.start[1]).parse().unwrap_or(0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    /// More bytes could make it right.
    Short,
    /// Nothing could.
    Wrong(&'static str),
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let start = from + bytes[from..].iter().position(|b| *b == what[0])?;
        if bytes[start..].starts_with(what) {
            return Some(start);
        }
        from = start + 1;
    }
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

fn trim(text: &[u8]) -> &[u8] {
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let start = text.iter().position(|b| !blank(b)).unwrap_or(text.len());
    let end = text.iter().rposition(|b| !blank(b)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// Lines without their CRLF; each must be a field.
fn fields(text: &[u8]) -> Result<Fields, Bad> {
    let mut list = Fields::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = find(rest, b"\r\n").ok_or(Bad::Wrong("a line without end"))?;
        let (line, after) = (&rest[..end], &rest[end + 2..]);
        rest = after;
        let colon = line.iter().position(|b| *b == b':').ok_or(Bad::Wrong("no colon"))?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if !is_token(name) {
            return Err(Bad::Wrong("a name that is no token"));
        }
        if value.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
            return Err(Bad::Wrong("a control character"));
        }
        list.push((String::from_utf8_lossy(name).to_ascii_lowercase(), value.to_vec()));
    }
    Ok(list)
}

/// First line, fields, length.
fn head(bytes: &[u8]) -> Result<(Vec<u8>, Fields, usize), Bad> {
    let end = find(bytes, b"\r\n\r\n").ok_or(Bad::Short)?;
    let line = find(bytes, b"\r\n").ok_or(Bad::Short)?;
    let first = bytes[..line].to_vec();
    if first.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
        return Err(Bad::Wrong("a control character in the first line"));
    }
    Ok((first, fields(&bytes[line + 2..end + 2])?, end + 4))
}

fn words(line: &[u8]) -> [Vec<u8>; 3] {
    let mut parts = line.splitn(3, |b| *b == b' ').map(<[u8]>::to_vec);
    [(); 3].map(|()| parts.next().unwrap_or_default())
}

enum End {
    Length(usize),
    Chunked,
    Close,
}

/// What the two framing fields say; `None` if neither is there.
fn framing(message: &Message, old: bool) -> Result<Option<End>, Bad> {
    let (lengths, codings) =
        (message.values("content-length"), message.values("transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([digits], []) if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) => {
            let number =
                String::from_utf8_lossy(digits).parse().map_err(|_| Bad::Wrong("length"))?;
            Ok(Some(End::Length(number)))
        }
        ([], [coding]) if !old && coding.eq_ignore_ascii_case(b"chunked") => Ok(Some(End::Chunked)),
        _ => Err(Bad::Wrong("framing")),
    }
}

/// Payload, trailers and length of a chunked body; what there is of it if it ends early.
fn chunked(bytes: &[u8]) -> Result<(Vec<u8>, Option<Fields>, usize), Bad> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let Some(line) = find(&bytes[at..], b"\r\n") else { return Ok((body, None, at)) };
        let text = &bytes[at..at + line];
        let size = text.split(|b| *b == b';').next().unwrap_or_default();
        let size = if size.len() < text.len() { trim_end(size) } else { size };
        let digits = !size.is_empty() && size.len() <= 16 && size.iter().all(u8::is_ascii_hexdigit);
        if !digits || text.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
            return Err(Bad::Wrong("a chunk size"));
        }
        let size = u64::from_str_radix(&String::from_utf8_lossy(size), 16);
        let size = size.map_err(|_| Bad::Wrong("a chunk size"))?;
        at += line + 2;
        if size == 0 {
            break;
        }
        let here =
            usize::try_from(size).map_or(bytes.len() - at, |size| size.min(bytes.len() - at));
        body.extend_from_slice(&bytes[at..at + here]);
        at += here;
        if (here as u64) < size || bytes.len() - at < 2 {
            return Ok((body, None, at));
        }
        if &bytes[at..at + 2] != b"\r\n" {
            return Err(Bad::Wrong("the end of a chunk"));
        }
        at += 2;
    }
    if bytes[at..].starts_with(b"\r\n") {
        return Ok((body, Some(Fields::new()), at + 2));
    }
    let Some(end) = find(&bytes[at..], b"\r\n\r\n") else { return Ok((body, None, at)) };
    Ok((body, Some(fields(&bytes[at..at + end + 2])?), at + end + 4))
}

fn trim_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| !b" \t".contains(b)).map_or(0, |last| last + 1);
    &text[..end]
}

fn with_body(mut message: Message, end: Option<End>, bytes: &[u8]) -> Result<Message, Bad> {
    match end {
        None => {}
        Some(End::Length(length)) => {
            let here = length.min(bytes.len());
            message.whole = here == length;
            message.body = bytes[..here].to_vec();
            message.length += here;
        }
        Some(End::Chunked) => {
            let (body, trailers, length) = chunked(bytes)?;
            message.whole = trailers.is_some();
            message.body = body;
            message.trailers = trailers.unwrap_or_default();
            message.length += length;
        }
        Some(End::Close) => {
            message.body = bytes.to_vec();
            message.length += bytes.len();
        }
    }
    Ok(message)
}

fn message(start: [Vec<u8>; 3], fields: Fields, length: usize) -> Message {
    let (body, trailers) = (Vec::new(), Fields::new());
    Message { start, fields, body, trailers, whole: true, length }
}

/// The request at the start of `bytes`. [`Message::whole`] tells whether its body is complete.
pub(crate) fn request(bytes: &[u8]) -> Result<Message, Bad> {
    let empty = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let (line, fields, length) = head(&bytes[empty..])?;
    let start = words(&line);
    let [method, target, version] = &start;
    let old = match &version[..] {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(Bad::Wrong("version")),
    };
    if !is_token(method) || target.is_empty() || target.contains(&b'\t') {
        return Err(Bad::Wrong("request line"));
    }
    let message = message(start, fields, empty + length);
    match message.values("host")[..] {
        [_] => {}
        [] if old => {}
        _ => return Err(Bad::Wrong("Host")),
    }
    let end = framing(&message, old)?;
    with_body(message, end, &bytes[empty + length..])
}

/// The response at the start of `bytes`, to a request with this method; `over` if no more will
/// come.
pub(crate) fn response(bytes: &[u8], method: &str, over: bool) -> Result<Message, Bad> {
    let (line, fields, length) = head(bytes)?;
    let mut message = message(words(&line), fields, length);
    let status = message.status();
    if message.start[0] != b"HTTP/1.1" || !(100..1000).contains(&status) {
        return Err(Bad::Wrong("status line"));
    }
    let end = framing(&message, false)?;
    if status < 200 || status == 204 || status == 304 || method == "HEAD" {
        return Ok(message);
    }
    let until_close = end.is_none();
    message = with_body(message, Some(end.unwrap_or(End::Close)), &bytes[length..])?;
    message.whole &= over || !until_close;
    Ok(message)
}
