//! `route.retry`.

use super::{table::Table, units, value::Value};
use crate::policy::retry::{Cause, RetryRule};

/// What is tried again unless `on` says something else.
const ON: ([bool; Cause::KINDS], &[u16]) = ([true, true, false, false, false], &[503]);

/// Statuses that may be listed: those below are no failure of an endpoint.
const STATUSES: std::ops::RangeInclusive<u16> = 400..=599;

/// The rule; what is wrong has been reported.
pub(super) fn read(table: &Table<'_>) -> RetryRule {
    let (kinds, statuses) = table.get("on").map_or((ON.0, ON.1.to_vec()), |list| on(&list));
    let body_bytes_max = usize::try_from(table.size("body_bytes_max")).unwrap_or(0);
    RetryRule {
        attempts: table.integer("attempts") as u8,
        kinds,
        statuses: statuses.into(),
        budget_per_10k: share(table, "budget"),
        backoff: table.duration("backoff"),
        per_try_timeout: table.duration_opt("per_try_timeout"),
        non_idempotent: table.boolean("non_idempotent"),
        body_bytes_max,
    }
}

/// A percentage, in parts of 10,000, or the default.
pub(super) fn share(table: &Table<'_>, name: &str) -> u16 {
    let given = table.get(name).and_then(|value| given_share(&value));
    given.unwrap_or_else(|| units::parse_share(table.default(name)).unwrap_or_default())
}

fn given_share(value: &Value<'_>) -> Option<u16> {
    if !value.is_text() {
        value.wrong_type("a percentage such as \"20%\"");
        return None;
    }
    let text = value.text()?;
    units::parse_share(&text).map_err(|(message, hint)| value.error(message, hint)).ok()
}

fn on(list: &Value<'_>) -> ([bool; Cause::KINDS], Vec<u16>) {
    let (mut kinds, mut statuses) = ([false; Cause::KINDS], Vec::new());
    if list.elements_len() == Some(0) {
        list.error("an empty list", "name a cause, or remove route.retry");
    }
    for (text, value) in list.texts() {
        let words = &Cause::NAMES[..Cause::KINDS - 1]; // a status is a number
        if let Some(kind) = words.iter().position(|word| *word == text) {
            kinds[kind] = true;
        } else if *text == *"5xx" {
            statuses.extend(500..=599);
        } else if let Ok(status) = text.parse::<u16>()
            && STATUSES.contains(&status)
        {
            statuses.push(status);
        } else {
            let shown = value.shown(&text);
            let words = super::names::list(words.iter().copied());
            let hint = format!("it takes {words}, \"5xx\" and statuses from \"400\" to \"599\"");
            value.error(format!("\"{shown}\" is not known here"), hint);
        }
    }
    statuses.sort_unstable();
    statuses.dedup();
    (kinds, statuses)
}
