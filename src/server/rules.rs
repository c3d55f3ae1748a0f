//! From a source to rules that the cores can obey: read, check, compile. The same at the start and for
//! every change.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    controlplane::{
        certificates::files,
        compile::{self, Resolve},
        config::{
            self, Base, Config, ConfigErrors, Kept as KeptRoutes, Known, Level, Problem,
            RuntimeConfig, Severity, overlay::Overlay,
        },
        dns::Names,
        export::access_log::Sink,
        log,
        rollout::{self, Saved},
        source::Stamp,
        store::FileStore,
    },
    server::reader::Reader,
    snapshot::{AccessLogTarget, AdminSettings, Snapshot, WorkerSettings},
};

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, or a directory of `*.toml` files.
    Path(PathBuf),
    /// Text that a command made; `name` stands for the file in messages.
    Text {
        /// What messages call it.
        name: String,
        /// TOML.
        text: String,
    },
}

impl Source {
    /// What is read.
    pub(super) fn base(&self) -> Base<'_> {
        match self {
            Self::Path(path) => Base::Path(path),
            Self::Text { name, text } => Base::Text(name, text),
        }
    }

    /// What tells whether its files are others than before, those it names (certificates) included;
    /// `None` for a text.
    pub(super) fn stamp(&self) -> Option<Stamp> {
        Some(self.own_stamp()?.and(files::as_they_are()))
    }

    /// The same without the files it names: together with [`files::as_read`], after they were read, it
    /// says what was read.
    pub(super) fn own_stamp(&self) -> Option<Stamp> {
        match self {
            Self::Path(path) => Some(Stamp::of(path)),
            Self::Text { .. } => None,
        }
    }

    /// What messages and `/v1/status` call it.
    pub fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Text { name, .. } => name.clone(),
        }
    }
}

/// What is read: the source, or what it said before.
#[derive(Debug)]
pub(super) enum OwnBase {
    /// Read now.
    Source(Source),
    /// What was read before.
    Texts(config::tree::Texts),
}

impl OwnBase {
    fn base(&self) -> Base<'_> {
        match self {
            Self::Source(source) => source.base(),
            Self::Texts(texts) => Base::Texts(texts),
        }
    }
}

/// What a start or a reload works with.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) snapshot: Snapshot,
    pub(super) fixed: Fixed,
    pub(super) level: Level,
    pub(super) warnings: Vec<Problem>,
    pub(super) known: Known,
}

/// What a process takes at its start and keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) runtime: RuntimeConfig,
    pub(super) admin: Option<AdminSettings>,
}

impl Fixed {
    /// The keys that differ in `wanted`: what a restart would change. `drain_timeout` is not among
    /// them, it is part of the rules.
    pub(super) fn differences(&self, wanted: &Self) -> Vec<&'static str> {
        let (now, then) = (&self.runtime, &wanted.runtime);
        let cores = |runtime: &RuntimeConfig| -> Vec<usize> {
            runtime.workers.iter().map(|worker| worker.core).collect()
        };
        let differs = |of: fn(&WorkerSettings) -> usize| {
            // Cores that only one of them has are named already.
            let pairs = now.workers.iter().flat_map(|a| then.workers.iter().map(move |b| (a, b)));
            pairs.into_iter().any(|(a, b)| a.core == b.core && of(a) != of(b))
        };
        let address = |admin: &Option<AdminSettings>| admin.as_ref().map(|admin| admin.address);
        let token = |admin: &Option<AdminSettings>| admin.as_ref().map(|admin| admin.token.clone());
        let state_dir =
            |admin: &Option<AdminSettings>| admin.as_ref().map(|admin| admin.state_dir.clone());
        let all = [
            (cores(now) != cores(then), "runtime.cores"),
            (now.driver != then.driver, "runtime.driver"),
            (differs(|worker| worker.pin.into()), "runtime.pin"),
            (differs(|worker| worker.ring_entries as usize), "runtime.ring_entries"),
            (differs(|worker| worker.connections_max), "runtime.connections_max"),
            (differs(|worker| worker.accept_batch), "runtime.accept_batch"),
            (differs(|worker| worker.buffer_bytes), "runtime.buffer_bytes"),
            (differs(|worker| worker.buffers_max), "runtime.buffers_max"),
            (differs(|worker| worker.splice_bytes_min as usize), "runtime.splice_bytes_min"),
            (differs(|worker| worker.pipes_max), "runtime.pipes_max"),
            (differs(|worker| worker.busy_poll.as_nanos() as usize), "runtime.busy_poll"),
            (now.is_spread != then.is_spread, "runtime.spread"),
            (address(&self.admin) != address(&wanted.admin), "admin.address"),
            (token(&self.admin) != token(&wanted.admin), "admin.token"),
            (state_dir(&self.admin) != state_dir(&wanted.admin), "admin.state_dir"),
        ];
        all.into_iter().filter(|(differs, _)| *differs).map(|(_, key)| key).collect()
    }
}

/// What the admin API was told in the lives of the process before this one.
pub(super) struct Kept {
    pub(super) overlay: Arc<Overlay>,
    /// Where it is kept from now on.
    pub(super) store: Option<FileStore>,
    /// The directory of that.
    pub(super) directory: Option<PathBuf>,
}

/// Reads what `[admin] state_dir` holds, if there is one.
///
/// # Errors
/// A state that can't be read, or is damaged: serving without it would be serving other rules.
pub(super) fn kept(source: &Source) -> Result<Kept, ConfigErrors> {
    let Some(directory) = config::state_dir(source.base()) else {
        return Ok(Kept { overlay: Arc::default(), store: None, directory: None });
    };
    let store = FileStore::new(&directory);
    let overlay = store.load().map_err(|text| {
        let (message, hint) = text.rsplit_once("; ").unwrap_or((&text, "look at the file"));
        ConfigErrors(vec![Problem {
            file: store.path().display().to_string().into(),
            line: 1,
            column: 1,
            key: "".into(),
            message: message.into(),
            hint: hint.into(),
            severity: Severity::Error,
        }])
    })?;
    let directory = Some(directory);
    Ok(Kept { overlay: Arc::new(overlay), store: Some(store), directory })
}

/// What the rollouts had come to: as the predecessor said, else as `[admin] state_dir` has it.
pub(super) fn rollouts(inherited: Vec<Saved>, directory: Option<&Path>) -> Vec<Saved> {
    let Some(directory) = directory.filter(|_| inherited.is_empty()) else { return inherited };
    rollout::load(directory).unwrap_or_else(|error| {
        log::error(format_args!(
            "rollouts: what they came to can't be read from {}: {error}; they begin anew",
            directory.display()
        ));
        Vec::new()
    })
}

/// Reads and compiles a source, on the thread for that.
///
/// # Errors
/// Every mistake, with its place and remedy.
pub(super) fn load(
    reader: &Reader,
    base: OwnBase,
    overlay: &Arc<Overlay>,
    before: KeptRoutes,
    version: u64,
) -> Result<Loaded, ConfigErrors> {
    let (overlay, names) = (Arc::clone(overlay), Arc::clone(&reader.names));
    reader
        .run(move || compiled(config::load_with(base.base(), &overlay, &before)?, version, &names))
}

fn compiled(
    loaded: config::Loaded,
    version: u64,
    names: &Arc<Names>,
) -> Result<Loaded, ConfigErrors> {
    let config::Loaded { config, mut warnings, known } = loaded;
    let Config { runtime, admin, log, .. } = &config;
    let fixed = Fixed { runtime: runtime.clone(), admin: admin.clone() };
    let level = log.level;
    let (snapshot, more) = compile::compile(config, version, Resolve::With(names))?;
    warnings.extend(more);
    Ok(Loaded { snapshot, fixed, level, warnings, known })
}

/// How many rules there are, in words.
pub(super) fn summary(snapshot: &Snapshot) -> String {
    let count = |number: usize, noun: &str| match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    };
    let (routes, upstreams) = (snapshot.routes.len(), snapshot.upstreams.len());
    format!("{}, {}", count(routes, "route"), count(upstreams, "upstream"))
}

/// Opens where the access log goes; `None` if it is off.
///
/// # Errors
/// The target's name and what the system said.
pub(super) fn open_log(snapshot: &Snapshot) -> Result<Option<Sink>, (String, io::Error)> {
    let Some(log) = &snapshot.access_log else { return Ok(None) };
    let name = match &log.to {
        AccessLogTarget::Stdout => "standard output".to_owned(),
        AccessLogTarget::File(path) => path.display().to_string(),
    };
    Sink::open(&log.to).map(Some).map_err(|error| (name, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed(runtime: &str) -> Fixed {
        let text = format!(
            "[runtime]\n{runtime}\n[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:8080\"\n\
             [[route]]\nid = \"r\"\nupstream = \"u\"\n[[upstream]]\nname = \"u\"\n\
             endpoints = [\"http://127.0.0.1:1\"]\n"
        );
        let source = Source::Text { name: "test".into(), text };
        let reader = Reader::start().expect("a thread");
        let base = OwnBase::Source(source);
        load(&reader, base, &Arc::default(), KeptRoutes::default(), 1).expect("valid").fixed
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let now = fixed("cores = \"0\"");
        assert!(now.differences(&fixed("cores = \"0\"\ndrain_timeout = \"1s\"")).is_empty());
        let keys = now.differences(&fixed("cores = \"0\"\nring_entries = 64\npin = false"));
        assert_eq!(keys, ["runtime.pin", "runtime.ring_entries"]);
    }
}
