//! What two configurations do differently: key by key here, request by request in [`traffic`].
//!
//! Compared is what is meant, not how it is written (see `config::canonical`). Routes without an id
//! have none to be found by: those that mean the same belong together, the others are added and
//! removed.

pub mod traffic;

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use serde::Serialize;
use serde_json::Value;

use super::config::{
    canonical::{self, Meaning, meaning},
    tree::{Item, MASK, Tree},
};

/// One table that is not the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// `route`, `upstream`, `listener`, or a section that stands once.
    pub kind: &'static str,
    /// Its id or name; empty for a section that stands once.
    pub name: Box<str>,
    /// What became of it.
    pub change: What,
    /// The keys that differ; all keys of one that is added or removed.
    pub keys: Vec<KeyChange>,
}

/// What became of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// Only the new configuration has it.
    Added,
    /// Only the old one has it.
    Removed,
    /// Both have it, with other keys.
    Changed,
    /// The routes of both stand in another order, which decides between those of the same rank.
    Reordered,
}

/// A key that is not the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyChange {
    /// `upstream`, `limits.idle_timeout`, `endpoint 127.0.0.1:80`.
    pub key: String,
    /// `None` if it was not there.
    pub old: Option<Value>,
    /// `None` if it is not there any more.
    pub new: Option<Value>,
}

impl fmt::Display for Change {
    /// One line: `route "a" changed: upstream "x" -> "y"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.change, &*self.name) {
            (What::Reordered, _) => {
                return f.write_str(
                    "routes stand in another order, which decides between routes of the same rank",
                );
            }
            (_, "") => write!(f, "[{}] ", self.kind)?,
            (_, name) => write!(f, "{} \"{name}\" ", self.kind)?,
        }
        f.write_str(match self.change {
            What::Added => "added",
            What::Removed => "removed",
            What::Changed | What::Reordered => "changed",
        })?;
        for (position, key) in self.keys.iter().enumerate() {
            f.write_str(if position == 0 { ": " } else { ", " })?;
            match (self.change, &key.old, &key.new) {
                (What::Changed, Some(old), Some(new)) => {
                    write!(f, "{} {old} -> {new}", key.key)?;
                }
                (What::Changed, None, Some(new)) => write!(f, "{} added: {new}", key.key)?,
                (What::Changed, Some(old), None) => write!(f, "{} removed: {old}", key.key)?,
                (_, old, new) => {
                    write!(
                        f,
                        "{} {}",
                        key.key,
                        old.as_ref().or(new.as_ref()).unwrap_or(&Value::Null)
                    )?;
                }
            }
        }
        Ok(())
    }
}

/// Everything that differs: sections, listeners, upstreams, routes, each in the order of the old
/// configuration, then what the new one adds.
pub fn diff(old: &Tree, new: &Tree) -> Vec<Change> {
    let mut changes = Vec::new();
    for section in canonical::sections() {
        let of = |tree: &Tree| {
            let keys = tree.sections.get(section).and_then(Value::as_object).cloned();
            meaning(section, &keys.unwrap_or_default())
        };
        changes.extend(compare(section, "", &of(old), &of(new)));
    }
    diff_items("listener", &old.listeners, &new.listeners, &mut changes);
    diff_items("upstream", &old.upstreams, &new.upstreams, &mut changes);
    diff_items("rollout", &old.rollouts, &new.rollouts, &mut changes);
    let pairs = diff_items("route", &old.routes, &new.routes, &mut changes);
    if !pairs.is_sorted_by_key(|(_, new)| *new) {
        let (name, keys) = ("".into(), Vec::new());
        changes.push(Change { kind: "route", name, change: What::Reordered, keys });
    }
    changes
}

/// Adds what differs between two lists; returns the positions of those that belong together, by
/// old position.
fn diff_items(
    kind: &'static str,
    old: &[Item],
    new: &[Item],
    changes: &mut Vec<Change>,
) -> Vec<(usize, usize)> {
    let meanings = |items: &[Item]| -> Vec<Meaning> {
        items.iter().map(|item| meaning(kind, &item.keys)).collect()
    };
    let (old_means, new_means) = (meanings(old), meanings(new));
    let pairs = pair(old, new, &old_means, &new_means);
    let by_old: HashMap<usize, usize> = pairs.iter().copied().collect();
    let paired: HashSet<usize> = pairs.iter().map(|(_, new)| *new).collect();
    let nothing = Meaning::new();
    for (position, item) in old.iter().enumerate() {
        match by_old.get(&position) {
            Some(&other) => {
                let change = compare(kind, &item.name, &old_means[position], &new_means[other]);
                changes.extend(change);
            }
            None => {
                let keys = key_changes(&told(kind, &item.keys), &nothing);
                changes.push(Change { kind, name: item.name.clone(), change: What::Removed, keys });
            }
        }
    }
    for item in new.iter().enumerate().filter(|(at, _)| !paired.contains(at)).map(|(_, one)| one) {
        let keys = key_changes(&nothing, &told(kind, &item.keys));
        changes.push(Change { kind, name: item.name.clone(), change: What::Added, keys });
    }
    pairs
}

/// What is said of a table that one side lacks: the keys that are written, not the defaults.
fn told(kind: &str, keys: &serde_json::Map<String, Value>) -> Meaning {
    let defaults = meaning(kind, &serde_json::Map::new());
    let mut told = meaning(kind, keys);
    told.retain(|key, value| {
        !matches!(key.as_str(), "id" | "name") && defaults.get(key) != Some(value)
    });
    told
}

/// Positions of the tables that belong together: those of the same name, and routes without an id
/// that mean the same.
pub(super) fn pair(
    old: &[Item],
    new: &[Item],
    old_means: &[Meaning],
    new_means: &[Meaning],
) -> Vec<(usize, usize)> {
    let is_named = |item: &Item| !item.name.starts_with('#');
    let by_name: HashMap<&str, usize> = new
        .iter()
        .enumerate()
        .filter(|(_, item)| is_named(item))
        .map(|(at, item)| (&*item.name, at))
        .collect();
    let text =
        |meaning: &Meaning| meaning.iter().map(|(k, v)| format!("{k}={v};")).collect::<String>();
    let mut by_meaning: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, _) in new.iter().enumerate().rev().filter(|(_, item)| !is_named(item)) {
        by_meaning.entry(text(&new_means[at])).or_default().push(at);
    }
    let mut pairs = Vec::new();
    for (at, item) in old.iter().enumerate() {
        let other = match is_named(item) {
            true => by_name.get(&*item.name).copied(),
            false => by_meaning.get_mut(&text(&old_means[at])).and_then(Vec::pop),
        };
        pairs.extend(other.map(|other| (at, other)));
    }
    pairs
}

fn compare(kind: &'static str, name: &str, old: &Meaning, new: &Meaning) -> Option<Change> {
    let keys = key_changes(old, new);
    let change = Change { kind, name: name.into(), change: What::Changed, keys };
    (!change.keys.is_empty()).then_some(change)
}

/// The keys that differ, by name. A secret differs only in that it is there; a masked one not at
/// all.
fn key_changes(old: &Meaning, new: &Meaning) -> Vec<KeyChange> {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort();
    keys.dedup();
    let masked = |value: &Value| value.as_str() == Some(MASK);
    let change = |key: &String| {
        let (old, new) = (old.get(key), new.get(key));
        let hidden = key == "token" && (old.is_some_and(masked) || new.is_some_and(masked));
        if old == new || (hidden && old.is_some() && new.is_some()) {
            return None;
        }
        let show = |value: &Value| if key == "token" { MASK.into() } else { value.clone() };
        Some(KeyChange { key: key.clone(), old: old.map(show), new: new.map(show) })
    };
    keys.into_iter().filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(old: &str, new: &str) -> Vec<String> {
        let tree = |text: &str| Tree::of_text("x.toml", text);
        diff(&tree(old), &tree(new)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn differences_are_told_key_by_key() {
        let old = r#"
            [[listener]]
            name = "edge"
            address = "127.0.0.1:80"
            [[route]]
            id = "a"
            upstream = "u"
            headers = { x = "1" }
            [[route]]
            id = "gone"
            path = "/gone"
            upstream = "u"
            [[upstream]]
            name = "u"
            endpoints = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
        "#;
        let new = r#"
            [[listener]]
            name = "edge"
            address = "127.0.0.1:80"
            limits = { idle_timeout = "75s" }
            [[route]]
            id = "a"
            upstream = "v"
            headers = { y = "1" }
            timeout = "3s"
            [[upstream]]
            name = "u"
            endpoints = [{ url = "http://127.0.0.1:1", weight = 3 }, "http://127.0.0.1:3"]
            [[upstream]]
            name = "v"
            endpoints = ["http://127.0.0.1:9"]
        "#;
        assert_eq!(
            lines(old, new),
            [
                "listener \"edge\" changed: limits.idle_timeout \"1m\" -> \"75s\"",
                "upstream \"u\" changed: \
                 endpoint 127.0.0.1:1 \"weight 1\" -> \"weight 3\", \
                 endpoint 127.0.0.1:2 removed: \"weight 1\", \
                 endpoint 127.0.0.1:3 added: \"weight 1\"",
                "upstream \"v\" added: endpoint 127.0.0.1:9 \"weight 1\"",
                "route \"a\" changed: headers.x removed: \"1\", headers.y added: \"1\", \
                 timeout added: \"3s\", upstream \"u\" -> \"v\"",
                "route \"gone\" removed: path \"/gone\", upstream \"u\"",
            ]
        );
        assert_eq!(lines(old, old), [""; 0]);
    }

    #[test]
    fn routes_without_an_id_belong_together_if_they_mean_the_same() {
        let route = |path: &str| format!("[[route]]\npath = \"{path}\"\nupstream = \"u\"\n");
        let (a, b, c) = (route("/a"), route("/b"), route("/c"));
        let found = lines(&format!("{a}{b}"), &format!("{c}{a}{b}"));
        assert_eq!(found, ["route \"#1\" added: path \"/c\", upstream \"u\""]);
        assert_eq!(lines(&format!("{a}{b}"), &format!("{b}{a}")).len(), 1, "the order");
    }

    #[test]
    fn a_token_is_never_shown() {
        let token = |text: &str| format!("[admin]\ntoken = \"{text}\"\n");
        let found = lines(&token("old-secret"), &token("new-secret"));
        assert_eq!(found, ["[admin] changed: token \"***\" -> \"***\""]);
        assert_eq!(lines(&token(MASK), &token("new-secret")), [""; 0], "not known");
        assert_eq!(lines("", &token("new-secret")), ["[admin] changed: token added: \"***\""]);
    }
}
