//! The network, the clients and the endpoints around the gateway. Time is the order of deliveries,
//! and that is chance.

use std::collections::HashMap;

use crate::{
    gateway::{Act, Gateway, Session},
    naive::{self, Message},
    random::Random,
    responses::{PLAIN, ResponsePlan},
    routes::Rules,
};

/// Bytes on their way in one direction.
#[derive(Default)]
struct Link {
    bytes: Vec<u8>,
    taken: usize,
    ended: bool,
    end_seen: bool,
}

impl Link {
    fn is_due(&self) -> bool {
        self.taken < self.bytes.len() || (self.ended && !self.end_seen)
    }

    /// What arrives next: some bytes, or none for the end.
    fn take(&mut self, count: usize) -> Vec<u8> {
        let here = count.min(self.bytes.len() - self.taken);
        self.taken += here;
        self.end_seen = here == 0;
        self.bytes[self.taken - here..self.taken].to_vec()
    }
}

/// How the network cuts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cuts {
    /// Everything that is there arrives at once.
    Whole,
    /// Byte by byte.
    Bytes,
    /// Up to so many bytes.
    UpTo(usize),
}

/// What a client sends.
pub(crate) enum Part {
    Bytes(Vec<u8>),
    /// Nothing more until a 100 to the request of this number has come.
    Continue(usize),
}

pub(crate) struct Client {
    pub(crate) parts: Vec<Part>,
    pub(crate) next_part: usize,
    /// The methods of its requests.
    pub(crate) methods: Vec<&'static str>,
    pub(crate) received: Vec<u8>,
    pub(crate) reset: bool,
    pub(crate) ended: bool,
    up: Link,
    down: Link,
    session: Session,
}

impl Client {
    /// One that sends `parts`, then ends its side.
    pub(crate) fn new(parts: Vec<Part>, methods: Vec<&'static str>) -> Self {
        Self {
            parts,
            next_part: 0,
            methods,
            received: Vec::new(),
            reset: false,
            ended: false,
            up: Link::default(),
            down: Link::default(),
            session: Session::new(),
        }
    }

    /// Hands to the network what may be sent by now.
    fn send(&mut self) {
        while let Some(part) = self.parts.get(self.next_part) {
            match part {
                Part::Bytes(bytes) => self.up.bytes.extend_from_slice(bytes),
                Part::Continue(request) => match self.told_to_go_on(*request) {
                    None => return,
                    Some(true) => {}
                    Some(false) => break, // it was answered: the body is not wanted
                },
            }
            self.next_part += 1;
        }
        self.up.ended = true;
    }

    /// Whether a 100 or a final response to the request of this number has come.
    fn told_to_go_on(&self, request: usize) -> Option<bool> {
        let mut rest = &self.received[..];
        for (number, method) in self.methods.iter().enumerate().take(request + 1) {
            loop {
                let message = naive::response(rest, method, false).ok()?;
                if message.status() >= 200 {
                    if number == request {
                        return Some(false);
                    }
                    if !message.whole {
                        return None;
                    }
                    rest = &rest[message.length..];
                    break;
                }
                if number == request && message.status() == 100 {
                    return Some(true);
                }
                rest = &rest[message.length..];
            }
        }
        None
    }
}

/// A connection of the gateway to an endpoint, and the endpoint behind it.
struct Connection {
    upstream: usize,
    endpoint: usize,
    owner: Option<usize>,
    up: Link,
    down: Link,
    input: Vec<u8>,
    /// Bytes the request must have before it is worth reading again.
    at_least: usize,
    chunked: bool,
    continued: bool,
    pooled: bool,
}

/// A request that reached an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) upstream: usize,
    pub(crate) endpoint: usize,
    pub(crate) message: Message,
}

pub(crate) struct World<'r> {
    pub(crate) clients: Vec<Client>,
    pub(crate) arrivals: Vec<Arrival>,
    pub(crate) gateway: Gateway<'r>,
    /// How many requests the gateway sent where.
    pub(crate) picks: HashMap<(usize, usize), u64>,
    connections: Vec<Connection>,
    /// What the endpoints answer, by id of the request.
    plans: HashMap<Vec<u8>, ResponsePlan>,
    random: Random,
    cuts: Cuts,
}

impl<'r> World<'r> {
    pub(crate) fn new(rules: &'r Rules, cuts: Cuts, seed: u64) -> Self {
        Self {
            clients: Vec::new(),
            arrivals: Vec::new(),
            gateway: Gateway::new(rules, seed ^ 1),
            picks: HashMap::new(),
            connections: Vec::new(),
            plans: HashMap::new(),
            random: Random(seed),
            cuts,
        }
    }

    pub(crate) fn plan(&mut self, id: &str, response: &ResponsePlan) {
        self.plans.insert(id.as_bytes().to_vec(), response.clone());
    }

    /// Runs until nothing is on its way any more.
    ///
    /// # Errors
    /// When an endpoint can't read what it gets.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        for client in &mut self.clients {
            client.send();
        }
        loop {
            let mut due = Vec::new();
            for (n, client) in self.clients.iter().enumerate() {
                due.extend(client.up.is_due().then_some((0, n)));
                due.extend(client.down.is_due().then_some((1, n)));
            }
            for (n, connection) in self.connections.iter().enumerate() {
                due.extend(connection.up.is_due().then_some((2, n)));
                due.extend(connection.down.is_due().then_some((3, n)));
            }
            if due.is_empty() {
                return Ok(());
            }
            let (kind, n) = self.random.of(&due);
            let count = match self.cuts {
                Cuts::Whole => usize::MAX,
                Cuts::Bytes => 1,
                Cuts::UpTo(most) => self.random.below(most) + 1,
            };
            match kind {
                0 => {
                    let bytes = self.clients[n].up.take(count);
                    self.clients[n].session.client_sent(&bytes);
                    self.step(n);
                }
                1 => self.reach_client(n, count),
                2 => self.reach_origin(n, count)?,
                _ => self.reach_gateway(n, count),
            }
        }
    }

    fn reach_client(&mut self, n: usize, count: usize) {
        let client = &mut self.clients[n];
        let bytes = client.down.take(count);
        client.ended |= bytes.is_empty();
        client.received.extend_from_slice(&bytes);
        if client.received.ends_with(b"\r\n\r\n") || client.ended {
            client.send();
        }
    }

    fn reach_gateway(&mut self, n: usize, count: usize) {
        let bytes = self.connections[n].down.take(count);
        match self.connections[n].owner {
            Some(owner) => {
                self.clients[owner].session.origin_sent(&bytes);
                self.step(owner);
            }
            // An unused connection that speaks or ends is of no use.
            None => self.connections[n].pooled = false,
        }
    }

    /// Lets the gateway go on with a client.
    fn step(&mut self, n: usize) {
        let Self { clients, connections, gateway, picks, .. } = self;
        let Client { session, down, reset, .. } = &mut clients[n];
        session.run(gateway, &mut |act| {
            match act {
                Act::ToClient(bytes) => down.bytes.extend_from_slice(&bytes),
                Act::EndClient { reset: cut } => (down.ended, *reset) = (true, cut),
                Act::Connect { upstream, endpoint } => {
                    *picks.entry((upstream, endpoint)).or_default() += 1;
                    let index = connect(connections, upstream, endpoint);
                    connections[index].owner = Some(n);
                    return index;
                }
                Act::ToOrigin(index, bytes) => {
                    assert_eq!(connections[index].owner, Some(n), "another client's connection");
                    connections[index].up.bytes.extend_from_slice(&bytes);
                }
                Act::Release { connection, reusable } => {
                    let one = &mut connections[connection];
                    one.owner = None;
                    one.pooled = reusable && !one.down.end_seen;
                    one.up.ended |= !one.pooled;
                }
            }
            0
        });
    }

    fn reach_origin(&mut self, n: usize, count: usize) -> Result<(), String> {
        let connection = &mut self.connections[n];
        let bytes = connection.up.take(count);
        connection.input.extend_from_slice(&bytes);
        if connection.input.len() < connection.at_least {
            return Ok(());
        }
        // Reading is worth it where a head may have come, or a chunked body may end.
        let worth = match connection.at_least {
            0 => holds_empty_line(&connection.input, bytes.len()),
            _ => !connection.chunked || connection.input.ends_with(b"\r\n\r\n"),
        };
        if !worth {
            return Ok(());
        }
        let shown = || format!("an endpoint got {}", connection.input.escape_ascii());
        let message =
            naive::request(&connection.input).map_err(|bad| format!("{}: {bad:?}", shown()))?;
        if !message.values("expect").is_empty() && !connection.continued && !connection.down.ended {
            connection.continued = true;
            connection.down.bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if !message.whole {
            let length = message
                .values("content-length")
                .first()
                .map_or(0, |digits| String::from_utf8_lossy(digits).parse().unwrap_or(0));
            let head = message.length - message.body.len();
            connection.chunked = !message.values("transfer-encoding").is_empty();
            connection.at_least = if connection.chunked { 1 } else { head + length };
            return Ok(());
        }
        if message.length != connection.input.len() {
            return Err(format!("bytes behind a request: {}", shown()));
        }
        connection.input.clear();
        (connection.at_least, connection.continued) = (0, false);
        let id = message.values("x-sim-id").first().map_or(Vec::new(), |id| id.to_vec());
        match self.plans.get(&id) {
            None => {
                let end = if message.start[0] == b"HEAD" { PLAIN.len() - 2 } else { PLAIN.len() };
                connection.down.bytes.extend_from_slice(&PLAIN[..end]);
            }
            Some(plan) => {
                let end = plan.cut.unwrap_or(plan.wire.len());
                connection.down.bytes.extend_from_slice(&plan.wire[..end]);
                connection.down.ended |= plan.closes || plan.cut.is_some();
            }
        }
        let (upstream, endpoint) = (connection.upstream, connection.endpoint);
        self.arrivals.push(Arrival { upstream, endpoint, message });
        Ok(())
    }

    /// Picks `count` more endpoints of each upstream, for nobody.
    pub(crate) fn pick_on(&mut self, count: usize) {
        for upstream in 0..self.gateway.balancers.len() {
            for _ in 0..count {
                let endpoint = self.gateway.pick(upstream);
                *self.picks.entry((upstream, endpoint)).or_default() += 1;
            }
        }
    }

    /// How many requests of a client the gateway took, which of them it forwarded, and whether it
    /// refused the next one.
    pub(crate) fn taken(&self, client: usize) -> (&[bool], bool) {
        let session = &self.clients[client].session;
        (&session.taken, session.refused)
    }
}

/// Whether an empty line is among the last bytes.
fn holds_empty_line(bytes: &[u8], new: usize) -> bool {
    bytes[bytes.len().saturating_sub(new + 3)..].windows(4).any(|four| four == b"\r\n\r\n")
}

/// An idle connection to the endpoint, the one used last, or else a new one.
fn connect(connections: &mut Vec<Connection>, upstream: usize, endpoint: usize) -> usize {
    let idle = |one: &Connection| {
        one.pooled && one.owner.is_none() && one.upstream == upstream && one.endpoint == endpoint
    };
    if let Some(index) = connections.iter().rposition(idle) {
        return index;
    }
    connections.push(Connection {
        upstream,
        endpoint,
        owner: None,
        up: Link::default(),
        down: Link::default(),
        input: Vec::new(),
        at_least: 0,
        chunked: false,
        continued: false,
        pooled: true,
    });
    connections.len() - 1
}
