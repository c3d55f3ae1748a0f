//! Random routes, and requests that have something to do with them.

use ringway::policy::route::FieldSource;

use crate::MERGES;

pub(crate) const HOSTS: [&str; 6] = ["a.test", "b.test", "x.a.test", "y.x.a.test", "test", "[::1]"];
pub(crate) const HOST_PATTERNS: [&str; 9] = [
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
pub(crate) const LITERALS: [&str; 6] = ["a", "b", "cc", "a1", "12", "~x"];
pub(crate) const SEGMENT_REGEXES: [&str; 5] = ["[0-9]+", "[a-z]", "[a-z]{2}", "a|b|12", ".*"];
pub(crate) const PATH_REGEXES: [&str; 9] = [
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
pub(crate) const METHODS: [&str; 4] = ["GET", "HEAD", "POST", "X-OWN"];
pub(crate) const FIELDS: [&str; 2] = ["x-env", "x-id"];
pub(crate) const KEYS: [&str; 2] = ["q", "k v"];
pub(crate) const VALUES: [&str; 4] = ["1", "a, b", "", "+%"];
pub(crate) const VALUE_REGEXES: [&str; 3] = ["^[0-9]+$", "a", ", "];

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Up to `max` different ones.
    pub(crate) fn some<T: Copy>(&mut self, list: &[T], max: usize) -> Vec<T> {
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
pub(crate) enum Segment {
    Literal(String),
    Regex(&'static str),
    Any,
}

#[derive(Clone, Debug)]
pub(crate) enum Path {
    None,
    Pattern { segments: Vec<Segment>, rest: bool },
    Prefix(Vec<String>),
    Regex(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Want {
    Present,
    Literal(&'static str),
    Regex(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) listeners: Vec<u16>,
    pub(crate) hosts: Vec<&'static str>,
    pub(crate) path: Path,
    pub(crate) methods: Vec<&'static str>,
    pub(crate) headers: Vec<(&'static str, Want)>,
    pub(crate) query: Vec<(&'static str, Want)>,
    pub(crate) priority: i64,
    pub(crate) strip: bool,
    pub(crate) rewrite: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) listener: u16,
    pub(crate) host: &'static str,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) method: &'static str,
    pub(crate) fields: Vec<(&'static str, &'static str)>,
}

impl FieldSource for Request {
    fn values<'s>(&'s self, name: &[u8]) -> impl Iterator<Item = &'s [u8]> {
        let name = name.to_vec();
        let same = move |field: &&(&str, &str)| field.0.as_bytes() == name;
        self.fields.iter().filter(same).map(|field| field.1.as_bytes())
    }
}

pub(crate) fn literal(random: &mut Random) -> String {
    if random.one_in(24) { String::new() } else { random.of(&LITERALS).into() }
}

pub(crate) fn want(random: &mut Random) -> Want {
    match random.below(3) {
        0 => Want::Present,
        1 => Want::Literal(random.of(&VALUES)),
        _ => Want::Regex(random.of(&VALUE_REGEXES)),
    }
}

pub(crate) fn path(random: &mut Random) -> Path {
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

pub(crate) fn route(random: &mut Random) -> Route {
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

pub(crate) fn capture_names(path: &Path) -> Vec<String> {
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
pub(crate) fn likely_segments(random: &mut Random, path: &Path) -> Vec<String> {
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

pub(crate) fn request(random: &mut Random, routes: &[Route]) -> Request {
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
