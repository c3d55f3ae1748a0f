//! Response heads: any cut gives the same, and what is rewritten reads the same.

use ringway::proto::h1::{
    HeadError, HeadLimits, Method, Parse, ResponseForward, ResponseHead, ResponseTo, Version,
    write_response_head,
};

use crate::{LIMITS, cut, stops};

/// Panics if a cut changes the outcome, or a rewritten head is read differently.
pub fn check(data: &[u8]) {
    let (size, text) = cut(data);
    let method = if size.is_multiple_of(2) { Method::Get } else { Method::Head };
    let of = ResponseTo { method, upgrade: size.is_multiple_of(3) };
    let whole = parse(text, text.len().max(1), of);
    let torn = parse(text, size, of);
    assert_eq!(format!("{whole:?}"), format!("{torn:?}"));
    if let Ok(Some((head, _))) = &whole {
        rewritten_reads_the_same(head, text, of);
    }
}

type Parsed = Result<Option<(ResponseHead, usize)>, HeadError>;

fn parse(text: &[u8], size: usize, of: ResponseTo) -> Parsed {
    let mut head = ResponseHead::default();
    for stop in stops(text.len(), size) {
        if let Parse::Complete { head_bytes } = head.parse(&text[..stop], LIMITS, of)? {
            return Ok(Some((head, head_bytes)));
        }
    }
    Ok(None)
}

fn rewritten_reads_the_same(head: &ResponseHead, text: &[u8], of: ResponseTo) {
    let forward = ResponseForward {
        framing: head.framing(),
        keep_content_length: true,
        client_version: Version::Http11,
        keep_alive: head.keep_alive(),
        date: b"NOW",
        fields: b"",
    };
    let mut out = Vec::new();
    write_response_head(&mut out, text, head, &forward);
    let mut again = ResponseHead::default();
    let limits = HeadLimits { bytes_max: 65_535, count_max: 64 };
    let complete = Ok(Parse::Complete { head_bytes: out.len() });
    assert_eq!(again.parse(&out, limits, of), complete, "{}", out.escape_ascii());
    assert_eq!(again.status(), head.status());
    assert_eq!(again.framing(), head.framing());
    assert_eq!(again.is_upgrade(), head.is_upgrade());
}
