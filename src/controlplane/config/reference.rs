//! The tables of `docs/configuration.md`, made from the declarations in `keys.rs`.

use std::fmt::Write;

use super::{
    keys::{Kind, SECTIONS, Section},
    schema::describe,
};

/// Every key with its type, range, default and meaning, as Markdown.
pub fn reference() -> String {
    SECTIONS.iter().skip(1).map(|section| table(section)).collect()
}

fn table(section: &Section) -> String {
    let mut out = format!("### `{}`\n\n{}\n\n", section.header(), section.doc);
    out.push_str("| key | takes | default | |\n|---|---|---|---|\n");
    for key in section.keys.iter().filter(|key| !matches!(key.kind, Kind::Later(_))) {
        let default = match (key.required, key.default) {
            (true, _) => "required".to_owned(),
            (false, "") => String::new(),
            (false, default) => format!("`{}`", toml(&key.kind, default)),
        };
        // A bar would end the cell.
        let takes = describe(key).replace('|', "\\|");
        let _ = writeln!(out, "| `{}` | {takes} | {default} | {} |", key.name, key.doc);
    }
    let later: Vec<String> = section
        .keys
        .iter()
        .filter(|key| matches!(key.kind, Kind::Later(_)))
        .map(|key| format!("`{}`", key.name))
        .collect();
    if !later.is_empty() {
        let _ = writeln!(out, "\nNot available yet, and refused: {}.", later.join(", "));
    }
    out.push('\n');
    out
}

/// A default as it would be written.
fn toml(kind: &Kind, default: &str) -> String {
    match kind {
        Kind::Boolean | Kind::Integer(..) => default.to_owned(),
        Kind::Choices(_) => format!("[\"{default}\"]"),
        _ => format!("\"{default}\""),
    }
}
