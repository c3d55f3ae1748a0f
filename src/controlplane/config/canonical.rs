//! What a table means, key by key, whatever way it is written: defaults filled in, units in one
//! form, lists whose order does not matter sorted. Two tables that mean the same are the same here.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    endpoint,
    keys::{Key, Kind, ROOT, SECTIONS, Section, failures::is_off_unless_written},
    units,
};

/// Key and value; a key of a table inside is `limits.idle_timeout`, an endpoint is
/// `endpoint 127.0.0.1:80`.
pub type Meaning = BTreeMap<String, Value>;

/// What the keys of a table of a section (`route`, `listener`) mean.
pub fn meaning(section: &str, keys: &Map<String, Value>) -> Meaning {
    let mut out = Meaning::new();
    if let Some(section) = SECTIONS.iter().find(|one| one.path == section) {
        fill(section, "", keys, &mut out);
    }
    out
}

/// The sections that can stand only once: `runtime`, `admin`, `log`, `dns`.
pub fn sections() -> impl Iterator<Item = &'static str> {
    ROOT.keys.iter().filter(|key| matches!(key.kind, Kind::One(_))).map(|key| key.name)
}

fn fill(section: &Section, prefix: &str, keys: &Map<String, Value>, out: &mut Meaning) {
    for key in section.keys.iter().filter(|key| !matches!(key.kind, Kind::Later(_))) {
        let path = format!("{prefix}{}", key.name);
        fill_key(key, path, keys.get(key.name), out);
    }
}

fn fill_key(key: &Key, path: String, value: Option<&Value>, out: &mut Meaning) {
    let none = Map::new();
    match (&key.kind, value) {
        (Kind::One(inner), None) if is_off_unless_written(inner) => {}
        (Kind::One(inner), _) => {
            if is_off_unless_written(inner) {
                out.insert(path.clone(), json!("on"));
            }
            let keys = value.and_then(Value::as_object).unwrap_or(&none);
            fill(inner, &format!("{path}."), keys, out);
        }
        (Kind::TextOr(inner), Some(Value::Object(keys))) => {
            fill(inner, &format!("{path}."), keys, out);
        }
        (Kind::TextOr(inner), _) => {
            // The string stands for the first key of the table.
            let text = value.and_then(Value::as_str).unwrap_or(key.default);
            let first = inner.keys.first().map_or("", |first| first.name);
            let keys = Map::from_iter([(first.to_owned(), text.into())]);
            fill(inner, &format!("{path}."), &keys, out);
        }
        (Kind::Pairs, Some(Value::Object(pairs))) => {
            for (name, value) in pairs {
                out.insert(format!("{path}.{name}"), value.clone());
            }
        }
        (Kind::ManyOrTexts(inner), Some(Value::Array(elements))) if is_endpoints(inner) => {
            elements.iter().for_each(|element| fill_endpoint(inner, element, out));
        }
        (_, Some(Value::Array(elements))) if elements.is_empty() && key.default.is_empty() => {}
        (kind, Some(value)) => {
            out.insert(path, canonical(kind, value));
        }
        (_, None) if key.default.is_empty() => {}
        (kind, None) => {
            out.insert(path, canonical(kind, &default(kind, key.default)));
        }
    }
}

fn is_endpoints(section: &Section) -> bool {
    std::ptr::eq(section, &super::keys::ENDPOINT)
}

fn fill_endpoint(section: &Section, element: &Value, out: &mut Meaning) {
    let none = Map::new();
    let keys = element.as_object().unwrap_or(&none);
    let url = element.as_str().or_else(|| keys.get("url")?.as_str()).unwrap_or_default();
    let name = endpoint::authority(url).unwrap_or_else(|| url.to_owned());
    let (mut inner, mut usual) = (Meaning::new(), Meaning::new());
    fill(section, "", keys, &mut inner);
    fill(section, "", &none, &mut usual);
    let mut told = format!("weight {}", inner.get("weight").unwrap_or(&Value::Null));
    for (key, value) in inner.iter().filter(|(key, value)| usual.get(*key) != Some(*value)) {
        told += &match (&**key, value) {
            ("url" | "weight", _) => continue,
            ("enabled", Value::Bool(false)) => ", disabled".to_owned(),
            (_, Value::Bool(true)) => format!(", {key}"),
            _ => format!(", {key} {value}"),
        };
    }
    let scheme = url.split_once("://").map_or("http", |(scheme, _)| scheme).to_ascii_lowercase();
    if scheme != "http" {
        told = format!("{told}, {scheme}");
    }
    out.insert(format!("endpoint {name}"), told.into());
}

fn default(kind: &Kind, text: &str) -> Value {
    match kind {
        Kind::Boolean => json!(text == "true"),
        Kind::Integer(..) => text.parse::<i64>().map_or(Value::Null, Value::from),
        Kind::Choices(_) => json!([text]),
        _ => text.into(),
    }
}

/// A value in the one form of its kind. What is no value of its kind (an expression) stays.
fn canonical(kind: &Kind, value: &Value) -> Value {
    match (kind, value) {
        (Kind::Duration(..), Value::String(text)) => {
            units::parse_duration(text).map_or(value.clone(), |it| units::show_duration(it).into())
        }
        (Kind::Size(..), Value::String(text)) => {
            units::parse_size(text).map_or(value.clone(), |size| units::show_size(size).into())
        }
        (Kind::Texts(_) | Kind::Choices(_), Value::Array(elements)) => {
            let mut sorted = elements.clone();
            sorted.sort_by_key(Value::to_string);
            sorted.dedup();
            sorted.into()
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(section: &str, keys: Value) -> Meaning {
        meaning(section, keys.as_object().unwrap())
    }

    #[test]
    fn ways_to_write_the_same_are_the_same() {
        for (section, one, other) in [
            ("upstream", json!({}), json!({ "timeouts": { "response": "1m" } })),
            (
                "upstream",
                json!({ "endpoints": ["http://A.test"] }),
                json!({ "endpoints": [{ "url": "http://a.test:80/", "weight": 1 }] }),
            ),
            ("route", json!({ "hosts": ["b", "a"] }), json!({ "hosts": ["a", "b"] })),
            ("route", json!({ "priority": 0 }), json!({})),
            ("listener", json!({ "trusted_proxies": [] }), json!({})),
            (
                "listener",
                json!({ "limits": { "header_bytes_max": "32KiB" } }),
                json!({ "limits": { "header_bytes_max": "32768B" }, "http": ["h1"] }),
            ),
            ("log", json!({ "access": "stdout" }), json!({ "access": { "to": "stdout" } })),
        ] {
            assert_eq!(of(section, one), of(section, other));
        }
    }

    /// A value that is not the default.
    fn another(key: &Key) -> Value {
        match &key.kind {
            Kind::Choice(all) => all.iter().find(|one| **one != key.default).copied().into(),
            Kind::Choices(all) => json!([all.iter().find(|one| **one != key.default)]),
            Kind::Boolean => json!(key.default != "true"),
            Kind::Integer(_, max) => json!(max),
            Kind::Texts(example) => json!([example]),
            Kind::Pairs => json!({ "x": "1" }),
            Kind::Many(_) => json!([{ "x": "1" }]),
            Kind::ManyOrTexts(_) => json!(["http://192.0.2.1"]),
            Kind::TextOr(_) => "another".into(),
            _ => "77d".into(),
        }
    }

    /// Tables that are as if they were there, with all defaults.
    const ALWAYS_THERE: [&str; 6] = [
        "listener.limits",
        "upstream.timeouts",
        "upstream.pool",
        "upstream.hash",
        "upstream.tls",
        "upstream.discovery",
    ];

    fn differs(path: &str, section: &Section, wrap: &dyn Fn(Value) -> Value) {
        let top = path.split('.').next().unwrap_or_default();
        for key in section.keys.iter().filter(|key| !matches!(key.kind, Kind::Later(_))) {
            let with = |value: Value| of(top, wrap(json!({ key.name: value })));
            if let Kind::One(inner) = &key.kind {
                let is_told = with(json!({})) != of(top, wrap(json!({})));
                let needs_a_key = inner.keys.iter().any(|key| key.required);
                assert!(
                    is_told || needs_a_key || ALWAYS_THERE.contains(&inner.path),
                    "{path}.{}: whether it is written makes no difference",
                    key.name
                );
                differs(path, inner, &|value| wrap(json!({ key.name: value })));
            } else {
                assert_ne!(with(another(key)), of(top, wrap(json!({}))), "{}", key.name);
            }
        }
    }

    #[test]
    fn each_key_makes_a_difference() {
        for top in ["listener", "route", "upstream", "rollout", "runtime", "log", "dns"] {
            let section = SECTIONS.iter().find(|one| one.path == top).unwrap();
            differs(top, section, &|value| value);
        }
        differs("upstream", &super::super::keys::ENDPOINT, &|mut keys| {
            keys["url"] = keys.get("url").cloned().unwrap_or("http://a.test".into());
            json!({ "endpoints": [keys] })
        });
        let plain = json!({ "endpoints": ["http://a.test:80"] });
        assert_ne!(
            of("upstream", plain),
            of("upstream", json!({ "endpoints": ["https://a.test:80"] }))
        );
    }

    #[test]
    fn each_key_has_a_place() {
        let route = of("route", json!({ "headers": { "x": "1" }, "timeout": "90s" }));
        assert_eq!(route["headers.x"], "1");
        assert_eq!(route["timeout"], "90s");
        assert_eq!(route["host_header"], "preserve");
        let upstream = of("upstream", json!({ "endpoints": ["http://127.0.0.1:1"] }));
        assert_eq!(upstream["endpoint 127.0.0.1:1"], "weight 1");
        assert_eq!(sections().collect::<Vec<_>>(), ["runtime", "admin", "log", "dns"]);
    }
}
