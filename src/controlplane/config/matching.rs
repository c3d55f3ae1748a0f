//! The keys of a `[[route]]` that decide which requests it takes, each with its place for messages.

use std::borrow::Cow;

use super::{
    names,
    table::Table,
    value::{Pair, Value},
};
use crate::{
    base::ids::ListenerIndex,
    policy::route::{PathSpec, RouteError, RouteSpec, ValueSpec},
    snapshot::Mode,
};

/// The matching keys of a route with their places.
pub(super) struct Keys<'a> {
    path: Option<(Cow<'a, str>, Value<'a>)>,
    /// `sni` of a TCP route.
    hosts: Vec<(Cow<'a, str>, Value<'a>)>,
    hosts_key: &'static str,
    methods: Vec<(Cow<'a, str>, Value<'a>)>,
    headers: Vec<Pair<'a>>,
    query: Vec<Pair<'a>>,
    priority: i64,
    strip_path: bool,
    rewrite: Option<(Cow<'a, str>, Value<'a>)>,
    /// Whether all of them could be read.
    pub(super) complete: bool,
}

/// At most one of these may stand in a route.
const PATH_KEYS: [&str; 3] = ["path", "path_prefix", "path_regex"];

impl<'a> Keys<'a> {
    pub(super) fn read(table: &Table<'a>, mode: Mode) -> Self {
        let mut complete = true;
        let text = |name: &str, complete: &mut bool| {
            let value = table.get(name)?;
            let text = value.text();
            *complete &= text.is_some();
            Some((text?, value))
        };
        let given: Vec<_> = PATH_KEYS.iter().filter_map(|name| table.get(name)).collect();
        if let [first, others @ ..] = &given[..] {
            for other in others {
                let message = format!("there is already a {}", first.key.name);
                other.error(message, "remove one: a route has path, path_prefix or path_regex");
                complete = false;
            }
        }
        let path = PATH_KEYS.iter().find_map(|name| text(name, &mut complete));
        let rewrite = text("rewrite", &mut complete);
        let hosts_key = match mode {
            Mode::Http => "hosts",
            Mode::Tcp => "sni",
        };
        let hosts = list(table, hosts_key, &mut complete);
        let methods = list(table, "methods", &mut complete);
        methods.iter().for_each(|(method, value)| doubt_method(method, value));
        let headers = table.get("headers").map(|value| value.pairs()).unwrap_or_default();
        let query = table.get("query").map(|value| value.pairs()).unwrap_or_default();
        Self {
            path,
            hosts,
            hosts_key,
            methods,
            headers,
            query,
            priority: table.integer("priority"),
            strip_path: table.boolean("strip_path"),
            rewrite,
            complete,
        }
    }

    pub(super) fn spec(&self, listeners: Vec<ListenerIndex>) -> RouteSpec<'_> {
        RouteSpec {
            listeners,
            hosts: self.hosts.iter().map(|(host, _)| &**host).collect(),
            path: match &self.path {
                None => PathSpec::None,
                Some((text, value)) => match value.key.name {
                    "path_prefix" => PathSpec::Prefix(text),
                    "path_regex" => PathSpec::Regex(text),
                    _ => PathSpec::Pattern(text),
                },
            },
            methods: self.methods.iter().map(|(method, _)| &**method).collect(),
            headers: specs(&self.headers),
            query: specs(&self.query),
            priority: self.priority,
            strip_path: self.strip_path,
            rewrite: self.rewrite.as_ref().map(|(text, _)| &**text),
        }
    }

    /// Reports what the table builder found, at the value it means.
    pub(super) fn report(&self, table: &Table<'a>, error: &RouteError) {
        let field = &*error.field;
        let (key, rest) = field.split_at(field.find(['.', '[']).unwrap_or(field.len()));
        let index: Option<usize> =
            rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse().ok());
        let pair = |pairs: &[Pair<'a>]| {
            let pair = pairs.iter().find(|pair| Some(pair.name) == rest.strip_prefix('.'))?;
            // A name that can't be one is at fault itself, not what it stands for.
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            let name_ok = !pair.name.is_empty() && pair.name.bytes().all(token);
            Some(if name_ok || key == "query" { pair.value.place() } else { pair.name_place })
        };
        let element =
            |list: &[(Cow<'a, str>, Value<'a>)]| list.get(index?).map(|(_, value)| value.place());
        let place = match key {
            "hosts" => element(&self.hosts),
            "methods" => element(&self.methods),
            "headers" => pair(&self.headers),
            "query" => pair(&self.query),
            "path" => self.path.as_ref().map(|(_, value)| value.place()),
            _ => None,
        };
        let place = place.or_else(|| Some(table.get(key)?.place())).unwrap_or(table.place());
        let shown = match key {
            "headers" | "query" => format!("route.{field}"),
            "path" => self.path.as_ref().map_or("route.path".into(), |(_, value)| value.path()),
            "hosts" => format!("route.{}", self.hosts_key),
            _ => format!("route.{key}"),
        };
        table.report.error(place, &shown, one_line(&error.message), one_line(&error.hint));
    }
}

fn specs<'k>(pairs: &'k [Pair<'_>]) -> Vec<(&'k str, ValueSpec<'k>)> {
    pairs.iter().map(|pair| (pair.name, ValueSpec::parse(&pair.text))).collect()
}

/// Messages of other rooms may have line ends; a problem is one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The elements of a list that must not be empty and hold nothing twice.
fn list<'a>(table: &Table<'a>, name: &str, complete: &mut bool) -> Vec<(Cow<'a, str>, Value<'a>)> {
    let Some(list) = table.get(name) else { return Vec::new() };
    if list.elements_len() == Some(0) {
        list.error("an empty list matches nothing", "leave the key out to match all");
        *complete = false;
        return Vec::new();
    }
    let texts = list.texts();
    *complete &= list.elements_len() == Some(texts.len());
    for (at, (text, value)) in texts.iter().enumerate() {
        let plain = |text: &str| text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let same = |other: &str| match name {
            "hosts" | "sni" => plain(other) == plain(text),
            _ => other == text,
        };
        if texts[..at].iter().any(|(other, _)| same(other)) {
            value.error(format!("\"{}\" is listed twice", value.shown(text)), "remove one");
            *complete = false;
        }
    }
    texts
}

/// Any name is a method; some are probably not meant as one.
fn doubt_method(method: &str, value: &Value<'_>) {
    // Source: RFC 9110 §9, RFC 5789.
    const COMMON: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"];
    let is_word = method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_word || COMMON.contains(&method) {
        return; // what is no method at all is refused
    }
    let warn = |hint: String| {
        let message = format!("\"{method}\" is taken as a method of that name");
        value.report.warning(value.place(), &value.path(), message, hint);
    };
    if matches!(method, "ANY" | "ALL") {
        warn("leave methods out to take all".into());
    } else if let Some(near) = names::slip_of(method, COMMON) {
        warn(format!("did you mean \"{near}\"?"));
    }
}
