//! Which recorded requests two configurations treat differently: lines of our access log (JSON),
//! asked of both route tables.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    io::{self, BufRead},
};

use serde::{Deserialize, Serialize};

use super::pair;
use crate::{
    base::ids::{ListenerIndex, RouteIndex},
    controlplane::{
        config::{
            Config,
            canonical::{Meaning, meaning},
            tree::Tree,
        },
        explain::Rules as _,
    },
    policy::route::{Captures, FieldSource, RouteMatch, RouteQuery, TargetRule},
    proto::{
        host::{normalise_host, parse_authority},
        uri::normalise_path,
    },
    snapshot::Mode,
};

/// Requests shown for each way in which they move.
const EXAMPLES_MAX: usize = 3;

/// Bytes of the longest line that is read; longer ones are skipped.
const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Different requests whose answers are remembered; more are asked again.
const KNOWN_MAX: usize = 1_000_000;

/// What a log says about two configurations.
#[derive(Debug, Default, Serialize)]
pub struct Traffic {
    /// Lines read.
    pub lines: u64,
    /// Lines that are no requests in JSON.
    pub unreadable: u64,
    /// Requests of listeners that the old configuration doesn't have; taken for its first one.
    pub other_listener: u64,
    /// Requests for which a condition on a header decides, which the log does not record (but for
    /// User-Agent and Referer).
    pub undecided: u64,
    /// Requests that would be treated differently.
    pub moved: u64,
    /// In which ways, the most frequent first.
    pub moves: Vec<Move>,
}

/// One way in which requests move.
#[derive(Debug, Serialize)]
pub struct Move {
    /// What becomes of them now: `route "a" to upstream "u"`, `404`, `405`, `400`.
    pub from: String,
    /// What would become of them.
    pub to: String,
    /// How many.
    pub count: u64,
    /// Some of them: method, host and target.
    pub examples: Vec<String>,
}

/// One side of the comparison.
#[derive(Debug)]
pub struct Side {
    config: Config,
    listeners: HashMap<Box<str>, ListenerIndex>,
    /// What stands for each route: the same for two routes that belong together.
    labels: Vec<String>,
    /// Whether a route asks for headers.
    asks_headers: bool,
}

/// Makes both sides.
pub fn sides(old: (Config, &Tree), new: (Config, &Tree)) -> (Side, Side) {
    let meanings = |tree: &Tree| -> Vec<Meaning> {
        tree.routes.iter().map(|item| meaning("route", &item.keys)).collect()
    };
    let pairs = pair(&old.1.routes, &new.1.routes, &meanings(old.1), &meanings(new.1));
    let label = |name: &str| format!("route \"{name}\"");
    let old_labels: Vec<String> = old.1.routes.iter().map(|item| label(&item.name)).collect();
    let mut new_labels: Vec<String> = new
        .1
        .routes
        .iter()
        .map(|item| match item.name.starts_with('#') {
            true => format!("new {}", label(&item.name)),
            false => label(&item.name),
        })
        .collect();
    for (old, new) in pairs {
        new_labels[new].clone_from(&old_labels[old]);
    }
    (Side::new(old.0, old_labels, old.1), Side::new(new.0, new_labels, new.1))
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    /// A route takes it; with the path that is sent.
    Taken(RouteIndex, Vec<u8>),
    Refused(&'static str),
}

impl Side {
    fn new(config: Config, labels: Vec<String>, tree: &Tree) -> Self {
        let listeners = config.listeners.iter().enumerate();
        let listeners = listeners
            .map(|(at, listener)| (listener.name.clone(), ListenerIndex(at as u16)))
            .collect();
        let asks_headers = tree.routes.iter().any(|route| route.keys.contains_key("headers"));
        Self { config, listeners, labels, asks_headers }
    }

    fn fate(&self, request: &Record<'_>) -> Fate {
        let Some(&listener) = self.listeners.get(&*request.listener) else {
            return Fate::Refused("no listener of that name");
        };
        self.ask(request, listener, |query| {
            let mut captures = Captures::default();
            match self.config.table.find(query, &mut captures) {
                RouteMatch::Found(route) => {
                    let mut target = Vec::new();
                    let rule: &TargetRule = self.config.target_rule(route);
                    rule.write(query.path, &captures, &mut target);
                    Fate::Taken(route, target)
                }
                RouteMatch::MethodNotAllowed => Fate::Refused("405"),
                RouteMatch::NotFound if self.mode(listener) == Mode::Tcp => Fate::Refused("closed"),
                RouteMatch::NotFound => Fate::Refused("404"),
            }
        })
        .unwrap_or(Fate::Refused("400"))
    }

    /// Whether a route that comes first fails only for a header that the log does not record.
    fn is_undecided(&self, request: &Record<'_>) -> bool {
        let listener = self.listeners.get(&*request.listener).filter(|_| self.asks_headers);
        let Some(&listener) = listener else { return false };
        let first = |query: &RouteQuery<'_, Recorded<'_>>| {
            let candidates = self.config.table.explain(query);
            let open = candidates.iter().map_while(|one| one.failed.as_deref());
            open.filter(|failed| failed.starts_with("header ")).any(|failed| {
                !failed.starts_with("header user-agent ") && !failed.starts_with("header referer ")
            })
        };
        self.ask(request, listener, first).unwrap_or(false)
    }

    fn mode(&self, listener: ListenerIndex) -> Mode {
        self.config.listeners[usize::from(listener.0)].mode
    }

    fn ask<T>(
        &self,
        request: &Record<'_>,
        listener: ListenerIndex,
        ask: impl FnOnce(&RouteQuery<'_, Recorded<'_>>) -> T,
    ) -> Option<T> {
        let (mut host, mut path) = (Vec::new(), Vec::new());
        let authority = request.host.as_bytes();
        if !authority.is_empty() {
            normalise_host(&authority[parse_authority(authority).ok()?.host], &mut host);
        }
        let settings = &self.config.listeners[usize::from(listener.0)];
        let (raw, query) = match settings.mode {
            Mode::Http => request.path_and_query()?,
            Mode::Tcp => ("/", None),
        };
        if raw == "*" {
            path.push(b'*');
        } else {
            normalise_path(raw.as_bytes(), settings.merge_slashes, &mut path).ok()?;
        }
        Some(ask(&RouteQuery {
            listener,
            host: &host,
            path: &path,
            query: query.map(str::as_bytes),
            method: request.method.as_bytes(),
            fields: &Recorded(request),
        }))
    }

    fn describe(&self, fate: &Fate, same_route: bool) -> String {
        match fate {
            Fate::Refused(why) => (*why).to_owned(),
            Fate::Taken(route, target) => {
                let mut text =
                    format!("{} to {}", self.labels[route.0 as usize], self.config.goes_to(*route));
                if same_route {
                    text += &format!(" as {}", shape(target));
                }
                text
            }
        }
    }
}

/// The beginning of a path, so that requests of one rewrite count together.
fn shape(target: &[u8]) -> String {
    let text = String::from_utf8_lossy(target);
    let end = text.match_indices('/').nth(1).map_or(text.len(), |(at, _)| at + 1);
    if end < text.len() { format!("{}...", &text[..end]) } else { text.into_owned() }
}

/// What a line of the access log says of a request.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Hash)]
struct Record<'a> {
    #[serde(borrow, default)]
    listener: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    host: Cow<'a, str>,
    #[serde(borrow)]
    target: Cow<'a, str>,
    #[serde(borrow, default)]
    user_agent: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    referer: Option<Cow<'a, str>>,
}

impl Record<'_> {
    /// Path and query of the target, which may be a whole URL.
    fn path_and_query(&self) -> Option<(&str, Option<&str>)> {
        let target = match self.target.split_once("://") {
            Some((scheme, rest)) if !scheme.contains(['/', '?']) => {
                rest.find(['/', '?']).map_or("/", |at| &rest[at..])
            }
            _ => &*self.target,
        };
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        (path.starts_with('/') || path == "*").then_some((path, query))
    }

    fn show(&self) -> String {
        format!("{} {} {}", self.method, self.host, self.target)
    }
}

/// The fields that a log records.
#[derive(Debug)]
struct Recorded<'a>(&'a Record<'a>);

impl FieldSource for Recorded<'_> {
    fn values<'s>(&'s self, name: &[u8]) -> impl Iterator<Item = &'s [u8]> {
        let value = match name {
            b"host" => Some(&self.0.host),
            b"user-agent" => self.0.user_agent.as_ref(),
            b"referer" => self.0.referer.as_ref(),
            _ => None,
        };
        value.into_iter().map(|value| value.as_bytes())
    }
}

/// How one kind of request moves.
#[derive(Clone, Copy)]
struct Known {
    /// Position in the list of moves; `None` if it stays.
    move_to: Option<usize>,
    undecided: bool,
}

/// Reads a log and asks both sides about each request; the same request is asked once.
///
/// # Errors
/// What the system says when the log can't be read.
pub fn replay(log: impl BufRead, old: &Side, new: &Side) -> io::Result<Traffic> {
    let mut traffic = Traffic::default();
    let mut moves: HashMap<(String, String), usize> = HashMap::new();
    let mut known: HashMap<u64, Known> = HashMap::new();
    let mut seen_examples: HashSet<u64> = HashSet::new();
    let hasher = RandomState::new();
    each_line(log, |line| {
        traffic.lines += 1;
        let record = serde_json::from_slice::<Record<'_>>(line).ok();
        let Some(mut record) = record.filter(|record| !record.method.is_empty()) else {
            traffic.unreadable += 1;
            return;
        };
        if !old.listeners.contains_key(&*record.listener) {
            traffic.other_listener += 1;
            let first = old.config.listeners.first().map_or("", |listener| &*listener.name);
            record.listener = first.to_owned().into();
        }
        let hash = hasher.hash_one(&record);
        let answer = known.get(&hash).copied().unwrap_or_else(|| {
            let answer = judge(old, new, &record, &mut moves, &mut traffic.moves);
            if known.len() < KNOWN_MAX {
                known.insert(hash, answer);
            }
            answer
        });
        traffic.undecided += u64::from(answer.undecided);
        if let Some(place) = answer.move_to {
            traffic.moved += 1;
            let moved = &mut traffic.moves[place];
            moved.count += 1;
            if moved.examples.len() < EXAMPLES_MAX && seen_examples.insert(hash) {
                moved.examples.push(record.show());
            }
        }
    })?;
    traffic.moves.sort_by_key(|one| std::cmp::Reverse(one.count));
    Ok(traffic)
}

fn judge(
    old: &Side,
    new: &Side,
    record: &Record<'_>,
    places: &mut HashMap<(String, String), usize>,
    moves: &mut Vec<Move>,
) -> Known {
    let undecided = old.is_undecided(record) || new.is_undecided(record);
    let (before, after) = (old.fate(record), new.fate(record));
    let (from, to) = (old.describe(&before, false), new.describe(&after, false));
    let same_target = match (&before, &after) {
        (Fate::Taken(_, before), Fate::Taken(_, after)) => before == after,
        _ => true,
    };
    if from == to && same_target {
        return Known { move_to: None, undecided };
    }
    let same_route = from == to;
    let key = (old.describe(&before, same_route), new.describe(&after, same_route));
    let place = *places.entry(key).or_insert_with_key(|(from, to)| {
        let (from, to) = (from.clone(), to.clone());
        moves.push(Move { from, to, count: 0, examples: Vec::new() });
        moves.len() - 1
    });
    Known { move_to: Some(place), undecided }
}

/// Calls `take` with each line that is not empty, without its end. What is too long is cut and so
/// becomes unreadable.
fn each_line(mut log: impl BufRead, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = io::Read::take(&mut log, LINE_BYTES_MAX as u64).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        let text = line.trim_ascii();
        if !text.is_empty() {
            take(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controlplane::config;

    const HEAD: &str = "[[listener]]\nname = \"edge\"\naddress = \"127.0.0.1:8080\"\n\
        [[upstream]]\nname = \"u\"\nendpoints = [\"http://127.0.0.1:1\"]\n\
        [[upstream]]\nname = \"v\"\nendpoints = [\"http://127.0.0.1:2\"]\n";

    fn load(routes: &str) -> (Config, Tree) {
        let loaded = config::load_str("x.toml", &format!("{HEAD}{routes}")).unwrap();
        (loaded.config, Tree::read(&loaded.known.texts))
    }

    fn replay_lines(old: &str, new: &str, lines: &[&str]) -> Traffic {
        let ((old, old_tree), (new, new_tree)) = (load(old), load(new));
        let (old, new) = sides((old, &old_tree), (new, &new_tree));
        replay(lines.join("\n").as_bytes(), &old, &new).unwrap()
    }

    fn line(method: &str, target: &str) -> String {
        format!(
            r#"{{"listener":"edge","method":"{method}","host":"A.test:80","target":"{target}","status":200}}"#
        )
    }

    #[test]
    fn requests_that_move_are_counted_by_where_they_go() {
        let old = "[[route]]\nid = \"api\"\npath_prefix = \"/api\"\nupstream = \"u\"\n\
                   [[route]]\nid = \"x\"\npath = \"/x\"\nupstream = \"u\"\n";
        let new = "[[route]]\nid = \"api\"\npath_prefix = \"/api\"\nupstream = \"v\"\n\
                   [[route]]\nid = \"users\"\npath = \"/api/users/{id}\"\nupstream = \"u\"\n\
                   [[route]]\nid = \"x\"\npath = \"/x\"\nmethods = [\"GET\"]\nupstream = \"u\"\n";
        let lines = [
            line("GET", "/api/users/1"),
            line("GET", "/api/users/1"),
            line("GET", "/api/users/2"),
            line("GET", "http://a.test/api"),
            line("POST", "/x?a=b"),
            line("GET", "/x"),
            line("GET", "/none"),
            "not json".into(),
        ];
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let found = replay_lines(old, new, &lines);
        assert_eq!((found.lines, found.unreadable, found.moved), (8, 1, 5));
        let told: Vec<_> = found.moves.iter().map(|m| (&*m.from, &*m.to, m.count)).collect();
        assert_eq!(
            told,
            [
                ("route \"api\" to upstream \"u\"", "route \"users\" to upstream \"u\"", 3),
                ("route \"api\" to upstream \"u\"", "route \"api\" to upstream \"v\"", 1),
                ("route \"x\" to upstream \"u\"", "405", 1),
            ]
        );
        assert_eq!(
            found.moves[0].examples,
            ["GET A.test:80 /api/users/1", "GET A.test:80 /api/users/2"]
        );
    }

    #[test]
    fn another_rewrite_moves_requests_too() {
        let route = |rewrite: &str| {
            format!("[[route]]\npath_prefix = \"/a\"\nid = \"a\"\nupstream = \"u\"\n{rewrite}")
        };
        let found =
            replay_lines(&route(""), &route("rewrite = \"/b/{rest}\""), &[&line("GET", "/a/1")]);
        assert_eq!(found.moved, 1);
        assert_eq!(found.moves[0].from, "route \"a\" to upstream \"u\" as /a/...");
        assert_eq!(found.moves[0].to, "route \"a\" to upstream \"u\" as /b/...");
    }

    #[test]
    fn conditions_on_headers_leave_it_open() {
        let old = "[[route]]\nid = \"gray\"\nheaders = { x-env = \"gray\" }\nupstream = \"v\"\n\
                   [[route]]\nid = \"all\"\nupstream = \"u\"\n";
        let found = replay_lines(old, old, &[&line("GET", "/a"), &line("GET", "/a")]);
        assert_eq!((found.moved, found.undecided), (0, 2));
    }

    #[test]
    fn a_hundred_thousand_lines_take_seconds() {
        let old = "[[route]]\nid = \"a\"\npath = \"/a/{n}\"\nupstream = \"u\"\n";
        let new = "[[route]]\nid = \"a\"\npath = \"/a/{n:[0-4]+}\"\nupstream = \"u\"\n";
        let lines: Vec<String> =
            (0..100_000).map(|number| line("GET", &format!("/a/{number}"))).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let began = std::time::Instant::now();
        let found = replay_lines(old, new, &lines);
        assert_eq!((found.lines, found.moves.len()), (100_000, 1));
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
