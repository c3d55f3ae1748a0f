//! The JSON Schema of the configuration, made from the declarations in `keys.rs`, so that
//! editors complete keys and mark mistakes while they are typed.

use serde_json::{Map, Value, json};

use super::{
    keys::{ENDPOINT, Key, Kind, ROOT, ROUTE, Section, UPSTREAM},
    units,
};

/// The schema: JSON Schema, draft 2020-12.
pub fn schema() -> Value {
    let mut schema = section(&ROOT);
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        fields.insert("title".into(), "ringway configuration".into());
    }
    schema
}

/// The schemas of what the admin API works with: routes, upstreams and endpoints.
pub fn objects() -> [(&'static str, Value); 3] {
    [("Route", section(&ROUTE)), ("Upstream", section(&UPSTREAM)), ("Endpoint", section(&ENDPOINT))]
}

fn section(section: &Section) -> Value {
    let known = section.keys.iter().filter(|key| !matches!(key.kind, Kind::Later(_)));
    let properties: Map<String, Value> =
        known.map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> =
        section.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    json!({
        "type": "object",
        "description": section.doc,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn property(key: &Key) -> Value {
    let mut property = kind(&key.kind);
    let Some(fields) = property.as_object_mut() else { return property };
    fields.insert("description".into(), key.doc.into());
    if let Some(default) = default(key) {
        fields.insert("default".into(), default);
    }
    property
}

/// The default as JSON.
fn default(key: &Key) -> Option<Value> {
    if key.default.is_empty() {
        return None;
    }
    Some(match key.kind {
        Kind::Boolean => (key.default == "true").into(),
        Kind::Integer(..) => key.default.parse::<i64>().ok()?.into(),
        Kind::Choices(_) => json!([key.default]),
        _ => key.default.into(),
    })
}

/// What `"${NAME}"` looks like, which may stand for any value.
const EXPRESSION: &str = r"\$\{";

/// What a duration looks like.
pub(in crate::controlplane) const DURATION: &str = r"^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h|d))+$";

fn kind(kind: &Kind) -> Value {
    let size = r"^[0-9]+(\.[0-9]+)?(B|kB|KB|MB|GB|KiB|MiB|GiB|TiB)$";
    let unit = |pattern: &str, unlimited: bool| {
        let unlimited = if unlimited { "|^unlimited$" } else { "" };
        json!({ "type": "string", "pattern": format!("{pattern}{unlimited}|{EXPRESSION}") })
    };
    let expression = || json!({ "type": "string", "pattern": EXPRESSION });
    match kind {
        Kind::Text(example) => json!({ "type": "string", "examples": [example] }),
        Kind::Texts(example) => {
            json!({ "type": "array", "items": { "type": "string", "examples": [example] } })
        }
        Kind::Choice(choices) => json!({ "type": "string", "enum": choices }),
        Kind::Choices(choices) => {
            json!({ "type": "array", "items": { "type": "string", "enum": choices } })
        }
        Kind::Boolean => json!({ "anyOf": [{ "type": "boolean" }, expression()] }),
        Kind::Integer(min, max) => json!({
            "anyOf": [{ "type": "integer", "minimum": min, "maximum": max }, expression()],
        }),
        Kind::Duration(_, _, unlimited) => unit(DURATION, *unlimited),
        Kind::Size(_, _, unlimited) => unit(size, *unlimited),
        Kind::Pairs => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        Kind::One(inner) => section(inner),
        Kind::Many(inner) => json!({ "type": "array", "items": section(inner) }),
        Kind::ManyOrTexts(inner) => json!({
            "type": "array",
            "minItems": 1,
            "items": { "anyOf": [section(inner), { "type": "string" }] },
        }),
        Kind::TextOr(inner) => json!({ "anyOf": [{ "type": "string" }, section(inner)] }),
        Kind::Later(_) => json!(false),
    }
}

/// One line about what a key takes, for the documentation.
pub(super) fn describe(key: &Key) -> String {
    let unlimited = |is: bool| if is { " or `\"unlimited\"`" } else { "" };
    let quoted = |choices: &[&str]| {
        let quoted: Vec<String> = choices.iter().map(|choice| format!("`\"{choice}\"`")).collect();
        quoted.join(", ")
    };
    match &key.kind {
        Kind::Text(example) => format!("string, `\"{example}\"`"),
        Kind::Texts(example) => format!("array of strings, `[\"{example}\"]`"),
        Kind::Choice(choices) => quoted(choices),
        Kind::Choices(choices) => format!("array of {}", quoted(choices)),
        Kind::Boolean => "`true`, `false`".into(),
        Kind::Integer(i64::MIN, i64::MAX) => "any whole number".into(),
        Kind::Integer(min, max) => format!("{min} to {max}"),
        Kind::Duration(min, max, is) => format!(
            "duration, `\"{}\"` to `\"{}\"`{}",
            units::show_duration(*min),
            units::show_duration(*max),
            unlimited(*is)
        ),
        Kind::Size(min, max, is) if *max == i64::MAX as u64 => {
            format!("size, `\"{}\"` and more{}", units::show_size(*min), unlimited(*is))
        }
        Kind::Size(min, max, is) => format!(
            "size, `\"{}\"` to `\"{}\"`{}",
            units::show_size(*min),
            units::show_size(*max),
            unlimited(*is)
        ),
        Kind::Pairs => "table of strings".into(),
        Kind::One(inner) | Kind::Many(inner) => format!("see `{}`", inner.header()),
        Kind::ManyOrTexts(inner) => {
            let first = inner.keys.first().map_or("", |key| key.name);
            format!("array of tables or strings (`{first}` alone), see below")
        }
        Kind::TextOr(_) => "string or table, see below".into(),
        Kind::Later(_) => "not available yet".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_knows_all_sections() {
        let schema = schema();
        let route = &schema["properties"]["route"]["items"];
        assert_eq!(route["required"], json!([]), "an upstream, or a split");
        assert_eq!(route["properties"]["split"]["items"]["required"], json!(["upstream"]));
        assert_eq!(route["properties"]["priority"]["default"], 0);
        assert_eq!(route["additionalProperties"], false);
        assert!(route["properties"].get("plugins").is_none(), "what is refused is not completed");
        let limits = &schema["properties"]["listener"]["items"]["properties"]["limits"];
        assert_eq!(limits["properties"]["idle_timeout"]["default"], "60s");
    }
}
