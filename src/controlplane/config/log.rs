//! `[log]`.

use super::{LogConfig, access, table::Table};

/// Least severity of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// None at all.
    Off,
    /// What failed.
    Error,
    /// What may fail.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// Why it happened.
    Debug,
    /// Every step.
    Trace,
}

/// Reads the section; all defaults if there is none.
pub(super) fn read(table: Option<Table<'_>>) -> LogConfig {
    let Some(table) = table else { return LogConfig { level: Level::Info, access: None } };
    let level = match table.choice("level") {
        "off" => Level::Off,
        "error" => Level::Error,
        "warn" => Level::Warn,
        "debug" => Level::Debug,
        "trace" => Level::Trace,
        _ => Level::Info,
    };
    LogConfig { level, access: table.get("access").and_then(|value| access::read(&value)) }
}
