//! `log.access`: a word, a path, or a table.

use std::time::Duration;

use super::{names, table::Table, units, value::Value};
use crate::snapshot::{AccessLog, AccessLogFormat, AccessLogTarget};

/// Of 10,000 requests, all.
const ALL: u16 = 10_000;

/// Reads the key; `None` for off.
pub(super) fn read(value: &Value<'_>) -> Option<AccessLog> {
    if value.is_text() {
        return Some(plain(target(value)?));
    }
    if value.is_table() {
        return read_table(&value.table()?);
    }
    value.wrong_type("a string or a table");
    None
}

fn plain(to: AccessLogTarget) -> AccessLog {
    AccessLog {
        to,
        format: AccessLogFormat::Json,
        sample_per_10k: ALL,
        keep_errors: false,
        keep_slower_than: None,
    }
}

fn read_table(table: &Table<'_>) -> Option<AccessLog> {
    let format = match table.choice("format") {
        "common" => AccessLogFormat::Common,
        "combined" => AccessLogFormat::Combined,
        _ => AccessLogFormat::Json,
    };
    let sample_per_10k = table.get("sample").and_then(|value| value.share()).unwrap_or(ALL);
    let (keep_errors, keep_slower_than) = keep(table);
    let to = table.require("to").and_then(|value| target(&value))?;
    Some(AccessLog { to, format, sample_per_10k, keep_errors, keep_slower_than })
}

/// A file is told from a mistyped word by a slash or a dot in it.
fn target(value: &Value<'_>) -> Option<AccessLogTarget> {
    let text = value.text()?;
    match &*text {
        "off" => None,
        "stdout" => Some(AccessLogTarget::Stdout),
        "" => {
            value.error("an empty path", "write \"off\", \"stdout\" or the path of a file");
            None
        }
        path if path.ends_with('/') => {
            value.error("the path of a directory", format!("write \"{path}access.log\""));
            None
        }
        path if path.contains(['/', '.']) => Some(AccessLogTarget::File(path.into())),
        word => {
            let words = ["off", "stdout"];
            let hint = names::did_you_mean(word, words, || {
                format!("write \"off\", \"stdout\", or \"./{word}\" for a file of that name")
            });
            value.error(format!("\"{}\" is neither a word nor a path", value.shown(word)), hint);
            None
        }
    }
}

fn keep(table: &Table<'_>) -> (bool, Option<Duration>) {
    let (mut errors, mut slower_than): (bool, Option<Duration>) = (false, None);
    let Some(list) = table.get("keep") else { return (false, None) };
    for (text, value) in list.texts() {
        if text == "errors" {
            errors = true;
            continue;
        }
        match units::parse_duration(&text) {
            Ok(duration) => {
                slower_than = Some(slower_than.map_or(duration, |other| other.min(duration)));
            }
            Err((message, hint)) if text.starts_with(|c: char| c.is_ascii_digit()) => {
                value.error(message, hint);
            }
            Err(_) => {
                let hint = names::did_you_mean(&text, ["errors"], || {
                    "write \"errors\", or a duration such as \"500ms\"".into()
                });
                value.error(format!("\"{}\" is not known here", value.shown(&text)), hint);
            }
        }
    }
    (errors, slower_than)
}
