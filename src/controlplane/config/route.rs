//! `[[route]]`: its own keys here, the matching keys by [`TableBuilder`], which compiles them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    built::Built,
    cors,
    errors::{Place, Report},
    hedge, host_header,
    kept::{Cut, Fit, Kept, KeptTable, Matching, Reading, Taken},
    links::{self, Named},
    matching::Keys,
    mirror, retry, split,
    table::Table,
    tcp,
    text::Source,
    upstream::UpstreamConfig,
};
use crate::{
    base::{
        ids::{ListenerIndex, RouteIndex, UpstreamIndex},
        limits, pace,
    },
    policy::{
        key::RequestKey,
        overload::Importance,
        route::{Conflict, PathSpec, RouteNumber, TableBuilder, TargetRule},
    },
    snapshot::{
        Listener, Mode, RouteExtra,
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
    /// What its listeners speak.
    pub mode: Mode,
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
    /// Each file and its cut, by its number.
    pub(super) cuts: HashMap<u32, (&'a Source, &'a Cut)>,
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
    /// Of those that were read now, and the number it gave to each.
    builder: TableBuilder,
    numbers: Vec<RouteNumber>,
    /// Those that the builder took, by the index it was told.
    routes: Vec<RouteConfig>,
    /// Where the header of each stands.
    starts: Vec<(&'a Source, usize)>,
    /// Of those that were read now.
    ids: HashMap<Arc<str>, Place>,
    written: usize,
    /// Whether a route has a mistake that makes what is in `routes` unusable.
    flawed: bool,
    /// Of each of `routes`, if none is flawed.
    readings: Vec<Arc<Reading>>,
    before: &'a Before<'a>,
    /// Where routes go, by what decides it: far fewer than there are routes. `None` if they don't go
    /// together with the rest.
    fits: HashMap<Arc<Fit>, Option<UpstreamIndex>>,
    /// The one that was asked for last.
    last_fit: Option<(&'a Arc<Fit>, Option<UpstreamIndex>)>,
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
    let known = before.cuts.values().map(|(_, cut)| cut.len()).sum();
    let mut reader = Reader {
        listeners,
        upstreams,
        cores,
        builder,
        numbers: Vec::new(),
        routes: Vec::with_capacity(known),
        starts: Vec::with_capacity(known),
        ids: HashMap::new(),
        written: 0,
        flawed: false,
        readings: Vec::with_capacity(known),
        before,
        fits: HashMap::new(),
        last_fit: None,
    };
    for root in roots {
        reader.read_file(root, before.cuts.get(&root.source.file).copied(), report);
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

impl<'a> Reader<'a> {
    /// Reads the routes of one file, those that were read before in between.
    fn read_file(&mut self, root: &Table<'a>, cut: Option<(&'a Source, &'a Cut)>, report: &Report) {
        let (whole, cut) = cut.map_or((root.source, None), |(whole, cut)| (whole, Some(cut)));
        let before = self.before.kept;
        let mut taken = cut.into_iter().flat_map(|cut| cut.taken(before)).peekable();
        for table in root.tables("route") {
            let here = table.source.in_file(table.start());
            while let Some(route) = taken.next_if(|route| route.start < here) {
                self.take(whole, &route, report);
            }
            match taken.next_if(|route| route.start == here) {
                Some(route) => {
                    self.take(whole, &route, report);
                    // What is in it belongs to one of those that the parser does not see.
                    self.flawed |= !table.is_empty();
                }
                None => self.read_route(&table, cut, report),
            }
        }
        for route in taken {
            self.take(whole, &route, report);
        }
    }

    /// Counts a route; whether it is one too many, which is said once.
    fn is_one_too_many(&mut self, (source, start): (&Source, usize), report: &Report) -> bool {
        pace::step();
        self.written += 1;
        if self.written == limits::ROUTES_MAX + 1 {
            let message = format!("more than {} routes", limits::ROUTES_MAX);
            report.error(source.place(start), "route", message, "remove some");
            self.flawed = true;
        }
        self.written > limits::ROUTES_MAX
    }

    /// Takes a route as it was read before. Whatever does not go together with the rest any more is
    /// a flaw, and no message: the files are read again as a whole then.
    fn take(&mut self, whole: &'a Source, route: &Taken<'a>, report: &Report) {
        let Taken { start, reading, position } = *route;
        if self.is_one_too_many((whole, start), report) {
            return;
        }
        let id = reading.id.clone().unwrap_or_else(|| self.number());
        let upstream = self.upstream_of(&reading.fit);
        let Some(upstream) = upstream else {
            self.flawed = true;
            return;
        };
        let extra = reading.extra.clone();
        self.routes.push(RouteConfig { id, upstream, extra, mode: reading.fit.mode });
        self.starts.push((whole, start));
        position.set(Some(self.readings.len() as u32));
        self.readings.push(Arc::clone(reading));
    }

    /// Where a route that was read before goes; `None` if it does not go together with the rest any more.
    fn upstream_of(&mut self, fit: &'a Arc<Fit>) -> Option<UpstreamIndex> {
        if let Some((last, upstream)) = self.last_fit
            && Arc::ptr_eq(last, fit)
        {
            return upstream;
        }
        let known = self.fits.get(fit).copied();
        let upstream = known.unwrap_or_else(|| self.add_fit(Arc::clone(fit)));
        self.last_fit = Some((fit, upstream));
        upstream
    }

    /// The one like this that other routes have.
    fn shared(&mut self, fit: Fit) -> Arc<Fit> {
        if let Some((known, _)) = self.fits.get_key_value(&fit) {
            return Arc::clone(known);
        }
        let fit = Arc::new(fit);
        self.add_fit(Arc::clone(&fit));
        fit
    }

    fn add_fit(&mut self, fit: Arc<Fit>) -> Option<UpstreamIndex> {
        let upstream = self.goes_to(&fit);
        self.fits.insert(fit, upstream);
        upstream
    }

    fn goes_to(&self, fit: &Fit) -> Option<UpstreamIndex> {
        let listeners = self.listeners_of(fit)?;
        let mode = tcp::mode_of(self.listeners, &listeners, fit.has_sni)?;
        let position = self.upstreams.find(&fit.upstream)?;
        let fits = self.upstreams.at(position).is_none_or(|(_, upstream)| {
            let asks_for_captures = matches!(upstream.balance.key, Some(RequestKey::Path(_)));
            let speaks_it = upstream.http2 || !fit.is_grpc_web;
            !asks_for_captures && speaks_it && tcp::misfit(upstream, fit.mode).is_none()
        });
        (mode == fit.mode && fits).then_some(UpstreamIndex(position as u32))
    }

    /// The listeners of a route that was read before; `None` if one is not known any more.
    fn listeners_of(&self, fit: &Fit) -> Option<Vec<ListenerIndex>> {
        if fit.listeners.is_empty() {
            return Some(tcp::all_of(self.listeners, fit.mode));
        }
        let index = |name| Some(ListenerIndex(self.listeners.find(name)? as u16));
        fit.listeners.iter().map(|name| index(name)).collect()
    }

    fn read_route(&mut self, table: &Table<'a>, cut: Option<&Cut>, report: &Report) {
        if self.is_one_too_many((table.source, table.start()), report) {
            return;
        }
        let problems_before = table.report.problem_count();
        let id = self.read_id(table);
        let split = split::read(table, self.upstreams, self.cores);
        let upstream = match &split {
            Ok(None) => self.read_upstream(table),
            Ok(Some(split)) => split.choices.first().map(|one| (one.upstream, one.name.clone())),
            Err(()) => None,
        };
        let split = split.ok().flatten();
        let mirror = mirror::read(table, self.upstreams);
        let host_header = table.get("host_header").map(|value| host_header::read(&value));
        let timeout = table.duration_opt("timeout");
        let early_data = table.boolean("early_data");
        let importance = match table.choice("importance") {
            "low" => Importance::Low,
            "high" => Importance::High,
            _ => Importance::Normal,
        };
        let grpc_web = table.boolean("grpc_web");
        let cors = table.table("cors").and_then(|table| cors::read(&table, grpc_web));
        let retry = table.table("retry").map(|table| retry::read(&table));
        let hedge = table.table("hedge").and_then(|table| hedge::read(&table));
        if let Some(value) = table.get("description") {
            value.text(); // for its type
        }
        // With a mistake elsewhere it is still compared with other routes.
        self.flawed |= id.is_none() || upstream.is_none() || mirror.is_err();
        let written_id = id.clone().filter(|_| table.get("id").is_some());
        let id = id.unwrap_or_else(|| self.number());
        let index = upstream.as_ref().map_or(UpstreamIndex(0), |(index, _)| *index);
        let asks = self.captures_asked(index, split.as_ref());
        let errors_before = table.report.error_count();
        let listeners = self.read_listeners(table);
        let choices = split.as_ref().map_or(&[][..], |split| &split.choices);
        let goes_to: Vec<UpstreamIndex> = match upstream {
            Some((index, _)) if choices.is_empty() => vec![index],
            _ => choices.iter().map(|choice| choice.upstream).collect(),
        };
        let mode = self.read_mode(table, listeners.as_deref(), &goes_to);
        let added = self.add_to_table(table, &asks, listeners, mode, errors_before);
        let Some((target, matching, key_captures)) = added else {
            self.flawed = true;
            return;
        };
        let host_header = host_header.flatten().unwrap_or_default();
        let asks_for_captures = !key_captures.is_empty();
        let extra = RouteExtra {
            target,
            host_header,
            timeout,
            cors: cors.map(Box::new),
            grpc_web,
            early_data,
            retry,
            hedge,
            importance,
            key_captures,
            split: split.map(Arc::new),
            mirror: mirror.ok().flatten(),
        };
        // Both are of the configuration as a whole.
        let asks_for_others = asks_for_captures || extra.split.is_some() || extra.mirror.is_some();
        let extra = (extra != RouteExtra::PLAIN).then(|| Arc::new(extra));
        let route = RouteConfig { id, upstream: index, extra: extra.clone(), mode };
        self.routes.push(route);
        self.starts.push((table.source, table.start()));
        let Some((_, upstream)) = upstream else { return };
        let listeners = table.get("listeners").map(|list| list.texts()).unwrap_or_default();
        let fit = self.shared(Fit {
            upstream,
            listeners: listeners.into_iter().map(|(name, _)| (*name).into()).collect(),
            mode,
            has_sni: table.get("sni").is_some(),
            is_grpc_web: grpc_web,
        });
        let reading = Arc::new(Reading { id: written_id, fit, matching, extra });
        // What depends on another table is read again each time.
        let is_clean = table.report.problem_count() == problems_before && !asks_for_others;
        if let Some(cut) = cut.filter(|_| is_clean) {
            cut.keep(table.source.in_file(table.start()), self.readings.len());
        }
        self.readings.push(reading);
    }

    /// Reads the matching keys and adds the route to the table. `errors_before` it was begun.
    fn add_to_table(
        &mut self,
        table: &Table<'_>,
        asks: &[(Box<str>, String)],
        listeners: Option<Vec<ListenerIndex>>,
        mode: Mode,
        errors_before: usize,
    ) -> Option<(TargetRule, Matching, KeyCaptures)> {
        let keys = Keys::read(table, mode);
        let complete = listeners.is_some() && keys.complete;
        let known = complete && table.report.error_count() == errors_before;
        let listeners = match listeners {
            Some(named) if named.is_empty() => tcp::all_of(self.listeners, mode),
            named => named.unwrap_or_default(),
        };
        let spec = keys.spec(listeners);
        let route = RouteIndex(self.routes.len() as u32);
        match self.builder.add(route, &spec) {
            Ok(target) => {
                self.numbers.push(self.builder.last_number());
                self.flawed |= !complete;
                if !known || table.may_say_more() {
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

    /// What its listeners make of connections. What does not go with that is reported.
    fn read_mode(
        &mut self,
        table: &Table<'_>,
        named: Option<&[ListenerIndex]>,
        goes_to: &[UpstreamIndex],
    ) -> Mode {
        let sni = table.get("sni");
        let Some(named) = named else { return Mode::Http };
        let Some(mode) = tcp::mode_of(self.listeners, named, sni.is_some()) else {
            if let Some(list) = table.get("listeners") {
                list.error(
                    "listeners with mode = \"tcp\" beside others",
                    "write a route for each mode",
                );
            }
            self.flawed = true;
            return Mode::Http;
        };
        tcp::check_route(table, mode);
        if let Some(sni) = sni.filter(|_| tcp::has_none(self.listeners, mode)) {
            sni.error("there is no listener with mode = \"tcp\"", "add one, or write hosts");
        }
        if let Some(value) = table.get("grpc_web").filter(|_| table.boolean("grpc_web")) {
            let mut upstreams = goes_to.iter().filter_map(|one| self.upstreams.at(one.0 as usize));
            if let Some((name, _)) = upstreams.find(|(_, one)| !one.http2) {
                value.error(
                    format!("gRPC is spoken in HTTP/2, and the upstream \"{name}\" does not"),
                    "write http = \"h2\" in that [[upstream]]",
                );
            }
        }
        let mut upstreams = goes_to.iter().filter_map(|one| self.upstreams.at(one.0 as usize));
        if let Some((problem, hint)) = upstreams.find_map(|(_, one)| tcp::misfit(one, mode))
            && let Some(value) = table.get("upstream").or_else(|| table.get("split"))
        {
            value.error(problem, hint);
        }
        mode
    }

    /// The listeners it names; `None` if one is not known, which was reported.
    fn read_listeners(&self, table: &Table<'_>) -> Option<Vec<ListenerIndex>> {
        let Some(list) = table.get("listeners") else {
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
        let listeners: Vec<(Box<str>, bool, Mode)> = self
            .listeners
            .values()
            .map(|(name, _, (listener, _))| (name.into(), listener.merge_slashes, listener.mode))
            .collect();
        self.flawed |= self.repeats_an_id();
        let built = match self.before.kept.table() {
            Some(old) => self.build_again(old, &listeners),
            None => Some(self.build()),
        };
        let Some(built) = built else { return self.without_table() };
        self.report_conflicts(&built.conflicts, report);
        if !report.is_incomplete() {
            self.report_unused(report);
        }
        if self.flawed || report.has_errors() {
            return self.without_table();
        }
        let Self { routes, written, readings, .. } = self;
        Routes { routes, written, table: Some(KeptTable { readings, listeners, built }) }
    }

    fn without_table(self) -> Routes {
        let Self { routes, written, .. } = self;
        Routes { routes, written, table: None }
    }

    /// Builds the table of routes all of which were read now.
    fn build(&mut self) -> Arc<Built> {
        let none = TableBuilder::new(0);
        let builder = std::mem::replace(&mut self.builder, none);
        Arc::new(Built::new(builder, std::mem::take(&mut self.numbers)))
    }

    /// Builds the table by the one that there was before; `None` if a route is flawed.
    fn build_again(
        &mut self,
        old: &KeptTable,
        listeners: &[(Box<str>, bool, Mode)],
    ) -> Option<Arc<Built>> {
        if self.flawed {
            return None;
        }
        let same_listeners = old.listeners == listeners;
        if same_listeners && old.is_of(&self.readings) {
            return Some(Arc::clone(&old.built));
        }
        let listeners_of = |fit: &Fit| self.listeners_of(fit).unwrap_or_default();
        let built = if same_listeners && !old.built.is_sparse() {
            Built::again(old, &self.readings, listeners_of)
        } else {
            Built::anew(new_builder(self.listeners), &self.readings, listeners_of)
        };
        built.map(Arc::new)
    }

    /// Whether one of the routes that were taken has the id of another.
    fn repeats_an_id(&self) -> bool {
        if self.before.kept.is_empty() || !self.before.kept.may_repeat(&self.readings) {
            return false;
        }
        let mut seen = HashSet::with_capacity(self.readings.len());
        self.readings.iter().filter_map(|one| one.id.as_ref()).any(|id| !seen.insert(id))
    }

    fn report_conflicts(&self, conflicts: &[Conflict], report: &Report) {
        let name = |route: RouteIndex| {
            let (source, start) = self.starts[route.0 as usize];
            let (place, id) = (source.place(start), &self.routes[route.0 as usize].id);
            (place, format!("\"{id}\" at {}", report.describe(place)))
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
            let position = self.listeners.find(name).and_then(|at| self.listeners.at(at));
            let does = match position.map(|(_, (listener, _))| listener.mode) {
                Some(Mode::Tcp) => "it closes every connection",
                _ => "it answers every request 404",
            };
            let message = format!("no route is for the listener \"{name}\": {does}");
            report.warning(place, "listener", message, "name it in the listeners of a route");
        }
    }
}
