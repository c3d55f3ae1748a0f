//! Requests that were tampered with: refused, or read as a strict reader with all bytes at hand
//! reads them.

use std::ops::Add;

use crate::{
    naive::{self, Bad},
    random::Random,
    routes::Rules,
    traffic,
    world::{Client, Cuts, Part, World},
};

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) forwarded: usize,
    pub(crate) refused: usize,
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let forwarded = self.forwarded + other.forwarded;
        Self { forwarded, refused: self.refused + other.refused }
    }
}

/// What smugglers are fond of.
const SNIPPETS: [&[u8]; 26] = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b"0\r\n\r\n",
    b"5\r\n",
    b"00000000000000000",
    b"1000000000000000",
    b"Content-Length: 5\r\n",
    b"content-length: 0\r\n",
    b"Content-Length: +5\r\n",
    b"Content-Length: 5, 5\r\n",
    b"Content_Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding: identity\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: chunked, chunked\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Host: evil.test\r\n",
    b"Connection: content-length\r\n",
    b" folded: yes\r\n",
    b"GET /admin HTTP/1.1\r\nHost: evil.test\r\n\r\n",
];

fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.of(&[1, 1, 2]) {
        // Most of the time where lines end: there it hurts.
        let ends: Vec<usize> =
            bytes.windows(2).enumerate().filter(|two| two.1 == b"\r\n").map(|two| two.0).collect();
        let anywhere = ends.is_empty() || random.one_in(3);
        let at = if anywhere {
            random.below(bytes.len() + 1)
        } else {
            random.of(&ends) + 2 * random.below(2)
        };
        match random.below(6) {
            0 if at < bytes.len() => bytes[at] = random.next() as u8,
            1 if at < bytes.len() => {
                bytes.remove(at);
            }
            2 => bytes.insert(at, random.next() as u8),
            3 => {
                let end = (at + random.below(40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                bytes.splice(at..at, random.of(&SNIPPETS).iter().copied());
            }
        }
    }
}

/// Method and body of a request.
type Framed = (Vec<u8>, Vec<u8>);

/// What of the stream was taken, and where the endpoints' view of it comes from.
struct Taken {
    heads: Vec<bool>,
    refused: bool,
    arrived: Vec<Framed>,
}

fn run_cut(rules: &Rules, bytes: &[u8], cuts: Cuts, seed: u64) -> Result<Taken, String> {
    let mut world = World::new(rules, cuts, seed);
    world.clients.push(Client::new(vec![Part::Bytes(bytes.to_vec())], Vec::new()));
    world.run()?;
    if !world.clients[0].ended {
        return Err("the connection was left open".into());
    }
    let (heads, refused) = world.taken(0);
    let (heads, refused) = (heads.to_vec(), refused);
    for arrival in &world.arrivals {
        check_fields(&arrival.message)?;
    }
    let framed = |message: naive::Message| (message.start[0].clone(), message.body);
    let arrived = world.arrivals.into_iter().map(|one| framed(one.message)).collect();
    Ok(Taken { heads, refused, arrived })
}

/// What no client may bring to an endpoint, however it is written.
fn check_fields(message: &naive::Message) -> Result<(), String> {
    let hop = ["keep-alive", "proxy-connection", "proxy-authorization", "http2-settings"];
    let one = ["host", "x-forwarded-for"].map(|name| message.values(name).len());
    let smuggled = message.fields.iter().find(|(name, _)| {
        let folded = name.replace('_', "-");
        let framing = ["host", "content-length", "transfer-encoding", "x-real-ip"];
        let written = framing.contains(&&*folded) && folded != *name;
        let prefix = "x-forwarded-";
        let client = folded.starts_with(prefix) && !name.starts_with(prefix);
        hop.contains(&&**name) || written || client
    });
    match smuggled {
        None if one == [1, 1] => Ok(()),
        _ => Err(format!("an endpoint got {message:?}")),
    }
}

/// # Errors
/// A request was read in another way than the strict reader does, or than with other cuts.
pub(crate) fn run(seed: u64) -> Result<Tally, String> {
    let mut random = Random(seed ^ 0xBAD);
    let rules = Rules::random(&mut random);
    let mut bytes = Vec::new();
    let count = random.below(3) + 1;
    for request in traffic::client(&mut random, &rules, 0).requests.into_iter().take(count) {
        bytes.extend_from_slice(&request.head);
        bytes.extend_from_slice(&request.body);
    }
    mutate(&mut random, &mut bytes);
    let at = |what: String| format!("{what}\n{}", bytes.escape_ascii());
    let whole = run_cut(&rules, &bytes, Cuts::Whole, seed).map_err(at)?;
    let cuts = random.of(&[Cuts::Bytes, Cuts::UpTo(5), Cuts::UpTo(60)]);
    let torn = run_cut(&rules, &bytes, cuts, seed).map_err(at)?;
    for taken in [&whole, &torn] {
        compare(&bytes, taken).map_err(at)?;
    }
    if (&whole.heads, whole.refused, &whole.arrived) != (&torn.heads, torn.refused, &torn.arrived) {
        return Err(at(format!("{cuts:?} makes a difference")));
    }
    Ok(Tally { forwarded: whole.arrived.len(), refused: usize::from(whole.refused) })
}

/// Walks the stream as the strict reader does, beside what the gateway took of it.
fn compare(bytes: &[u8], taken: &Taken) -> Result<(), String> {
    let mut rest = bytes;
    let mut arrived = taken.arrived.iter();
    for (n, forwarded) in taken.heads.iter().enumerate() {
        let message = match naive::request(rest) {
            Ok(message) => message,
            // A body may break where the gateway has taken the head already.
            Err(Bad::Wrong(why)) if n + 1 == taken.heads.len() => {
                let tolerable = taken.refused || !forwarded;
                return if tolerable && arrived.next().is_none() {
                    Ok(())
                } else {
                    Err(format!("request {n} was taken, but: {why}"))
                };
            }
            Err(bad) => return Err(format!("request {n} was taken, but: {bad:?}")),
        };
        rest = &rest[message.length..];
        if !forwarded {
            continue;
        }
        if !message.whole {
            break;
        }
        match arrived.next() {
            Some((method, body)) if *method == message.start[0] && *body == message.body => {}
            // The gateway is the stricter reader of chunks.
            None if taken.refused => return Ok(()),
            other => return Err(format!("request {n} arrived as {other:?}, sent as {message:?}")),
        }
    }
    match arrived.next() {
        None => Ok(()),
        Some(more) => Err(format!("nobody sent {more:?}")),
    }
}
