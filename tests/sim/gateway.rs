//! A gateway made only of ringway's pure rooms: `proto` and `policy`. It does what the data plane
//! does with sockets, as a machine that bytes are put into and taken out of.

use ringway::{
    base::ids::EndpointIndex,
    policy::{
        balance::{self, Ask, Balancer, Kind, Load, Standing},
        route::{Captures, FieldSource, RouteMatch, RouteQuery},
    },
    proto::{
        h1::{
            Answer, ForwardedOut, Framing, HeadLimits, LAST_CHUNK, Method, Parse, RequestForward,
            RequestHead, ResponseForward, ResponseHead, ResponseTo, TargetForm, Version,
            write_answer, write_request_head, write_response_head,
        },
        host::{normalise_host, parse_authority},
        uri::normalise_path,
    },
};

use crate::{
    body::Source,
    random::Random,
    routes::{Rules, authority},
    traffic::CLIENT_IP,
};

const LIMITS: HeadLimits = HeadLimits { bytes_max: 16 * 1024, count_max: 100 };
pub(crate) const DATE: &[u8] = b"Fri, 20 Nov 2026 00:00:00 GMT";

struct HeadFields<'a>(&'a RequestHead, &'a [u8]);

impl FieldSource for HeadFields<'_> {
    fn values<'s>(&'s self, name: &[u8]) -> impl Iterator<Item = &'s [u8]> {
        let named = self.0.fields(self.1);
        named.filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }
}

/// What the world does next.
#[derive(Debug, PartialEq)]
pub(crate) enum Act {
    /// Bytes for the client.
    ToClient(Vec<u8>),
    /// The client's connection ends; `reset` if the response did not.
    EndClient { reset: bool },
    /// A connection to this endpoint; its number is given to [`Gateway::connected`].
    Connect { upstream: usize, endpoint: usize },
    /// Bytes for an endpoint.
    ToOrigin(usize, Vec<u8>),
    /// The endpoint's connection goes back to the pool, or ends.
    Release { connection: usize, reusable: bool },
}

enum State {
    Head,
    /// The body of a request that was refused.
    Discard(Source),
    Exchange(Box<Exchange>),
    Ended,
}

struct Exchange {
    connection: usize,
    upload: Source,
    upload_chunked: bool,
    upload_done: bool,
    of: ResponseTo,
    version: Version,
    keep_alive: bool,
    response: ResponseHead,
    input: Vec<u8>,
    ended: bool,
    /// Once the final head has gone: the body, whether it goes on in chunks, keeps.
    download: Option<(Source, Framing, bool)>,
}

/// The gateway's side of one client connection.
pub(crate) struct Session {
    input: Vec<u8>,
    client_ended: bool,
    head: RequestHead,
    state: State,
    /// Of each request whose head was taken: whether it was forwarded.
    pub(crate) taken: Vec<bool>,
    /// Whether the connection ended with bytes that are no request.
    pub(crate) refused: bool,
}

/// What all sessions share.
pub(crate) struct Gateway<'r> {
    pub(crate) rules: &'r Rules,
    pub(crate) balancers: Vec<Balancer>,
    pub(crate) random: Random,
    captures: Captures,
}

/// No strategy here looks at the load.
struct Unloaded;

impl Load for Unloaded {
    fn in_flight(&self, _: EndpointIndex) -> u32 {
        0
    }

    fn in_flight_total(&self) -> u32 {
        0
    }

    fn latency_us(&self, _: EndpointIndex) -> Option<u32> {
        None
    }
}

impl<'r> Gateway<'r> {
    pub(crate) fn new(rules: &'r Rules, seed: u64) -> Self {
        let balancer = |one: &crate::routes::Upstream| {
            let mut balancer = Balancer::new(&one.strategy, one.offset);
            let standing = |weight: &u32| Standing {
                weight: *weight,
                level: 0,
                is_available: true,
                available_at_ms: 0,
                up_since_ms: 0,
            };
            let ignore_weights = one.strategy == Kind::RoundRobin;
            let rules = balance::Rules { ignore_weights, ..balance::Rules::default() };
            balancer.refresh(rules, one.weights.iter().map(standing), 0, 1);
            balancer
        };
        let balancers = rules.upstreams.iter().map(balancer).collect();
        Self { rules, balancers, random: Random(seed), captures: Captures::default() }
    }

    /// An endpoint that accepts connections.
    pub(crate) fn pick(&mut self, upstream: usize) -> usize {
        let mut avoid = Vec::new();
        loop {
            let random = self.random.next();
            let ask = Ask { random, key: None, avoid: &avoid, load: &Unloaded };
            let picked = self.balancers[upstream].pick(&ask);
            let picked = picked.expect("one endpoint is up");
            assert!(!avoid.contains(&picked), "an endpoint to avoid");
            if self.rules.upstreams[upstream].down != Some(usize::from(picked.0)) {
                return usize::from(picked.0);
            }
            avoid.push(EndpointIndex(picked.0));
        }
    }
}

impl Session {
    pub(crate) fn new() -> Self {
        Self {
            input: Vec::new(),
            client_ended: false,
            head: RequestHead::default(),
            state: State::Head,
            taken: Vec::new(),
            refused: false,
        }
    }

    /// Bytes of the client; none if it will send no more.
    pub(crate) fn client_sent(&mut self, bytes: &[u8]) {
        self.client_ended |= bytes.is_empty();
        self.input.extend_from_slice(bytes);
    }

    /// Bytes of the endpoint; none if it will send no more.
    pub(crate) fn origin_sent(&mut self, bytes: &[u8]) {
        let State::Exchange(exchange) = &mut self.state else { return };
        exchange.input.extend_from_slice(bytes);
        exchange.ended |= bytes.is_empty();
    }

    /// Goes on as far as the bytes allow, calling `act` for what has to be done; the answer to
    /// [`Act::Connect`] is the number of the connection.
    pub(crate) fn run(&mut self, gateway: &mut Gateway<'_>, act: &mut dyn FnMut(Act) -> usize) {
        loop {
            let more = match &mut self.state {
                State::Head => self.read_head(gateway, act),
                State::Discard(source) => {
                    match source.pump(&mut self.input, false, &mut Vec::new()) {
                        Ok(true) => self.next_request(),
                        Ok(false) if self.client_ended => self.end(false, act),
                        Ok(false) => false,
                        Err(()) => self.end(false, act),
                    }
                }
                State::Exchange(_) => self.exchange(act),
                State::Ended => false,
            };
            if !more {
                return;
            }
        }
    }

    fn next_request(&mut self) -> bool {
        self.head.clear();
        self.state = State::Head;
        true
    }

    fn end(&mut self, reset: bool, act: &mut dyn FnMut(Act) -> usize) -> bool {
        if let State::Exchange(exchange) = &self.state {
            act(Act::Release { connection: exchange.connection, reusable: false });
        }
        act(Act::EndClient { reset });
        self.state = State::Ended;
        false
    }

    fn answer(&self, status: u16, keep_alive: bool, act: &mut dyn FnMut(Act) -> usize) {
        let mut out = Vec::new();
        let answer = Answer {
            status,
            reason: "sim",
            body: b"refused",
            content_type: "text/plain",
            allow: None,
            keep_alive,
            client_version: self.head.version(),
            head_request: self.head.method() == Method::Head,
            date: DATE,
            extra: b"",
        };
        write_answer(&mut out, &answer);
        act(Act::ToClient(out));
    }

    fn read_head(&mut self, gateway: &mut Gateway<'_>, act: &mut dyn FnMut(Act) -> usize) -> bool {
        match self.head.parse(&self.input, LIMITS) {
            Ok(Parse::Complete { head_bytes }) => {
                let taken = self.take_request(gateway, head_bytes, act);
                self.input.drain(..head_bytes);
                taken
            }
            Ok(Parse::Partial) if self.client_ended => self.end(false, act),
            Ok(Parse::Partial) => false,
            Err(error) => {
                self.refused = true;
                self.head.clear(); // what was read of it means nothing
                self.answer(error.reason().status(), false, act);
                self.end(false, act)
            }
        }
    }

    /// Decides what becomes of the request at the start of the input.
    fn take_request(
        &mut self,
        gateway: &mut Gateway<'_>,
        head_bytes: usize,
        act: &mut dyn FnMut(Act) -> usize,
    ) -> bool {
        let (route, path) = match find(gateway, &self.head, &self.input) {
            Ok(found) => found,
            Err(status) => {
                self.taken.push(false);
                let keeps = self.head.keep_alive() && !self.head.expects_continue();
                let keeps = keeps && matches!(status, 404 | 405);
                self.answer(status, keeps, act);
                if !keeps {
                    return self.end(false, act);
                }
                self.state = State::Discard(Source::new(self.head.framing()));
                return true;
            }
        };
        self.taken.push(true);
        let kind = gateway.rules.kinds[route];
        let endpoint = gateway.pick(kind.upstream);
        let connection = act(Act::Connect { upstream: kind.upstream, endpoint });
        let buf = &self.input[..];
        let mut target = Vec::new();
        gateway.rules.targets[route].write(&path, &gateway.captures, &mut target);
        if let Some(query) = self.head.query(buf) {
            target.push(b'?');
            target.extend_from_slice(query);
        }
        let own = authority(kind.upstream, endpoint);
        let client_host = self.head.host(buf).unwrap_or_default();
        let host = match kind.host_header {
            None if !client_host.is_empty() => client_host,
            None | Some("") => own.as_bytes(),
            Some(fixed) => fixed.as_bytes(),
        };
        let forward = RequestForward {
            path_and_query: &target,
            host,
            forwarded: &ForwardedOut {
                trusted: gateway.rules.trusted,
                client_ip: CLIENT_IP.as_bytes(),
                proto: b"http",
                host: client_host,
                forwarded: gateway.rules.forwarded,
            },
            max_forwards: self.head.max_forwards().map(|hops| hops.saturating_sub(1)),
            framing: self.head.framing(),
            close: false,
            early: false,
        };
        let mut out = Vec::new();
        write_request_head(&mut out, &buf[..head_bytes], &self.head, &forward);
        act(Act::ToOrigin(connection, out));
        self.state = State::Exchange(Box::new(Exchange {
            connection,
            upload: Source::new(self.head.framing()),
            upload_chunked: self.head.framing() == Framing::Chunked,
            upload_done: false,
            of: ResponseTo { method: self.head.method(), upgrade: false },
            version: self.head.version(),
            keep_alive: self.head.keep_alive(),
            response: ResponseHead::default(),
            input: Vec::new(),
            ended: false,
            download: None,
        }));
        true
    }

    fn exchange(&mut self, act: &mut dyn FnMut(Act) -> usize) -> bool {
        let State::Exchange(exchange) = &mut self.state else { return false };
        if !exchange.upload_done {
            let mut out = Vec::new();
            let pumped = exchange.upload.pump(&mut self.input, exchange.upload_chunked, &mut out);
            match pumped {
                Ok(done) => exchange.upload_done = done,
                Err(()) => {
                    self.refused = true;
                    self.answer(400, false, act);
                    return self.end(false, act);
                }
            }
            if !out.is_empty() {
                act(Act::ToOrigin(exchange.connection, out));
            }
            if !exchange.upload_done && self.client_ended {
                return self.end(false, act);
            }
        }
        if exchange.download.is_none() {
            match exchange.response.parse(&exchange.input, LIMITS, exchange.of) {
                Ok(Parse::Complete { head_bytes }) => {
                    exchange.pass_head(act);
                    exchange.input.drain(..head_bytes);
                    if exchange.download.is_none() {
                        exchange.response.clear();
                    }
                    return true;
                }
                Ok(Parse::Partial) if !exchange.ended => return false,
                Ok(Parse::Partial) | Err(_) => {}
            }
            act(Act::Release { connection: exchange.connection, reusable: false });
            let keeps = exchange.keep_alive && exchange.upload_done;
            self.answer(502, keeps, act);
            self.next_request();
            return keeps || self.end(false, act);
        }
        self.download(act)
    }

    fn download(&mut self, act: &mut dyn FnMut(Act) -> usize) -> bool {
        let State::Exchange(exchange) = &mut self.state else { return false };
        let Some((source, framing, keeps)) = &mut exchange.download else { return false };
        let keeps = *keeps;
        let in_chunks = *framing == Framing::Chunked;
        let mut out = Vec::new();
        let pumped = source.pump(&mut exchange.input, in_chunks, &mut out);
        let by_close = matches!(source, Source::Close) && exchange.ended;
        if by_close && in_chunks {
            out.extend_from_slice(LAST_CHUNK);
        }
        if !out.is_empty() {
            act(Act::ToClient(out));
        }
        match pumped {
            Ok(done) if done || by_close => {
                let reusable = exchange.response.keep_alive() && exchange.input.is_empty();
                act(Act::Release { connection: exchange.connection, reusable });
                self.next_request();
                keeps || self.end(false, act)
            }
            Ok(_) if !exchange.ended => false,
            _ => self.end(true, act),
        }
    }
}

impl Exchange {
    /// Passes an interim or the final head on.
    fn pass_head(&mut self, act: &mut dyn FnMut(Act) -> usize) {
        let interim = self.response.is_interim();
        if interim && self.version == Version::Http10 {
            return;
        }
        let framing = match (self.response.framing(), self.version) {
            (Framing::Chunked | Framing::UntilClose, Version::Http11) => Framing::Chunked,
            (Framing::Chunked | Framing::UntilClose, Version::Http10) => Framing::UntilClose,
            (known, _) => known,
        };
        let keep_alive = self.keep_alive && framing != Framing::UntilClose;
        let forward = ResponseForward {
            framing,
            keep_content_length: !interim,
            client_version: self.version,
            keep_alive,
            date: DATE,
            fields: b"",
        };
        let mut out = Vec::new();
        write_response_head(&mut out, &self.input, &self.response, &forward);
        act(Act::ToClient(out));
        if !interim {
            let source = Source::new(self.response.framing());
            self.download = Some((source, framing, keep_alive));
        }
    }
}

/// The route and the path in normal form, or the status of a refusal.
fn find(
    gateway: &mut Gateway<'_>,
    head: &RequestHead,
    buf: &[u8],
) -> Result<(usize, Vec<u8>), u16> {
    match (head.method(), head.max_forwards()) {
        (Method::Connect, _) => return Err(405),
        (Method::Options | Method::Trace, Some(0)) => return Err(400), // answered by ringway itself
        _ => {}
    }
    let (mut host, mut path) = (Vec::new(), Vec::new());
    if let Some(authority) = head.host(buf) {
        let parts = parse_authority(authority).map_err(|_| 400_u16)?;
        normalise_host(&authority[parts.host], &mut host);
    }
    if head.form() == TargetForm::Asterisk {
        path.push(b'*');
    } else {
        normalise_path(head.path(buf), true, &mut path).map_err(|_| 400_u16)?;
    }
    let query = RouteQuery {
        listener: Rules::LISTENER,
        host: &host,
        path: &path,
        query: head.query(buf),
        method: head.method_bytes(buf),
        fields: &HeadFields(head, buf),
    };
    match gateway.rules.table.find(&query, &mut gateway.captures) {
        RouteMatch::Found(route) => Ok((route.0 as usize, path)),
        RouteMatch::MethodNotAllowed => Err(405),
        RouteMatch::NotFound => Err(404),
    }
}
