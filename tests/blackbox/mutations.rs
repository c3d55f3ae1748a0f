//! Thousands of damaged requests and responses: whatever a client sends, the origin sees only
//! well-formed requests, one for each answer the client gets, in order; whatever an endpoint sends,
//! clients read well-formed HTTP or see a cut; and other clients notice nothing.
//!
//! Seeded: a failure prints the seed and the bytes, and the next run repeats it.

use std::time::Duration;

use crate::support::{
    Client, Conf, Origin, Random, Ringway, Step,
    origin::{Seen, reply},
    show,
    wire::{End, ReadError},
};

const REQUESTS: &[&str] = &[
    "GET /a HTTP/1.1\r\nHost: a.test\r\n\r\nGET /b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 40\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\nGET /b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n28\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "PUT /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5;e=\"1\"\r\nhello\r\n0\r\nX: y\r\n\r\nGET /b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "GET http://a.test/a?q=%41 HTTP/1.1\r\nHost: a.test\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\r\nDELETE /b HTTP/1.1\r\nHost: a.test\r\n\r\n",
    "POST /a HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhiGET /b HTTP/1.0\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a.test:80\r\nMax-Forwards: 3\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
];

/// Pieces that framing attacks are made of.
const PIECES: &[&str] = &[
    "\r",
    "\n",
    "\r\n",
    "\r\n\r\n",
    "\0",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "0",
    "5",
    "\r\n0\r\n\r\n",
    "chunked",
    "Content-Length: 0\r\n",
    "Content-Length: 3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Host: b.test\r\n",
    "Connection: close\r\n",
    "\u{b}",
    "\u{a0}",
    "%",
    "/../",
    "HTTP/1.1",
    "\r\n ",
    "+",
    "-",
    "_",
    "\"",
    "f",
    "Expect: 100-continue\r\n",
];

fn mutate(corpus: &[&str], random: &mut Random) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] = (random.next() & 0xff) as u8,
            1 => drop(bytes.remove(at)),
            2 => bytes[at] ^= 1 << random.below(8),
            3 => {
                let end = (at + random.below(30)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            4 => {
                let end = (at + 1 + random.below(10)).min(bytes.len());
                bytes.drain(at..end);
                bytes.push(b'x');
            }
            _ => {
                let piece = PIECES[random.below(PIECES.len())].as_bytes();
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
    bytes
}

/// Reads answers until ringway ends the connection: what the origin said it saw, in order.
fn answers(client: &mut Client) -> Result<Vec<String>, String> {
    let mut seen = Vec::new();
    loop {
        match client.try_response("GET") {
            Ok(answer) if answer.end != End::Complete => return Err("an answer was cut".to_owned()),
            Ok(answer) => seen.extend(answer.head.get("x-seen").map(str::to_owned)),
            Err(ReadError::Eof(rest) | ReadError::Reset(rest)) if rest.is_empty() => {
                return Ok(seen);
            }
            Err(error) => return Err(format!("after {seen:?}: {error:?}")),
        }
    }
}

fn check(client: &mut Client, origin: &Origin, before: usize) -> Result<(), String> {
    let client_saw = answers(client)?;
    let whole: Vec<Seen> =
        origin.seen_since(before).into_iter().filter(|seen| seen.whole).collect();
    let origin_saw: Vec<String> =
        whole.iter().map(|seen| format!("{} {}", seen.head.word(0), seen.head.word(1))).collect();
    if client_saw != origin_saw {
        return Err(format!(
            "the client was answered {client_saw:?}, the origin saw {origin_saw:?}"
        ));
    }
    for seen in &whole {
        if seen.head.all("host").len() != 1 {
            return Err(format!("Host {:?}", seen.head.all("host")));
        }
    }
    let garbage = origin.take_garbage();
    if garbage.is_empty() { Ok(()) } else { Err(format!("the origin received {garbage:?}")) }
}

#[test]
fn damaged_requests() {
    const SEED: u64 = 9112;
    // A mutation may make any method of another; answers without a body read the same for all.
    let origin = Origin::auto(|seen| {
        let line = format!("{} {}", seen.head.word(0), seen.head.word(1));
        vec![Step::Send(
            format!("HTTP/1.1 200 OK\r\nx-seen: {line}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        )]
    });
    let proxy = Ringway::start(&Conf::to(origin.address).one_core());
    let mut random = Random(SEED);
    let mut failures = Vec::new();
    for number in 0..4000 {
        let bytes = mutate(REQUESTS, &mut random);
        let before = origin.seen_count();
        let mut client = proxy.connect();
        client.patience = Duration::from_secs(5);
        let cut = random.below(bytes.len());
        client.try_send(&bytes[..cut]);
        client.try_send(&bytes[cut..]);
        client.half_close();
        let mut result = check(&mut client, &origin, before);
        let mut other = proxy.connect();
        other.get("/probe");
        let probe = other.try_response("GET");
        if !probe.as_ref().is_ok_and(|answer| answer.head.get("x-seen") == Some("GET /probe")) {
            result = Err(format!("ANOTHER CLIENT got {probe:?}"));
        }
        if let Err(what) = result {
            failures
                .push(format!("seed {SEED}, number {number}: {what}\n    sent {}", show(&bytes)));
        }
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;e\r\nhello\r\n0\r\nX-T: y\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 204 No Content\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\r\n",
    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 304 Not Modified\r\nContent-Length: 40\r\n\r\n",
    "HTTP/1.1 302 Found\r\nLocation: /x\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL",
];

/// The same from the other side: whatever an endpoint says, the client reads well-formed HTTP or
/// sees a cut, and the next client gets its own answer.
#[test]
fn damaged_responses() {
    const SEED: u64 = 9110;
    let origin = Origin::auto(|seen| match seen.head.word(1).strip_prefix("/damaged/") {
        Some(number) => {
            let mut random = Random(SEED ^ (number.parse::<u64>().expect("a number") << 20));
            let bytes = mutate(RESPONSES, &mut random);
            let cut = random.below(bytes.len());
            let mut steps =
                vec![Step::Send(bytes[..cut].to_vec()), Step::Send(bytes[cut..].to_vec())];
            if random.below(8) != 0 {
                steps.push(Step::Close); // or else it waits for the next request, as if all was well
            }
            steps
        }
        None => vec![Step::Send(reply(200, seen.head.word(1)))],
    });
    let conf = Conf::to(origin.address).one_core().timeout("response = \"200ms\"");
    let proxy = Ringway::start(&conf);
    let mut failures = Vec::new();
    for number in 0..2500 {
        let mut client = proxy.connect();
        client.get(&format!("/damaged/{number}"));
        let mut result = match client.try_response("GET") {
            Ok(_) | Err(ReadError::Eof(_) | ReadError::Reset(_)) => Ok(()),
            Err(error) => Err(format!("{error:?}")),
        };
        let path = format!("/probe-{number}");
        // A busy machine may make the origin late; a time-out is no answer of somebody else. Nor is a refusal
        // of what comes behind a whole response when this request is already on its way.
        let mut probe = proxy.connect().fetch(&path);
        for _ in 0..5 {
            if let Some("upstream_timeout" | "upstream_invalid") = probe.reason() {
                probe = proxy.connect().fetch(&path);
            }
        }
        if probe.text() != path {
            result = Err(format!("ANOTHER CLIENT got {} {:?}", probe.status(), probe.text()));
        }
        if let Err(what) = result {
            failures.push(format!("seed {SEED}, number {number}: {what}"));
        }
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}
