//! TOML to [`Config`]: every mistake of every file at once, with its place and a remedy.
//!
//! [`load`] is called by `run` (and again on SIGHUP) and `check`, [`load_str`] by the commands that
//! write a configuration themselves. A [`Config`] is parsed, not validated: it cannot hold a bad
//! value, so nothing later checks. Steps: text to tree (`syntax`), tree to values (`table`,
//! `value`, against the declarations in `keys`), values to sections (one file each), then what
//! concerns several sections (`links`, `route`). Tests: at each file's end and
//! `tests/config_errors.rs` with the golden messages.

mod access;
mod admin;
mod defaults;
mod endpoint;
mod errors;
mod files;
mod interpolate;
mod keys;
mod links;
mod listener;
mod log;
mod machine;
mod names;
pub mod reference;
mod route;
mod runtime;
pub mod schema;
mod syntax;
mod table;
mod text;
mod units;
mod upstream;
mod value;

use std::{path::Path, sync::Arc, time::Duration};

use self::{errors::Report, files::Files, table::Table, text::Source};
pub use self::{
    errors::{ConfigErrors, Place, Problem, Severity},
    log::Level,
    route::RouteConfig,
    runtime::Driver,
    upstream::{EndpointConfig, EndpointHost, UpstreamConfig},
};
use crate::{
    policy::route::RouteTable,
    snapshot::{AccessLog, AdminSettings, Listener, WorkerSettings},
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
    pub table: RouteTable,
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
}

/// Reads a file, or all `*.toml` files of a directory (in bytewise order of their names; hidden
/// files and directories in it are left alone) as one configuration.
///
/// # Errors
/// Everything that is wrong, by file, line and column; warnings among them.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    load_with(path, &[])
}

/// The same with texts that are read after the files, as if they stood beside them: (name, TOML).
///
/// # Errors
/// As [`load`].
pub fn load_with(path: &Path, more: &[(Box<str>, Arc<str>)]) -> Result<Loaded, ConfigErrors> {
    let report = Report::default();
    let files = Files::read(path, &report).and(more, &report);
    load_files(files, report)
}

/// Reads a configuration that is already in memory; `name` stands for the file in messages.
///
/// # Errors
/// As [`load`].
pub fn load_str(name: &str, text: &str) -> Result<Loaded, ConfigErrors> {
    load_str_with(name, text, &[])
}

/// The same with texts that are read after the first.
///
/// # Errors
/// As [`load`].
pub fn load_str_with(
    name: &str,
    text: &str,
    more: &[(Box<str>, Arc<str>)],
) -> Result<Loaded, ConfigErrors> {
    let report = Report::default();
    let source = Source::new(report.add_file(name), Path::new(""), text);
    load_files(Files::of(name, vec![source]).and(more, &report), report)
}

fn load_files(files: Files, report: Report) -> Result<Loaded, ConfigErrors> {
    let config = read_config(&files, &report);
    drop(files);
    let failed = report.has_errors();
    let (problems, names) = report.finish();
    match config {
        Some(mut config) if !failed => {
            config.files = names;
            Ok(Loaded { config, warnings: problems })
        }
        _ => Err(ConfigErrors(problems)),
    }
}

/// Reads all sections of all files; `None` if a part of the result is missing.
fn read_config(files: &Files, report: &Report) -> Option<Config> {
    let trees = files.parse(report);
    let roots: Vec<Table<'_>> =
        trees.iter().map(|(source, tree)| Table::root(source, report, tree)).collect();
    let runtime = runtime::read(links::only(&roots, "runtime"));
    let admin = admin::read(links::only(&roots, "admin"));
    let log = log::read(links::only(&roots, "log"));
    let listeners = listener::read(&roots, report);
    links::check_addresses(&listeners, &admin, report);
    let upstreams = upstream::read(&roots, report);
    let routes = route::read(&roots, &listeners, &upstreams, report);
    if !report.is_incomplete() {
        links::check_presence(files.place(report), &listeners, &routes, report);
    }
    let (table, routes) = routes.finish();
    Some(Config {
        runtime: runtime?,
        admin: admin.settings,
        log,
        listeners: listeners.complete()?.into_iter().map(|(listener, _)| listener).collect(),
        routes,
        upstreams: upstreams.complete()?,
        table: table?,
        files: Vec::new(),
    })
}
