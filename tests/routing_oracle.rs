//! Random tables and requests: the compiled table against a naive scan over all routes.
//!
//! The oracle shares no code with the table. It keeps routes as lists of segments, compares each
//! with the request, sorts what matches by the order of the specification, and takes the first
//! whose conditions hold. A failure prints its seed; `one_seed` runs it again.

use std::{cell::RefCell, cmp::Reverse, collections::HashMap, fmt::Write};

use regex::Regex;
use ringway::{
    base::ids::{ListenerIndex, RouteIndex},
    policy::route::{
        Captures, Conflict, FieldSource, PathSpec, RouteMatch, RouteQuery, RouteSpec, RouteTable,
        TableBuilder, TargetRule, ValueSpec,
    },
};

/// Tables compared; each with [`REQUESTS`] requests.
const TABLES: u64 = 1_500;
const REQUESTS: usize = 40;

/// The second listener keeps repeated slashes.
const MERGES: [bool; 3] = [true, false, true];

const HOSTS: [&str; 6] = ["a.test", "b.test", "x.a.test", "y.x.a.test", "test", "[::1]"];
const HOST_PATTERNS: [&str; 9] = [
    "a.test",
    "B.test.",
    "x.a.test",
    "*.a.test",
    "*.x.a.test",
    "*.test",
    "*",
    "*.y.x.a.test",
    "[0::1]",
];
const LITERALS: [&str; 6] = ["a", "b", "cc", "a1", "12", "~x"];
const SEGMENT_REGEXES: [&str; 5] = ["[0-9]+", "[a-z]", "[a-z]{2}", "a|b|12", ".*"];
const PATH_REGEXES: [&str; 9] = [
    "^/a",
    "b$",
    "^/[a-z]+/[0-9]+",
    "^/a/(?<g>[^/]*)",
    "^/(a|b)/",
    "c",
    "^/a/b/.*",
    "^/a1?/",
    "^/x|a1",
];
const METHODS: [&str; 4] = ["GET", "HEAD", "POST", "X-OWN"];
const FIELDS: [&str; 2] = ["x-env", "x-id"];
const KEYS: [&str; 2] = ["q", "k v"];
const VALUES: [&str; 4] = ["1", "a, b", "", "+%"];
const VALUE_REGEXES: [&str; 3] = ["^[0-9]+$", "a", ", "];

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Up to `max` different ones.
    fn some<T: Copy>(&mut self, list: &[T], max: usize) -> Vec<T> {
        let mut left = list.to_vec();
        let mut taken = Vec::new();
        for _ in 0..self.below(max + 1) {
            let at = self.below(left.len());
            taken.push(left.remove(at));
        }
        taken
    }
}

#[derive(Clone, Debug)]
enum Segment {
    Literal(String),
    Regex(&'static str),
    Any,
}

#[derive(Clone, Debug)]
enum Path {
    None,
    Pattern { segments: Vec<Segment>, rest: bool },
    Prefix(Vec<String>),
    Regex(&'static str),
}

#[derive(Clone, Copy, Debug)]
enum Want {
    Present,
    Literal(&'static str),
    Regex(&'static str),
}

#[derive(Clone, Debug)]
struct Route {
    listeners: Vec<u16>,
    hosts: Vec<&'static str>,
    path: Path,
    methods: Vec<&'static str>,
    headers: Vec<(&'static str, Want)>,
    query: Vec<(&'static str, Want)>,
    priority: i64,
    strip: bool,
    rewrite: Option<String>,
}

#[derive(Debug)]
struct Request {
    listener: u16,
    host: &'static str,
    path: String,
    query: Option<String>,
    method: &'static str,
    fields: Vec<(&'static str, &'static str)>,
}

impl FieldSource for Request {
    fn values<'s>(&'s self, name: &[u8]) -> impl Iterator<Item = &'s [u8]> {
        let name = name.to_vec();
        let same = move |field: &&(&str, &str)| field.0.as_bytes() == name;
        self.fields.iter().filter(same).map(|field| field.1.as_bytes())
    }
}

// What is tried.

fn literal(random: &mut Random) -> String {
    if random.one_in(24) { String::new() } else { random.of(&LITERALS).into() }
}

fn want(random: &mut Random) -> Want {
    match random.below(3) {
        0 => Want::Present,
        1 => Want::Literal(random.of(&VALUES)),
        _ => Want::Regex(random.of(&VALUE_REGEXES)),
    }
}

fn path(random: &mut Random) -> Path {
    let length = random.below(4);
    match random.below(10) {
        0 => Path::None,
        1 | 2 => Path::Prefix((0..length).map(|_| literal(random)).collect()),
        3 => Path::Regex(random.of(&PATH_REGEXES)),
        kind => {
            let rest = kind == 4;
            let mut segments = Vec::new();
            for _ in 0..if rest { length } else { length.max(1) } {
                segments.push(match random.below(6) {
                    0 => Segment::Any,
                    1 => Segment::Regex(random.of(&SEGMENT_REGEXES)),
                    _ => Segment::Literal(literal(random)),
                });
            }
            if !rest && random.one_in(6) {
                segments.push(Segment::Literal(String::new())); // a trailing slash
            }
            Path::Pattern { segments, rest }
        }
    }
}

fn route(random: &mut Random) -> Route {
    let path = path(random);
    let conditions = random.one_in(3);
    let mut route = Route {
        listeners: if random.one_in(3) { random.some(&[0, 1, 2], 2) } else { Vec::new() },
        hosts: if random.one_in(2) { random.some(&HOST_PATTERNS, 3) } else { Vec::new() },
        path,
        methods: if random.one_in(3) { random.some(&METHODS, 2) } else { Vec::new() },
        headers: Vec::new(),
        query: Vec::new(),
        priority: if random.one_in(5) { random.of(&[-1, 1, 2, i64::MAX, i64::MIN]) } else { 0 },
        strip: false,
        rewrite: None,
    };
    if conditions {
        for name in random.some(&FIELDS, 2) {
            route.headers.push((name, want(random)));
        }
        for key in random.some(&KEYS, 2) {
            route.query.push((key, want(random)));
        }
    }
    match random.below(3) {
        0 => route.strip = !matches!(route.path, Path::Regex(_)),
        1 => {
            let names = capture_names(&route.path);
            let parts = names.iter().map(|name| format!("/{{{name}}}"));
            route.rewrite = Some(format!("/new{}", parts.collect::<String>()));
        }
        _ => {}
    }
    route
}

fn capture_names(path: &Path) -> Vec<String> {
    match path {
        Path::None | Path::Prefix(_) => vec!["rest".into()],
        Path::Regex(text) if text.contains("?<g>") => vec!["g".into()],
        Path::Regex(_) => Vec::new(),
        Path::Pattern { segments, rest } => {
            let captures =
                segments.iter().filter(|segment| !matches!(segment, Segment::Literal(_)));
            let mut names: Vec<_> = (0..captures.count()).map(|n| format!("p{n}")).collect();
            names.extend(rest.then(|| "tail".to_owned()));
            names
        }
    }
}

/// Segments that `path` is likely to match.
fn likely_segments(random: &mut Random, path: &Path) -> Vec<String> {
    let mut list = Vec::new();
    match path {
        Path::Pattern { segments, rest } if !random.one_in(4) => {
            for segment in segments {
                list.push(match segment {
                    Segment::Literal(text) => text.clone(),
                    _ => random.of(&LITERALS).into(),
                });
            }
            if *rest {
                list.push(literal(random));
            }
        }
        Path::Prefix(prefix) if !random.one_in(4) => {
            list.clone_from(prefix);
            for _ in 0..random.below(3) {
                list.push(literal(random));
            }
        }
        _ => {
            for _ in 0..random.below(4) + 1 {
                list.push(literal(random));
            }
        }
    }
    if random.one_in(8) {
        list.push(String::new());
    }
    list
}

fn request(random: &mut Random, routes: &[Route]) -> Request {
    let listener = random.of(&[0_u16, 1, 2]);
    let likely = random.below(routes.len());
    let mut segments = likely_segments(random, &routes[likely].path);
    if MERGES[usize::from(listener)] {
        let last_empty = segments.last().is_none_or(String::is_empty);
        segments.retain(|segment| !segment.is_empty());
        segments.extend(last_empty.then(String::new));
    } else if segments.is_empty() {
        segments.push(String::new());
    }
    let mut query = None;
    if random.one_in(2) {
        let mut pairs = Vec::new();
        for _ in 0..random.below(4) {
            let key = random.of(&["q", "k%20v", "%71", "k+v", "Q"]);
            let value = random.of(&["1", "a,%20b", "", "%2b%25", "+%25", "%31"]);
            pairs.push(if random.one_in(6) { key.to_owned() } else { format!("{key}={value}") });
        }
        query = Some(pairs.join("&"));
    }
    let mut fields = Vec::new();
    for _ in 0..random.below(4) {
        fields.push((random.of(&FIELDS), random.of(&["1", "a", "b", "", "a, b"])));
    }
    Request {
        listener,
        host: random.of(&HOSTS),
        path: if random.one_in(60) { "*".into() } else { format!("/{}", segments.join("/")) },
        query,
        method: random.of(&["GET", "HEAD", "POST", "X-OWN", "DELETE"]),
        fields,
    }
}

// How a route is written.

fn path_text(path: &Path) -> String {
    let mut text = String::new();
    match path {
        Path::None => {}
        Path::Regex(regex) => text.push_str(regex),
        Path::Prefix(list) => text = format!("/{}", list.join("/")),
        Path::Pattern { segments, rest } => {
            let mut names = capture_names(path).into_iter();
            for (place, segment) in segments.iter().enumerate() {
                if let Segment::Literal(literal) = segment {
                    write!(text, "/{}", literal.replace('~', "%7e")).unwrap();
                    continue;
                }
                let name = names.next().unwrap();
                match segment {
                    Segment::Regex(regex) => write!(text, "/{{{name}:{regex}}}").unwrap(),
                    _ if place % 2 == 0 => write!(text, "/{{{name}}}").unwrap(),
                    _ => write!(text, "/:{name}").unwrap(),
                }
            }
            if *rest {
                text.push_str("/{*tail}");
            }
        }
    }
    text
}

fn value_specs<'a>(wants: &[(&'a str, Want)]) -> Vec<(&'a str, ValueSpec<'static>)> {
    let spec = |want| match want {
        Want::Present => ValueSpec::Present,
        Want::Literal(text) => ValueSpec::Literal(text),
        Want::Regex(text) => ValueSpec::Regex(text),
    };
    wants.iter().map(|(name, want)| (*name, spec(*want))).collect()
}

/// What the table is made of.
struct Built {
    table: RouteTable,
    rules: Vec<TargetRule>,
    /// Routes that are said never to match.
    dead: Vec<usize>,
}

fn build(routes: &[Route]) -> Built {
    let mut builder = TableBuilder::new(MERGES.len());
    for listener in (0..MERGES.len()).filter(|listener| !MERGES[*listener]) {
        builder.keep_slashes(ListenerIndex(listener as u16));
    }
    let mut rules = Vec::new();
    for (number, route) in routes.iter().enumerate() {
        let text = path_text(&route.path);
        let spec = RouteSpec {
            listeners: route.listeners.iter().map(|listener| ListenerIndex(*listener)).collect(),
            hosts: route.hosts.clone(),
            path: match &route.path {
                Path::None => PathSpec::None,
                Path::Pattern { .. } => PathSpec::Pattern(&text),
                Path::Prefix(_) => PathSpec::Prefix(&text),
                Path::Regex(_) => PathSpec::Regex(&text),
            },
            methods: route.methods.clone(),
            headers: value_specs(&route.headers),
            query: value_specs(&route.query),
            priority: route.priority,
            strip_path: route.strip,
            rewrite: route.rewrite.as_deref(),
        };
        match builder.add(RouteIndex(number as u32), &spec) {
            Ok(rule) => rules.push(rule),
            Err(errors) => panic!("{text}: {route:?}: {errors:?}"),
        }
    }
    let shadowed = |conflict| match conflict {
        Conflict::Shadowed { route, .. } => Some(route.0 as usize),
        Conflict::Same { .. } => None, // the second may match on a listener that is its own
    };
    let dead = builder.conflicts().into_iter().filter_map(shadowed).collect();
    Built { table: builder.build(), rules, dead }
}

// The oracle.

/// The regex of a text, compiled once.
fn regex(text: &str) -> Regex {
    thread_local!(static KNOWN: RefCell<HashMap<String, Regex>> = RefCell::default());
    KNOWN.with_borrow_mut(|known| {
        known.entry(text.to_owned()).or_insert_with(|| Regex::new(text).unwrap()).clone()
    })
}

/// Host class and, for wildcards, how long; smaller is better.
fn host_rank(pattern: &str, host: &str) -> Option<(u8, Reverse<usize>)> {
    let pattern = pattern.to_lowercase().trim_end_matches('.').replace("[0::1]", "[::1]");
    if pattern == "*" {
        Some((2, Reverse(0)))
    } else if let Some(suffix) = pattern.strip_prefix('*') {
        host.ends_with(suffix).then_some((1, Reverse(suffix.len())))
    } else {
        (pattern == host).then_some((0, Reverse(0)))
    }
}

/// Path class, kinds of segments, and captures as ranges of the path.
type PathMatch = (u8, Vec<u8>, Vec<(usize, usize)>);

fn drop_empty(segments: &mut Vec<Segment>, keep_last: bool) {
    let last = segments.len() - usize::from(keep_last);
    let mut place = 0;
    segments.retain(|segment| {
        place += 1;
        place > last || !matches!(segment, Segment::Literal(text) if text.is_empty())
    });
}

/// The segments to match, and what may follow: "" nothing, "rest", "prefix".
fn segments_and_tail(path: &Path, merges: bool) -> (Vec<Segment>, &'static str) {
    let (mut segments, tail) = match path {
        Path::None | Path::Regex(_) => (Vec::new(), "rest"),
        Path::Pattern { segments, rest } => (segments.clone(), if *rest { "rest" } else { "" }),
        Path::Prefix(list) => {
            let text = list.join("/");
            let text = text.strip_suffix('/').unwrap_or(&text);
            let parts = text.split('/').map(|part| Segment::Literal(part.into()));
            (if text.is_empty() { Vec::new() } else { parts.collect() }, "prefix")
        }
    };
    if let (Path::Prefix(list), false) = (path, merges) {
        // Only "/" itself has no segment: "//" keeps one empty segment in front of its slash.
        if list.len() == 2 && list.iter().all(String::is_empty) {
            segments.push(Segment::Literal(String::new()));
        }
    }
    if merges {
        drop_empty(&mut segments, tail.is_empty());
    }
    (segments, tail)
}

fn path_match(path: &Path, merges: bool, text: &str) -> Option<PathMatch> {
    if let Path::Regex(pattern) = path {
        let found = regex(pattern).captures(text).filter(|_| text != "*")?;
        let group = found.name("g").map(|group| (group.start(), group.end()));
        return Some((3, Vec::new(), group.into_iter().collect()));
    }
    let (segments, tail) = segments_and_tail(path, merges);
    if text == "*" {
        let all = segments.is_empty() && !tail.is_empty();
        return all.then(|| (4, vec![3], vec![(1, 1)]));
    }
    let (mut kinds, mut captures, mut at) = (Vec::new(), Vec::new(), 0);
    for segment in &segments {
        let rest = text[at..].strip_prefix('/')?;
        let part = rest.split('/').next().unwrap();
        let range = (at + 1, at + 1 + part.len());
        at = range.1;
        let kind = match segment {
            Segment::Literal(literal) if literal == part => 0,
            Segment::Regex(pattern) if !part.is_empty() => {
                regex(&format!("^(?:{pattern})$")).find(part)?;
                1
            }
            Segment::Any if !part.is_empty() => 2,
            _ => return None,
        };
        kinds.push(kind);
        if kind > 0 {
            captures.push(range);
        }
    }
    let left = &text[at..];
    if tail.is_empty() {
        let class = if captures.is_empty() { 1 } else { 2 };
        return left.is_empty().then_some((class, kinds, captures));
    }
    kinds.push(3);
    if left.starts_with('/') {
        captures.push((at + 1, text.len()));
    } else if tail == "prefix" && left.is_empty() {
        captures.push((at, at));
    } else {
        return None;
    }
    Some((4, kinds, captures))
}

fn holds(want: Want, value: Option<String>) -> bool {
    value.is_some_and(|value| match want {
        Want::Present => true,
        Want::Literal(text) => text == value,
        Want::Regex(pattern) => regex(pattern).is_match(&value),
    })
}

fn percent_decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        out.push(u8::from_str_radix(&part[..2], 16).unwrap().into());
        out.push_str(&part[2..]);
    }
    out
}

fn field_value(request: &Request, name: &str) -> Option<String> {
    let same = request.fields.iter().filter(|field| field.0 == name);
    let values: Vec<_> = same.map(|field| field.1).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

fn query_value(request: &Request, key: &str) -> Option<String> {
    let pairs = request.query.as_deref()?.split('&').filter(|pair| !pair.is_empty());
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|pair| percent_decode(pair.0) == key).map(|pair| percent_decode(pair.1))
}

/// A route whose listener, host and path match.
struct Met {
    route: usize,
    method_holds: bool,
    others_hold: bool,
    captures: Vec<(usize, usize)>,
}

impl Met {
    fn wins(&self) -> bool {
        self.method_holds && self.others_hold
    }
}

/// All of them, in the order of candidates.
fn candidates(routes: &[Route], request: &Request) -> Vec<Met> {
    let mut met = Vec::new();
    for (order, route) in routes.iter().enumerate() {
        if !route.listeners.is_empty() && !route.listeners.contains(&request.listener) {
            continue;
        }
        let hosts = if route.hosts.is_empty() { &["*"][..] } else { &route.hosts };
        let host = hosts.iter().filter_map(|pattern| host_rank(pattern, request.host)).min();
        let path = path_match(&route.path, MERGES[usize::from(request.listener)], &request.path);
        let (Some(host), Some((class, mut kinds, captures))) = (host, path) else { continue };
        let headers = route.headers.iter().all(|(k, want)| holds(*want, field_value(request, k)));
        let query = route.query.iter().all(|(k, want)| holds(*want, query_value(request, k)));
        let conditions =
            route.headers.len() + route.query.len() + usize::from(!route.methods.is_empty());
        if class != 2 && class != 4 {
            kinds.clear();
        }
        let key = (Reverse(route.priority), host, class, kinds, Reverse(conditions), order);
        let method_holds = route.methods.is_empty() || route.methods.contains(&request.method);
        let others_hold = headers && query;
        met.push((key, Met { route: order, method_holds, others_hold, captures }));
    }
    met.sort_by(|a, b| a.0.cmp(&b.0));
    met.into_iter().map(|(_, met)| met).collect()
}

fn expected_target(route: &Route, request: &Request, captures: &[(usize, usize)]) -> String {
    let path = &request.path;
    if route.strip {
        return match captures.first() {
            _ if path == "*" => "*".into(),
            None => "/".into(),
            Some((start, _)) => format!("/{}", &path[*start..]),
        };
    }
    let Some(rewrite) = &route.rewrite else { return path.clone() };
    let mut target = rewrite.clone();
    for (name, (start, end)) in capture_names(&route.path).iter().zip(captures) {
        target = target.replace(&format!("{{{name}}}"), &path[*start..*end]);
    }
    target
}

fn compare_one(routes: &[Route], built: &Built, request: &Request, captures: &mut Captures) {
    let Built { table, rules, dead } = built;
    let query = RouteQuery {
        listener: ListenerIndex(request.listener),
        host: request.host.as_bytes(),
        path: request.path.as_bytes(),
        query: request.query.as_deref().map(str::as_bytes),
        method: request.method.as_bytes(),
        fields: request,
    };
    let met = candidates(routes, request);
    let winner = met.iter().find(|met| met.wins());
    let only_method: Vec<_> = met.iter().filter(|m| !m.method_holds && m.others_hold).collect();
    let expected = match winner {
        Some(met) => RouteMatch::Found(RouteIndex(met.route as u32)),
        None if only_method.is_empty() => RouteMatch::NotFound,
        None => RouteMatch::MethodNotAllowed,
    };
    let found = table.find(&query, captures);
    assert_eq!(found, expected);
    if let Some(met) = winner {
        assert!(!dead.contains(&met.route), "{} was said to be shadowed", met.route);
        let mut target = Vec::new();
        rules[met.route].write(query.path, captures, &mut target);
        let expected = expected_target(&routes[met.route], request, &met.captures);
        assert_eq!(String::from_utf8(target).unwrap(), expected);
    }
    if found == RouteMatch::MethodNotAllowed {
        let mut allow = Vec::new();
        table.allow(&query, &mut allow);
        let allow = String::from_utf8(allow).unwrap();
        let mut listed: Vec<_> = allow.split(", ").collect();
        let mut methods: Vec<_> =
            only_method.iter().flat_map(|met| routes[met.route].methods.clone()).collect();
        listed.sort_unstable();
        methods.sort_unstable();
        methods.dedup();
        assert_eq!(listed, methods);
    }
    let explained = table.explain(&query);
    let told = explained.iter().map(|one| (one.route.0 as usize, one.failed.is_none()));
    let order = met.iter().map(|met| (met.route, met.wins()));
    assert_eq!(told.collect::<Vec<_>>(), order.collect::<Vec<_>>());
}

/// Prints what was compared if the comparison fails.
struct Shown<'a>(u64, &'a [Route], &'a Request);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}: {:#?}\nof {:#?}", self.0, self.2, self.1);
        }
    }
}

fn compare(seed: u64) {
    let mut random = Random(seed);
    let mut routes = Vec::new();
    for _ in 0..random.below(24) + 1 {
        routes.push(route(&mut random));
    }
    let built = build(&routes);
    let mut captures = Captures::default();
    for _ in 0..REQUESTS {
        let request = request(&mut random, &routes);
        let _shown = Shown(seed, &routes, &request);
        compare_one(&routes, &built, &request, &mut captures);
    }
}

#[test]
fn random_tables_agree_with_a_naive_scan() {
    for seed in 0..TABLES {
        compare(seed);
    }
}

/// `ROUTING_SEED=17 cargo test --test routing_oracle one_seed` compares one table again.
#[test]
fn one_seed() {
    if let Some(seed) = std::env::var("ROUTING_SEED").ok().and_then(|seed| seed.parse().ok()) {
        compare(seed);
    }
}
