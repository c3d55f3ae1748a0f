//! `[runtime]` and `[[runtime.core]]`.

use std::collections::{BTreeMap, BTreeSet};

use super::{RuntimeConfig, defaults, machine, table::Table, value::Value};
use crate::snapshot::WorkerSettings;

/// How a core waits for the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// `io_uring` where it works, epoll elsewhere.
    #[default]
    Auto,
    /// `io_uring`, or no start at all.
    IoUring,
    /// epoll.
    Epoll,
}

/// Reads the section; all defaults if there is none.
pub(super) fn read(table: Option<Table<'_>>) -> Option<RuntimeConfig> {
    match table {
        Some(table) => read_table(&table),
        None => defaults::with("[runtime]", |root| read_table(&root.table("runtime")?)),
    }
}

fn read_table(table: &Table<'_>) -> Option<RuntimeConfig> {
    let all = settings(table);
    let driver = driver(table);
    let drain_timeout = table.duration("drain_timeout");
    let is_spread = table.choice("spread") == "connections";
    let cores = cores(table);
    let mut overrides = overrides(table, cores.as_ref());
    let cores = cores?;
    let worker = |(number, core): (usize, &usize)| {
        let all = match overrides.remove(core) {
            Some(given) => override_settings(&all, &given),
            None => all.clone(),
        };
        WorkerSettings { core: *core, number: number as u32, count: cores.len() as u32, ..all }
    };
    let workers = cores.iter().enumerate().map(worker).collect();
    Some(RuntimeConfig { workers, driver, drain_timeout, is_spread })
}

/// What `[runtime]` says of every core.
fn settings(table: &Table<'_>) -> WorkerSettings {
    WorkerSettings {
        core: 0,
        number: 0,
        count: 0,
        pin: table.boolean("pin"),
        ring_entries: ring_entries(table).unwrap_or(table.integer("ring_entries") as u32),
        connections_max: table.integer("connections_max") as usize,
        accept_batch: table.integer("accept_batch") as usize,
        buffer_bytes: table.size("buffer_bytes") as usize,
        buffers_max: table.integer("buffers_max") as usize,
        splice_bytes_min: table.size("splice_bytes_min"),
        pipes_max: table.integer("pipes_max") as usize,
        busy_poll: table.duration("busy_poll"),
    }
}

/// The same for one core, where its table says otherwise.
fn override_settings(all: &WorkerSettings, given: &Table<'_>) -> WorkerSettings {
    let number = |name, all: usize| given.integer_opt(name).map_or(all, |number| number as usize);
    WorkerSettings {
        pin: given.boolean_opt("pin").unwrap_or(all.pin),
        ring_entries: ring_entries(given).unwrap_or(all.ring_entries),
        connections_max: number("connections_max", all.connections_max),
        accept_batch: number("accept_batch", all.accept_batch),
        buffer_bytes: given.size_opt("buffer_bytes").map_or(all.buffer_bytes, |it| it as usize),
        buffers_max: number("buffers_max", all.buffers_max),
        splice_bytes_min: given.size_opt("splice_bytes_min").unwrap_or(all.splice_bytes_min),
        pipes_max: number("pipes_max", all.pipes_max),
        busy_poll: given.duration_opt("busy_poll").unwrap_or(all.busy_poll),
        ..all.clone()
    }
}

fn ring_entries(table: &Table<'_>) -> Option<u32> {
    let value = table.get("ring_entries")?;
    let entries = value.integer()? as u32;
    if !entries.is_power_of_two() {
        let hint =
            format!("write {} or {}", entries.next_power_of_two() / 2, entries.next_power_of_two());
        value.error(format!("{entries} is not a power of two"), hint);
    }
    Some(entries)
}

fn driver(table: &Table<'_>) -> Driver {
    match table.choice("driver") {
        "io_uring" => Driver::IoUring,
        "epoll" => Driver::Epoll,
        _ => Driver::Auto,
    }
}

/// The cores to run on; `None` if they are not known, which was reported.
fn cores(table: &Table<'_>) -> Option<BTreeSet<usize>> {
    let Some(value) = table.get("cores") else { return Some(machine::allowed_cores()) };
    let text = value.text()?;
    if text == "all" {
        return Some(machine::allowed_cores());
    }
    let cores = match machine::parse_list(&text) {
        Ok(cores) => cores,
        Err((message, hint)) => {
            value.error(message, hint);
            return None;
        }
    };
    let online = machine::online_cores();
    let missing: BTreeSet<usize> = cores.difference(&online).copied().collect();
    if !missing.is_empty() {
        let message = format!("core {} is not online", machine::show_list(&missing));
        let hint = format!("online: \"{}\"; or write \"all\"", machine::show_list(&online));
        value.error(message, hint);
        return None;
    }
    Some(cores)
}

/// The tables of single cores, by core.
fn overrides<'a>(table: &Table<'a>, cores: Option<&BTreeSet<usize>>) -> BTreeMap<usize, Table<'a>> {
    let mut overrides: BTreeMap<usize, (Table<'a>, Value<'a>)> = BTreeMap::new();
    for given in table.tables("core") {
        override_settings(&settings(table), &given); // for its messages, whatever the id is
        let Some(value) = given.require("id") else { continue };
        let Some(id) = value.integer() else { continue };
        let id = id as usize;
        if let Some(cores) = cores.filter(|cores| !cores.contains(&id)) {
            let message = format!("core {id} is not one that ringway runs on");
            value.error(message, format!("runtime.cores has {}", machine::show_list(cores)));
        }
        if let Some((_, first)) = overrides.get(&id) {
            let message =
                format!("core {id} is already set at {}", given.report.describe(first.place()));
            value.error(message, "put its keys into one [[runtime.core]]");
            continue;
        }
        overrides.insert(id, (given, value));
    }
    overrides.into_iter().map(|(id, (table, _))| (id, table)).collect()
}
