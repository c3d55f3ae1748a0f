//! Every head and body, torn at every byte, means what it means whole: the same fields, framing and
//! rewritten head, the same payload and trailers, the same error. And
//! bytes that trickle in one by one cost no more than together.

use ringway::proto::h1::{
    ChunkDecoder, ForwardedOut, Framing, HeadError, HeadLimits, Method, Parse, RequestForward,
    RequestHead, ResponseForward, ResponseHead, ResponseTo, Version, write_request_head,
    write_response_head,
};

const LIMITS: HeadLimits = HeadLimits { bytes_max: 2048, count_max: 16 };

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "\r\nGET /a/b?c=d HTTP/1.1\r\nHost: a.test:80\r\nAccept: */*\r\nConnection: x-a\r\nX-A: 1\r\n\r\n",
    "POST http://a.test/x HTTP/1.1\r\nhost: a.test\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n",
    "PUT /x HTTP/1.1\r\nHost: [::1]:8080\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nTrailer: x\r\n\r\n",
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h2c, websocket\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 3\r\n\r\n",
    "POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\nX: \t spaced \t\r\nY:\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1\r\nX_Forwarded_For: 2\r\nForwarded: for=3\r\n\r\n",
    "GET /a?{b|c}=\\^`{d} HTTP/1.1\r\nHost: a\r\n\r\n",
    // Refused:
    "GET / HTTP/1.1\nHost: a\n\n",
    "GET / HTTP/1.1\r\nHost: a\r\rX: y\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\n X: y\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /{a}?{b} HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a?{b}# HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: cow\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n",
    "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 200\r\nDate: x\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
    "HTTP/1.0 404 Not  Found\r\nConnection: x\r\nX: y\r\n\r\n",
    "HTTP/1.1 204 \r\nKeep-Alive: 5\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: \"x\"\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    // Refused:
    "HTTP/1.1 20 OK\r\n\r\n",
    "HTTP/1.1 200 OK\nContent-Length: 5\n\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
];

const BODIES: &[&str] = &[
    "0\r\n\r\n",
    "5\r\nhello\r\n0\r\n\r\n",
    "3;a=b;c=\"d\\\"e\"\r\nabc\r\n1 ; x\r\nd\r\n2\r\n\r\n\r\n0;z\r\nA: b\r\nHost: x\r\nC: d\r\n\r\n",
    "A\r\n0123456789\r\n00\r\nContent-Length: 3\r\n\r\n",
    // Refused:
    "5\r\nhello0\r\n\r\n",
    "5 \r\nhello\r\n0\r\n\r\n",
    "5\nhello\n0\n\n",
    "0\r\nA : b\r\n\r\n",
    "11111111111111111\r\n",
    "5;a=\"b\nc\"\r\n",
];

/// The ways to cut `length` bytes: in two at every byte, and in single bytes.
fn cuts(length: usize) -> impl Iterator<Item = Vec<usize>> {
    let in_two = (0..=length).map(move |cut| vec![cut, length]);
    in_two.chain([(0..=length).collect()])
}

/// All that a request head says, as text; parsed when there are as many bytes as each stop says.
fn request(text: &[u8], stops: &[usize]) -> Result<String, HeadError> {
    let mut head = RequestHead::default();
    for &stop in stops {
        let Parse::Complete { head_bytes } = head.parse(&text[..stop], LIMITS)? else { continue };
        let buf = &text[..stop];
        let forwarded = ForwardedOut {
            trusted: false,
            client_ip: b"192.0.2.1",
            proto: b"http",
            host: head.host(buf).unwrap_or_default(),
            forwarded: true,
        };
        let mut out = Vec::new();
        let forward = RequestForward {
            path_and_query: head.path(buf),
            host: head.host(buf).unwrap_or(b"b.test"),
            forwarded: &forwarded,
            max_forwards: head.max_forwards(),
            framing: head.framing(),
            close: !head.keep_alive(),
            early: false,
        };
        write_request_head(&mut out, buf, &head, &forward);
        let fields: Vec<_> = head.fields(buf).collect();
        let out = out.escape_ascii();
        return Ok(format!("{head_bytes} {fields:?} {:?} {out}", head.query(buf)));
    }
    panic!("{} is not complete", text.escape_ascii());
}

fn response(text: &[u8], stops: &[usize]) -> Result<String, HeadError> {
    let mut head = ResponseHead::default();
    let of = ResponseTo { method: Method::Get, upgrade: true };
    for &stop in stops {
        let parsed = head.parse(&text[..stop], LIMITS, of)?;
        let Parse::Complete { head_bytes } = parsed else { continue };
        let mut out = Vec::new();
        let forward = ResponseForward {
            framing: head.framing(),
            keep_content_length: true,
            client_version: Version::Http11,
            keep_alive: head.keep_alive(),
            date: b"NOW",
            fields: b"",
        };
        write_response_head(&mut out, &text[..stop], &head, &forward);
        let fields: Vec<_> = head.fields(text).collect();
        let out = out.escape_ascii();
        return Ok(format!("{head_bytes} {} {fields:?} {out}", head.status()));
    }
    panic!("{} is not complete", text.escape_ascii());
}

/// The payload and trailers of a chunked body, or why it is refused.
fn body(text: &[u8], stops: &[usize]) -> String {
    let mut decoder = ChunkDecoder::default();
    let (mut payload, mut start) = (Vec::new(), 0);
    for &stop in stops {
        let mut piece = text[start..stop].to_vec();
        start = stop;
        match decoder.decode(&mut piece) {
            Ok(chunk) => {
                payload.extend_from_slice(&piece[chunk.data]);
                if chunk.done {
                    let trailers = decoder.trailers().escape_ascii();
                    return format!("{} | {trailers}", payload.escape_ascii());
                }
            }
            Err(error) => return format!("{error:?}"),
        }
    }
    panic!("{} is not complete", text.escape_ascii());
}

#[test]
fn requests_torn_at_every_byte() {
    for text in REQUESTS {
        let whole = request(text.as_bytes(), &[text.len()]);
        for stops in cuts(text.len()) {
            assert_eq!(request(text.as_bytes(), &stops), whole, "{text:?} at {stops:?}");
        }
    }
}

#[test]
fn responses_torn_at_every_byte() {
    for text in RESPONSES {
        let whole = response(text.as_bytes(), &[text.len()]);
        for stops in cuts(text.len()) {
            assert_eq!(response(text.as_bytes(), &stops), whole, "{text:?} at {stops:?}");
        }
    }
}

#[test]
fn chunked_bodies_torn_at_every_byte() {
    for text in BODIES {
        let whole = body(text.as_bytes(), &[text.len()]);
        for stops in cuts(text.len()) {
            assert_eq!(body(text.as_bytes(), &stops), whole, "{text:?} at {stops:?}");
        }
    }
}

/// Limits are reached at the same byte however the bytes come, and what lies behind is not looked at.
#[test]
fn limits_do_not_depend_on_cuts() {
    let fields = "X: 1\r\n".repeat(LIMITS.count_max);
    for (text, error) in [
        (format!("GET /{}", "a".repeat(3000)), HeadError::TargetTooLong),
        (format!("GET / HTTP/1.1\r\nX: {}\n", "a".repeat(3000)), HeadError::HeadTooLarge),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\n"), HeadError::FieldsTooMany),
    ] {
        for step in [1, 7, 100, 1024, text.len()] {
            let mut stops: Vec<usize> = (0..text.len()).step_by(step).collect();
            stops.push(text.len());
            assert_eq!(request(text.as_bytes(), &stops), Err(error), "steps of {step}");
        }
    }
}

/// A head of 60 KB in single bytes: read once it is done at once, read from the start each time it
/// would be two thousand million bytes.
#[test]
fn trickling_is_not_quadratic() {
    let limits = HeadLimits { bytes_max: 65_000, count_max: 2000 };
    let long_lines = format!("X: {}\r\n", "a \t".repeat(10_000)).repeat(2);
    let short_lines = "A: b\r\n".repeat(1900);
    let long_name = format!("{}: y\r\n", "n".repeat(60_000));
    let options = format!("Connection: {}\r\n", "a".repeat(60_000));
    for lines in [long_lines, short_lines, long_name, options] {
        let text = format!("GET /{} HTTP/1.1\r\nHost: a\r\n{lines}\r\n", "a".repeat(1000));
        let started = std::time::Instant::now();
        let mut head = RequestHead::default();
        for end in 0..text.len() {
            assert_eq!(head.parse(&text.as_bytes()[..end], limits), Ok(Parse::Partial));
        }
        let complete = Ok(Parse::Complete { head_bytes: text.len() });
        assert_eq!(head.parse(text.as_bytes(), limits), complete);
        assert_eq!(head.framing(), Framing::Empty);
        assert!(started.elapsed().as_secs() < 2, "{:?}", started.elapsed());
    }
}

/// Thirty-two nominations against a thousand fields: the worst that Connection can ask for.
#[test]
fn nominations_are_bounded() {
    let limits = HeadLimits { bytes_max: 65_000, count_max: 1024 };
    let options: Vec<String> = (0..32).map(|n| format!("x-{n}")).collect();
    let fields: String = (0..1000).map(|n| format!("x-{n}: y\r\n")).collect();
    let text =
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {}\r\n{fields}\r\n", options.join(","));
    let mut head = RequestHead::default();
    assert!(matches!(head.parse(text.as_bytes(), limits), Ok(Parse::Complete { .. })));
    assert_eq!(head.fields(text.as_bytes()).filter(|field| field.hop_by_hop).count(), 33);
}
