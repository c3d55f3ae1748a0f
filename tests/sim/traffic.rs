//! Random valid requests, each with what its endpoint must get.

use std::collections::BTreeMap;

use crate::{
    naive::Fields,
    random::Random,
    responses::{self, ResponsePlan},
    routes::{Rules, Verdict},
};

/// The address of every client.
pub(crate) const CLIENT_IP: &str = "192.0.2.7";

/// Values by field name, where their place among the others is not the sender's business.
pub(crate) type Special = BTreeMap<&'static str, Vec<Vec<u8>>>;

/// What the endpoint must get.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    /// `None` for the endpoint's own authority.
    pub(crate) host: Option<String>,
    pub(crate) special: Special,
    /// All other fields, in order.
    pub(crate) ordinary: Fields,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Fields,
}

#[derive(Clone, Debug)]
pub(crate) struct RequestPlan {
    pub(crate) id: String,
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// Whether the client holds the body back until it has seen a 100.
    pub(crate) waits: bool,
    pub(crate) expects: bool,
    pub(crate) is_old: bool,
    pub(crate) keep_alive: bool,
    pub(crate) verdict: Verdict,
    pub(crate) want: Want,
    pub(crate) response: ResponsePlan,
}

#[derive(Clone, Debug)]
pub(crate) struct ClientPlan {
    pub(crate) requests: Vec<RequestPlan>,
    /// After this many bytes the client stops sending.
    pub(crate) cut: Option<usize>,
}

pub(crate) fn client(random: &mut Random, rules: &Rules, number: usize) -> ClientPlan {
    let count = random.below(6) + 1;
    let requests: Vec<_> = (0..count)
        .map(|n| request(random, rules, format!("{number}-{n}"), n + 1 == count))
        .collect();
    let total: usize = requests.iter().map(|one| one.head.len() + one.body.len()).sum();
    let cut = random.one_in(5).then(|| random.below(total + 1));
    ClientPlan { requests, cut }
}

/// A field value: anything but controls, with blanks around it that don't count.
pub(crate) fn value(random: &mut Random) -> Vec<u8> {
    let mut text = Vec::new();
    for _ in 0..random.below(12) {
        let any = [b'a', b'Z', b'7', b':', b',', b';', b'"', b'=', b' ', b'\t', b'(', 0x80, 0xff];
        text.push(random.of(&any));
    }
    let blank = |b: &u8| *b == b' ' || *b == b'\t';
    let start = text.iter().position(|b| !blank(b)).unwrap_or(text.len());
    let end = text.iter().rposition(|b| !blank(b)).map_or(start, |last| last + 1);
    text[start..end].to_vec()
}

pub(crate) fn push_line(random: &mut Random, out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for b in name.bytes() {
        let flip = random.one_in(8);
        out.push(if flip { b.to_ascii_uppercase() } else { b });
    }
    out.push(b':');
    out.extend_from_slice(random.of(&[&b" "[..], b"", b"\t ", b"  "]));
    out.extend_from_slice(value);
    out.extend_from_slice(random.of(&[&b""[..], b"", b" ", b" \t"]));
    out.extend_from_slice(b"\r\n");
}

/// A path in normal form, and the same path as a client may write it.
fn path(random: &mut Random) -> (String, Vec<u8>) {
    let starts =
        ["", "/admin", "/users/me", "/users", "/files", "/static", "/health", "/api/v1", "/api"];
    let mut segments: Vec<String> =
        random.of(&starts).split('/').skip(1).map(str::to_owned).collect();
    for _ in 0..random.below(3) {
        let letters = [
            "a", "Q", "0", "-", "~", ".x", "_", "%2F", "%20", "%C3%A9", "%25", ";b=1", "@", "!",
            ":",
        ];
        segments.push((0..random.below(4) + 1).map(|_| random.of(&letters)).collect());
    }
    if segments.is_empty() || random.one_in(4) {
        segments.push(String::new());
    }
    let mut written = Vec::new();
    for segment in &segments {
        written.push(b'/');
        for _ in 0..3 {
            if random.one_in(8) {
                let detours = ["/", "./", "x/../", "%2e/", "%78/.%2E/", "x//%2e%2e/../", "//./"];
                written.extend_from_slice(random.of(&detours).as_bytes());
            }
        }
        let mut escape = 0; // digits of an escape still to come
        for b in segment.bytes() {
            if escape > 0 {
                escape -= 1;
                written.push(if random.one_in(2) { b.to_ascii_lowercase() } else { b });
            } else if b == b'%' {
                escape = 2;
                written.push(b);
            } else if (b.is_ascii_alphanumeric() || b"-._~".contains(&b)) && random.one_in(10) {
                let text = if random.one_in(2) { format!("%{b:02x}") } else { format!("%{b:02X}") };
                written.extend_from_slice(text.as_bytes());
            } else {
                written.push(b);
            }
        }
    }
    (format!("/{}", segments.join("/")), written)
}

/// The name of the host for the oracle, and Host as the client writes it and as it is passed on.
fn host(random: &mut Random) -> (&'static str, String, String) {
    let name = random.of(&["a.test", "w.a.test", "x.y.a.test", "b.test", "[::1]", "nota.test"]);
    let mut text: String = name.into();
    if random.one_in(4) {
        text = text.to_uppercase();
    }
    if random.one_in(6) && !name.starts_with('[') {
        text.push('.');
    }
    if random.one_in(4) {
        text.push_str(":8080");
    }
    let written =
        if random.one_in(8) && !text.ends_with("8080") { format!("{text}:") } else { text.clone() };
    (name, written, text)
}

/// The fields of one request while they are made.
#[derive(Default)]
struct Made {
    lines: Vec<(String, Vec<u8>)>,
    ordinary: Fields,
    special: Special,
    connection: Vec<&'static str>,
}

impl Made {
    fn kept(&mut self, name: &str, value: Vec<u8>) {
        self.ordinary.push((name.to_owned(), value.clone()));
        self.lines.push((name.to_owned(), value));
    }

    fn dropped(&mut self, name: &str, value: Vec<u8>) {
        self.lines.push((name.to_owned(), value));
    }

    fn special(&mut self, name: &'static str, value: Vec<u8>) {
        self.special.entry(name).or_default().push(value.clone());
        self.lines.push((name.to_owned(), value));
    }
}

const IDENTITY: [&str; 3] = ["x-forwarded-proto", "x-forwarded-host", "forwarded"];

fn fields(random: &mut Random, trusted: bool, made: &mut Made) {
    for n in 0..random.below(8) {
        let text = value(random);
        match random.below(12) {
            0 => made.kept(random.of(&["accept", "user-agent", "my_header", "trailer"]), text),
            1 => made.kept(&format!("x-own-{n}"), text),
            2 => made.kept("cookie", b"a=b; c=d".to_vec()),
            3 => made.dropped(random.of(&["keep-alive", "proxy-connection"]), text),
            4 => made.dropped(random.of(&["proxy-authorization", "http2-settings"]), text),
            5 => made.dropped("upgrade", random.of(&["h2c", "websocket"]).into()),
            6 => {
                made.dropped(random.of(&["x_forwarded_for", "X-Forwarded_Port", "x_real_ip"]), text)
            }
            7 if trusted => made.special(random.of(&IDENTITY), b"one".to_vec()),
            7 => made.dropped(random.of(&IDENTITY), b"one".to_vec()),
            8 if trusted => made.kept(random.of(&["x-real-ip", "x-forwarded-port"]), text),
            8 => made.dropped(random.of(&["x-real-ip", "x-forwarded-port"]), text),
            9 => made.special("via", b"1.0 other".to_vec()),
            10 => {
                made.connection.push(random.of(&["x-hop", "X-HOP", "x-absent", "cookie", ""]));
                if !made.connection.iter().any(|name| name.eq_ignore_ascii_case("x-hop")) {
                    continue;
                }
                made.dropped("x-hop", text);
            }
            _ => {
                if trusted && !text.is_empty() {
                    made.special("x-forwarded-for", text);
                } else {
                    made.dropped("x-forwarded-for", text);
                }
            }
        }
    }
}

/// How a body travels.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Wire {
    None,
    Length,
    Chunked,
}

/// Payload, the bytes that carry it, and the trailers that may be passed on.
pub(crate) fn body(random: &mut Random, wire: Wire) -> (Vec<u8>, Vec<u8>, Fields) {
    let length = random.of(&[0, 1, 5, 16, 40, 300]);
    let length = random.below(length + 1);
    let payload = random.bytes(if wire == Wire::None { 0 } else { length });
    if wire != Wire::Chunked {
        return (payload.clone(), payload, Fields::new());
    }
    let mut out = Vec::new();
    let mut rest = &payload[..];
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(random.below(rest.len()) + 1);
        let zeros = random.of(&["", "", "0", "000"]);
        let extension = random.of(&["", "", "", ";a", ";a=b", " ; a=\"x\\\"y;\"", ";q=\"0\";r"]);
        out.extend_from_slice(format!("{zeros}{:x}{extension}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        rest = after;
    }
    out.extend_from_slice(random.of(&["0\r\n", "000\r\n", "0;last\r\n"]).as_bytes());
    let mut trailers = Fields::new();
    for _ in 0..random.below(4).saturating_sub(1) {
        let text = value(random);
        let bad = [
            "content-length",
            "host",
            "authorization",
            "if-match",
            "transfer_encoding",
            "connection",
        ];
        if random.one_in(3) {
            push_line(random, &mut out, random_name(&bad, text.len()), &text);
        } else {
            push_line(random, &mut out, "x-sum", &text);
            trailers.push(("x-sum".into(), text));
        }
    }
    out.extend_from_slice(b"\r\n");
    (payload, out, trailers)
}

fn random_name<'a>(names: &[&'a str], n: usize) -> &'a str {
    names[n % names.len()]
}

fn request(random: &mut Random, rules: &Rules, id: String, last: bool) -> RequestPlan {
    let methods =
        ["GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "X-OWN_1"];
    let method = random.of(&methods);
    let is_old = random.one_in(8);
    let (host_name, host_written, host_sent) = host(random);
    let has_host = !is_old || !random.one_in(3);
    let (mut normal, mut path_written) = path(random);
    let mut target = Vec::new();
    let form = random.below(8);
    let query = random.of(&["", "", "?", "?a=b", "?a=%2f&x?y=/../"]);
    let is_asterisk = method == "OPTIONS" && random.one_in(3);
    let is_absolute = !is_asterisk && form == 0;
    if is_asterisk {
        (normal, path_written) = ("*".into(), b"*".to_vec());
    } else if is_absolute {
        target.extend_from_slice(random.of(&["http://", "HTTP://", "https://"]).as_bytes());
        target.extend_from_slice(host_written.as_bytes());
        if random.one_in(4) && !(method == "OPTIONS" && query.is_empty()) {
            (normal, path_written) = ("/".into(), Vec::new());
        }
    }
    target.extend_from_slice(&path_written);
    let query = if is_asterisk { "" } else { query };
    target.extend_from_slice(query.as_bytes());

    let mut made = Made::default();
    made.kept("x-sim-id", id.clone().into());
    fields(random, rules.trusted, &mut made);
    let wire = random.of(&[Wire::None, Wire::None, Wire::Length, Wire::Chunked]);
    let wire = if is_old && wire == Wire::Chunked { Wire::Length } else { wire };
    let (payload, body, trailers) = body(random, wire);
    match wire {
        Wire::None => {}
        Wire::Length => {
            let zeros = random.of(&["", "", "00"]);
            made.dropped("content-length", format!("{zeros}{}", payload.len()).into());
            made.special.insert("content-length", vec![payload.len().to_string().into()]);
        }
        Wire::Chunked => {
            made.dropped("transfer-encoding", random.of(&["chunked", "Chunked"]).into());
            made.special.insert("transfer-encoding", vec![b"chunked".to_vec()]);
        }
    }
    let has_body = wire == Wire::Chunked || !payload.is_empty();
    let mut expects = false;
    if random.one_in(6) {
        expects = has_body && !is_old;
        let text = random.of(&["100-continue", "100-Continue"]).into();
        if expects { made.kept("expect", text) } else { made.dropped("expect", text) }
    }
    let mut options: Vec<&'static str> = std::mem::take(&mut made.connection);
    if random.one_in(6) {
        made.dropped("te", random.of(&["trailers", "gzip, trailers", "Trailers"]).into());
        options.push("te");
        if !is_old {
            made.special.insert("te", vec![b"trailers".to_vec()]);
            made.special.insert("connection", vec![b"te".to_vec()]);
        }
    }
    if method == "OPTIONS" && random.one_in(3) {
        made.dropped("max-forwards", b"9".to_vec());
        made.special.insert("max-forwards", vec![b"8".to_vec()]);
    } else if random.one_in(12) && method != "OPTIONS" {
        made.special("max-forwards", b"0".to_vec());
    }
    let closes = if last { random.one_in(2) } else { random.one_in(12) };
    let keep_alive = if is_old { !last } else { !closes };
    match (is_old, keep_alive) {
        (true, true) => options.push("keep-alive"),
        (false, false) => options.push(random.of(&["close", "Close"])),
        _ => {}
    }
    if !options.is_empty() {
        made.dropped("connection", options.join(", ").into());
    }
    let shown_host = if has_host || is_absolute { host_sent.as_str() } else { "" };
    tell_of_the_client(&mut made.special, rules, shown_host, is_old);

    let mut head = Vec::new();
    if random.one_in(20) {
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(method.as_bytes());
    head.push(b' ');
    head.extend_from_slice(&target);
    head.extend_from_slice(if is_old { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
    let host_at = random.below(made.lines.len() + 1);
    for (place, (name, text)) in made.lines.iter().enumerate() {
        if place == host_at && has_host {
            push_line(random, &mut head, "host", host_written.as_bytes());
        }
        push_line(random, &mut head, name, text);
    }
    if host_at == made.lines.len() && has_host {
        push_line(random, &mut head, "host", host_written.as_bytes());
    }
    head.extend_from_slice(b"\r\n");

    let name = if shown_host.is_empty() { "" } else { host_name };
    let verdict = rules.oracle(name, &normal, method);
    let (to, host) = match &verdict {
        Verdict::To { kind, path } => (
            path.clone(),
            match rules.kinds[*kind].host_header {
                None if shown_host.is_empty() => None,
                None => Some(shown_host.to_owned()),
                Some("") => None,
                Some(fixed) => Some(fixed.to_owned()),
            },
        ),
        Verdict::Refused(_) => (String::new(), None),
    };
    let want = Want {
        method,
        target: format!("{to}{query}"),
        host,
        special: made.special,
        ordinary: made.ordinary,
        body: payload,
        trailers,
    };
    let waits = expects && random.one_in(2);
    let response = responses::response(random, method);
    RequestPlan { id, head, body, waits, expects, is_old, keep_alive, verdict, want, response }
}

/// What ringway adds.
fn tell_of_the_client(special: &mut Special, rules: &Rules, host: &str, is_old: bool) {
    let mut chain = special.remove("x-forwarded-for").unwrap_or_default();
    chain.push(CLIENT_IP.into());
    special.insert("x-forwarded-for", vec![chain.join(&b", "[..])]);
    special.entry("x-forwarded-proto").or_insert_with(|| vec![b"http".to_vec()]);
    if !host.is_empty() {
        special.entry("x-forwarded-host").or_insert_with(|| vec![host.into()]);
    }
    if rules.forwarded {
        let host = if host.is_empty() { String::new() } else { format!(";host=\"{host}\"") };
        let ours = format!("for={CLIENT_IP};proto=http{host}").into_bytes();
        special.entry("forwarded").or_default().push(ours);
    }
    let via = if is_old { "1.0 ringway" } else { "1.1 ringway" };
    special.entry("via").or_default().push(via.into());
}
