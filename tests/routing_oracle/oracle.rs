//! Which route the specification asks for, found by a look at each of them.

use std::{cell::RefCell, cmp::Reverse, collections::HashMap};

use regex::Regex;
use ringway::{
    base::ids::{ListenerIndex, RouteIndex},
    policy::route::{Captures, RouteMatch, RouteQuery},
};

use crate::{
    Built, MERGES,
    generate::{Path, Request, Route, Segment, Want, capture_names},
};

/// The regex of a text, compiled once.
pub(crate) fn regex(text: &str) -> Regex {
    thread_local!(static KNOWN: RefCell<HashMap<String, Regex>> = RefCell::default());
    KNOWN.with_borrow_mut(|known| {
        known.entry(text.to_owned()).or_insert_with(|| Regex::new(text).unwrap()).clone()
    })
}

/// Host class and, for wildcards, how long; smaller is better.
pub(crate) fn host_rank(pattern: &str, host: &str) -> Option<(u8, Reverse<usize>)> {
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

pub(crate) fn drop_empty(segments: &mut Vec<Segment>, keep_last: bool) {
    let last = segments.len() - usize::from(keep_last);
    let mut place = 0;
    segments.retain(|segment| {
        place += 1;
        place > last || !matches!(segment, Segment::Literal(text) if text.is_empty())
    });
}

/// The segments to match, and what may follow: "" nothing, "rest", "prefix".
pub(crate) fn segments_and_tail(path: &Path, merges: bool) -> (Vec<Segment>, &'static str) {
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

pub(crate) fn path_match(path: &Path, merges: bool, text: &str) -> Option<PathMatch> {
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

pub(crate) fn holds(want: Want, value: Option<String>) -> bool {
    value.is_some_and(|value| match want {
        Want::Present => true,
        Want::Literal(text) => text == value,
        Want::Regex(pattern) => regex(pattern).is_match(&value),
    })
}

pub(crate) fn percent_decode(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        out.push(u8::from_str_radix(&part[..2], 16).unwrap().into());
        out.push_str(&part[2..]);
    }
    out
}

pub(crate) fn field_value(request: &Request, name: &str) -> Option<String> {
    let same = request.fields.iter().filter(|field| field.0 == name);
    let values: Vec<_> = same.map(|field| field.1).collect();
    (!values.is_empty()).then(|| values.join(", "))
}

pub(crate) fn query_value(request: &Request, key: &str) -> Option<String> {
    let pairs = request.query.as_deref()?.split('&').filter(|pair| !pair.is_empty());
    let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|pair| percent_decode(pair.0) == key).map(|pair| percent_decode(pair.1))
}

/// A route whose listener, host and path match.
pub(crate) struct Met {
    pub(crate) route: usize,
    pub(crate) method_holds: bool,
    pub(crate) others_hold: bool,
    pub(crate) captures: Vec<(usize, usize)>,
}

impl Met {
    pub(crate) fn wins(&self) -> bool {
        self.method_holds && self.others_hold
    }
}

/// All of them, in the order of candidates.
pub(crate) fn candidates(routes: &[Route], request: &Request) -> Vec<Met> {
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

pub(crate) fn expected_target(
    route: &Route,
    request: &Request,
    captures: &[(usize, usize)],
) -> String {
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

pub(crate) fn compare_one(
    routes: &[Route],
    built: &Built,
    request: &Request,
    captures: &mut Captures,
) {
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
