//! The few lines that ringway itself says, to standard error, one line each.

use std::{
    fmt,
    io::Write,
    sync::atomic::{AtomicU8, Ordering::Relaxed},
};

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// What went wrong and needs somebody.
    Error,
    /// What is not as it should be.
    Warn,
    /// Start, reloads, stop.
    Info,
    /// What helps whoever looks for a fault.
    Debug,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// From now on, lines of this level and of the more important ones are written.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Relaxed);
}

/// Something went wrong and needs somebody.
pub fn error(text: fmt::Arguments<'_>) {
    line(Level::Error, "error: ", text);
}

/// Something is not as it should be.
pub fn warn(text: fmt::Arguments<'_>) {
    line(Level::Warn, "warning: ", text);
}

/// Something worth knowing happened.
pub fn info(text: fmt::Arguments<'_>) {
    line(Level::Info, "", text);
}

/// For whoever looks for a fault.
pub fn debug(text: fmt::Arguments<'_>) {
    line(Level::Debug, "", text);
}

/// One write per line, so that lines of several threads do not mix. A text of several lines becomes
/// several, each with the prefix. Standard error that is gone or full is not our problem.
fn line(level: Level, prefix: &str, text: fmt::Arguments<'_>) {
    if level as u8 > LEVEL.load(Relaxed) {
        return;
    }
    let _ = std::io::stderr().lock().write_all(prefixed(prefix, text).as_bytes());
}

fn prefixed(prefix: &str, text: fmt::Arguments<'_>) -> String {
    let text = text.to_string();
    text.lines().map(|line| format!("ringway: {prefix}{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_the_prefix() {
        assert_eq!(
            prefixed("error: ", format_args!("one\ntwo")),
            "ringway: error: one\nringway: error: two\n"
        );
        assert_eq!(prefixed("", format_args!("ready")), "ringway: ready\n");
    }

    #[test]
    fn levels_are_ordered_by_importance() {
        assert!(Level::Error < Level::Warn && Level::Warn < Level::Info);
        assert!(Level::Info < Level::Debug);
    }
}
