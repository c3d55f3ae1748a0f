//! `route.split` with `split_key` and `split_sticky`.

use super::{
    balance::{read_sticky, request_key},
    links::Named,
    table::Table,
    upstream::UpstreamConfig,
    value::{Pair, Value},
};
use crate::{
    base::ids::UpstreamIndex,
    policy::{
        key::RequestKey,
        split::{CHOICES_MAX, Condition, PlaceCookie, token_of},
    },
    snapshot::split::{Choice, Split, SplitCell, Sticky},
};

/// The split of a route, if it has one. `cores` is one more than the highest number of a core.
///
/// # Errors
/// Something is wrong with it, which was reported.
pub(super) fn read(
    route: &Table<'_>,
    upstreams: &Named<UpstreamConfig>,
    cores: usize,
) -> Result<Option<Split>, ()> {
    let sticky = read_stickiness(route);
    let Some(value) = route.get("split") else {
        for name in ["split_key", "split_sticky"] {
            if let Some(value) = route.get(name) {
                value.error("there is no split", "add split = [...], or remove it");
            }
        }
        return Ok(None);
    };
    if let Some(upstream) = route.get("upstream") {
        upstream.error(
            "there is a split too",
            "remove one: a route has an upstream, or a split that shares its requests out",
        );
    }
    let tables = value.tables();
    let is_whole = value.elements_len() == Some(tables.len());
    let choices: Vec<_> = tables.iter().map(|table| choice(table, upstreams)).collect();
    let is_sound = check(&value, &tables, &choices);
    let choices: Option<Box<[Choice]>> = choices.into_iter().collect();
    let (Some(choices), Some(sticky), true) = (choices, sticky, is_whole && is_sound) else {
        upstreams.use_all(); // which ones were meant is not known
        return Err(());
    };
    let weights: Vec<u32> = choices.iter().map(|choice| choice.weight).collect();
    Ok(Some(Split { choices, sticky, cell: SplitCell::new(&weights, cores), is_watched: false }))
}

fn choice(table: &Table<'_>, upstreams: &Named<UpstreamConfig>) -> Option<Choice> {
    let upstream = table.require("upstream").and_then(|value| {
        let name = value.text()?;
        Some((upstreams.resolve(&name, &value, "upstream")?, name))
    });
    let fields = table.get("headers").map(|value| conditions(&value, false));
    let cookies = table.get("cookies").map(|value| conditions(&value, true));
    let conditions: Vec<Condition> = [fields, cookies].into_iter().flatten().flatten().collect();
    let weight = table.integer_opt("weight").unwrap_or(i64::from(conditions.is_empty()));
    let (position, name) = upstream?;
    Some(Choice {
        upstream: UpstreamIndex(position as u32),
        token: token_of(&name),
        name: name.into(),
        weight: weight as u32,
        conditions: conditions.into(),
    })
}

fn conditions(value: &Value<'_>, is_cookie: bool) -> Vec<Condition> {
    let pairs = value.pairs();
    pairs.iter().filter_map(|pair| condition(pair, is_cookie)).collect()
}

fn condition(pair: &Pair<'_>, is_cookie: bool) -> Option<Condition> {
    let kind = if is_cookie { "cookie" } else { "header" };
    let path = format!("{}.{}", pair.value.path(), pair.name);
    let Some(key) = RequestKey::parse(&format!("{kind}:{}", pair.name)) else {
        let message = format!("\"{}\" is not the name of a {kind}", pair.name);
        pair.value.report.error(pair.name_place, &path, message, "write letters, digits, - and _");
        return None;
    };
    if pair.text.starts_with('~') {
        let message = "a regular expression is not possible here";
        let hint = "write the value itself or \"present\", or a route of its own with headers";
        pair.value.report.error(pair.value.place(), &path, message, hint);
        return None;
    }
    let name = match key {
        RequestKey::Header(name) | RequestKey::Cookie(name) => name,
        _ => return None,
    };
    let value = (*pair.text != *"present").then(|| pair.text.as_bytes().into());
    Some(Condition { is_cookie, name, value })
}

/// What concerns several choices.
fn check(value: &Value<'_>, tables: &[Table<'_>], choices: &[Option<Choice>]) -> bool {
    if choices.len() < 2 || choices.len() > CHOICES_MAX {
        let message = format!("{} of 2 to {CHOICES_MAX} upstreams", choices.len());
        let hint = match choices.len() {
            0 | 1 => "name two upstreams, or write upstream = \"...\"",
            _ => "remove some",
        };
        value.error(message, hint);
        return false;
    }
    let names: Vec<Option<&str>> =
        choices.iter().map(|one| one.as_ref().map(|choice| &*choice.name)).collect();
    let mut is_sound = true;
    for (at, table) in tables.iter().enumerate() {
        if names[at].is_some() && names[..at].contains(&names[at]) {
            table.error("this upstream is in the split already", "remove one, or add the weights");
            is_sound = false;
        }
    }
    if choices.iter().flatten().count() == choices.len()
        && choices.iter().flatten().all(|choice| choice.weight == 0)
    {
        let message = "no upstream has a weight, so requests without a header have nowhere to go";
        value.error(message, "give one of them weight = 1");
        is_sound = false;
    }
    is_sound
}

/// `None` if something is wrong.
fn read_stickiness(route: &Table<'_>) -> Option<Sticky> {
    let (key, cookie) = (route.get("split_key"), route.get("split_sticky"));
    if let (Some(_), Some(cookie)) = (&key, &cookie) {
        cookie.error("there is a split_key too", "remove one: a client has one place");
        return None;
    }
    if let Some(value) = key {
        return request_key(&value).map(Sticky::Key);
    }
    let Some(value) = cookie else { return Some(Sticky::No) };
    let (name, attributes) = read_sticky(&value.table()?)?;
    Some(Sticky::Cookie(PlaceCookie::new(&name, &attributes)))
}
