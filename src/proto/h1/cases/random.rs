//! Random heads: what is valid survives parsing and rewriting, what is not never panics.

use proptest::{collection::vec, prelude::*, sample::select, test_runner::RngSeed};

use super::*;
use crate::base::limits::BODY_LENGTH_MAX;

/// The same cases each time; a failure prints its input.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 400,
        rng_seed: RngSeed::Fixed(0x0072_696e_6777_6179),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A field that is forwarded as it is: no name ringway knows.
fn plain_field() -> impl Strategy<Value = (String, String)> {
    ("[xyXY]-[a-zA-Z0-9!#$%&'*+.^`|~-]{0,12}", "([!-~\u{e9}]([ \t!-~]{0,20}[!-~])?)?")
        .prop_filter("a known name", |(name, _)| FieldId::of(name.as_bytes()) == FieldId::Unknown)
}

fn hop_by_hop() -> impl Strategy<Value = (String, String)> {
    select(vec![
        ("Connection", "close"),
        ("connection", "keep-alive, x-gone"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "gzip"),
        ("Upgrade", "websocket"),
        ("X-Gone", "1"),
        ("Proxy-Authorization", "Basic x"),
        ("HTTP2-Settings", "x"),
    ])
    .prop_map(|(name, value)| (name.to_owned(), value.to_owned()))
}

fn body() -> impl Strategy<Value = (String, Framing)> {
    prop_oneof![
        Just((String::new(), Framing::Empty)),
        (0..=BODY_LENGTH_MAX)
            .prop_map(|n| (format!("Content-Length: {n}\r\n"), Framing::Length(n))),
        Just(("Transfer-Encoding: chunked\r\n".to_owned(), Framing::Chunked)),
    ]
}

fn lines(fields: &[(String, String)], space: &str) -> String {
    fields.iter().map(|(name, value)| format!("{name}:{space}{value}{space}\r\n")).collect()
}

/// Names and values of the fields that are neither ours nor framing.
fn passed_on<'a>(fields: impl Iterator<Item = Field<'a>>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let ours = |name: &[u8]| name == b"via" || name == b"date" || name.starts_with(b"x-forwarded");
    fields
        .filter(|field| !field.hop_by_hop && !field.id.is_framing() && !ours(field.name))
        .map(|field| (field.name.to_vec(), field.value.to_vec()))
        .collect()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn requests_survive_rewriting(
        method in "[A-Z][A-Z0-9_-]{0,20}",
        target in "/[a-zA-Z0-9/._~!$&'()*+,;=:@-]{0,30}(\\?[a-zA-Z0-9/?=&;-]{0,20})?",
        space in "[ \t]{0,3}",
        before in vec(prop_oneof![plain_field(), hop_by_hop()], 0..8),
        after in vec(prop_oneof![plain_field(), hop_by_hop()], 0..8),
        (framing_line, framing) in body(),
        new_host in any::<bool>(),
    ) {
        prop_assume!(method != "CONNECT");
        let text = format!(
            "{method} {target} HTTP/1.1\r\n{}Host:{space}a.test\r\n{framing_line}{}\r\n",
            lines(&before, &space),
            lines(&after, &space),
        );
        let head = accept(&text);
        let buf = text.as_bytes();
        prop_assert_eq!(head.framing(), framing);
        prop_assert_eq!(head.target(buf), target.as_bytes());
        let nominated = before.iter().chain(&after).any(|(_, value)| value.contains("x-gone"));
        for field in head.fields(buf) {
            if field.name.eq_ignore_ascii_case(b"x-gone") {
                prop_assert_eq!(field.hop_by_hop, nominated);
            }
        }
        let host: &[u8] = if new_host { b"b.test" } else { b"a.test" };
        let forwarded = ForwardedOut {
            trusted: false, client_ip: b"::1", proto: b"http", host: b"a.test", forwarded: false,
        };
        let mut out = Vec::new();
        write_request_head(&mut out, buf, &head, &RequestForward {
            path_and_query: head.target(buf),
            host,
            forwarded: &forwarded,
            max_forwards: None,
            framing,
            close: false,
        early: false,
        });
        let written = accept(std::str::from_utf8(&out).unwrap());
        prop_assert_eq!(written.framing(), framing);
        prop_assert_eq!(written.method_bytes(&out), method.as_bytes());
        prop_assert_eq!(written.target(&out), target.as_bytes());
        prop_assert_eq!(written.host(&out), Some(host));
        prop_assert!(written.keep_alive());
        prop_assert_eq!(passed_on(written.fields(&out)), passed_on(head.fields(buf)));
    }

    #[test]
    fn responses_survive_rewriting(
        status in 200_u16..600,
        phrase in "( [!-~]{0,10})?",
        fields in vec(prop_oneof![plain_field(), hop_by_hop()], 0..10),
        (framing_line, _) in body(),
    ) {
        let text = format!("HTTP/1.1 {status}{phrase}\r\n{framing_line}{}\r\n", lines(&fields, " "));
        let (head, length) = parse_response(text.as_bytes(), GET).unwrap().unwrap();
        prop_assert_eq!(length, text.len());
        let mut out = Vec::new();
        write_response_head(&mut out, text.as_bytes(), &head, &ResponseForward {
            framing: head.framing(),
            keep_content_length: true,
            client_version: Version::Http11,
            keep_alive: head.framing() != Framing::UntilClose,
            date: b"NOW",
                fields: b"",
            });
        let (written, length) = parse_response(&out, GET).unwrap().unwrap();
        prop_assert_eq!(length, out.len());
        prop_assert_eq!(written.status(), status);
        prop_assert_eq!(written.framing(), head.framing());
        prop_assert_eq!(passed_on(written.fields(&out)), passed_on(head.fields(text.as_bytes())));
    }

    #[test]
    fn chunked_bodies_give_back_what_was_put_in(
        pieces in vec(vec(any::<u8>(), 1..40), 0..6),
        cut in 1_usize..50,
    ) {
        let mut body = Vec::new();
        for piece in &pieces {
            let mut size = [0; 18];
            let length = write_chunk_size(&mut size, piece.len());
            body.extend_from_slice(&size[..length]);
            body.extend_from_slice(piece);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(LAST_CHUNK);
        let mut decoder = ChunkDecoder::default();
        let (mut payload, mut done) = (Vec::new(), false);
        for part in body.chunks_mut(cut) {
            prop_assert!(!done);
            let chunk = decoder.decode(part).unwrap();
            prop_assert_eq!(chunk.consumed, part.len());
            payload.extend_from_slice(&part[chunk.data]);
            done = chunk.done;
        }
        prop_assert!(done);
        prop_assert_eq!(payload, pieces.concat());
    }

    #[test]
    fn bytes_of_all_kinds_never_panic_and_cuts_change_nothing(
        pieces in vec(select(vec![
            "GET ", "POST ", "/", "*", "http://a", " HTTP/1.1", " HTTP/1.0", "\r\n", "\n", "\r", "\t", " ",
            ":", "Host: a", "Content-Length: ", "Transfer-Encoding: chunked", "Connection: ", "close", ",",
            "0", "5", "host", "x: y", "HTTP/1.1 ", "200", "204", "\0", "\u{ff}", "%", "?", "[::1]", "Upgrade: ",
            "_", "Expect: 100-continue", "Keep-Alive", "\r\n\r\n",
        ]), 0..24),
    ) {
        let text = pieces.concat();
        let _ = parse_request(text.as_bytes());
        let _ = parse_response(text.as_bytes(), GET);
        let mut whole = text.clone().into_bytes();
        let mut first = ChunkDecoder::default();
        let at_once = first.decode(&mut whole).map(|chunk| chunk.done);
        let mut second = ChunkDecoder::default();
        let mut torn = Ok(false);
        for byte in text.bytes() {
            torn = second.decode(&mut [byte]).map(|chunk| chunk.done);
            if torn != Ok(false) { break; }
        }
        prop_assert_eq!(at_once, torn);
    }
}
