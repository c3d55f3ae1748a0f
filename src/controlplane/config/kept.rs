//! What was read of routes, kept so that those whose text is as it was are not read again.
//!
//! Of 10,000 routes a change touches a few. [`Cut`] finds the text of each `[[route]]` in a file; those
//! that were read before are hidden from the parser, and what they mean is taken from [`Kept`]. Of
//! each row of them the parser sees the first header, so that what stands before it ends there. Only what was read without any complaint is kept, and depends on nothing but its text: no
//! `${...}`. Names of upstreams and listeners are looked up anew, conflicts are looked for among all.
//! If anything is wrong with a file that was read this way it is read again as a whole, so messages
//! have one source. A table of routes that all match as before is kept as a whole.

use std::{cell::Cell, collections::HashMap, hint::black_box, sync::Arc};

use memchr::{memchr_iter, memmem};

use super::{built::Built, interpolate, text::Source};
use crate::{
    base::{ids::ListenerIndex, pace},
    policy::route::{PathSpec, RouteSpec, ValueSpec},
    snapshot::{Mode, RouteExtra},
};

/// What a route's text begins with; one that is written otherwise is read each time.
const HEADER: &str = "[[route]]";

/// How many routes are looked at together before they are taken: as many cache lines as a processor
/// has under way at once, and several times that.
const FETCHED_COUNT: usize = 64;

/// What one `[[route]]` says, wherever it stands.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) id: Option<Arc<str>>,
    /// One for all routes that are alike in this.
    pub(super) fit: Arc<Fit>,
    pub(super) matching: Matching,
    pub(super) extra: Option<Arc<RouteExtra>>,
}

/// What decides where a route goes, and whether it goes together with the rest.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Fit {
    pub(super) upstream: Box<str>,
    /// As they are written; empty for all.
    pub(super) listeners: Box<[Box<str>]>,
    pub(super) mode: Mode,
    /// Whether it has `sni`, which decides about the mode of one that names no listener.
    pub(super) has_sni: bool,
    pub(super) is_grpc_web: bool,
}

/// What decides which requests a route takes: the keys of a [`RouteSpec`], owned.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Matching {
    hosts: Box<[Box<str>]>,
    path: Path,
    methods: Box<[Box<str>]>,
    headers: Box<[(Box<str>, Box<str>)]>,
    query: Box<[(Box<str>, Box<str>)]>,
    priority: i64,
    /// Whether its target needs the named groups of its regex.
    pub(super) groups: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Path {
    None,
    Pattern(Box<str>),
    Prefix(Box<str>),
    Regex(Box<str>),
}

impl Matching {
    /// A copy of what a spec says, but its listeners and its target.
    pub(super) fn of(spec: &RouteSpec<'_>, groups: bool) -> Self {
        let texts = |list: &[&str]| list.iter().map(|text| Box::from(*text)).collect();
        let pairs = |list: &[(&str, ValueSpec<'_>)]| {
            list.iter().map(|(name, value)| (Box::from(*name), value.text().into())).collect()
        };
        Self {
            hosts: texts(&spec.hosts),
            path: match spec.path {
                PathSpec::None => Path::None,
                PathSpec::Pattern(text) => Path::Pattern(text.into()),
                PathSpec::Prefix(text) => Path::Prefix(text.into()),
                PathSpec::Regex(text) => Path::Regex(text.into()),
            },
            methods: texts(&spec.methods),
            headers: pairs(&spec.headers),
            query: pairs(&spec.query),
            priority: spec.priority,
            groups,
        }
    }

    /// The spec again, without its target.
    pub(super) fn spec(&self, listeners: Vec<ListenerIndex>) -> RouteSpec<'_> {
        fn pairs(list: &[(Box<str>, Box<str>)]) -> Vec<(&str, ValueSpec<'_>)> {
            list.iter().map(|(name, value)| (&**name, ValueSpec::parse(value))).collect()
        }
        RouteSpec {
            listeners,
            hosts: self.hosts.iter().map(|host| &**host).collect(),
            path: match &self.path {
                Path::None => PathSpec::None,
                Path::Pattern(text) => PathSpec::Pattern(text),
                Path::Prefix(text) => PathSpec::Prefix(text),
                Path::Regex(text) => PathSpec::Regex(text),
            },
            methods: self.methods.iter().map(|method| &**method).collect(),
            headers: pairs(&self.headers),
            query: pairs(&self.query),
            priority: self.priority,
            strip_path: false,
            rewrite: None,
        }
    }
}

/// What is kept of the routes of a configuration in force. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Kept(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    files: Vec<KeptFile>,
    table: KeptTable,
}

/// A file as it was, and where its routes stand in it.
#[derive(Debug)]
struct KeptFile {
    name: Box<str>,
    text: Arc<String>,
    routes: Vec<Piece>,
}

/// The text of one route, by offset.
#[derive(Debug)]
struct Piece {
    start: usize,
    end: usize,
    /// Its position among the routes that were read, if what was read of its text is all there is to it.
    position: Option<u32>,
}

/// The routes in their order, and what was made of them.
#[derive(Debug)]
pub(super) struct KeptTable {
    pub(super) readings: Vec<Arc<Reading>>,
    /// Name of each listener, whether it merges slashes, and its mode.
    pub(super) listeners: Vec<(Box<str>, bool, Mode)>,
    pub(super) built: Arc<Built>,
}

impl Reading {
    /// Whether it takes the same requests as another, for the same listeners.
    pub(super) fn matches_as(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other)
            || (self.fit.listeners == other.fit.listeners
                && self.fit.mode == other.fit.mode
                && self.matching == other.matching)
    }
}

impl KeptTable {
    /// Whether these routes match just as those that it was made of.
    pub(super) fn is_of(&self, readings: &[Arc<Reading>]) -> bool {
        let alike = |(a, b): (&Arc<Reading>, &Arc<Reading>)| a.matches_as(b);
        self.readings.len() == readings.len() && self.readings.iter().zip(readings).all(alike)
    }
}

impl Kept {
    /// What is kept of files (name, text, and how it was cut).
    pub(super) fn new(
        files: impl Iterator<Item = (Box<str>, Arc<String>, Cut)>,
        table: KeptTable,
    ) -> Self {
        let file = |(name, text, cut): (_, _, Cut)| KeptFile { name, text, routes: cut.finish() };
        Self(Some(Arc::new(Inner { files: files.map(file).collect(), table })))
    }

    /// What was made of the routes that were read before.
    pub(super) fn table(&self) -> Option<&KeptTable> {
        self.0.as_ref().map(|inner| &inner.table)
    }

    /// Whether routes may have an id twice. Not if their ids stand where they stood before, which is
    /// what a look at ten thousand of them mostly finds, without a table of all.
    pub(super) fn may_repeat(&self, readings: &[Arc<Reading>]) -> bool {
        let old = self.0.as_ref().map_or(&[][..], |inner| &inner.table.readings);
        let is_same =
            |(new, old): (&Arc<Reading>, &Arc<Reading>)| Arc::ptr_eq(new, old) || new.id == old.id;
        readings.len() > old.len() || !readings.iter().zip(old).all(is_same)
    }

    /// Lets go of it. Where this thread [rests between pieces](pace::rest_between_pieces) it does so here.
    pub fn let_go(self) {
        let Some(Inner { files, mut table }) = self.0.and_then(Arc::into_inner) else { return };
        drop(files);
        pace::long_step();
        while !table.readings.is_empty() {
            let rest = table.readings.len().saturating_sub(FETCHED_COUNT);
            fetch_counts(table.readings[rest..].iter());
            table.readings.truncate(rest);
            pace::long_step();
        }
    }

    /// Whether nothing is.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many routes need not be read again.
    #[cfg(test)]
    fn len(&self) -> usize {
        let routes = self.0.iter().flat_map(|inner| &inner.files).flat_map(|file| &file.routes);
        routes.filter(|piece| piece.position.is_some()).count()
    }
}

/// Finds the routes of a text among those of an older one, most of which stand in the same order.
struct Finder<'k> {
    old: &'k KeptFile,
    /// The one that probably comes next.
    next: usize,
    by_text: Option<HashMap<&'k str, usize>>,
}

impl<'k> Finder<'k> {
    fn text(&self, place: usize) -> Option<&'k str> {
        let piece = self.old.routes.get(place)?;
        self.old.text.get(piece.start..piece.end)
    }

    /// The old route with this text. `after`: the text of the route behind it, by which one that was
    /// replaced, removed or put in is known without a search.
    fn find(&mut self, route: &str, after: Option<&str>) -> Option<&'k Piece> {
        let (expected, later) = (self.text(self.next), self.text(self.next + 1));
        let place = if expected == Some(route) {
            Some(self.next)
        } else if later == Some(route) {
            Some(self.next + 1)
        } else if after.is_some() && later == after {
            self.next += 1;
            None
        } else if after.is_some() && expected == after {
            None
        } else {
            let known = self.by_text.take();
            let by_text = known.unwrap_or_else(|| {
                let all = 0..self.old.routes.len();
                all.filter_map(|place| Some((self.text(place)?, place))).collect()
            });
            let place = by_text.get(route).copied();
            self.by_text = Some(by_text);
            place
        };
        let place = place?;
        self.next = place + 1;
        self.old.routes.get(place)
    }
}

/// A route that was read before.
pub(super) struct Taken<'a> {
    /// Its offset in the file.
    pub(super) start: usize,
    pub(super) reading: &'a Arc<Reading>,
    /// The position that it has now, to be told.
    pub(super) position: &'a Cell<Option<u32>>,
}

/// A file cut into its routes.
#[derive(Debug, Default)]
pub(super) struct Cut {
    /// What is left to parse; `None` for all of it.
    rest: Option<Source>,
    /// With the positions that they had.
    routes: Vec<Piece>,
    /// The positions that they have now, if they were read without any complaint, now or before.
    positions: Vec<Cell<Option<u32>>>,
}

impl Cut {
    pub(super) fn new(name: &str, source: &Source, before: &Kept) -> Self {
        let text = &*source.text;
        // With these a line that looks like a header may be none.
        let has = |quotes: &str| memmem::find(text.as_bytes(), quotes.as_bytes()).is_some();
        if has("\"\"\"") || has("'''") {
            return Self::default();
        }
        pace::long_step();
        let mut routes = routes(text);
        let positions = vec![Cell::new(None); routes.len()];
        let old = before.0.iter().flat_map(|inner| &inner.files).find(|file| *file.name == *name);
        let Some(old) = old else { return Self { rest: None, routes, positions } };
        let mut finder = Finder { old, next: 0, by_text: None };
        for place in 0..routes.len() {
            pace::step();
            let piece_text = |piece: &Piece| &text[piece.start..piece.end];
            let found =
                finder.find(piece_text(&routes[place]), routes.get(place + 1).map(piece_text));
            routes[place].position = found.and_then(|piece| piece.position);
        }
        let rest = Some(rest(source, &routes));
        Self { rest, routes, positions }
    }

    /// What is to be parsed of this file.
    pub(super) fn rest<'a>(&'a self, whole: &'a Source) -> &'a Source {
        self.rest.as_ref().unwrap_or(whole)
    }

    /// The routes that were read before, by offset.
    pub(super) fn taken<'a>(&'a self, before: &'a Kept) -> impl Iterator<Item = Taken<'a>> {
        let known = before.table().map_or(&[][..], |table| &table.readings);
        let reading = move |piece: &Piece| known.get(piece.position? as usize);
        let blocks = self.routes.chunks(FETCHED_COUNT).zip(self.positions.chunks(FETCHED_COUNT));
        blocks.flat_map(move |(pieces, positions)| {
            fetch(pieces.iter().filter_map(reading));
            pieces.iter().zip(positions).filter_map(move |(piece, position)| {
                Some(Taken { start: piece.start, reading: reading(piece)?, position })
            })
        })
    }

    /// Keeps the position of the route at an offset, which was read now without any complaint.
    pub(super) fn keep(&self, start: usize, position: usize) {
        if let Ok(place) = self.routes.binary_search_by_key(&start, |piece| piece.start) {
            self.positions[place].set(Some(position as u32));
        }
    }

    /// The routes with the positions that they have now.
    fn finish(self) -> Vec<Piece> {
        let Self { mut routes, positions, .. } = self;
        for (piece, position) in routes.iter_mut().zip(positions) {
            piece.position = position.get();
        }
        routes
    }

    /// How many routes there are.
    pub(super) fn len(&self) -> usize {
        self.routes.len()
    }

    /// Names of routes that the parser does not see.
    pub(super) fn names<'a>(&'a self, before: &'a Kept) -> impl Iterator<Item = &'a str> {
        let known = before.table().map_or(&[][..], |table| &table.readings);
        let name = |piece: &Piece| known.get(piece.position? as usize)?.id.as_deref();
        self.routes.iter().filter_map(name)
    }
}

/// A file without the routes that were read before, but for the first header of each row of them.
fn rest(source: &Source, routes: &[Piece]) -> Source {
    let mut rest = source.without_text();
    let mut taken = routes.iter().filter(|piece| piece.position.is_some()).peekable();
    while let Some(first) = taken.next() {
        let mut end = first.end;
        while let Some(next) = taken.next_if(|next| next.start == end) {
            end = next.end;
        }
        let line_end = end - usize::from(source.text[..end].ends_with('\n'));
        rest.add_and_skip(source, first.start + HEADER.len(), line_end);
    }
    rest.add_and_skip(source, source.text.len(), source.text.len());
    rest
}

/// Looks at what lies behind each reading, all of it side by side. To take a share of something in
/// memory that is in no cache the processor waits for it, and for each in turn: with ten thousand routes
/// that was a third of a reading.
fn fetch<'a>(readings: impl Iterator<Item = &'a Arc<Reading>> + Clone) {
    fetch_counts(readings.clone());
    let id = |one: &Arc<Reading>| one.id.as_ref().map_or(0, Arc::strong_count);
    let extra = |one: &Arc<Reading>| one.extra.as_ref().map_or(0, Arc::strong_count);
    let parts: usize = readings.map(|one| id(one) + extra(one)).sum();
    black_box(parts);
}

/// The same, but only what changes when a share of a reading is taken or given back.
fn fetch_counts<'a>(readings: impl Iterator<Item = &'a Arc<Reading>>) {
    black_box(readings.map(Arc::strong_count).sum::<usize>());
}

/// Whether a header that begins with `route` is written as most are, or is another word.
fn is_plain(header: &str) -> bool {
    let name = header.trim_start_matches(['[', ' ', '\t']);
    header.starts_with(HEADER) || name["route".len()..].starts_with(|c: char| c.is_alphanumeric())
}

/// Where the text of each route begins and ends: at the next header that is not one of its own
/// tables, with all that stands before it.
///
/// A `[` that begins a line inside an array ends a route too early. What is left behind it then has a
/// bracket that was never opened, so the file is not TOML without the route's text, and is read as a
/// whole.
fn routes(text: &str) -> Vec<Piece> {
    let bytes = text.as_bytes();
    let mut found = Vec::with_capacity(memmem::find_iter(bytes, HEADER).count());
    pace::long_step();
    let mut open = None;
    for at in memchr_iter(b'[', bytes) {
        pace::step();
        let indent = bytes[..at].iter().rev().take_while(|byte| b" \t".contains(byte)).count();
        let line = at - indent;
        if line > 0 && bytes[line - 1] != b'\n' {
            continue; // not the first of its line
        }
        let rest = &text[at..];
        if rest.starts_with("[route.") || rest.starts_with("[[route.") {
            continue;
        }
        let name = rest.trim_start_matches(['[', ' ', '\t']);
        if name.starts_with(['"', '\'']) || (name.starts_with("route") && !is_plain(rest)) {
            return Vec::new(); // another way to write a header that may go on with a route
        }
        if let Some(start) = open.take() {
            found.push(Piece { start, end: line, position: None });
        }
        open = (indent == 0 && rest.starts_with(HEADER)).then_some(at);
    }
    let last = |start| Piece { start, end: text.len(), position: None };
    found.extend(open.map(last));
    pace::long_step();
    if interpolate::is_interpolated(text) {
        found.retain(|piece| !interpolate::is_interpolated(&text[piece.start..piece.end]));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        controlplane::config::{self, Base, Loaded, overlay::Overlay},
        policy::route::{Candidate, FieldSource, RouteQuery, RouteTable},
    };

    const TOP: &str = "[admin]\naddress = \"127.0.0.1:1\"\n[[listener]]\nname = \"edge\"\n\
         address = \"127.0.0.1:8080\"\n[[upstream]]\nname = \"u\"\n\
         endpoints = [\"http://127.0.0.1:81\"]\n[[upstream]]\nname = \"v\"\n\
         endpoints = [\"http://127.0.0.1:82\"]\n";

    fn read(text: &str, before: &Kept) -> Result<Loaded, String> {
        let text = format!("{TOP}{text}");
        config::load_with(Base::Text("x", &text), &Overlay::default(), before)
            .map_err(|errors| errors.to_string())
    }

    /// Everything that can be seen of a configuration.
    fn shown(loaded: &Loaded) -> String {
        let config = &loaded.config;
        let paths = ["/", "/a", "/aa", "/b", "/b/x", "/b/x/y", "/7", "/n/7", "/other", "/c/1"];
        let found: Vec<_> = paths.map(|path| candidates(&config.table, path)).into();
        format!("{:?} {:?} {:?} {found:?}", config.routes, config.upstreams, loaded.warnings)
    }

    /// The routes that take a path, in their order.
    fn candidates(table: &RouteTable, path: &str) -> Vec<Candidate> {
        struct Fields;
        impl FieldSource for Fields {
            fn values<'s>(&'s self, _: &[u8]) -> impl Iterator<Item = &'s [u8]> {
                std::iter::once(&b"1"[..])
            }
        }
        let (listener, path) = (ListenerIndex(0), path.as_bytes());
        let host = b"c.test";
        table.explain(&RouteQuery {
            listener,
            host,
            path,
            query: None,
            method: b"GET",
            fields: &Fields,
        })
    }

    /// A text is read the same whatever was read before; `taken`: how many of its routes were not
    /// read again.
    fn reads_alike(before: &str, text: &str, taken: usize) {
        let kept = read(before, &Kept::default()).expect("valid").known.kept;
        let whole = format!("{TOP}{text}");
        let cut = Cut::new("x", &Source::new(0, std::path::Path::new(""), whole), &kept);
        let found = cut.taken(&kept).count();
        assert_eq!(found, taken, "{text}");
        match (read(text, &kept), read(text, &Kept::default())) {
            (Ok(again), Ok(anew)) => {
                assert_eq!(shown(&again), shown(&anew), "{text}");
                assert_eq!(again.known.kept.len(), anew.known.kept.len());
            }
            (again, anew) => assert_eq!(again.map(|_| ()), anew.map(|_| ()), "{text}"),
        }
    }

    const A: &str = "[[route]]\nid = \"a\"\npath = \"/a\"\nupstream = \"u\" # one\n";
    const B: &str = "[[route]]\nid = \"b\"\npath_prefix = \"/b\"\nlisteners = [\"edge\"]\n\
         upstream = \"u\"\nrewrite = \"/x/{rest}\"\n[route.headers]\nx = \"~^1\"\n";
    const C: &str = "[[route]]\npath_regex = \"^/(?<n>[0-9]+)$\"\nrewrite = \"/n/{n}\"\n\
         hosts = [\n  \"c.test\",\n]\nupstream = \"v\"";

    #[test]
    fn what_was_read_before_makes_no_difference() {
        let all = format!("{A}{B}{C}");
        let moved = format!("# more\n\n{C}\n{A}{B}");
        reads_alike(&all, &all, 3);
        reads_alike(&all, &moved, 2); // C ends with a line end now
        reads_alike(&all, &format!("{A}{}{C}", B.replace("/b", "/other")), 2);
        reads_alike(&all, &format!("{A}{B}{A}"), 3); // an id twice
        reads_alike(&all, &format!("{B}{}", C.replace('v', "w")), 1); // a dangling name
        reads_alike(&all, &format!("{A}[route.query]\nq = \"1\"\n{B}"), 1);
        reads_alike(&all, &format!("{A}[[routes]]\n{B}"), 2);
        reads_alike(&all, &format!("{A}{B}upstream = \"u\"\n"), 1); // a key twice
        reads_alike(&all, &format!("{A}[[upstream]]\nname = \"w\"\nendpoints = [\n{B}{C}"), 3);
        reads_alike(&all, "", 0);
        // What the parser does not see does not let anything pass that stands around it.
        let more = "[[upstream]]\nname = \"w\"\nendpoints = [\"http://127.0.0.1:83\"]\n";
        reads_alike(&all, &format!("{A}{B}{more}[route.query]\nq = \"1\"\n{C}"), 3);
        reads_alike(&all, &format!("{A}{B}x = [\n{A}{B}[1]\n]\n{C}"), 3);
        let cut = "[[upstream]]\nname = \"w\"\nendpoints = [\n";
        reads_alike(&all, &format!("{cut}{A}{B}[\"http://127.0.0.1:83\"]\n]\n"), 0);
        reads_alike(&all, &format!("{A}{B}[[route]]\nid = \"a\"\nupstream = \"u\"\n"), 2);
        reads_alike(&all, &format!("[[route]]\nid = \"b\"\nupstream = \"u\"\n{A}{B}"), 2);
    }

    /// Change after change, each on top of what is kept of the one before.
    #[test]
    fn a_row_of_changes_ends_where_one_reading_does() {
        let route = |id: usize, kind: usize, priority: usize| {
            let matching = match kind % 5 {
                0 => format!("path = \"/{id}\""),
                1 => format!("path_prefix = \"/{}\"", ["a", "b", "b/x"][id % 3]),
                2 => format!("path = \"/{{x}}/{}\"\nhosts = [\"*.test\", \"c.test\"]", id % 9),
                3 => format!("path_regex = \"^/{}\"\nmethods = [\"GET\"]", id % 9),
                _ => format!("path = \"/b/{{*rest}}\"\nheaders = {{ x-{id} = \"~[0-9]\" }}"),
            };
            format!(
                "[[route]]\nid = \"r{id}\"\n{matching}\npriority = {priority}\nupstream = \"u\"\n"
            )
        };
        let mut routes: Vec<String> = (0..40).map(|id| route(id, id, id % 4)).collect();
        let mut kept = read(&routes.concat(), &Kept::default()).expect("valid").known.kept;
        let mut random = 5_usize;
        let mut below = |bound: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % bound
        };
        for round in 0..60 {
            let (at, id) = (below(routes.len()), 40 + round);
            match below(4) {
                0 => routes.insert(at, route(id, below(5), below(4))),
                1 => routes[at] = route(id, below(5), below(4)),
                2 => {
                    let moved = routes.remove(at);
                    routes.insert(below(routes.len()), moved);
                }
                _ => drop(routes.remove(at)),
            }
            let text = routes.concat();
            let anew = read(&text, &Kept::default());
            let again = read(&text, &kept);
            match (again, anew) {
                (Ok(again), Ok(anew)) => {
                    assert_eq!(shown(&again), shown(&anew), "{text}");
                    kept = again.known.kept;
                }
                (again, anew) => {
                    assert_eq!(again.map(|_| ()), anew.map(|_| ()), "{text}");
                    routes.remove(at.min(routes.len() - 1));
                }
            }
        }
    }

    /// What it leads to is decided by the mode of its listeners too: no table is shared then.
    #[test]
    fn a_route_for_other_listeners_is_another_one() {
        let tcp = "[[listener]]\nname = \"tcp\"\nmode = \"tcp\"\naddress = \"127.0.0.1:8081\"\n";
        let of = |key: &str| {
            format!("{tcp}{A}[[route]]\nid = \"n\"\n{key} = [\"n.test\"]\nupstream = \"u\"\n")
        };
        let first = read(&of("sni"), &Kept::default()).expect("valid");
        let again = read(&of("hosts"), &first.known.kept).expect("valid");
        let anew = read(&of("hosts"), &Kept::default()).expect("valid");
        let asks = |loaded: &Loaded| {
            [0, 1].map(|listener| loaded.config.table.asks_for_names(ListenerIndex(listener)))
        };
        assert_eq!((asks(&again), asks(&first)), (asks(&anew), [false, true]));
    }

    #[test]
    fn headers_that_are_written_in_other_ways_are_seen() {
        let odd = format!("{A}[ route.query ]\nq = \"1\"\n{B}");
        reads_alike(&odd, &format!("{A}{B}"), 0);
        reads_alike(&format!("{A}{B}"), &odd, 0);
        reads_alike(&format!("{A}[\"route\".query]\nq = \"1\"\n"), A, 0);
        reads_alike(&format!("{A}  [route.query]\nq = \"1\"\n"), A, 0);
        reads_alike(A, &format!("{A}  [[route]]\nid = \"b\"\nupstream = \"u\"\n"), 1);
        let text = format!("{A}description = \"\"\"\n{B}\"\"\"\n");
        reads_alike(&format!("{A}{B}"), &text, 0);
        reads_alike(&text, &format!("{A}{B}"), 0);
    }

    #[test]
    fn what_depends_on_more_than_its_text_is_read_again() {
        let text = A.replace("one", "${PATH}");
        reads_alike(&text, &text, 0);
        let warned = A.replace("path = ", "methods = [\"GTE\"]\npath = ");
        reads_alike(&warned, &warned, 0);
    }

    #[test]
    fn the_last_who_lets_go_frees_all_of_it() {
        let text: String = (0..200).map(|n| A.replace("a\"", &format!("a{n}\""))).collect();
        let loaded = read(&text, &Kept::default()).expect("valid");
        let kept = loaded.known.kept;
        let inner = kept.0.as_ref().expect("something");
        let readings: Vec<_> = inner.table.readings.iter().map(Arc::downgrade).collect();
        kept.clone().let_go();
        assert!(readings.iter().all(|one| one.strong_count() == 1));
        kept.let_go();
        assert!(readings.len() == 200 && readings.iter().all(|one| one.strong_count() == 0));
    }

    #[test]
    fn routes_that_match_alike_share_their_table() {
        let first = read(&format!("{A}{B}{C}"), &Kept::default()).expect("valid");
        let table = |text: &str| read(text, &first.known.kept).expect("valid").config.table;
        let target = B.replace("/x/", "/y/").replace("\"u\"", "\"v\"");
        assert!(Arc::ptr_eq(&table(&format!("{A}{target}{C}")), &first.config.table));
        for other in [
            format!("{A}{B}"),
            format!("{B}{A}{C}"),
            format!("{A}{B}{}", C.replace("/n/{n}", "/n")),
            format!("{}{B}{C}", A.replace("/a", "/aa")),
        ] {
            assert!(!Arc::ptr_eq(&table(&other), &first.config.table), "{other}");
        }
    }
}
