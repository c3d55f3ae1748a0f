//! What `ringway check` says: golden messages for the faulty configurations in
//! `tests/config/faulty`, silence for those in `tests/config/valid`, and for every example in
//! `config/`.
//!
//! A changed message is a changed interface: look at the difference, then accept it with
//! `RINGWAY_ACCEPT=1 cargo test --test config_errors`.

use std::path::{Path, PathBuf};

use ringway::controlplane::config::{self, Loaded, Severity, reference, schema};

/// Files and directories in a directory that are configurations, in order.
fn configurations(directory: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_dir() || path.extension().is_some_and(|e| e == "toml"));
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

/// The problems of a configuration, as `check` prints them.
fn problems(path: &Path) -> String {
    match config::load(path) {
        Ok(Loaded { warnings, .. }) => {
            warnings.iter().map(|problem| format!("{problem}\n")).collect()
        }
        Err(errors) => {
            assert!(errors.count(Severity::Error) > 0, "{}: refused for nothing", path.display());
            errors.to_string()
        }
    }
}

/// Compares with a file, or writes it if the change is accepted.
fn expect(golden: &Path, found: &str) {
    if std::env::var_os("RINGWAY_ACCEPT").is_some() {
        std::fs::write(golden, found).unwrap();
    }
    let expected = std::fs::read_to_string(golden).unwrap_or_default();
    assert_eq!(found, expected, "{}", golden.display());
}

#[test]
fn every_mistake_is_named_with_its_place_and_a_remedy() {
    for path in configurations("tests/config/faulty") {
        let found = problems(&path);
        let only_warns = path.file_stem().is_some_and(|stem| stem == "warnings");
        assert_eq!(config::load(&path).is_ok(), only_warns, "{}: {found}", path.display());
        for line in found.lines() {
            assert!(line.contains("; "), "no remedy: {line}");
        }
        // The cores of the machine the test runs on are in some messages.
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
        let found = found.replace(&format!("\"{}\"", online.trim()), "\"ONLINE\"");
        expect(&path.with_extension("expected"), &found);
    }
}

#[test]
fn unusual_but_valid_configurations_are_taken_without_a_word() {
    for path in configurations("tests/config/valid") {
        assert_eq!(problems(&path), "", "{}", path.display());
        config::load(&path).unwrap();
    }
}

#[test]
fn every_example_loads() {
    for path in configurations("config") {
        if path.is_dir()
            && std::fs::read_dir(&path).unwrap().all(|entry| {
                entry.unwrap().path().extension().is_none_or(|extension| extension != "toml")
            })
        {
            continue; // examples for other programs
        }
        assert_eq!(problems(&path), "", "{}", path.display());
    }
}

#[test]
fn examples_fit_the_schema() {
    let schema = schema::schema();
    for path in configurations("config").iter().filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(path).unwrap();
        let table: toml::Table = text.parse().unwrap();
        let value = serde_json::to_value(&table).unwrap();
        if let Err(reason) = fits(&schema, &value, "") {
            panic!("{}: {reason}", path.display());
        }
    }
}

/// The part of JSON Schema that the schema uses, but for patterns.
fn fits(schema: &serde_json::Value, value: &serde_json::Value, at: &str) -> Result<(), String> {
    if let Some(choices) = schema["anyOf"].as_array() {
        let fitting = choices.iter().any(|choice| fits(choice, value, at).is_ok());
        return if fitting { Ok(()) } else { Err(format!("{at}: fits nothing of {choices:?}")) };
    }
    match schema["type"].as_str().unwrap_or("") {
        "object" => {
            let object = value.as_object().ok_or(format!("{at}: not a table"))?;
            for name in schema["required"].as_array().into_iter().flatten() {
                if !object.contains_key(name.as_str().unwrap()) {
                    return Err(format!("{at}: lacks {name}"));
                }
            }
            for (name, inner) in object {
                let at = format!("{at}.{name}");
                match (schema["properties"].get(name), &schema["additionalProperties"]) {
                    (Some(property), _) => fits(property, inner, &at)?,
                    (None, other) if other.is_object() => fits(other, inner, &at)?,
                    _ => return Err(format!("{at}: unknown")),
                }
            }
            Ok(())
        }
        "array" => {
            let array = value.as_array().ok_or(format!("{at}: not an array"))?;
            array.iter().try_for_each(|inner| fits(&schema["items"], inner, at))
        }
        "string" => match (value.as_str(), schema["enum"].as_array()) {
            (None, _) => Err(format!("{at}: not a string")),
            (Some(_), Some(words)) if !words.contains(value) => Err(format!("{at}: {value}")),
            _ => Ok(()),
        },
        "integer" => {
            let number = value.as_i64().ok_or(format!("{at}: not a number"))?;
            let in_range = schema["minimum"].as_i64().is_none_or(|min| number >= min)
                && schema["maximum"].as_i64().is_none_or(|max| number <= max);
            if in_range { Ok(()) } else { Err(format!("{at}: out of range")) }
        }
        "boolean" => value.as_bool().map(|_| ()).ok_or(format!("{at}: not a boolean")),
        other => Err(format!("{at}: a type the test does not know: {other}")),
    }
}

#[test]
fn the_reference_is_up_to_date() {
    const MARK: &str = "<!-- The rest of this page is made from the declarations in \
                        src/controlplane/config/keys.rs. -->\n";
    let path = Path::new("docs/configuration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (by_hand, _) = text.split_once(MARK).expect("the mark is there");
    expect(path, &format!("{by_hand}{MARK}\n{}", reference::reference()));
}
