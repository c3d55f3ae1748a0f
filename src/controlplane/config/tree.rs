//! Configurations as data: what is written, key by key, for people and programs that read it back.
//!
//! Expressions (`${NAME}`) stand as they are written and the token is masked: what they stand for
//! may be a secret.

use std::{path::PathBuf, sync::Arc};

use serde_json::{Map, Value, json};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Known,
    errors::Report,
    interpolate,
    overlay::{Kind, Overlay},
    syntax,
    text::Source,
};

/// What stands for a secret.
pub const MASK: &str = "***";

/// The texts of a configuration that was accepted.
#[derive(Clone, Debug, Default)]
pub struct Texts(pub(super) Arc<[Text]>);

/// One file as it was read.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) name: Box<str>,
    pub(super) directory: PathBuf,
    pub(super) text: Arc<String>,
}

/// A table of a configuration, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its id or name; `#` and a number for a route without id.
    pub name: Box<str>,
    /// The file; empty for one of the admin API.
    pub file: Box<str>,
    /// The line of its header, from 1; 0 for one of the admin API.
    pub line: u32,
    /// Its keys.
    pub keys: Map<String, Value>,
}

/// All tables of a configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    /// `[runtime]`, `[admin]`, `[log]`: those that are written.
    pub sections: Map<String, Value>,
    /// `[[listener]]`.
    pub listeners: Vec<Item>,
    /// `[[route]]`.
    pub routes: Vec<Item>,
    /// `[[upstream]]`.
    pub upstreams: Vec<Item>,
    /// `[[rollout]]`.
    pub rollouts: Vec<Item>,
}

impl Tree {
    /// The tables of texts that were accepted.
    pub fn read(texts: &Texts) -> Self {
        let mut tree = Self::default();
        for text in texts.0.iter() {
            tree.add(text);
        }
        tree
    }

    /// The tables of one text; what is not TOML in it is left out.
    pub fn of_text(name: &str, text: &str) -> Self {
        let mut tree = Self::default();
        tree.add(&Text {
            name: name.into(),
            directory: PathBuf::new(),
            text: Arc::new(text.into()),
        });
        tree
    }

    /// Adds what the admin API said.
    pub fn add_overlay(&mut self, overlay: &Overlay, known: &Known) {
        for object in overlay.objects() {
            if !known.is_aside(object.kind, &object.name) {
                let items = match object.kind {
                    Kind::Route => &mut self.routes,
                    Kind::Upstream => &mut self.upstreams,
                };
                items.push(Item {
                    name: object.name.clone(),
                    file: "".into(),
                    line: 0,
                    keys: object.keys(),
                });
            }
        }
    }

    /// The tables of one kind.
    pub fn items(&self, kind: Kind) -> &[Item] {
        match kind {
            Kind::Route => &self.routes,
            Kind::Upstream => &self.upstreams,
        }
    }

    /// The shape of the TOML as JSON, secrets masked.
    pub fn to_json(&self) -> Value {
        let list = |items: &[Item]| -> Value {
            items.iter().map(|item| Value::Object(item.keys.clone())).collect()
        };
        let mut out = self.sections.clone();
        mask(&mut out);
        out.insert("listener".into(), list(&self.listeners));
        out.insert("route".into(), list(&self.routes));
        out.insert("upstream".into(), list(&self.upstreams));
        if !self.rollouts.is_empty() {
            out.insert("rollout".into(), list(&self.rollouts));
        }
        Value::Object(out)
    }

    fn add(&mut self, text: &Text) {
        let report = Report::default();
        let source = Source::new(report.add_file(&text.name), &text.directory, &*text.text);
        let tree = syntax::parse_repaired(&source);
        for (key, value) in tree.get_ref() {
            let (key, items) = match &**key.get_ref() {
                "listener" => ("name", &mut self.listeners),
                "route" => ("id", &mut self.routes),
                "upstream" => ("name", &mut self.upstreams),
                "rollout" => ("name", &mut self.rollouts),
                section => {
                    self.sections.insert(section.into(), to_json(value.get_ref()));
                    continue;
                }
            };
            for value in value.get_ref().as_array().into_iter().flatten() {
                let DeValue::Table(table) = value.get_ref() else { continue };
                items.push(Item {
                    name: match name_of(table, key, &source) {
                        Some(name) => name.into(),
                        None => format!("#{}", items.len() + 1).into(),
                    },
                    file: text.name.clone(),
                    line: source.place(value.span().start).line,
                    keys: entries(table),
                });
            }
        }
    }
}

/// The name in a table, its expressions replaced.
pub(super) fn name_of(table: &DeTable<'_>, key: &str, source: &Source) -> Option<String> {
    let name = table.get(key)?.get_ref().as_str()?;
    interpolate::interpolate(name, &source.directory).ok().map(|name| name.into_owned())
}

/// The names of the tables of a kind in a file.
pub(super) fn names<'a>(
    tree: &'a Spanned<DeTable<'a>>,
    source: &'a Source,
    kind: Kind,
) -> impl Iterator<Item = String> + 'a {
    let tables = tree.get_ref().get(kind.word()).and_then(|value| value.get_ref().as_array());
    let tables = tables.into_iter().flatten().filter_map(|value| value.get_ref().as_table());
    tables.filter_map(move |table| name_of(table, kind.name_key(), source))
}

/// Replaces the token.
fn mask(sections: &mut Map<String, Value>) {
    let admin = sections.get_mut("admin").and_then(Value::as_object_mut);
    if let Some(token) = admin.and_then(|admin| admin.get_mut("token")) {
        *token = json!(MASK);
    }
}

fn entries(table: &DeTable<'_>) -> Map<String, Value> {
    table.iter().map(|(key, value)| (key.get_ref().to_string(), to_json(value.get_ref()))).collect()
}

fn to_json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => number.into(),
            Err(_) => number.as_str().into(),
        },
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(flag) => (*flag).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(elements) => {
            elements.iter().map(|element| to_json(element.get_ref())).collect()
        }
        DeValue::Table(table) => Value::Object(entries(table)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controlplane::config;

    #[test]
    fn what_is_written_comes_back_without_the_secrets() {
        let text = r#"
[admin]
token = "s3cret"
[[listener]]
name = "edge"
address = "127.0.0.1:8080"
[[route]]
upstream = "u"
priority = -0x0
[[route]]
id = "b"
hosts = ["b.test"]
upstream = "u"
[[upstream]]
name = "u"
endpoints = ["http://127.0.0.1:81"]
"#;
        let text = text.replace("-0x0", "0x10");
        let tree = Tree::read(&config::load_str("x.toml", &text).unwrap().known.texts);
        assert_eq!((&*tree.routes[0].name, tree.routes[0].line), ("#1", 7));
        assert_eq!((&*tree.routes[1].name, &*tree.routes[1].file), ("b", "x.toml"));
        let json = tree.to_json();
        assert_eq!(json["admin"]["token"], MASK);
        assert_eq!(json["route"][0]["priority"], 16);
        assert_eq!(json["route"][1]["hosts"], json!(["b.test"]));
        assert!(!json.to_string().contains("s3cret"));
    }
}
