//! What the admin API was told: routes and upstreams that live beside those of the files.
//!
//! An [`Overlay`] becomes TOML and is read as one more file, behind the others: so the API has the
//! validator of the files, message for message, and the file it is kept in is the same text. Never
//! changed: a change makes a new one. The files own what they name: an object of the same name
//! steps aside (it stays in the overlay as a comment) until the files give the name up.

use std::{fmt::Write, sync::Arc};

use serde_json::{Map, Value};

use crate::telemetry::escape::write_json_string;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A `[[route]]`, by its `id`.
    Route,
    /// An `[[upstream]]`, by its `name`.
    Upstream,
}

impl Kind {
    /// Its section in TOML, and the word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Upstream => "upstream",
        }
    }

    /// The key that names one.
    pub const fn name_key(self) -> &'static str {
        match self {
            Self::Route => "id",
            Self::Upstream => "name",
        }
    }
}

/// One route or upstream of the API.
#[derive(Debug, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its id or name.
    pub name: Box<str>,
    /// Its keys, the name among them, as compact JSON with sorted keys.
    json: Box<str>,
    /// The same as TOML: its header, and a line for each key. Made once, as all of them are written
    /// whenever one of them changes.
    toml: Box<str>,
}

impl Object {
    /// An object of this name; the name goes into `keys`.
    pub fn new(kind: Kind, name: &str, mut keys: Map<String, Value>) -> Self {
        keys.insert(kind.name_key().into(), name.into());
        let mut toml = format!("[[{}]]\n", kind.word());
        write_lines(&keys, &mut toml);
        let json = Value::Object(keys).to_string().into();
        Self { kind, name: name.into(), json, toml: toml.into() }
    }

    /// Its keys, the name among them.
    pub fn keys(&self) -> Map<String, Value> {
        match serde_json::from_str(&self.json) {
            Ok(Value::Object(keys)) => keys,
            _ => Map::new(), // `new` wrote an object
        }
    }

    /// Its keys as compact JSON, always the same text for the same keys.
    pub fn json(&self) -> &str {
        &self.json
    }

    /// `route "x"`.
    pub fn title(&self) -> String {
        format!("{} \"{}\"", self.kind.word(), self.name)
    }
}

/// The objects of the API, in the order in which they were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    name: Arc<str>,
    objects: Vec<Arc<Object>>,
}

impl Default for Overlay {
    fn default() -> Self {
        Self::new("the admin API")
    }
}

/// Comment lines in front of the objects.
const HEADER: &str = "# What ringway's admin API was told. Written by ringway: do not edit.\n";

impl Overlay {
    /// Without objects. `name` stands for its file in messages.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), objects: Vec::new() }
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// All objects.
    pub fn objects(&self) -> &[Arc<Object>] {
        &self.objects
    }

    /// The object of a name.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Object>> {
        self.objects.iter().find(|object| object.kind == kind && *object.name == *name)
    }

    /// The same with an object more, or in the place of that with its name: the order of routes
    /// that match equally stays.
    pub fn with(&self, object: Object) -> Self {
        let mut objects = self.objects.clone();
        let same = |other: &Arc<Object>| other.kind == object.kind && other.name == object.name;
        match objects.iter().position(same) {
            Some(place) => objects[place] = Arc::new(object),
            None => objects.push(Arc::new(object)),
        }
        Self { name: Arc::clone(&self.name), objects }
    }

    /// The same without an object.
    pub fn without(&self, kind: Kind, name: &str) -> Self {
        let keep = |object: &&Arc<Object>| object.kind != kind || *object.name != *name;
        let objects = self.objects.iter().filter(keep).cloned().collect();
        Self { name: Arc::clone(&self.name), objects }
    }

    /// Other objects under the same name.
    pub fn replaced(&self, objects: impl IntoIterator<Item = Arc<Object>>) -> Self {
        Self { name: Arc::clone(&self.name), objects: objects.into_iter().collect() }
    }

    /// Its TOML; objects for which `is_aside` says yes as comments, so that lines stay the same.
    pub fn to_toml(&self, is_aside: impl Fn(Kind, &str) -> bool) -> String {
        let mut out = String::from(HEADER);
        for object in &self.objects {
            if !is_aside(object.kind, &object.name) {
                out.push_str(&object.toml);
                continue;
            }
            for line in object.toml.lines() {
                let _ = writeln!(out, "# {line}");
            }
        }
        out
    }

    /// The object that a line of the TOML belongs to.
    pub fn object_at(&self, line: u32) -> Option<&Arc<Object>> {
        self.headers().take_while(|(header, _)| *header <= line).last().map(|(_, object)| object)
    }

    /// The line of the TOML where an object begins; where a new one would, if it isn't there.
    pub(super) fn line_of(&self, kind: Kind, name: &str) -> u32 {
        let mut last = 0;
        for (line, object) in self.headers() {
            if object.kind == kind && *object.name == *name {
                return line;
            }
            last = line;
        }
        last + 1
    }

    /// Each object with the line of its header.
    fn headers(&self) -> impl Iterator<Item = (u32, &Arc<Object>)> {
        let mut next = 1 + HEADER.lines().count() as u32;
        self.objects.iter().map(move |object| {
            let line = next;
            next += object.toml.lines().count() as u32;
            (line, object)
        })
    }
}

/// A whole configuration as TOML: `{"listener": [...], "admin": {...}}`.
pub fn to_toml(sections: &Map<String, Value>) -> String {
    let mut out = String::new();
    let mut table = |header: String, keys: &Map<String, Value>| {
        let _ = writeln!(out, "{header}");
        write_lines(keys, &mut out);
    };
    let mut rest = Map::new();
    for (section, value) in sections {
        let mut quoted = String::new();
        write_key(section, &mut quoted);
        match value {
            Value::Object(keys) => table(format!("[{quoted}]"), keys),
            Value::Array(tables) if !tables.is_empty() && tables.iter().all(Value::is_object) => {
                for keys in tables.iter().filter_map(Value::as_object) {
                    table(format!("[[{quoted}]]"), keys);
                }
            }
            _ => {
                rest.insert(section.clone(), value.clone());
            }
        }
    }
    // Values at the top must stand before the first header.
    let mut top = String::new();
    write_lines(&rest, &mut top);
    top + &out
}

/// Keys and values, a line each.
fn write_lines(keys: &Map<String, Value>, out: &mut String) {
    for (key, value) in keys {
        write_key(key, out);
        out.push_str(" = ");
        write_value(value, out);
        out.push('\n');
    }
}

/// A key, in quotes if it needs them. Source: TOML 1.0, "Keys".
fn write_key(key: &str, out: &mut String) {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !key.is_empty() && key.bytes().all(bare) {
        out.push_str(key);
    } else {
        write_text(key, out);
    }
}

/// A value on one line. TOML's basic strings know every escape that JSON's know. Source: TOML 1.0,
/// "String".
fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::String(text) => write_text(text, out),
        Value::Array(elements) => {
            out.push('[');
            for (position, element) in elements.iter().enumerate() {
                out.push_str(if position > 0 { ", " } else { "" });
                write_value(element, out);
            }
            out.push(']');
        }
        Value::Object(entries) => {
            out.push('{');
            for (position, (key, element)) in entries.iter().enumerate() {
                out.push_str(if position > 0 { ", " } else { " " });
                write_key(key, out);
                out.push_str(" = ");
                write_value(element, out);
            }
            out.push_str(" }");
        }
        Value::Null => out.push_str("\"\""), // refused before it gets here
        Value::Bool(_) | Value::Number(_) => {
            let _ = write!(out, "{value}");
        }
    }
}

fn write_text(text: &str, out: &mut String) {
    let mut bytes = Vec::with_capacity(text.len() + 2);
    write_json_string(text.as_bytes(), &mut bytes);
    out.push_str(&String::from_utf8_lossy(&bytes));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::controlplane::config::tree::Tree;

    fn object(kind: Kind, name: &str, keys: Value) -> Object {
        let Value::Object(keys) = keys else { panic!("an object") };
        Object::new(kind, name, keys)
    }

    #[test]
    fn objects_become_toml_line_by_line() {
        let overlay = Overlay::default()
            .with(object(
                Kind::Upstream,
                "u",
                json!({ "endpoints": [{ "url": "http://a:1", "weight": 2 }] }),
            ))
            .with(object(
                Kind::Route,
                "r \"1\"",
                json!({ "upstream": "u", "headers": { "x y": "\u{7f}\n\\" } }),
            ));
        let text = overlay.to_toml(|_, _| false);
        let lines: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "[[upstream]]",
                "endpoints = [{ url = \"http://a:1\", weight = 2 }]",
                "name = \"u\"",
                "[[route]]",
                "headers = { \"x y\" = \"\\u007f\\n\\\\\" }",
                "id = \"r \\\"1\\\"\"",
                "upstream = \"u\"",
            ]
        );
        for (line, name) in [(2, "u"), (4, "u"), (5, "r \"1\""), (8, "r \"1\"")] {
            assert_eq!(&*overlay.object_at(line).unwrap().name, name, "{line}");
        }
        assert_eq!(overlay.line_of(Kind::Route, "r \"1\""), 5);
        let aside = overlay.to_toml(|kind, _| kind == Kind::Upstream);
        assert_eq!(aside.lines().count(), text.lines().count(), "places stay");
        assert!(aside.contains("# name = \"u\""));
    }

    #[test]
    fn an_object_that_is_replaced_keeps_its_place() {
        let route = |name: &str, to: &str| object(Kind::Route, name, json!({ "upstream": to }));
        let overlay = Overlay::default().with(route("a", "x")).with(route("b", "x"));
        let changed = overlay.with(route("a", "y"));
        let names: Vec<&str> = changed.objects().iter().map(|object| &*object.name).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(changed.get(Kind::Route, "a").unwrap().keys()["upstream"], "y");
        assert_eq!(changed.without(Kind::Route, "a").objects().len(), 1);
        assert_eq!(changed.without(Kind::Upstream, "a"), changed);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            ".{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let map = proptest::collection::btree_map(any::<String>(), inner.clone(), 0..4);
            prop_oneof![
                proptest::collection::vec(inner, 0..4).prop_map(Value::from),
                map.prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever is told comes back as it was, and no text gets out of its place.
        #[test]
        fn every_value_survives_toml(
            keys in proptest::collection::btree_map(any::<String>(), values(), 0..5),
            name in "[a-z\"\\\\\n#\\]]{1,6}",
        ) {
            let made = Object::new(Kind::Route, &name, keys.into_iter().collect());
            let overlay = Overlay::default().with(made);
            let tree = Tree::of_text("x", &overlay.to_toml(|_, _| false));
            prop_assert_eq!(tree.routes.len(), 1);
            prop_assert_eq!(&tree.routes[0].keys, &overlay.objects()[0].keys());
            prop_assert!(tree.sections.is_empty() && tree.upstreams.is_empty());
        }
    }
}
