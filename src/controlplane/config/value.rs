//! One value of a configuration: what it must be, and the words for when it is something else.

use std::{borrow::Cow, time::Duration};

use toml::{
    Spanned,
    de::{DeInteger, DeValue},
};

use super::{
    errors::{Place, Report},
    interpolate,
    keys::{Key, Kind, Section},
    names,
    table::{Table, join},
    text::Source,
    units,
};

/// A named string of a table.
pub(super) struct Pair<'a> {
    pub(super) name: &'a str,
    /// Where the name stands.
    pub(super) name_place: Place,
    pub(super) text: Cow<'a, str>,
    pub(super) value: Value<'a>,
}

/// A value, its place, and the declaration of its key.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) source: &'a Source,
    pub(super) report: &'a Report,
    pub(super) section: &'static Section,
    pub(super) key: &'static Key,
    pub(super) value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Value<'a> {
    /// Where it stands.
    pub(super) fn place(&self) -> Place {
        self.source.place(self.value.span().start)
    }

    /// The dotted path of its key.
    pub(super) fn path(&self) -> String {
        join(self.section.path, self.key.name)
    }

    /// Reports what is wrong with it.
    pub(super) fn error(&self, message: impl Into<Box<str>>, hint: impl Into<Box<str>>) {
        self.report.error(self.place(), &self.path(), message, hint);
    }

    /// A string, its expressions replaced.
    pub(super) fn text(&self) -> Option<Cow<'a, str>> {
        match self.value.get_ref() {
            DeValue::String(text) => self.interpolated(text),
            _ => {
                self.wrong_type("a string");
                None
            }
        }
    }

    /// The string as it may be shown to people: expressions as they are written, as they may hold
    /// secrets.
    pub(super) fn shown<'t>(&'t self, text: &'t str) -> &'t str {
        match self.value.get_ref() {
            DeValue::String(raw) if interpolate::is_interpolated(raw) => raw,
            _ => text,
        }
    }

    /// Whether it is a string.
    pub(super) fn is_text(&self) -> bool {
        self.value.get_ref().is_str()
    }

    /// Whether it is a table.
    pub(super) fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        if let Some(flag) = self.value.get_ref().as_bool() {
            return Some(flag);
        }
        match self.expanded() {
            Some(text) if text == "true" => Some(true),
            Some(text) if text == "false" => Some(false),
            _ => {
                self.wrong_type("true or false");
                None
            }
        }
    }

    /// A whole number within the range of its key.
    pub(super) fn integer(&self) -> Option<i64> {
        let Kind::Integer(min, max) = self.key.kind else { return None };
        let number = match self.value.get_ref() {
            DeValue::Integer(number) => Some(parse_integer(number)),
            _ => self.expanded().and_then(|text| text.parse().ok()).map(Some),
        };
        let Some(number) = number else {
            self.wrong_type("a whole number");
            return None;
        };
        let number = number.and_then(|number| i64::try_from(number).ok());
        match number {
            Some(number) if (min..=max).contains(&number) => Some(number),
            _ => {
                let shown = self.raw();
                let nearest = match number {
                    Some(number) if number < min => min,
                    None if shown.starts_with('-') => min,
                    _ => max,
                };
                let message = match (min, max) {
                    (i64::MIN, i64::MAX) => format!("{shown} does not fit into 64 bits"),
                    _ => format!("{shown} is outside {min}..={max}"),
                };
                self.error(message, format!("write {nearest}"));
                None
            }
        }
    }

    /// A duration within the range of its key.
    pub(super) fn duration(&self) -> Option<Duration> {
        let Kind::Duration(min, max, unlimited) = self.key.kind else { return None };
        let text = self.unit_text("a duration such as \"5s\"")?;
        if unlimited && text == "unlimited" {
            return Some(Duration::MAX);
        }
        match units::parse_duration(&text) {
            Ok(duration) if (min..=max).contains(&duration) => Some(duration),
            Ok(duration) => {
                let (min_text, max_text) = (units::show_duration(min), units::show_duration(max));
                let nearest = if duration < min { &min_text } else { &max_text };
                let message =
                    format!("\"{}\" is outside {min_text}..={max_text}", self.shown(&text));
                self.error(message, format!("write \"{nearest}\" or leave the key out"));
                None
            }
            Err((message, hint)) => {
                self.unit_error(&text, message, hint, unlimited);
                None
            }
        }
    }

    /// A size in bytes within the range of its key.
    pub(super) fn size(&self) -> Option<u64> {
        let Kind::Size(min, max, unlimited) = self.key.kind else { return None };
        let text = self.unit_text("a size such as \"64KiB\"")?;
        if unlimited && text == "unlimited" {
            return Some(u64::MAX);
        }
        match units::parse_size(&text) {
            Ok(size) if (min..=max).contains(&size) => Some(size),
            Ok(size) => {
                let (min_text, max_text) = (units::show_size(min), units::show_size(max));
                let nearest = if size < min { &min_text } else { &max_text };
                let message =
                    format!("\"{}\" is outside {min_text}..={max_text}", self.shown(&text));
                self.error(message, format!("write \"{nearest}\""));
                None
            }
            Err((message, hint)) => {
                self.unit_error(&text, message, hint, unlimited);
                None
            }
        }
    }

    /// A percentage, of 10,000.
    pub(super) fn share(&self) -> Option<u16> {
        match units::parse_share(&self.unit_text("a percentage such as \"10%\"")?) {
            Ok(share) => Some(share),
            Err((message, hint)) => {
                self.error(message, hint);
                None
            }
        }
    }

    /// One of the words its key takes.
    pub(super) fn choice(&self) -> Option<&'static str> {
        let (Kind::Choice(choices) | Kind::Choices(choices)) = self.key.kind else { return None };
        let text = self.text()?;
        let found = choices.iter().find(|choice| **choice == text);
        if found.is_none() {
            let shown = self.shown(&text);
            let all = names::list(choices.iter().copied());
            let hint = match names::nearest(&text, choices.iter().copied()) {
                Some(near) => format!("did you mean \"{near}\"? It takes {all}"),
                None => format!("write one of {all}"),
            };
            self.error(format!("\"{shown}\" is not known here"), hint);
        }
        found.copied()
    }

    /// The elements of an array.
    pub(super) fn elements(&self) -> Option<Vec<Value<'a>>> {
        match self.value.get_ref() {
            DeValue::Array(array) => {
                Some(array.iter().map(|value| Value { value, ..*self }).collect())
            }
            _ => {
                self.wrong_type(match self.key.kind {
                    Kind::Texts(_) | Kind::Choices(_) => "an array of strings",
                    _ => "an array",
                });
                None
            }
        }
    }

    /// How many elements it has, if it is an array.
    pub(super) fn elements_len(&self) -> Option<usize> {
        self.value.get_ref().as_array().map(|array| array.len())
    }

    /// The strings of an array, each with its place.
    pub(super) fn texts(&self) -> Vec<(Cow<'a, str>, Value<'a>)> {
        let elements = self.elements().unwrap_or_default();
        elements.into_iter().filter_map(|value| Some((value.text()?, value))).collect()
    }

    /// The named strings of a table, each with the place of its value.
    pub(super) fn pairs(&self) -> Vec<Pair<'a>> {
        let DeValue::Table(table) = self.value.get_ref() else {
            self.wrong_type("a table of names and strings");
            return Vec::new();
        };
        let pair = |(name, value): (&'a Spanned<Cow<'a, str>>, &'a Spanned<DeValue<'a>>)| {
            let value = Value { value, ..*self };
            let path = || join(&self.path(), name.get_ref());
            match value.value.get_ref() {
                DeValue::String(text) => Some(Pair {
                    name: name.get_ref(),
                    name_place: self.source.place(name.span().start),
                    text: value.interpolated(text)?,
                    value,
                }),
                other => {
                    let message = format!("expected a string, found {}", article(other.type_str()));
                    let hint = match other {
                        DeValue::Boolean(true) => "write \"present\", or \"true\" in quotes".into(),
                        DeValue::Table(_) | DeValue::Array(_) => {
                            "write a literal, \"present\" or \"~regex\"".to_owned()
                        }
                        _ => format!("write \"{}\", in quotes", value.raw()),
                    };
                    self.report.error(value.place(), &path(), message, hint);
                    None
                }
            }
        };
        table.iter().filter_map(pair).collect()
    }

    /// A table.
    pub(super) fn table(&self) -> Option<Table<'a>> {
        let (Kind::One(section)
        | Kind::Many(section)
        | Kind::ManyOrTexts(section)
        | Kind::TextOr(section)) = self.key.kind
        else {
            return None;
        };
        match self.value.get_ref() {
            DeValue::Table(entries) => Some(Table::open(
                self.source,
                self.report,
                section,
                entries,
                self.value.span().start,
            )),
            DeValue::Array(array) if matches!(self.key.kind, Kind::One(_)) => {
                let message = format!("there is one {}, not an array of them", self.path());
                self.error(message, format!("write [{}] with single brackets", self.path()));
                let first = array.iter().next()?;
                Value { value: first, ..*self }.table_if_one()
            }
            _ => {
                self.wrong_type("a table");
                None
            }
        }
    }

    fn table_if_one(&self) -> Option<Table<'a>> {
        if self.is_table() { self.table() } else { None }
    }

    /// An array of tables.
    pub(super) fn tables(&self) -> Vec<Table<'a>> {
        if self.is_table() && self.is_implicit() {
            self.report_implicit();
            return Vec::new();
        }
        if self.is_table() {
            let path = self.path();
            let message = format!("expected an array of tables, found a table named {path}");
            self.error(message, format!("write [[{path}]] with two brackets"));
            return self.table().into_iter().collect();
        }
        let Some(elements) = self.elements() else { return Vec::new() };
        elements.iter().filter_map(Value::table).collect()
    }

    /// Whether it is a table without a header or brace of its own: `[a.b]` and `a.b = 1` make an `a`.
    fn is_implicit(&self) -> bool {
        !self.source.text[self.value.span().start..].starts_with(['[', '{'])
    }

    fn report_implicit(&self) {
        let path = self.path();
        let line = self.source.line_range(self.value.span().start);
        let indent = self.source.text[line.clone()].len()
            - self.source.text[line.clone()].trim_start().len();
        let place = self.source.place(line.start + indent);
        let message = format!("this is part of a [[{path}]], but there is none above it");
        self.report.error(place, &path, message, format!("put it below its [[{path}]]"));
        self.report.set_incomplete();
    }

    /// Reports that it is something else than was expected.
    pub(super) fn wrong_type(&self, expected: &str) {
        let found = self.value.get_ref();
        let message = format!("expected {expected}, found {}", article(found.type_str()));
        self.error(message, self.type_hint());
    }

    /// What to write instead of a value of the wrong type.
    fn type_hint(&self) -> String {
        let raw = self.raw();
        let path = self.path();
        let unquoted = raw.trim_matches(['"', '\'']);
        match (&self.key.kind, self.value.get_ref()) {
            (Kind::Text(_) | Kind::TextOr(_), DeValue::Integer(_)) if self.key.name == "cores" => {
                format!("write \"{raw}\" for core {raw} alone, or a list such as \"0-3\"")
            }
            (Kind::Text(example), DeValue::Integer(_)) if example.ends_with('%') => {
                format!("write \"{raw}%\"")
            }
            (Kind::Text(example), DeValue::Integer(_)) if example.contains(':') => {
                let host = example.rsplit_once(':').map_or("", |(host, _)| host);
                format!("write {} = \"{host}:{raw}\"", self.key.name)
            }
            (Kind::Text(example), DeValue::Float(_)) if example.ends_with('%') => {
                format!("write {} = \"{example}\"", self.key.name)
            }
            (Kind::Text(_) | Kind::Texts(_), DeValue::Integer(_) | DeValue::Float(_)) => {
                format!("write \"{raw}\", in quotes")
            }
            (
                Kind::Text(example)
                | Kind::TextOr(Section { keys: [Key { kind: Kind::Text(example), .. }, ..], .. }),
                _,
            ) => {
                format!("write {} = \"{example}\"", self.key.name)
            }
            (Kind::Texts(_) | Kind::Choices(_), DeValue::String(_)) => format!("write [{raw}]"),
            (Kind::Texts(example), _) => format!("write {} = [\"{example}\"]", self.key.name),
            (Kind::Choice(choices) | Kind::Choices(choices), _) => {
                format!("it takes {}", names::list(choices.iter().copied()))
            }
            (Kind::Boolean, DeValue::String(_)) if matches!(unquoted, "true" | "false") => {
                format!("write {unquoted} without quotes")
            }
            (Kind::Boolean, _) => "write true or false".into(),
            (Kind::Integer(..), DeValue::String(_)) if unquoted.parse::<i64>().is_ok() => {
                format!("write {unquoted} without quotes")
            }
            (Kind::Integer(i64::MIN, i64::MAX), _) => "write a whole number".into(),
            (Kind::Integer(min, max), _) => format!("write a number in {min}..={max}"),
            (Kind::Duration(..), DeValue::Integer(_) | DeValue::Float(_)) => {
                format!("write \"{raw}s\" for seconds or \"{raw}ms\" for milliseconds")
            }
            (Kind::Duration(..), _) => "write a number and a unit in quotes: \"5s\"".into(),
            (Kind::Size(..), DeValue::Integer(_))
                if raw.parse::<u64>().is_ok_and(|size| size >= 1024) =>
            {
                format!("write \"{}\"", units::show_size(raw.parse().unwrap_or_default()))
            }
            (Kind::Size(..), DeValue::Integer(_) | DeValue::Float(_)) => {
                format!("write \"{raw}B\" for bytes or \"{raw}KiB\" for kibibytes")
            }
            (Kind::Size(..), _) => "write a number and a unit in quotes: \"64KiB\"".into(),
            (Kind::Pairs, _) => {
                format!("write {} = {{ name = \"value\" }}", self.key.name)
            }
            (Kind::One(_), _) => format!("write a header [{path}] and its keys below"),
            (Kind::Many(_), _) => format!("write [[{path}]] and its keys below"),
            (Kind::ManyOrTexts(inner), DeValue::String(_)) => {
                let first = inner.keys.first().map_or("", |key| key.name);
                format!("write [{{ {first} = {raw} }}]")
            }
            (Kind::ManyOrTexts(inner), _) => match inner.keys.first() {
                Some(Key { name, kind: Kind::Text(example), .. }) => {
                    format!("write [{{ {name} = \"{example}\" }}]")
                }
                _ => "write an array of tables".into(),
            },
            (Kind::TextOr(_), _) => "write a string or a table".into(),
            (Kind::Later(instead), _) => (*instead).to_owned(),
        }
    }

    /// The text of a value with a unit, which must be a string.
    fn unit_text(&self, expected: &str) -> Option<Cow<'a, str>> {
        if self.is_text() {
            return self.text();
        }
        self.wrong_type(expected);
        None
    }

    fn unit_error(&self, text: &str, message: String, hint: String, unlimited: bool) {
        if matches!(
            text,
            "unlimited" | "none" | "off" | "infinite" | "infinity" | "never" | "forever" | "inf"
        ) {
            let message = format!("\"{text}\" is not possible here");
            let hint = match self.key.kind {
                _ if unlimited => "write \"unlimited\"".into(),
                Kind::Duration(_, max, _) => {
                    let max = units::show_duration(max);
                    format!("write a duration up to \"{max}\", or leave the key out")
                }
                _ => hint,
            };
            return self.error(message, hint);
        }
        if unlimited && names::nearest(text, ["unlimited"]).is_some() {
            return self.error(message, "did you mean \"unlimited\"?");
        }
        self.error(message, hint);
    }

    /// The value as the file has it, in one line and not too long.
    fn raw(&self) -> String {
        let text = self.source.text.get(self.value.span()).unwrap_or("");
        text.lines().next().unwrap_or("").chars().take(60).collect()
    }

    /// A string that came out of an expression, which may stand for a number or a flag.
    fn expanded(&self) -> Option<Cow<'a, str>> {
        match self.value.get_ref() {
            DeValue::String(text) if interpolate::is_interpolated(text) => self.interpolated(text),
            _ => None,
        }
    }

    fn interpolated(&self, text: &'a str) -> Option<Cow<'a, str>> {
        match interpolate::interpolate(text, &self.source.directory) {
            Ok(text) => Some(text),
            Err((message, hint)) => {
                self.error(message, hint);
                None
            }
        }
    }
}

/// The number, or `None` if it is longer than 127 bits.
fn parse_integer(number: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

/// `an integer`, `a string`.
fn article(noun: &str) -> String {
    let vowel = noun.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {noun}", if vowel { "an" } else { "a" })
}
