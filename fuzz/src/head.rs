//! Request heads: any cut gives the same, and what is rewritten reads the same.

use ringway::proto::h1::{
    ForwardedOut, Framing, HeadError, Parse, RequestForward, RequestHead, TargetForm,
    write_request_head,
};

use crate::{LIMITS, cut, stops};

/// Panics if a cut changes the outcome, or a rewritten head is read differently.
pub fn check(data: &[u8]) {
    let (size, text) = cut(data);
    let whole = parse(text, text.len().max(1));
    let torn = parse(text, size);
    match (&whole, &torn) {
        (Ok(Some((head, length))), Ok(Some((other, same)))) => {
            assert_eq!(length, same);
            assert_eq!(format!("{head:?}"), format!("{other:?}"));
            rewritten_reads_the_same(head, text);
        }
        (Ok(None), Ok(None)) => {}
        (Err(error), Err(other)) => assert_eq!(error, other),
        _ => panic!("{whole:?} whole, {torn:?} in pieces of {size}"),
    }
}

type Parsed = Result<Option<(RequestHead, usize)>, HeadError>;

fn parse(text: &[u8], size: usize) -> Parsed {
    let mut head = RequestHead::default();
    for stop in stops(text.len(), size) {
        if let Parse::Complete { head_bytes } = head.parse(&text[..stop], LIMITS)? {
            return Ok(Some((head, head_bytes)));
        }
    }
    Ok(None)
}

fn rewritten_reads_the_same(head: &RequestHead, text: &[u8]) {
    if head.form() == TargetForm::Authority {
        return; // CONNECT is never forwarded
    }
    let path = head.path(text);
    let mut target = path.to_vec();
    if let Some(query) = head.query(text) {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    let host = head.host(text).unwrap_or(b"origin");
    let forwarded = ForwardedOut {
        trusted: text.len().is_multiple_of(2),
        client_ip: b"::1",
        proto: b"http",
        host,
        forwarded: true,
    };
    let forward = RequestForward {
        path_and_query: &target,
        host,
        forwarded: &forwarded,
        max_forwards: head.max_forwards(),
        framing: head.framing(),
        close: !head.keep_alive(),
        early: false,
    };
    let mut out = Vec::new();
    write_request_head(&mut out, text, head, &forward);
    let mut again = RequestHead::default();
    let limits = ringway::proto::h1::HeadLimits { bytes_max: 65_535, count_max: 64 };
    let complete = Ok(Parse::Complete { head_bytes: out.len() });
    assert_eq!(again.parse(&out, limits), complete, "{}", out.escape_ascii());
    assert_eq!(again.framing(), head.framing());
    assert_eq!(again.method_bytes(&out), head.method_bytes(text));
    assert_eq!(again.path(&out), path);
    assert_eq!(again.query(&out), head.query(text));
    assert_eq!(again.host(&out), Some(host));
    assert_eq!(again.upgrade(), head.upgrade());
    assert_eq!(again.expects_continue(), head.expects_continue());
    if head.framing() == Framing::Chunked {
        let codings = again.field_values(&out, b"transfer-encoding").collect::<Vec<_>>();
        assert_eq!(codings, [b"chunked"]);
    }
    let passed = |head: &RequestHead, buf: &[u8]| {
        let fields = head
            .fields(buf)
            .filter(|field| !field.hop_by_hop && field.id == ringway::proto::h1::FieldId::Unknown);
        fields.map(|field| (field.name.to_vec(), field.value.to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(passed(&again, &out), passed(head, text));
}
