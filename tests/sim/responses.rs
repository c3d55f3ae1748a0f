//! Random valid responses, each with what its client must get.

use crate::{
    naive::Fields,
    random::Random,
    traffic::{Wire, body, push_line, value},
};

#[derive(Clone, Debug)]
pub(crate) struct ResponsePlan {
    /// Interim and final heads, and the body.
    pub(crate) wire: Vec<u8>,
    /// Where the final head ends in `wire`.
    pub(crate) head_end: usize,
    /// The endpoint stops after this many bytes.
    pub(crate) cut: Option<usize>,
    /// Whether the endpoint closes its connection afterwards.
    pub(crate) closes: bool,
    /// How many interim responses come first.
    pub(crate) interim: usize,
    pub(crate) status: u16,
    pub(crate) phrase: Vec<u8>,
    /// All fields that pass, but Date, Via and those of framing and connection.
    pub(crate) ordinary: Fields,
    pub(crate) via: Vec<Vec<u8>>,
    pub(crate) date: Option<Vec<u8>>,
    pub(crate) body: Vec<u8>,
    pub(crate) framing: Ends,
    pub(crate) trailers: Fields,
    /// Content-Length, where it stands for no body.
    pub(crate) told_length: Option<usize>,
}

/// How the body of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// It may have none.
    Bodiless,
    Length,
    Chunked,
    Close,
}

/// What an endpoint answers to a request nobody planned.
pub(crate) const PLAIN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

pub(crate) fn response(random: &mut Random, method: &str) -> ResponsePlan {
    let status = random.of(&[200_u16, 200, 200, 201, 204, 304, 404, 503, 299, 777]);
    let is_old = random.one_in(8);
    let mut wire = Vec::new();
    let interim = if random.one_in(5) { random.below(2) + 1 } else { 0 };
    for _ in 0..interim {
        wire.extend_from_slice(random.of(&[
            &b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nkeep-alive: 5\r\n\r\n"[..],
            b"HTTP/1.1 102 \r\n\r\n",
        ]));
    }
    let phrase = random.of(&["OK", "Not  so\tOK", ""]);
    wire.extend_from_slice(if is_old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    wire.extend_from_slice(status.to_string().as_bytes());
    if !phrase.is_empty() || random.one_in(2) {
        wire.push(b' ');
        wire.extend_from_slice(phrase.as_bytes());
    }
    wire.extend_from_slice(b"\r\n");
    let bodiless = method == "HEAD" || status == 204 || status == 304;
    let kind = match random.below(3) {
        0 => Ends::Length,
        1 if !is_old => Ends::Chunked,
        _ => Ends::Close,
    };
    let carried = match kind {
        Ends::Chunked => Wire::Chunked,
        _ => Wire::Length,
    };
    let (mut payload, mut carrier, mut trailers) = body(random, carried);
    let mut lines: Vec<(&str, Vec<u8>)> = Vec::new();
    let (mut ordinary, mut via, mut date) = (Fields::new(), Vec::new(), None);
    for _ in 0..random.below(6) {
        let text = value(random);
        match random.below(7) {
            0 => lines.push((random.of(&["keep-alive", "proxy-connection"]), text)),
            1 => lines.push((random.of(&["upgrade", "proxy-authenticate", "te"]), text)),
            2 if date.is_none() => {
                date = Some(b"Sat, 21 Nov 2026 00:00:00 GMT".to_vec());
                lines.push(("date", b"Sat, 21 Nov 2026 00:00:00 GMT".to_vec()));
            }
            3 => {
                via.push(b"1.1 inner".to_vec());
                lines.push(("via", b"1.1 inner".to_vec()));
            }
            _ => {
                let name = random.of(&["set-cookie", "x-a", "content-type", "etag", "trailer"]);
                ordinary.push((name.to_owned(), text.clone()));
                lines.push((name, text));
            }
        }
    }
    let mut told_length = None;
    match kind {
        Ends::Length if status != 204 => {
            told_length = Some(payload.len());
            lines.push(("content-length", payload.len().to_string().into()));
        }
        Ends::Chunked if status != 204 => lines.push(("transfer-encoding", b"chunked".to_vec())),
        _ => {}
    }
    let framing = if bodiless { Ends::Bodiless } else { kind };
    if bodiless {
        (payload, carrier, trailers) = (Vec::new(), Vec::new(), Fields::new());
    }
    let mut closes = framing == Ends::Close || is_old;
    if random.one_in(6) {
        closes = true;
        lines.push(("connection", b"Close".to_vec()));
    } else if is_old && framing != Ends::Close && random.one_in(2) {
        closes = false;
        lines.push(("connection", b"keep-alive".to_vec()));
    }
    for (name, text) in lines {
        push_line(random, &mut wire, name, &text);
    }
    wire.extend_from_slice(b"\r\n");
    let head_end = wire.len();
    wire.extend_from_slice(&carrier);
    // A body that ends with its connection can't be told from one that was cut.
    let end = if framing == Ends::Close { head_end } else { wire.len() };
    let cut = random.one_in(10).then(|| random.below(end));
    let via_version = if is_old { "1.0 ringway" } else { "1.1 ringway" };
    via.push(via_version.into());
    ResponsePlan {
        wire,
        head_end,
        cut,
        closes,
        interim,
        status,
        phrase: phrase.into(),
        ordinary,
        via,
        date,
        body: payload,
        framing,
        trailers,
        told_length,
    }
}
