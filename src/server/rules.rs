//! From a source to rules that the cores can obey: read, check, compile, open the access log.
//!
//! The same steps at the start and at a reload. What a running process cannot change (addresses of
//! listeners) refuses the reload; what it takes only at its start (`[runtime]`, `[admin]`) is said.

use std::{io, path::PathBuf};

use crate::{
    controlplane::{
        compile::{self, Resolve},
        config::{self, Config, ConfigErrors, Level, Problem, RuntimeConfig},
        export::access_log::Sink,
    },
    rt,
    snapshot::{AccessLogTarget, AdminSettings, Listener, Snapshot},
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
    /// What messages and `/v1/status` call it.
    pub fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Text { name, .. } => name.clone(),
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
}

/// What a process takes at its start and keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) runtime: RuntimeConfig,
    pub(super) admin: Option<AdminSettings>,
}

/// Reads and compiles a source.
///
/// # Errors
/// Every mistake, with its place and remedy.
pub(super) fn load(source: &Source, version: u64) -> Result<Loaded, ConfigErrors> {
    // In a thread of its own: what parsing leaves behind is in that thread's heap, and goes with it.
    let loaded = std::thread::scope(|scope| {
        let parse = scope.spawn(|| match source {
            Source::Path(path) => config::load(path),
            Source::Text { name, text } => config::load_str(name, text),
        });
        parse.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let config::Loaded { config, mut warnings } = loaded?;
    rt::memory::give_back();
    let Config { runtime, admin, log, .. } = &config;
    let fixed = Fixed { runtime: runtime.clone(), admin: admin.clone() };
    let level = log.level;
    let (snapshot, more) = compile::compile(config, version, Resolve::Yes)?;
    warnings.extend(more);
    Ok(Loaded { snapshot, fixed, level, warnings })
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

/// A reload that can be applied.
#[derive(Debug)]
pub(super) struct Reload {
    pub(super) loaded: Loaded,
    pub(super) log: Option<Sink>,
}

/// Does all of a reload that can fail. Takes as long as it takes: not for the control thread.
///
/// # Errors
/// Why the reload is refused, one reason a line.
pub(super) fn prepare(source: &Source, old: &Snapshot) -> Result<Reload, String> {
    let loaded =
        load(source, old.version + 1).map_err(|errors| errors.to_string().trim_end().to_owned())?;
    let moved = listener_changes(&old.listeners, &loaded.snapshot.listeners);
    if !moved.is_empty() {
        return Err(moved.join("\n"));
    }
    let log = open_log(&loaded.snapshot)
        .map_err(|(name, error)| format!("access log: cannot open {name}: {error}"))?;
    Ok(Reload { loaded, log })
}

/// What a reload would have to bind or close: not while the process runs.
fn listener_changes(old: &[Listener], new: &[Listener]) -> Vec<String> {
    let remedy = "listeners change with a restart only";
    let find = |list: &[Listener], name: &str| {
        list.iter().find(|listener| *listener.name == *name).map(|listener| listener.address)
    };
    let mut changes = Vec::new();
    for listener in new {
        let (name, address) = (&listener.name, listener.address);
        match find(old, name) {
            None => changes.push(format!("listener `{name}` is new; {remedy}")),
            Some(was) if was != address => {
                changes.push(format!("listener `{name}` moves from {was} to {address}; {remedy}"));
            }
            Some(_) => {}
        }
    }
    for listener in old {
        if find(new, &listener.name).is_none() {
            changes.push(format!("listener `{}` is gone; {remedy}", listener.name));
        }
    }
    let order = |list: &[Listener]| list.iter().map(|l| l.name.clone()).collect::<Vec<_>>();
    if changes.is_empty() && order(old) != order(new) {
        changes.push(format!("the listeners are in another order; {remedy}"));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controlplane::fixtures;

    fn listeners(all: &[(&str, &str)]) -> Vec<Listener> {
        let template = fixtures::snapshot(1).listeners[0].clone();
        let one = |(name, address): &(&str, &str)| Listener {
            name: (*name).into(),
            address: address.parse().expect("an address"),
            ..template.clone()
        };
        all.iter().map(one).collect()
    }

    #[test]
    fn moved_listeners_are_named() {
        let old = listeners(&[("a", "127.0.0.1:1"), ("b", "127.0.0.1:2")]);
        assert!(listener_changes(&old, &old).is_empty());
        let new = listeners(&[("b", "127.0.0.1:3"), ("c", "127.0.0.1:4")]);
        let changes = listener_changes(&old, &new);
        assert_eq!(changes.len(), 3, "{changes:?}");
        assert!(changes[0].contains("`b` moves from 127.0.0.1:2 to 127.0.0.1:3"));
        assert!(changes[1].contains("`c` is new"));
        assert!(changes[2].contains("`a` is gone"));
        let turned = listeners(&[("b", "127.0.0.1:2"), ("a", "127.0.0.1:1")]);
        assert!(listener_changes(&old, &turned)[0].contains("another order"));
    }
}
