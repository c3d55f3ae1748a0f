//! Time per request head: ringway's parser and rewriter beside httparse and monoio-http.
//!
//! `cargo run --release --manifest-path bench/codec/Cargo.toml` prints nanoseconds per head: the
//! median of many short batches, so that a busy neighbour spoils few of them. httparse only finds
//! the fields; monoio-http, which copies them into a `HeaderMap`, is what the data plane would use
//! if ringway had no parser of its own (docs/adr says why it has).

use std::{hint::black_box, time::Instant};

use bytes::BytesMut;
use monoio_codec::{Decoded, Decoder};
use monoio_http::h1::codec::decoder::RequestHeadDecoder;
use ringway::proto::h1::{
    ForwardedOut, HeadLimits, Parse, RequestForward, RequestHead, ResponseForward, ResponseHead,
    ResponseTo, Version, write_request_head, write_response_head,
};

/// Ten fields, 400 bytes: what a browser's follow-up request looks like.
const REQUEST: &[u8] = b"GET /api/users/12345?fields=name,mail HTTP/1.1\r\n\
Host: api.example.com\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101\r\n\
Accept: application/json, text/plain, */*\r\n\
Accept-Language: en-GB,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate, br\r\n\
Authorization: Bearer abcdefghijklmnop\r\n\
Referer: https://example.com/users\r\n\
Cookie: session=0123456789abcdef\r\n\
Cache-Control: no-cache\r\n\
Connection: keep-alive\r\n\r\n";

/// What wrk sends.
const SMALL: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
Server: origin\r\n\
Date: Fri, 20 Nov 2026 10:00:00 GMT\r\n\
Content-Type: application/json\r\n\
Content-Length: 512\r\n\
Cache-Control: no-store\r\n\
Set-Cookie: a=b; Path=/; HttpOnly\r\n\
ETag: \"0123456789abcdef\"\r\n\
Connection: keep-alive\r\n\r\n";

const LIMITS: HeadLimits = HeadLimits { bytes_max: 32 * 1024, count_max: 128 };
const BATCHES: usize = 401;
const HEADS_PER_BATCH: u32 = 2000;

const FORWARDED: ForwardedOut<'static> = ForwardedOut {
    trusted: false,
    client_ip: b"192.0.2.1",
    proto: b"http",
    host: b"api.example.com",
    forwarded: false,
};

fn main() {
    println!("{:<44} {:>8} {:>10}", "per head", "ns", "MB/s");
    for (name, text) in [("browser", REQUEST), ("wrk", SMALL)] {
        println!("request of {name}: {} bytes", text.len());
        let mut head = RequestHead::default();
        show("  ringway: parse, check, frame", text, || parse(&mut head, text));
        let mut out = Vec::with_capacity(4096);
        let forward = RequestForward {
            path_and_query: head.target(text),
            host: head.host(text).unwrap_or_default(),
            forwarded: &FORWARDED,
            max_forwards: None,
            framing: head.framing(),
            close: false,
        early: false,
        };
        show("  ringway: rewrite", text, || {
            out.clear();
            write_request_head(&mut out, black_box(text), &head, &forward);
            black_box(&out);
        });
        let changed = RequestForward { path_and_query: b"/12345", host: b"10.0.0.1:80", ..forward };
        show("  ringway: rewrite, other target and host", text, || {
            out.clear();
            write_request_head(&mut out, black_box(text), &head, &changed);
            black_box(&out);
        });
        show("  httparse: parse only", text, || with_httparse(text));
        let mut buffer = BytesMut::with_capacity(1 << 20);
        show("  monoio-http: parse into a HeaderMap", text, || with_monoio_http(&mut buffer, text));
    }
    println!("response: {} bytes", RESPONSE.len());
    let of = ResponseTo { method: ringway::proto::h1::Method::Get, upgrade: false };
    let mut head = ResponseHead::default();
    show("  ringway: parse, check, frame", RESPONSE, || {
        head.clear();
        let complete =
            matches!(head.parse(black_box(RESPONSE), LIMITS, of), Ok(Parse::Complete { .. }));
        assert!(complete);
    });
    let forward = ResponseForward {
        framing: head.framing(),
        keep_content_length: false,
        client_version: Version::Http11,
        keep_alive: true,
        date: b"Fri, 20 Nov 2026 10:00:00 GMT",
        fields: b"",
    };
    let mut out = Vec::with_capacity(4096);
    show("  ringway: rewrite", RESPONSE, || {
        out.clear();
        write_response_head(&mut out, black_box(RESPONSE), &head, &forward);
        black_box(&out);
    });
}

fn parse(head: &mut RequestHead, text: &[u8]) {
    head.clear();
    assert!(matches!(head.parse(black_box(text), LIMITS), Ok(Parse::Complete { .. })));
}

fn with_httparse(text: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    assert!(request.parse(black_box(text)).is_ok_and(|status| status.is_complete()));
    black_box(&request);
}

/// Includes the copy into its buffer: reads end there, as those of ringway end in a pooled one.
fn with_monoio_http(buffer: &mut BytesMut, text: &[u8]) {
    buffer.extend_from_slice(black_box(text));
    let head = RequestHeadDecoder.decode(buffer);
    assert!(matches!(&head, Ok(Decoded::Some(_))));
    black_box(&head.is_ok());
}

/// Runs `work` in batches and prints the median time of one run.
fn show(name: &str, text: &[u8], mut work: impl FnMut()) {
    let mut times: Vec<f64> = (0..BATCHES)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..HEADS_PER_BATCH {
                work();
            }
            started.elapsed().as_secs_f64() / f64::from(HEADS_PER_BATCH)
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let median = times[BATCHES / 2];
    println!("{name:<44} {:>8.0} {:>10.0}", median * 1e9, text.len() as f64 / median / 1e6);
}
