//! Random tables and requests: the compiled table against a naive scan over all routes.
//!
//! The oracle shares no code with the table. It keeps routes as lists of segments, compares each
//! with the request, sorts what matches by the order of the specification, and takes the first
//! whose conditions hold. A failure prints its seed; `one_seed` runs it again. `changes.rs`
//! compares tables that took changes with such as were built at once.

mod changes;
mod generate;
mod oracle;

use std::fmt::Write;

use ringway::{
    base::ids::{ListenerIndex, RouteIndex},
    policy::route::{
        Captures, Conflict, PathSpec, RouteSpec, RouteTable, TableBuilder, TargetRule, ValueSpec,
    },
};

use generate::{Path, Random, Request, Route, Segment, Want, capture_names, request, route};
use oracle::compare_one;

/// Tables compared; each with [`REQUESTS`] requests.
const TABLES: u64 = 1_500;
const REQUESTS: usize = 40;

/// The second listener keeps repeated slashes.
const MERGES: [bool; 3] = [true, false, true];

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

fn new_builder() -> TableBuilder {
    let mut builder = TableBuilder::new(MERGES.len());
    for listener in (0..MERGES.len()).filter(|listener| !MERGES[*listener]) {
        builder.keep_slashes(ListenerIndex(listener as u16));
    }
    builder
}

fn spec<'a>(route: &'a Route, text: &'a str) -> RouteSpec<'a> {
    RouteSpec {
        listeners: route.listeners.iter().map(|listener| ListenerIndex(*listener)).collect(),
        hosts: route.hosts.clone(),
        path: match &route.path {
            Path::None => PathSpec::None,
            Path::Pattern { .. } => PathSpec::Pattern(text),
            Path::Prefix(_) => PathSpec::Prefix(text),
            Path::Regex(_) => PathSpec::Regex(text),
        },
        methods: route.methods.clone(),
        headers: value_specs(&route.headers),
        query: value_specs(&route.query),
        priority: route.priority,
        strip_path: route.strip,
        rewrite: route.rewrite.as_deref(),
    }
}

fn build(routes: &[Route]) -> Built {
    let mut builder = new_builder();
    let mut rules = Vec::new();
    for (number, route) in routes.iter().enumerate() {
        let text = path_text(&route.path);
        match builder.add(RouteIndex(number as u32), &spec(route, &text)) {
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
