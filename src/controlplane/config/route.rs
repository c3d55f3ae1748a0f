//! `[[route]]`: its own keys here, the matching keys by [`TableBuilder`], which compiles them.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use super::{
    endpoint,
    errors::{Place, Report},
    kept::{Cut, Kept, KeptTable, Matching, Reading},
    links::{self, Named},
    names, retry, split,
    table::Table,
    upstream::UpstreamConfig,
    value::{Pair, Value},
};
use crate::{
    base::{
        ids::{ListenerIndex, RouteIndex, UpstreamIndex},
        limits,
    },
    policy::{
        key::RequestKey,
        overload::Importance,
        route::{Conflict, PathSpec, RouteError, RouteSpec, TableBuilder, TargetRule, ValueSpec},
    },
    snapshot::{
        HostHeader, Listener, RouteExtra,
        split::{Split, Sticky},
    },
};

/// One `[[route]]`; what it matches is in the table.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Unique; `#` and the number of the route if none was given.
    pub id: Arc<str>,
    /// Where it goes.
    pub upstream: UpstreamIndex,
    /// What most routes do not have.
    pub extra: Option<Arc<RouteExtra>>,
    /// Where its header stands.
    pub place: Place,
}

/// The routes of all files, and the table that was built while they were checked.
pub(super) struct Routes {
    routes: Vec<RouteConfig>,
    /// How many `[[route]]` there are, those with mistakes too.
    written: usize,
    /// Unless a route has mistakes.
    table: Option<KeptTable>,
}

/// What was read before, and the files cut by it.
pub(super) struct Before<'a> {
    pub(super) kept: &'a Kept,
    /// By the number of the file.
    pub(super) cuts: HashMap<u32, &'a Cut>,
}

impl Routes {
    /// Whether there is no `[[route]]` at all.
    pub(super) fn is_empty(&self) -> bool {
        self.written == 0
    }

    /// The table with what it was made of, unless a route has mistakes, and the routes.
    pub(super) fn finish(self) -> (Option<KeptTable>, Vec<RouteConfig>) {
        (self.table, self.routes)
    }
}

/// What routes refer to.
#[derive(Clone, Copy)]
pub(super) struct Others<'a> {
    pub(super) listeners: &'a Listeners,
    pub(super) upstreams: &'a Named<UpstreamConfig>,
    /// One more than the highest number of a core.
    pub(super) cores: usize,
}

/// Captures that an upstream or a split knows requests by.
type KeyCaptures = Vec<(Box<str>, u8)>;

pub(super) type Listeners = Named<(Listener, Place)>;

/// What the routes read so far have left behind.
struct Reader<'a> {
    listeners: &'a Listeners,
    upstreams: &'a Named<UpstreamConfig>,
    cores: usize,
    builder: TableBuilder,
    /// Those that the builder took, by the index it was told.
    routes: Vec<RouteConfig>,
    ids: HashMap<Arc<str>, Place>,
    written: usize,
    /// Whether a route has a mistake that makes what is in `routes` unusable.
    flawed: bool,
    /// Of each of `routes`, if none is flawed.
    readings: Vec<Arc<Reading>>,
    before: &'a Before<'a>,
}

/// Reads the routes of all files.
pub(super) fn read(
    roots: &[Table<'_>],
    others: Others<'_>,
    before: &Before<'_>,
    report: &Report,
) -> Routes {
    let Others { listeners, upstreams, cores } = others;
    let builder = new_builder(listeners);
    let mut reader = Reader {
        listeners,
        upstreams,
        cores,
        builder,
        routes: Vec::new(),
        ids: HashMap::new(),
        written: 0,
        flawed: false,
        readings: Vec::new(),
        before,
    };
    let all = roots.iter().map(|root| (before.cuts.get(&root.source.file), root.tables("route")));
    for (cut, table) in all.flat_map(|(cut, tables)| tables.into_iter().map(move |one| (cut, one)))
    {
        reader.written += 1;
        if reader.written > limits::ROUTES_MAX {
            let message = format!("more than {} routes", limits::ROUTES_MAX);
            report.error(table.place(), "route", message, "remove some");
            reader.flawed = true;
            break;
        }
        match cut.and_then(|cut| cut.taken(table.start())) {
            Some(reading) => reader.take(&table, reading),
            None => reader.read_route(&table, cut.copied()),
        }
    }
    reader.finish(report)
}

fn new_builder(listeners: &Listeners) -> TableBuilder {
    let mut builder = TableBuilder::new(listeners.len());
    for (position, (_, _, (listener, _))) in listeners.values().enumerate() {
        if !listener.merge_slashes {
            builder.keep_slashes(ListenerIndex(position as u16));
        }
    }
    builder
}

impl Reader<'_> {
    /// Takes a route as it was read before. Whatever does not go together with the rest any more is
    /// a flaw, and no message: the files are read again as a whole then.
    fn take(&mut self, table: &Table<'_>, reading: &Arc<Reading>) {
        let place = table.place();
        let id = reading.id.clone().unwrap_or_else(|| self.number());
        let is_new = reading.id.is_none() || self.ids.insert(id.clone(), place).is_none();
        let upstream = self.upstreams.find(&reading.upstream);
        if reading.listeners.is_empty() {
            self.listeners.use_all();
        }
        let listeners_known =
            reading.listeners.iter().all(|name| self.listeners.find(name).is_some());
        let asks_for_captures = upstream
            .and_then(|at| self.upstreams.at(at))
            .is_some_and(|(_, upstream)| matches!(upstream.balance.key, Some(RequestKey::Path(_))));
        let goes_together = is_new && listeners_known && table.is_empty() && !asks_for_captures;
        let Some(upstream) = upstream.filter(|_| goes_together) else {
            self.flawed = true;
            return;
        };
        let (upstream, extra) = (UpstreamIndex(upstream as u32), reading.extra.clone());
        self.routes.push(RouteConfig { id, upstream, extra, place });
        self.readings.push(Arc::clone(reading));
    }

    fn read_route(&mut self, table: &Table<'_>, cut: Option<&Cut>) {
        let problems_before = table.report.problem_count();
        let id = self.read_id(table);
        let split = split::read(table, self.upstreams, self.cores);
        let upstream = match &split {
            Ok(None) => self.read_upstream(table),
            Ok(Some(split)) => split.choices.first().map(|one| (one.upstream, one.name.clone())),
            Err(()) => None,
        };
        let split = split.ok().flatten();
        let host_header = table.get("host_header").map(|value| host_header(&value));
        let timeout = table.duration_opt("timeout");
        let early_data = table.boolean("early_data");
        let importance = match table.choice("importance") {
            "low" => Importance::Low,
            "high" => Importance::High,
            _ => Importance::Normal,
        };
        let retry = table.table("retry").map(|table| retry::read(&table));
        if let Some(value) = table.get("description") {
            value.text(); // for its type
        }
        // With a mistake elsewhere it is still compared with other routes.
        self.flawed |= id.is_none() || upstream.is_none();
        let written_id = id.clone().filter(|_| table.get("id").is_some());
        let id = id.unwrap_or_else(|| self.number());
        let index = upstream.as_ref().map_or(UpstreamIndex(0), |(index, _)| *index);
        let asks = self.captures_asked(index, split.as_ref());
        let Some((target, matching, key_captures)) = self.add_to_table(table, &asks) else {
            self.flawed = true;
            return;
        };
        let host_header = host_header.flatten().unwrap_or_default();
        let asks_for_captures = !key_captures.is_empty();
        let extra = RouteExtra {
            target,
            host_header,
            timeout,
            early_data,
            retry,
            importance,
            key_captures,
            split: split.map(Arc::new),
        };
        // Both are of the configuration as a whole.
        let asks_for_others = asks_for_captures || extra.split.is_some();
        let extra = (extra != RouteExtra::PLAIN).then(|| Arc::new(extra));
        let route = RouteConfig { id, upstream: index, extra: extra.clone(), place: table.place() };
        self.routes.push(route);
        let Some((_, upstream)) = upstream else { return };
        let listeners = table.get("listeners").map(|list| list.texts()).unwrap_or_default();
        let reading = Arc::new(Reading {
            id: written_id,
            upstream,
            listeners: listeners.into_iter().map(|(name, _)| (*name).into()).collect(),
            matching,
            extra,
        });
        // What depends on another table is read again each time.
        let is_clean = table.report.problem_count() == problems_before && !asks_for_others;
        if let Some(cut) = cut.filter(|_| is_clean) {
            cut.keep(table.start(), &reading);
        }
        self.readings.push(reading);
    }

    /// Reads the matching keys and adds the route to the table.
    fn add_to_table(
        &mut self,
        table: &Table<'_>,
        asks: &[(Box<str>, String)],
    ) -> Option<(TargetRule, Matching, KeyCaptures)> {
        let errors_before = table.report.error_count();
        let keys = Keys::read(table);
        let listeners = self.read_listeners(table);
        let complete = listeners.is_some() && keys.complete;
        let known = complete && table.report.error_count() == errors_before;
        let spec = keys.spec(listeners.unwrap_or_default());
        let route = RouteIndex(self.routes.len() as u32);
        match self.builder.add(route, &spec) {
            Ok(target) => {
                self.flawed |= !complete;
                if !known || table.may_say_more() || table.get("sni").is_some() {
                    self.builder.set_aside();
                }
                let is_regex = matches!(spec.path, PathSpec::Regex(_));
                let key_captures = self.key_captures(table, asks);
                let uses_captures = target.uses_captures() || !key_captures.is_empty();
                let matching = Matching::of(&spec, is_regex && uses_captures);
                Some((target, matching, key_captures))
            }
            Err(errors) => {
                errors.iter().for_each(|error| keys.report(table, error));
                None
            }
        }
    }

    /// What stands for an id that is not there.
    fn number(&self) -> Arc<str> {
        format!("#{}", self.written).into()
    }

    fn read_id(&mut self, table: &Table<'_>) -> Option<Arc<str>> {
        let Some(value) = table.get("id") else {
            return Some(self.number());
        };
        let id: Arc<str> = links::check_name(&value)?.into();
        if id.starts_with('#') {
            let hint = format!("write \"{}\"", id.trim_start_matches('#'));
            value.error("ids with # in front are those of routes without an id", hint);
            return None;
        }
        if let Some(first) = self.ids.get(&id) {
            let message =
                format!("the id \"{id}\" is already taken at {}", table.report.describe(*first));
            value.error(message, "give each route its own id");
            return None;
        }
        self.ids.insert(id.clone(), table.place());
        Some(id)
    }

    fn read_upstream(&self, table: &Table<'_>) -> Option<(UpstreamIndex, Box<str>)> {
        let Some(value) = table.require("upstream") else {
            self.upstreams.use_all(); // which one was meant is not known
            return None;
        };
        let position = value.text().and_then(|name| {
            let position = self.upstreams.resolve(&name, &value, "upstream")?;
            Some((UpstreamIndex(position as u32), name.into()))
        });
        if position.is_none() {
            self.upstreams.use_all();
        }
        position
    }

    /// The captures by which a split and the upstreams of a route know requests, and who that is.
    fn captures_asked(
        &self,
        upstream: UpstreamIndex,
        split: Option<&Split>,
    ) -> Vec<(Box<str>, String)> {
        let mut asked = Vec::new();
        if let Some(Sticky::Key(RequestKey::Path(capture))) = split.map(|split| &split.sticky) {
            asked.push((capture.clone(), "split_key goes".to_owned()));
        }
        let choices = split.map_or(&[][..], |split| &split.choices);
        let others = choices.iter().skip(1).map(|choice| choice.upstream);
        for index in std::iter::once(upstream).chain(others) {
            let Some((name, upstream)) = self.upstreams.at(index.0 as usize) else { continue };
            if let Some(RequestKey::Path(capture)) = &upstream.balance.key {
                asked.push((capture.clone(), format!("the upstream \"{name}\" hashes")));
            }
        }
        asked
    }

    /// The captures of the route added last that are asked for.
    fn key_captures(&mut self, table: &Table<'_>, asks: &[(Box<str>, String)]) -> KeyCaptures {
        let mut found = KeyCaptures::new();
        for (capture, who) in asks {
            match self.builder.capture(capture) {
                Some(_) if found.iter().any(|(known, _)| known == capture) => {}
                Some(index) => found.push((capture.clone(), index)),
                None => {
                    let message = format!(
                        "{who} by the path parameter \"{capture}\", which this route does not \
                         capture"
                    );
                    let hint = format!(
                        "name it: path = \"/users/{{{capture}}}\"; without it any endpoint is picked"
                    );
                    table.report.warning(table.place(), "route", message, hint);
                }
            }
        }
        found
    }

    /// The listeners it is for; `None` if one is not known, which was reported.
    fn read_listeners(&self, table: &Table<'_>) -> Option<Vec<ListenerIndex>> {
        let Some(list) = table.get("listeners") else {
            self.listeners.use_all();
            return Some(Vec::new());
        };
        let mut found = Vec::new();
        let mut complete = list.elements_len().is_some_and(|length| length > 0);
        if list.elements_len() == Some(0) {
            list.error("an empty list", "name a listener, or leave the key out for all");
        }
        let texts = list.texts();
        complete &= list.elements_len() == Some(texts.len());
        for (name, value) in texts {
            match self.listeners.resolve(&name, &value, "listener") {
                Some(position) if found.contains(&ListenerIndex(position as u16)) => {
                    value.error(format!("\"{name}\" is listed twice"), "remove one");
                }
                Some(position) => found.push(ListenerIndex(position as u16)),
                None => complete = false,
            }
        }
        if !complete {
            self.listeners.use_all();
        }
        complete.then_some(found)
    }

    fn finish(mut self, report: &Report) -> Routes {
        let listeners: Vec<(Box<str>, bool)> = self
            .listeners
            .values()
            .map(|(name, _, (listener, _))| (name.into(), listener.merge_slashes))
            .collect();
        let known = self.before.kept.table_of(&self.readings, &listeners);
        if known.is_none() && !self.before.kept.is_empty() {
            self.build_again();
        }
        let (table, conflicts) = match known {
            Some((table, conflicts)) => (Some(table), conflicts),
            None => (None, self.builder.conflicts().into()),
        };
        self.report_conflicts(&conflicts, report);
        if !report.is_incomplete() {
            self.report_unused(report);
        }
        if self.flawed || report.has_errors() {
            let Self { routes, written, .. } = self;
            return Routes { routes, written, table: None };
        }
        let Self { routes, written, readings, builder, .. } = self;
        let table = table.unwrap_or_else(|| Arc::new(builder.build()));
        let table = Some(KeptTable { readings, listeners, table, conflicts });
        Routes { routes, written, table }
    }

    /// The builder has what was read now: gives it all routes, in their order.
    fn build_again(&mut self) {
        self.builder = new_builder(self.listeners);
        if self.flawed {
            return;
        }
        for (position, reading) in self.readings.iter().enumerate() {
            let names = reading.listeners.iter();
            let listeners = names.filter_map(|name| self.listeners.find(name));
            let listeners = listeners.map(|position| ListenerIndex(position as u16)).collect();
            let (route, matching) = (RouteIndex(position as u32), &reading.matching);
            let spec = matching.spec(listeners);
            self.flawed |= !self.builder.add_again(route, &spec, matching.groups);
        }
    }

    fn report_conflicts(&self, conflicts: &[Conflict], report: &Report) {
        let name = |route: RouteIndex| {
            let route = &self.routes[route.0 as usize];
            (route.place, format!("\"{}\" at {}", route.id, report.describe(route.place)))
        };
        for conflict in conflicts {
            match *conflict {
                Conflict::Same { first, second } => {
                    let (place, second) = (name(second).0, &self.routes[second.0 as usize].id);
                    let message = format!(
                        "\"{second}\" has the same hosts, path, conditions and priority as {}",
                        name(first).1
                    );
                    report.error(
                        place,
                        "route",
                        message,
                        "remove one, or give it another priority",
                    );
                }
                Conflict::Shadowed { route, by } => {
                    let (place, route) = (name(route).0, &self.routes[route.0 as usize].id);
                    let message =
                        format!("\"{route}\" is never reached: {} takes its requests", name(by).1);
                    report.warning(place, "route", message, "remove it, or give it a priority");
                }
            }
        }
    }

    fn report_unused(&self, report: &Report) {
        if self.written == 0 {
            return; // said so already
        }
        for (name, place) in self.upstreams.unused() {
            let message = format!("no route names the upstream \"{name}\"");
            report.warning(place, "upstream", message, "remove it, or name it in a route");
        }
        for (name, place) in self.listeners.unused() {
            let message =
                format!("no route is for the listener \"{name}\": it answers every request 404");
            report.warning(place, "listener", message, "name it in the listeners of a route");
        }
    }
}

/// The matching keys of a route with their places.
struct Keys<'a> {
    path: Option<(Cow<'a, str>, Value<'a>)>,
    hosts: Vec<(Cow<'a, str>, Value<'a>)>,
    methods: Vec<(Cow<'a, str>, Value<'a>)>,
    headers: Vec<Pair<'a>>,
    query: Vec<Pair<'a>>,
    priority: i64,
    strip_path: bool,
    rewrite: Option<(Cow<'a, str>, Value<'a>)>,
    /// Whether all of them could be read.
    complete: bool,
}

/// At most one of these may stand in a route.
const PATH_KEYS: [&str; 3] = ["path", "path_prefix", "path_regex"];

impl<'a> Keys<'a> {
    fn read(table: &Table<'a>) -> Self {
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
        let hosts = list(table, "hosts", &mut complete);
        let methods = list(table, "methods", &mut complete);
        methods.iter().for_each(|(method, value)| doubt_method(method, value));
        let headers = table.get("headers").map(|value| value.pairs()).unwrap_or_default();
        let query = table.get("query").map(|value| value.pairs()).unwrap_or_default();
        Self {
            path,
            hosts,
            methods,
            headers,
            query,
            priority: table.integer("priority"),
            strip_path: table.boolean("strip_path"),
            rewrite,
            complete,
        }
    }

    fn spec(&self, listeners: Vec<ListenerIndex>) -> RouteSpec<'_> {
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
    fn report(&self, table: &Table<'a>, error: &RouteError) {
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
            "hosts" => plain(other) == plain(text),
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

/// `"preserve"`, `"upstream"`, or a host with or without a port.
fn host_header(value: &Value<'_>) -> Option<HostHeader> {
    let text = value.text()?;
    match &*text {
        "preserve" => return Some(HostHeader::Preserve),
        "upstream" => return Some(HostHeader::Upstream),
        _ => {}
    }
    let shown = value.shown(&text);
    if let Some(word) = names::nearest(&text, ["preserve", "upstream"]) {
        value.error(format!("\"{shown}\" is not known here"), format!("did you mean \"{word}\"?"));
        return None;
    }
    if !is_authority(&text) {
        value.error(
            format!("\"{shown}\" is not a host"),
            "write \"preserve\", \"upstream\", or a host such as \"example.com\" or \"example.com:8080\"",
        );
        return None;
    }
    Some(HostHeader::Literal((*text).into()))
}

pub(super) fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port_ok = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
    });
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_ok = match address {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => endpoint::is_name(host),
    };
    port_ok && host_ok
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_may_be_sent() {
        for host in ["example.com", "example.com:8080", "[::1]", "[::1]:80", "127.0.0.1", "my_app"]
        {
            assert!(is_authority(host), "{host}");
        }
        for host in ["", "a b", "a:", "a:0", "a:99999", "http://a", "a/b", "a\r\nb", "::1", ":80"] {
            assert!(!is_authority(host), "{host}");
        }
    }
}
