//! Fixed work on fixed inputs, to be counted instruction by instruction.
//!
//! `scripts/counts` runs it under callgrind, which counts inside [`measured`] alone, and compares
//! with `bench/counts/baseline`. An argument names the work; without one it prints the names.
//! Counts repeat to the last instruction on the same compiler, whatever else the machine does.

use std::hint::black_box;

use ringway::{
    base::ids::{ListenerIndex, RouteIndex},
    policy::route::{
        Captures, FieldSource, PathSpec, RouteMatch, RouteQuery, RouteSpec, RouteTable,
        TableBuilder,
    },
    proto::h1::{
        ChunkDecoder, ForwardedOut, HeadLimits, Method, Parse, RequestForward, RequestHead,
        ResponseForward, ResponseHead, ResponseTo, Version, write_request_head,
        write_response_head,
    },
};

/// Ten fields: what a browser's follow-up request looks like.
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

/// Runs of the work that are counted. Before them it runs once uncounted, so that memory is there.
const RUNS: usize = 1000;

const NAMES: [&str; 7] = [
    "parse_request_head",
    "write_request_head",
    "parse_response_head",
    "write_response_head",
    "route_exact_1000",
    "route_mixed_1000",
    "chunk_decode",
];

/// What callgrind counts: this function and all it calls.
#[inline(never)]
#[unsafe(no_mangle)]
fn measured(work: &mut dyn FnMut()) {
    for _ in 0..RUNS {
        work();
    }
}

fn count(mut work: impl FnMut()) {
    work();
    measured(&mut work);
}

fn main() {
    match std::env::args().nth(1).as_deref() {
        None => NAMES.iter().for_each(|name| println!("{name}")),
        Some("parse_request_head") => {
            let mut head = RequestHead::default();
            count(|| parse_request(&mut head));
        }
        Some("write_request_head") => rewrite_request(),
        Some("parse_response_head") => {
            let mut head = ResponseHead::default();
            count(|| parse_response(&mut head));
        }
        Some("write_response_head") => rewrite_response(),
        Some("route_exact_1000") => match_routes(Kind::Exact),
        Some("route_mixed_1000") => match_routes(Kind::Mixed),
        Some("chunk_decode") => decode_chunks(),
        Some(other) => panic!("no work is called {other}"),
    }
}

fn parse_request(head: &mut RequestHead) {
    head.clear();
    assert!(matches!(head.parse(black_box(REQUEST), LIMITS), Ok(Parse::Complete { .. })));
}

fn parse_response(head: &mut ResponseHead) {
    head.clear();
    let of = ResponseTo { method: Method::Get, upgrade: false };
    assert!(matches!(head.parse(black_box(RESPONSE), LIMITS, of), Ok(Parse::Complete { .. })));
}

fn rewrite_request() {
    let mut head = RequestHead::default();
    parse_request(&mut head);
    let forwarded = ForwardedOut {
        trusted: false,
        client_ip: b"192.0.2.1",
        proto: b"http",
        host: b"api.example.com",
        forwarded: false,
    };
    let forward = RequestForward {
        path_and_query: head.target(REQUEST),
        host: b"api.example.com",
        forwarded: &forwarded,
        max_forwards: None,
        framing: head.framing(),
        close: false,
        early: false,
    };
    let mut out = Vec::with_capacity(4096);
    count(|| {
        out.clear();
        write_request_head(&mut out, black_box(REQUEST), &head, &forward);
        black_box(&out);
    });
}

fn rewrite_response() {
    let mut head = ResponseHead::default();
    parse_response(&mut head);
    let forward = ResponseForward {
        framing: head.framing(),
        keep_content_length: false,
        client_version: Version::Http11,
        keep_alive: true,
        date: b"Fri, 20 Nov 2026 10:00:00 GMT",
        fields: b"",
    };
    let mut out = Vec::with_capacity(4096);
    count(|| {
        out.clear();
        write_response_head(&mut out, black_box(RESPONSE), &head, &forward);
        black_box(&out);
    });
}

struct NoFields;

impl FieldSource for NoFields {
    fn values<'s>(&'s self, _: &[u8]) -> impl Iterator<Item = &'s [u8]> {
        std::iter::empty()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Exact,
    /// Exact, parameter, prefix, regex in a segment: each in turn.
    Mixed,
}

/// The pattern of route `n`, and a path it takes.
fn route(kind: Kind, n: usize) -> (String, String) {
    let base = format!("/team{}/service-{n}", n % 97);
    match n % 4 {
        _ if kind == Kind::Exact => (format!("{base}/items"), format!("{base}/items")),
        0 => (format!("{base}/items"), format!("{base}/items")),
        1 => (format!("{base}/users/{{id}}/posts"), format!("{base}/users/77/posts")),
        2 => (format!("{base}/{{*rest}}"), format!("{base}/assets/app.js")),
        _ => (format!("{base}/{{id:[0-9]+}}"), format!("{base}/12345")),
    }
}

fn table(kind: Kind, count: usize) -> (RouteTable, Vec<String>) {
    let mut builder = TableBuilder::new(1);
    let mut paths = Vec::new();
    for n in 0..count {
        let (pattern, path) = route(kind, n);
        let path_spec = PathSpec::Pattern(&pattern);
        let hosts = vec!["api.example.com"];
        let spec = RouteSpec { hosts, path: path_spec, ..RouteSpec::default() };
        builder.add(RouteIndex(n as u32), &spec).expect("a valid route");
        paths.push(path);
    }
    (builder.build(), paths)
}

/// Each run finds the route of the next path.
fn match_routes(kind: Kind) {
    let (table, paths) = table(kind, 1000);
    let mut captures = Captures::default();
    for path in &paths {
        find(&table, path, &mut captures); // regexes build what they need at their first match
    }
    let mut next = paths.iter().cycle();
    count(|| {
        if let Some(path) = next.next() {
            find(&table, path, &mut captures);
        }
    });
}

fn find(table: &RouteTable, path: &str, captures: &mut Captures) {
    let query = RouteQuery {
        listener: ListenerIndex(0),
        host: b"api.example.com",
        path: black_box(path).as_bytes(),
        query: None,
        method: b"GET",
        fields: &NoFields,
    };
    assert!(matches!(table.find(&query, captures), RouteMatch::Found(_)));
}

/// Twenty chunks of 200 bytes, one with an extension, and a trailer.
fn decode_chunks() {
    let mut body = Vec::new();
    for n in 0..20 {
        body.extend_from_slice(if n == 7 { b"c8;name=value\r\n" } else { b"c8\r\n" });
        body.extend_from_slice(&[b'x'; 200]);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\nx-sum: 1234\r\n\r\n");
    let mut decoder = ChunkDecoder::default();
    let mut buffer = body.clone();
    count(|| {
        buffer.copy_from_slice(&body);
        decoder.reset();
        assert!(decoder.decode(black_box(&mut buffer)).is_ok_and(|chunk| chunk.done));
    });
}
