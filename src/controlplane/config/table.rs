//! Typed access to the tables of a file: knows what each table may hold, reports what it may not.
//!
//! A [`Table`] reports unknown keys when it is opened; a getter reports a value that does not fit
//! its declaration in [`super::keys`] and goes on with the default. So every mistake is found in
//! one pass, and a caller never sees a bad value.

use std::{borrow::Cow, time::Duration};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    errors::{Place, Report},
    keys::{Key, Kind, ROOT, SECTIONS, Section},
    names,
    text::Source,
    units,
    value::Value,
};

/// One table of a file, with the declaration of its keys.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    pub(super) source: &'a Source,
    pub(super) report: &'a Report,
    pub(super) section: &'static Section,
    entries: &'a DeTable<'a>,
    /// Offset of its header, or of its brace.
    start: usize,
    /// Whether it holds unknown keys, which may be known ones misspelt.
    misspelt: bool,
}

impl<'a> Table<'a> {
    /// The file itself.
    pub(super) fn root(
        source: &'a Source,
        report: &'a Report,
        tree: &'a Spanned<DeTable<'a>>,
    ) -> Self {
        Self::open(source, report, &ROOT, tree.get_ref(), 0)
    }

    /// A table whose unknown keys are reported now.
    pub(super) fn open(
        source: &'a Source,
        report: &'a Report,
        section: &'static Section,
        entries: &'a DeTable<'a>,
        start: usize,
    ) -> Self {
        let misspelt = entries.keys().any(|name| section.key(name.get_ref()).is_none());
        let table = Self { source, report, section, entries, start, misspelt };
        for (name, value) in entries {
            match section.key(name.get_ref()).map(|key| &key.kind) {
                Some(Kind::Later(instead)) if !is_empty(value.get_ref()) => {
                    table.report_later(name, instead);
                }
                Some(_) => {}
                None => table.report_unknown(name, value.get_ref()),
            }
        }
        table
    }

    /// Offset of its header, or of its brace.
    pub(super) fn start(&self) -> usize {
        self.start
    }

    /// Whether it has no key.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Where its header stands.
    pub(super) fn place(&self) -> Place {
        self.source.place(self.start)
    }

    /// Reports something about the table as a whole.
    pub(super) fn error(&self, message: impl Into<Box<str>>, hint: impl Into<Box<str>>) {
        self.report.error(self.place(), self.section.path, message, hint);
    }

    /// The value of a key, if it is there; that of a misspelt key too, which was reported, so that
    /// its value is checked all the same and the key is not called missing.
    pub(super) fn get(&self, name: &str) -> Option<Value<'a>> {
        let exact = self.entries.get_key_value(name).map(|(_, value)| value);
        let value = exact.or_else(|| self.misspelt_values(name).next())?;
        Some(self.value(name, value))
    }

    fn value(&self, name: &str, value: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        let key = self.declared(name);
        Value { source: self.source, report: self.report, section: self.section, key, value }
    }

    /// The values of unknown keys that look like a known one.
    fn misspelt_values(&self, name: &str) -> impl Iterator<Item = &'a Spanned<DeValue<'a>>> {
        let section = self.section;
        let entries = self.misspelt.then_some(self.entries).into_iter().flatten();
        entries
            .filter(move |(key, _)| {
                section.key(key.get_ref()).is_none()
                    && nearest_key(section, key.get_ref()) == Some(name)
            })
            .map(|(_, value)| value)
    }

    /// The value of a key that must be there; reports at the header if it is not.
    pub(super) fn require(&self, name: &str) -> Option<Value<'a>> {
        let value = self.get(name);
        if value.is_none() {
            self.report_missing(name);
        }
        value
    }

    /// Whether lines of it may be lost because they are not TOML.
    pub(super) fn may_lack_lines(&self) -> bool {
        let place = self.place();
        self.report.has_broken_lines() && {
            let last = self.source.last_line_of_table(self.start);
            self.report.is_broken_between(place.file, place.line, last)
        }
    }

    /// Whether it was meant to say more than its known keys do: a key is unknown, or on a line that
    /// is lost.
    pub(super) fn may_say_more(&self) -> bool {
        let is_unknown = |name: &Spanned<Cow<'_, str>>| self.section.key(name.get_ref()).is_none();
        self.entries.keys().any(is_unknown) || self.may_lack_lines()
    }

    /// Reports that a key is missing, unless it stands there under another name or a line that is not TOML may have held it.
    pub(super) fn report_missing(&self, name: &str) {
        let place = self.place();
        let alias =
            |key: &Spanned<Cow<'_, str>>| self.declared(name).aliases.contains(&&**key.get_ref());
        if self.may_lack_lines() || self.entries.keys().any(alias) {
            return;
        }
        let path = join(self.section.path, name);
        let message = format!("{} has no \"{name}\"", self.section.header());
        let hint = match self.declared(name).kind {
            Kind::Text(example) => format!("add {name} = \"{example}\""),
            Kind::Integer(min, _) => format!("add {name} = {min}"),
            Kind::ManyOrTexts(_) => {
                format!("add {name} = [{{ url = \"http://127.0.0.1:8081\" }}]")
            }
            _ => format!("add {name}"),
        };
        self.report.error(place, &path, message, hint);
    }

    /// `true` or `false`, or the default.
    pub(super) fn boolean(&self, name: &str) -> bool {
        self.boolean_opt(name).unwrap_or(self.declared(name).default == "true")
    }

    /// `true` or `false`, if it is there and one.
    pub(super) fn boolean_opt(&self, name: &str) -> Option<bool> {
        self.get(name)?.boolean()
    }

    /// A number within its range, or the default.
    pub(super) fn integer(&self, name: &str) -> i64 {
        let default = || self.declared(name).default.parse().unwrap_or_default();
        self.integer_opt(name).unwrap_or_else(default)
    }

    /// A number within its range, if it is there and one.
    pub(super) fn integer_opt(&self, name: &str) -> Option<i64> {
        self.get(name)?.integer()
    }

    /// A duration within its range, or the default; `Duration::MAX` for unlimited.
    pub(super) fn duration(&self, name: &str) -> Duration {
        self.duration_opt(name).unwrap_or_else(|| match self.declared(name).default {
            "unlimited" => Duration::MAX,
            default => units::parse_duration(default).unwrap_or_default(),
        })
    }

    /// A duration within its range, if it is there and one.
    pub(super) fn duration_opt(&self, name: &str) -> Option<Duration> {
        self.get(name)?.duration()
    }

    /// A size in bytes within its range, or the default; `u64::MAX` for unlimited.
    pub(super) fn size(&self, name: &str) -> u64 {
        self.size_opt(name).unwrap_or_else(|| match self.declared(name).default {
            "unlimited" => u64::MAX,
            default => units::parse_size(default).unwrap_or_default(),
        })
    }

    /// A size in bytes within its range, if it is there and one.
    pub(super) fn size_opt(&self, name: &str) -> Option<u64> {
        self.get(name)?.size()
    }

    /// A percentage, of 10,000, or the default.
    pub(super) fn share(&self, name: &str) -> u16 {
        let given = self.get(name).and_then(|value| value.share());
        let default = self.declared(name).default;
        given.unwrap_or_else(|| units::parse_share(default).unwrap_or_default())
    }

    /// One of the declared words, or the default.
    pub(super) fn choice(&self, name: &str) -> &'static str {
        let given = self.get(name).and_then(|value| value.choice());
        given.unwrap_or(self.declared(name).default)
    }

    /// The default of a key, as written in TOML.
    pub(super) fn default(&self, name: &str) -> &'static str {
        self.declared(name).default
    }

    /// The table of a key, if it is there and one.
    pub(super) fn table(&self, name: &str) -> Option<Table<'a>> {
        self.get(name)?.table()
    }

    /// The tables of a key; none if it is not there.
    pub(super) fn tables(&self, name: &str) -> Vec<Table<'a>> {
        let exact = self.entries.get_key_value(name).map(|(_, value)| value);
        let values = exact.into_iter().chain(self.misspelt_values(name));
        values.flat_map(|value| self.value(name, value).tables()).collect()
    }

    /// Reports a value that only later versions have.
    pub(super) fn later_message(what: &str) -> String {
        format!("{what} is not available in ringway {} yet", env!("CARGO_PKG_VERSION"))
    }

    fn declared(&self, name: &str) -> &'static Key {
        self.section.key(name).unwrap_or(&UNDECLARED)
    }

    fn report_later(&self, name: &Spanned<Cow<'_, str>>, instead: &str) {
        let place = self.source.place(name.span().start);
        let message = Self::later_message(&format!("\"{}\"", name.get_ref()));
        self.report.error(place, &join(self.section.path, name.get_ref()), message, instead);
    }

    fn report_unknown(&self, name: &Spanned<Cow<'_, str>>, value: &DeValue<'_>) {
        let written = name.get_ref();
        if written.is_empty() && self.source.text[..name.span().start].ends_with(['[', '=']) {
            return; // not TOML, and said so
        }
        let place = self.source.place(name.span().start);
        let is_section = self.section.path.is_empty();
        let message = match value {
            DeValue::Table(_) | DeValue::Array(_) if is_section => {
                format!("unknown section \"{written}\"")
            }
            _ => format!("unknown key \"{written}\""),
        };
        let hint = self.hint_for_unknown(written);
        self.report.error(place, &join(self.section.path, written), message, hint);
    }

    fn hint_for_unknown(&self, written: &str) -> String {
        let lower = written.to_ascii_lowercase();
        let known = || self.section.keys.iter().map(|key| key.name);
        let any = SECTIONS.iter().flat_map(|section| section.keys).map(|key| key.name);
        let alias = |key: &&Key| key.aliases.contains(&&*lower);
        if let Some(name) = known().find(|name| *name == lower) {
            return format!("did you mean \"{name}\"? Names are lower case");
        }
        if let Some(key) = self.section.keys.iter().find(alias) {
            return format!("did you mean \"{}\"?", key.name);
        }
        let homes: Vec<String> = SECTIONS
            .iter()
            .filter(|section| section.key(&lower).is_some())
            .map(|section| match section.path {
                "" => format!("[{lower}] at the top"),
                _ => section.header(),
            })
            .collect();
        if let Some(name) = nearest_key(self.section, &lower) {
            return format!("did you mean \"{name}\"?");
        }
        if !homes.is_empty() {
            return format!("it is a key of {}", homes.join(" and "));
        }
        if let Some(name) = names::nearest(&lower, any) {
            let home = SECTIONS.iter().find(|section| section.key(name).is_some());
            let home = home.map(|section| section.header()).unwrap_or_default();
            return format!("did you mean \"{name}\"? It is a key of {home}");
        }
        let here = self.section.keys.iter().filter(|key| !matches!(key.kind, Kind::Later(_)));
        let here: Vec<&str> = here.map(|key| key.name).collect();
        format!("remove it; keys here: {}", here.join(", "))
    }
}

/// Stands in for a key that no section declares; only a slip in this room can ask for one.
static UNDECLARED: Key =
    Key { name: "", kind: Kind::Boolean, default: "", required: false, doc: "", aliases: &[] };

/// The key of a section that was probably meant.
fn nearest_key(section: &'static Section, written: &str) -> Option<&'static str> {
    names::nearest(written, section.keys.iter().map(|key| key.name))
}

/// `a.b`, or `b` at the top.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A key of a later version that asks for nothing: `plugins = []`.
fn is_empty(value: &DeValue<'_>) -> bool {
    value.as_array().is_some_and(|array| array.is_empty())
}
