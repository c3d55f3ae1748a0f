//! What concerns several tables: names and references to them, sections that may stand only once,
//! addresses that clash, and what is missing altogether.

use std::{borrow::Cow, cell::Cell, collections::HashMap, net::SocketAddr};

use super::{
    admin::Admin,
    errors::{Place, Report},
    names,
    route::Routes,
    table::Table,
    value::Value,
};
use crate::snapshot::Listener;

/// Names compared for a did-you-mean; more would make a file full of mistakes slow.
const NEAREST_NAMES_MAX: usize = 2_000;

/// Tables of one kind, by name. One with mistakes in it still lends its name to references.
#[derive(Debug)]
pub(super) struct Named<T> {
    items: Vec<Item<T>>,
    by_name: HashMap<Box<str>, usize>,
    /// Whether the name of one is missing or unusable, so that nothing can be called dangling.
    nameless: bool,
    /// Whether one is not listed, because its name is missing or taken.
    bad: bool,
}

#[derive(Debug)]
struct Item<T> {
    name: Box<str>,
    /// Of its header.
    place: Place,
    /// `None` if there was a mistake, which was reported.
    value: Option<T>,
    used: Cell<bool>,
}

impl<T> Named<T> {
    pub(super) fn new() -> Self {
        Self { items: Vec::new(), by_name: HashMap::new(), nameless: false, bad: false }
    }

    /// Checks and registers the name of a table; the second of the same name is refused.
    pub(super) fn add_name(&mut self, table: &Table<'_>, key: &str) -> Option<Box<str>> {
        let value = table.require(key);
        let name = value.and_then(|value| Some((check_name(&value)?, value)));
        let Some((name, value)) = name else {
            // A name that is there but can't be known, or that may stand on a line that is lost.
            let unknown = value.is_some_and(|value| value.is_text() && value.text().is_none());
            self.nameless |= unknown || table.may_lack_lines();
            self.bad = true;
            return None;
        };
        if let Some(&first) = self.by_name.get(&*name) {
            let first = table.report.describe(self.items[first].place);
            let message =
                format!("the name \"{}\" is already taken at {first}", value.shown(&name));
            value.error(message, "give each its own name");
            self.bad = true;
            return None;
        }
        Some(name.into_owned().into())
    }

    /// Adds a table under its name.
    pub(super) fn push(&mut self, name: Option<Box<str>>, place: Place, value: Option<T>) {
        let Some(name) = name else { return };
        self.by_name.insert(name.clone(), self.items.len());
        self.items.push(Item { name, place, value, used: Cell::new(false) });
    }

    /// The position that a reference means; a dangling one is reported.
    pub(super) fn resolve(&self, name: &str, reference: &Value<'_>, what: &str) -> Option<usize> {
        if let Some(position) = self.find(name) {
            return Some(position);
        }
        if !self.nameless && !reference.report.is_incomplete() {
            let known = || self.items.iter().take(NEAREST_NAMES_MAX).map(|item| &*item.name);
            let hint = names::did_you_mean(name, known(), || match self.items.is_empty() {
                true => format!("there is no [[{what}]] at all; add one"),
                false => {
                    format!("add a [[{what}]] of that name; there are {}", names::list(known()))
                }
            });
            let shown = reference.shown(name);
            reference.error(format!("there is no {what} \"{shown}\""), hint);
        }
        None
    }

    /// The value at the position that a reference means, unless it has mistakes.
    pub(super) fn at(&self, position: usize) -> Option<(&str, &T)> {
        let item = self.items.get(position)?;
        Some((&*item.name, item.value.as_ref()?))
    }

    /// The position of a name, which counts as used.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let position = *self.by_name.get(name)?;
        self.items[position].used.set(true);
        Some(position)
    }

    /// Whether there is none, not even one with mistakes.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && !self.bad
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Counts the one at a position as used.
    pub(super) fn use_at(&self, position: usize) {
        if let Some(item) = self.items.get(position) {
            item.used.set(true);
        }
    }

    /// Counts all as used: a reference could not be read.
    pub(super) fn use_all(&self) {
        self.items.iter().for_each(|item| item.used.set(true));
    }

    /// Name and place of those that no reference means.
    pub(super) fn unused(&self) -> impl Iterator<Item = (&str, Place)> {
        self.items.iter().filter(|item| !item.used.get()).map(|item| (&*item.name, item.place))
    }

    /// Name, place and value of those without mistakes.
    pub(super) fn values(&self) -> impl Iterator<Item = (&str, Place, &T)> {
        self.items.iter().filter_map(|item| Some((&*item.name, item.place, item.value.as_ref()?)))
    }

    /// All values, if none has a mistake.
    pub(super) fn complete(self) -> Option<Vec<T>> {
        if self.bad {
            return None;
        }
        self.items.into_iter().map(|item| item.value).collect()
    }
}

/// A text that can be a name.
pub(super) fn check_name<'a>(value: &Value<'a>) -> Option<Cow<'a, str>> {
    let name = value.text()?;
    if let Some(problem) = names::name_problem(&name) {
        value.error(problem, "write a short text such as \"edge\"");
        return None;
    }
    Some(name)
}

/// The only table of this name in all files; a second one is reported.
pub(super) fn only<'a>(roots: &[Table<'a>], name: &str) -> Option<Table<'a>> {
    let mut found =
        roots.iter().filter_map(|root| root.get(name)).filter_map(|value| value.table());
    let first = found.next()?;
    for other in found {
        let place = first.report.describe(first.place());
        other.error(
            format!("[{name}] is already at {place}"),
            "put its keys there; it can stand in one file only",
        );
    }
    Some(first)
}

/// Reports listeners, and the admin API, that would take each other's connections.
pub(super) fn check_addresses(
    listeners: &Named<(Listener, Place)>,
    admin: &Admin,
    report: &Report,
) {
    struct Taken<'t> {
        place: Place,
        address: SocketAddr,
        key: &'static str,
        who: Cow<'t, str>,
    }
    let mut taken: Vec<Taken<'_>> = Vec::new();
    for (name, _, (listener, place)) in listeners.values() {
        let who = format!("listener \"{name}\"").into();
        taken.push(Taken {
            place: *place,
            address: listener.address,
            key: "listener.address",
            who,
        });
    }
    if let (Some(settings), Some(place)) = (&admin.settings, admin.place) {
        let (address, who) = (settings.address, "the admin API".into());
        taken.push(Taken { place, address, key: "admin.address", who });
    }
    taken.sort_by_key(|one| one.place);
    let mut by_port: HashMap<u16, Vec<&Taken<'_>>> = HashMap::new();
    for second in &taken {
        let others = by_port.entry(second.address.port()).or_default();
        if let Some(first) = others.iter().find(|first| overlap(first.address, second.address)) {
            let message = format!(
                "{} is taken by {} ({}) at {}",
                second.address,
                first.who,
                first.address,
                report.describe(first.place)
            );
            report.error(second.place, second.key, message, "give each its own address or port");
        }
        others.push(second);
    }
    let default = admin.settings.as_ref().filter(|_| admin.place.is_none());
    let Some(default) = default else { return };
    for one in taken.iter().filter(|one| overlap(one.address, default.address)) {
        let message = format!("{} is taken by the admin API ({})", one.address, default.address);
        let hint = "give the admin API another address: [admin] address = \"127.0.0.1:9181\", or \
                    enabled = false";
        report.error(one.place, one.key, message, hint);
    }
}

/// Whether two sockets can't be bound side by side. IPv6 sockets of ringway take IPv6 only, so
/// `0.0.0.0` and `[::]` go together.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let any = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && (any || a.ip() == b.ip())
}

/// Reports a configuration that does nothing.
pub(super) fn check_presence(
    place: Place,
    listeners: &Named<(Listener, Place)>,
    routes: &Routes,
    report: &Report,
) {
    if listeners.is_empty() {
        report.error(
            place,
            "listener",
            "there is no [[listener]], so no client can connect",
            "add [[listener]] with name = \"edge\" and address = \"0.0.0.0:8080\"",
        );
    } else if routes.is_empty() && !report.has_errors() {
        report.warning(
            place,
            "route",
            "there is no [[route]], so every request is answered 404",
            "add [[route]] with upstream = \"...\", and an [[upstream]] of that name",
        );
    }
}
