//! TOML to [`Config`]: every mistake of every file at once, with its place and a remedy.
//!
//! [`load`] is called by `run` (and again on SIGHUP) and `check`, [`load_str`] by the commands that
//! write a configuration themselves, [`load_with`] where the admin API has added to it. A [`Config`] is parsed, not validated: it cannot hold a bad
//! value, so nothing later checks. Steps: text to tree (`syntax`), tree to values (`table`,
//! `value`, against the declarations in `keys`), values to sections (one file each), then what
//! concerns several sections (`links`, `route`). Tests: at each file's end and
//! `tests/config_errors.rs` with the golden messages.

mod access;
mod admin;
mod balance;
mod built;
pub mod canonical;
mod client_tls;
mod cors;
mod defaults;
mod dns;
mod endpoint;
mod errors;
mod files;
mod guards;
mod health_check;
mod hedge;
mod host_header;
mod interpolate;
mod kept;
mod keys;
mod links;
mod listener;
mod log;
mod machine;
mod matching;
mod mirror;
pub mod names;
pub mod overlay;
pub mod reference;
mod retry;
mod rollout;
mod route;
mod runtime;
pub mod schema;
mod split;
mod syntax;
mod table;
mod tcp;
mod text;
mod tls;
pub mod tree;
pub mod units;
mod upstream;
mod value;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use toml::{Spanned, de::DeTable};

pub use self::{
    endpoint::authority,
    errors::{ConfigErrors, Place, Problem, Severity},
    kept::Kept,
    log::Level,
    route::RouteConfig,
    runtime::Driver,
    upstream::{EndpointConfig, EndpointHost, UpstreamConfig},
};
use self::{
    errors::Report,
    files::Files,
    kept::{Cut, KeptTable},
    overlay::{Kind, Overlay},
    table::Table,
    text::Source,
    tree::Texts,
};
use crate::{
    policy::route::RouteTable,
    snapshot::{
        AccessLog, AdminSettings, Listener, WorkerSettings, names::DnsSettings, rollout::Rollout,
    },
};

/// What the files say. Compiled to a snapshot by [`crate::controlplane::compile`].
#[derive(Debug)]
pub struct Config {
    /// `[runtime]`: fixed for the life of the process.
    pub runtime: RuntimeConfig,
    /// `[admin]`, unless it is turned off.
    pub admin: Option<AdminSettings>,
    /// `[log]`.
    pub log: LogConfig,
    /// `[[listener]]`, in the order of the files.
    pub listeners: Vec<Listener>,
    /// `[[route]]`, in the order of the files; indices of the table refer to it.
    pub routes: Vec<RouteConfig>,
    /// `[[upstream]]`, in the order of the files; routes refer to it by index.
    pub upstreams: Vec<UpstreamConfig>,
    /// The routes, compiled while they were checked.
    pub table: Arc<RouteTable>,
    /// `[dns]`.
    pub dns: DnsSettings,
    /// `[[rollout]]`, in the order of the files.
    pub rollouts: Vec<Rollout>,
    /// Names of the files, for [`Place`].
    pub files: Vec<Box<str>>,
}

/// `[runtime]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// One per core, by core; at least one.
    pub workers: Vec<WorkerSettings>,
    /// How a core waits for the kernel.
    pub driver: Driver,
    /// How long requests in flight may take after SIGTERM.
    pub drain_timeout: Duration,
    /// Whether cores hand new connections to those that have fewer.
    pub is_spread: bool,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Least severity of ringway's own messages.
    pub level: Level,
    /// The log of requests, if there is one.
    pub access: Option<AccessLog>,
}

/// A configuration that may be used, and what looks odd about it.
#[derive(Debug)]
pub struct Loaded {
    /// What the files say.
    pub config: Config,
    /// By file, line and column.
    pub warnings: Vec<Problem>,
    /// What was read, to show it and to check changes against it.
    pub known: Known,
}

/// What is kept of the files of a configuration in force.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Their texts.
    pub texts: Texts,
    /// The objects of the admin API that step aside for one of the same name in a file.
    pub aside: Arc<[(Kind, Box<str>)]>,
    /// What the next reading need not read again.
    pub kept: Kept,
}

impl Known {
    /// Whether an object of the admin API steps aside.
    pub fn is_aside(&self, kind: Kind, name: &str) -> bool {
        self.aside.iter().any(|(other, title)| *other == kind && **title == *name)
    }
}

/// Where the files of a configuration are taken from.
#[derive(Clone, Copy, Debug)]
pub enum Base<'a> {
    /// A file or directory, read now.
    Path(&'a Path),
    /// A text in memory, with the name that stands for its file.
    Text(&'a str, &'a str),
    /// What was read before: for a change that must not take up half of an edit of the files.
    Texts(&'a Texts),
}

/// Reads a file, or all `*.toml` files of a directory (in bytewise order of their names; hidden
/// files and directories in it are left alone) as one configuration.
///
/// # Errors
/// Everything that is wrong, by file, line and column; warnings among them.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    load_with(Base::Path(path), &Overlay::default(), &Kept::default())
}

/// Reads a configuration and what the admin API added to it. An object of the API whose name a file
/// has too steps aside, with a warning. `before` is what was kept of an earlier reading: it makes this
/// one quicker and changes nothing else.
///
/// # Errors
/// As [`load`]; problems of the API's objects have the overlay's name as their file.
pub fn load_with(base: Base<'_>, overlay: &Overlay, before: &Kept) -> Result<Loaded, ConfigErrors> {
    let report = Report::default();
    let files = files_of(base, &report);
    load_files(files, overlay, before, report)
}

fn files_of(base: Base<'_>, report: &Report) -> Files {
    match base {
        Base::Path(path) => Files::read(path, report),
        Base::Text(name, text) => {
            Files::of(name, vec![Source::new(report.add_file(name), Path::new(""), text)])
        }
        Base::Texts(texts) => Files::again(texts, report),
    }
}

/// Reads a configuration that is already in memory; `name` stands for the file in messages.
///
/// # Errors
/// As [`load`].
pub fn load_str(name: &str, text: &str) -> Result<Loaded, ConfigErrors> {
    load_with(Base::Text(name, text), &Overlay::default(), &Kept::default())
}

/// Where `[admin]` says that what the API is told is kept. Looks at nothing else, and reports
/// nothing: that is for the load that follows.
pub fn state_dir(base: Base<'_>) -> Option<PathBuf> {
    let report = Report::default();
    let files = files_of(base, &report);
    if !files.contain("state_dir") {
        return None;
    }
    let trees = files.parse(&report);
    let roots: Vec<Table<'_>> =
        trees.iter().map(|(source, tree)| Table::root(source, &report, tree)).collect();
    admin::read(links::only(&roots, "admin")).settings?.state_dir
}

/// Checks one upstream of the admin API by itself: nothing in it refers to other tables, and the
/// others may be many.
///
/// # Errors
/// What is wrong with it, at its places in the TOML of the overlay.
pub fn load_upstream(overlay: &Overlay, name: &str) -> Result<UpstreamConfig, ConfigErrors> {
    let report = Report::default();
    let alone = overlay.replaced(overlay.get(Kind::Upstream, name).cloned());
    let text = alone.to_toml(|_, _| false);
    let source = Source::new(report.add_file(overlay.name()), Path::new(""), text);
    let tree = parse_generated(&source, &report);
    let root = Table::root(&source, &report, &tree);
    let upstream = upstream::read(&[root], &report).complete();
    if let Some(upstream) = upstream.and_then(|mut all| all.pop()).filter(|_| !report.has_errors())
    {
        return Ok(upstream);
    }
    let mut problems = report.finish().0;
    let line = |overlay: &Overlay| overlay.line_of(Kind::Upstream, name);
    let shift = line(overlay) - line(&alone);
    problems.iter_mut().for_each(|problem| problem.line += shift);
    Err(ConfigErrors(problems))
}

fn load_files(
    files: Files,
    overlay: &Overlay,
    before: &Kept,
    report: Report,
) -> Result<Loaded, ConfigErrors> {
    let is_quick = !before.is_empty() && !report.has_errors() && !report.is_incomplete();
    let quick = is_quick.then(|| read_again(&files, overlay, before, &report)).flatten();
    let (read, cuts) = quick.map_or_else(
        || {
            let none = Kept::default();
            let cuts = files.cut(&none, &report);
            let trees = files.parse(&report);
            (read_config(&files, trees, &cuts, overlay, &none, &report), cuts)
        },
        |(read, cuts)| (Some(read), cuts),
    );
    let failed = report.has_errors();
    let texts = files.into_texts(&report);
    let (problems, names) = report.finish();
    match read {
        Some(Read { mut config, aside, table, added }) if !failed => {
            let files = texts.0.iter().zip(cuts);
            let files = files.map(|(file, cut)| (file.name.clone(), Arc::clone(&file.text), cut));
            let added = added.map(|(text, cut)| (overlay.name().into(), Arc::new(text), cut));
            let kept = Kept::new(files.chain(added), table);
            let known = Known { texts, aside: aside.into(), kept };
            config.files = names;
            Ok(Loaded { config, warnings: problems, known })
        }
        _ => Err(ConfigErrors(problems)),
    }
}

/// What a reading of all files yields.
struct Read {
    config: Config,
    aside: Vec<(Kind, Box<str>)>,
    table: KeptTable,
    /// The text of the overlay, and how it was cut.
    added: Option<(String, Cut)>,
}

/// Reads what differs from what was read before; `None`, and nothing reported, if anything is wrong:
/// then all of it has to be read.
fn read_again(
    files: &Files,
    overlay: &Overlay,
    before: &Kept,
    report: &Report,
) -> Option<(Read, Vec<Cut>)> {
    let known = report.file_count();
    let cuts = files.cut(before, report);
    let trees = files.parse_rest(&cuts);
    let read = trees.and_then(|trees| read_config(files, trees, &cuts, overlay, before, report));
    match read {
        Some(read) if !report.has_errors() => Some((read, cuts)),
        _ => {
            report.begin_again(known);
            None
        }
    }
}

/// Reads all sections of all files; `None` if a part of the result is missing.
fn read_config(
    files: &Files,
    trees: Vec<(&Source, Spanned<DeTable<'_>>)>,
    cuts: &[Cut],
    overlay: &Overlay,
    before: &Kept,
    report: &Report,
) -> Option<Read> {
    let mut aside = Vec::new();
    let added = beside(overlay, &trees, cuts, before, &mut aside, report);
    let added = added.map(|source| {
        let cut = Cut::new(overlay.name(), &source, before);
        (source, cut)
    });
    let tree_added = added.as_ref().map(|(source, cut)| {
        let rest = cut.rest(source);
        (rest, parse_generated(rest, report))
    });
    let all = trees.iter().chain(&tree_added);
    let roots: Vec<Table<'_>> =
        all.map(|(source, tree)| Table::root(source, report, tree)).collect();
    let runtime = runtime::read(links::only(&roots, "runtime"));
    let admin = admin::read(links::only(&roots, "admin"));
    let log = log::read(links::only(&roots, "log"));
    let dns = dns::read(links::only(&roots, "dns"));
    let listeners = listener::read(&roots, report);
    links::check_addresses(&listeners, &admin, report);
    let upstreams = upstream::read(&roots, report);
    let added_cut = added.iter().map(|(source, cut)| (source, cut));
    let by_file =
        files.with(cuts).chain(added_cut).map(|(source, cut)| (source.file, (source, cut)));
    let by_file: HashMap<u32, (&Source, &Cut)> = by_file.collect();
    let before = route::Before { kept: before, cuts: by_file };
    let workers = runtime.iter().flat_map(|runtime| &runtime.workers);
    let cores = workers.map(|worker| worker.core + 1).max().unwrap_or(1);
    let others = route::Others { listeners: &listeners, upstreams: &upstreams, cores };
    let rollouts = rollout::read(&roots, &upstreams, report);
    let routes = route::read(&roots, others, &before, report);
    if !report.is_incomplete() {
        links::check_presence(files.place(report), &listeners, &routes, report);
    }
    let (table, mut routes) = routes.finish();
    let keeps = admin.settings.as_ref().is_some_and(|admin| admin.state_dir.is_some());
    let rollouts = rollout::attach(rollouts, &mut routes, cores, keeps, report);
    let table = table?;
    let config = Config {
        runtime: runtime?,
        admin: admin.settings,
        log,
        listeners: listeners.complete()?.into_iter().map(|(listener, _)| listener).collect(),
        routes,
        upstreams: upstreams.complete()?,
        table: Arc::clone(&table.built.table),
        dns: dns?,
        rollouts,
        files: Vec::new(),
    };
    drop(roots);
    drop(tree_added);
    let added = added.map(|(source, cut)| (source.text, cut));
    Some(Read { config, aside, table, added })
}

/// The objects of the API as one more file; those that a file names are left out, and said so.
fn beside(
    overlay: &Overlay,
    trees: &[(&Source, Spanned<DeTable<'_>>)],
    cuts: &[Cut],
    before: &Kept,
    aside: &mut Vec<(Kind, Box<str>)>,
    report: &Report,
) -> Option<Source> {
    if overlay.is_empty() {
        return None;
    }
    let mut owned: HashSet<(Kind, String)> = HashSet::new();
    for (source, tree) in trees {
        for kind in [Kind::Route, Kind::Upstream] {
            owned.extend(tree::names(tree, source, kind).map(|name| (kind, name)));
        }
    }
    for cut in cuts {
        owned.extend(cut.names(before).map(|name| (Kind::Route, name.to_owned())));
    }
    let is_aside = |kind: Kind, name: &str| owned.contains(&(kind, name.to_owned()));
    let text = overlay.to_toml(is_aside);
    let source = Source::new(report.add_file(overlay.name()), Path::new(""), text);
    for object in overlay.objects().iter().filter(|one| is_aside(one.kind, &one.name)) {
        let message = format!("the admin API has a {} too, which steps aside", object.title());
        let place = Place { file: source.file, line: 1, column: 1 };
        report.warning(place, object.kind.word(), message, "remove it from one of the two");
        aside.push((object.kind, object.name.clone()));
    }
    Some(source)
}

/// The tree of the overlay. It is TOML, as it was written from values; if a slip of this room made
/// it something else, no part of it may count.
fn parse_generated<'a>(source: &'a Source, report: &Report) -> Spanned<DeTable<'a>> {
    syntax::parse(&source.text).unwrap_or_else(|| {
        let message = "what the admin API holds can't be written as TOML";
        report.error(source.place(0), "", message, "please report it");
        syntax::parse_repaired(source)
    })
}
