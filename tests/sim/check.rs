//! One scenario, and what must hold of it.

use std::{fmt, ops::Add};

use ringway::policy::balance::Kind as Strategy;

use crate::{
    gateway::DATE,
    naive::{self, Fields, Message},
    random::Random,
    responses::Ends,
    routes::{Rules, Verdict, authority},
    traffic::{self, ClientPlan, RequestPlan},
    world::{Arrival, Client, Cuts, Part, World},
};

/// Picks of each balancer after the traffic: a slow drift shows only in many.
const PICKS_AFTER: usize = 60;

pub(crate) struct Scenario {
    seed: u64,
    clients: Vec<ClientPlan>,
}

#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) arrived: usize,
    pub(crate) answered: usize,
    /// Of random balancers: picks of the first endpoint less those expected, and their variance.
    pub(crate) random_off: f64,
    pub(crate) random_variance: f64,
}

impl Add for Tally {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            arrived: self.arrived + other.arrived,
            answered: self.answered + other.answered,
            random_off: self.random_off + other.random_off,
            random_variance: self.random_variance + other.random_variance,
        }
    }
}

/// The responses that each client saw; equal however bytes are cut.
type View = Vec<Vec<Message>>;

/// What a client must see of one request.
enum Outcome<'p> {
    /// The planned response, or a 502 where that was cut inside its head.
    Answered(&'p RequestPlan),
    /// This status, and nothing reaches an endpoint.
    Refused(&'p RequestPlan, u16),
}

impl Scenario {
    fn rules(&self) -> Rules {
        Rules::random(&mut Random(self.seed))
    }

    pub(crate) fn random(seed: u64) -> Self {
        let rules = Rules::random(&mut Random(seed));
        let mut random = Random(!seed);
        let count = random.below(3) + 1;
        let clients = (0..count).map(|n| traffic::client(&mut random, &rules, n)).collect();
        Self { seed, clients }
    }

    /// The same with one client or one request less.
    pub(crate) fn smaller(&self) -> Vec<Self> {
        let mut list = Vec::new();
        for n in 0..self.clients.len() {
            let mut clients = self.clients.clone();
            clients.remove(n);
            list.push(Self { seed: self.seed, clients });
            for request in 0..self.clients[n].requests.len() {
                let mut clients = self.clients.clone();
                clients[n].requests.remove(request);
                list.push(Self { seed: self.seed, clients });
            }
            if self.clients[n].cut.is_some() {
                let mut clients = self.clients.clone();
                clients[n].cut = None;
                list.push(Self { seed: self.seed, clients });
            }
        }
        list.retain(|one| one.clients.iter().any(|client| !client.requests.is_empty()));
        list
    }

    /// Changes what is expected of some request, so that the run must fail.
    pub(crate) fn spoil(&mut self, random: &mut Random) {
        let client = random.below(self.clients.len());
        let want = &mut self.clients[client].requests[0].want;
        match random.below(3) {
            0 => want.body.push(b'!'),
            1 => want.ordinary.push(("x-never".into(), Vec::new())),
            _ => want.target.push('!'),
        }
    }

    /// # Errors
    /// The first thing that does not hold.
    pub(crate) fn run(&self) -> Result<Tally, String> {
        let rules = self.rules();
        let mut random = Random(self.seed ^ 0xC07);
        let torn = match random.below(4) {
            0 => Cuts::Bytes,
            1 | 2 => Cuts::UpTo(20),
            _ => Cuts::UpTo(200),
        };
        let (whole_view, mut tally) = self.run_cut(&rules, Cuts::Whole, random.next())?;
        let (torn_view, more) = self.run_cut(&rules, torn, random.next())?;
        if whole_view != torn_view {
            return Err(format!("{torn:?} makes a difference:\n{whole_view:?}\n{torn_view:?}"));
        }
        tally.random_off += more.random_off;
        tally.random_variance += more.random_variance;
        Ok(tally)
    }

    fn run_cut(&self, rules: &Rules, cuts: Cuts, seed: u64) -> Result<(View, Tally), String> {
        let mut world = World::new(rules, cuts, seed);
        for client in &self.clients {
            for request in &client.requests {
                world.plan(&request.id, &request.response);
            }
            let methods = client.requests.iter().map(|one| one.want.method).collect();
            world.clients.push(Client::new(parts(client), methods));
        }
        world.run()?;
        let mut tally = Tally::default();
        let mut view = View::new();
        for (n, client) in self.clients.iter().enumerate() {
            let outcomes = outcomes(client);
            let at = |what: String| format!("{cuts:?}, client {n}: {what}");
            view.push(check_client(&world.clients[n], &outcomes).map_err(at)?);
            let forwarded = |one: &Outcome<'_>| matches!(one, Outcome::Answered(_));
            tally.arrived += outcomes.iter().filter(|one| forwarded(one)).count();
            tally.answered += outcomes.len();
            for outcome in &outcomes {
                check_arrivals(rules, &world.arrivals, outcome).map_err(at)?;
            }
        }
        if world.arrivals.len() != tally.arrived {
            let count = world.arrivals.len();
            return Err(format!("{cuts:?}: {count} requests arrived instead of {}", tally.arrived));
        }
        world.pick_on(PICKS_AFTER);
        check_shares(rules, &world, &mut tally)?;
        Ok((view, tally))
    }
}

fn parts(client: &ClientPlan) -> Vec<Part> {
    let mut left = client.cut.unwrap_or(usize::MAX);
    let mut parts = Vec::new();
    for (n, request) in client.requests.iter().enumerate() {
        let head = request.head.len().min(left);
        parts.push(Part::Bytes(request.head[..head].to_vec()));
        left -= head;
        if request.waits && left > 0 {
            parts.push(Part::Continue(n));
        }
        let body = request.body.len().min(left);
        parts.push(Part::Bytes(request.body[..body].to_vec()));
        left -= body;
    }
    parts
}

/// What must come of the requests of a client, up to where its connection ends.
fn outcomes(client: &ClientPlan) -> Vec<Outcome<'_>> {
    let mut list = Vec::new();
    let mut sent = 0;
    let end = client.cut.unwrap_or(usize::MAX);
    for request in &client.requests {
        let head_sent = sent + request.head.len() <= end;
        sent += request.head.len() + request.body.len();
        let all_sent = sent <= end;
        let keeps = match request.verdict {
            Verdict::Refused(status) if head_sent => {
                list.push(Outcome::Refused(request, status));
                request.keep_alive && !request.expects
            }
            Verdict::To { .. } if all_sent => {
                list.push(Outcome::Answered(request));
                answer_keeps(request)
            }
            _ => return list,
        };
        if !keeps || !all_sent {
            return list;
        }
    }
    list
}

fn answer_keeps(request: &RequestPlan) -> bool {
    let plan = &request.response;
    let unframed = matches!(plan.framing, Ends::Chunked | Ends::Close);
    match plan.cut {
        Some(cut) if cut < plan.head_end => request.keep_alive,
        Some(_) => false,
        None => request.keep_alive && !(request.is_old && unframed),
    }
}

/// The final responses that came, each checked; what is left after the last must be interim.
fn check_client(client: &Client, outcomes: &[Outcome<'_>]) -> Result<Vec<Message>, String> {
    let mut rest = &client.received[..];
    let mut seen = Vec::new();
    for outcome in outcomes {
        let (Outcome::Answered(request) | Outcome::Refused(request, _)) = outcome;
        let mut interim = 0;
        let message = loop {
            let message = naive::response(rest, request.want.method, client.ended);
            let message = message.map_err(|bad| {
                format!("response to {}: {bad:?} in {}", request.id, rest.escape_ascii())
            })?;
            rest = &rest[message.length..];
            if message.status() >= 200 {
                break message;
            }
            interim += usize::from(message.status() != 100);
        };
        let verdict = match outcome {
            Outcome::Answered(_) => check_response(request, &message, interim, client.reset),
            Outcome::Refused(_, status) if message.status() == *status => Ok(()),
            Outcome::Refused(_, status) => Err(format!("a status other than {status}")),
        };
        verdict.map_err(|why| format!("response to {}: {why}: {message:?}", request.id))?;
        seen.push(message);
    }
    while let Ok(message) = naive::response(rest, "GET", false)
        && message.status() < 200
    {
        rest = &rest[message.length..];
    }
    if !rest.is_empty() {
        return Err(format!("nobody asked for {}", rest.escape_ascii()));
    }
    if !client.ended {
        return Err("its connection was left open".into());
    }
    for message in &mut seen {
        message.length = 0; // chunks are made as they come
    }
    Ok(seen)
}

fn same<T: PartialEq + fmt::Debug>(what: &str, is: &T, should: &T) -> Result<(), String> {
    if is == should { Ok(()) } else { Err(format!("{what} is {is:?}, should be {should:?}")) }
}

const RESPONSE_SPECIAL: [&str; 5] =
    ["date", "via", "connection", "content-length", "transfer-encoding"];

fn check_response(
    request: &RequestPlan,
    got: &Message,
    interim: usize,
    reset: bool,
) -> Result<(), String> {
    let plan = &request.response;
    if plan.cut.is_some_and(|cut| cut < plan.head_end) {
        return same("status", &got.status(), &502);
    }
    same("interim responses", &interim, &if request.is_old { 0 } else { plan.interim })?;
    same("status", &got.status(), &plan.status)?;
    same("phrase", &got.start[2], &plan.phrase)?;
    let ordinary: Fields =
        got.fields.iter().filter(|one| !RESPONSE_SPECIAL.contains(&&*one.0)).cloned().collect();
    same("fields", &ordinary, &plan.ordinary)?;
    same("via", &owned(got.values("via")), &plan.via)?;
    same("date", &owned(got.values("date")), &vec![plan.date.clone().unwrap_or(DATE.to_vec())])?;
    let unframed = matches!(plan.framing, Ends::Chunked | Ends::Close);
    let head_keeps = request.keep_alive && !(request.is_old && unframed);
    let connection: &[&[u8]] = match (request.is_old, head_keeps) {
        (false, true) => &[],
        (true, true) => &[b"keep-alive"],
        (_, false) => &[b"close"],
    };
    same("connection", &got.values("connection"), &connection.to_vec())?;
    let length = plan.told_length.filter(|_| !unframed);
    let length: Vec<Vec<u8>> = length.into_iter().map(|n| n.to_string().into()).collect();
    same("content-length", &owned(got.values("content-length")), &length)?;
    let chunked = unframed && !request.is_old;
    let coding = if chunked { vec![b"chunked".to_vec()] } else { Vec::new() };
    same("transfer-encoding", &owned(got.values("transfer-encoding")), &coding)?;
    if plan.cut.is_some() {
        same("a cut response that looks whole", &(got.whole && !reset), &false)?;
        let begins = plan.body.starts_with(&got.body);
        return same("the body begins as it was sent", &begins, &true);
    }
    same("whole", &got.whole, &true)?;
    same("body", &got.body, &plan.body)?;
    let trailers = if chunked { plan.trailers.clone() } else { Fields::new() };
    same("trailers", &got.trailers, &trailers)
}

fn owned(values: Vec<&[u8]>) -> Vec<Vec<u8>> {
    values.into_iter().map(<[u8]>::to_vec).collect()
}

const REQUEST_SPECIAL: [&str; 11] = [
    "host",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "forwarded",
    "via",
    "te",
    "connection",
    "content-length",
    "transfer-encoding",
    "max-forwards",
];

/// The request of this outcome arrived once, where it should, as it should; or not at all.
fn check_arrivals(
    rules: &Rules,
    arrivals: &[Arrival],
    outcome: &Outcome<'_>,
) -> Result<(), String> {
    let (Outcome::Answered(request) | Outcome::Refused(request, _)) = outcome;
    let of_it = |one: &&Arrival| one.message.values("x-sim-id") == [request.id.as_bytes()];
    let mine: Vec<&Arrival> = arrivals.iter().filter(of_it).collect();
    let (Outcome::Answered(_), Verdict::To { kind, .. }) = (outcome, &request.verdict) else {
        return same("arrivals of a refused request", &mine.len(), &0);
    };
    let [arrival] = mine[..] else {
        return Err(format!("request {} arrived {} times", request.id, mine.len()));
    };
    check_arrival(rules, arrival, request, rules.kinds[*kind].upstream)
        .map_err(|why| format!("request {}: {why}: {:?}", request.id, arrival.message))
}

fn check_arrival(
    rules: &Rules,
    arrival: &Arrival,
    request: &RequestPlan,
    upstream: usize,
) -> Result<(), String> {
    let (want, got) = (&request.want, &arrival.message);
    same("upstream", &arrival.upstream, &upstream)?;
    let down = rules.upstreams[upstream].down;
    same("an endpoint that is down", &(down == Some(arrival.endpoint)), &false)?;
    let start = [want.method.into(), want.target.clone().into(), b"HTTP/1.1".to_vec()];
    same("request line", &got.start, &start)?;
    let own = authority(arrival.upstream, arrival.endpoint);
    let host = want.host.clone().unwrap_or(own).into_bytes();
    same("host", &owned(got.values("host")), &vec![host])?;
    for name in REQUEST_SPECIAL.into_iter().filter(|name| *name != "host") {
        let should = want.special.get(name).cloned().unwrap_or_default();
        same(name, &owned(got.values(name)), &should)?;
    }
    let ordinary: Fields =
        got.fields.iter().filter(|one| !REQUEST_SPECIAL.contains(&&*one.0)).cloned().collect();
    let lower = |(name, value): &(String, Vec<u8>)| (name.to_ascii_lowercase(), value.clone());
    same("fields", &ordinary, &want.ordinary.iter().map(lower).collect())?;
    same("body", &got.body, &want.body)?;
    same("trailers", &got.trailers, &want.trailers)
}

fn check_shares(rules: &Rules, world: &World<'_>, tally: &mut Tally) -> Result<(), String> {
    for (n, upstream) in rules.upstreams.iter().enumerate() {
        if upstream.down.is_some() {
            continue; // its share goes to others
        }
        let count = |endpoint| world.picks.get(&(n, endpoint)).copied().unwrap_or(0) as f64;
        let weights: Vec<f64> = match upstream.strategy {
            Strategy::RoundRobin => vec![1.0; upstream.weights.len()],
            _ => upstream.weights.iter().map(|weight| f64::from(*weight)).collect(),
        };
        let sum: f64 = weights.iter().sum();
        let total: f64 = (0..weights.len()).map(count).sum();
        if upstream.strategy == Strategy::Random {
            let share = weights[0] / sum;
            tally.random_off += count(0) - total * share;
            tally.random_variance += total * share * (1.0 - share);
            continue;
        }
        // An endpoint is never a whole turn ahead or behind; of the weighted ones, from wherever
        // the cycle began, not two.
        let bound = if upstream.strategy == Strategy::RoundRobin { 1.0 } else { 2.0 };
        for (endpoint, weight) in weights.iter().enumerate() {
            let off = count(endpoint) - total * weight / sum;
            if off.abs() >= bound {
                return Err(format!("{upstream:?}: endpoint {endpoint} is off by {off}"));
            }
        }
    }
    Ok(())
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.rules();
        writeln!(f, "trusted {}, upstreams {:?}", rules.trusted, rules.upstreams)?;
        for (n, client) in self.clients.iter().enumerate() {
            writeln!(f, "client {n}, cut after {:?}", client.cut)?;
            for request in &client.requests {
                let (head, body) = (request.head.escape_ascii(), request.body.escape_ascii());
                writeln!(f, "  > {head}\n  > {body}\n  {:?}", request.verdict)?;
                let response = &request.response;
                writeln!(f, "  < {} cut {:?}", response.wire.escape_ascii(), response.cut)?;
            }
        }
        Ok(())
    }
}
