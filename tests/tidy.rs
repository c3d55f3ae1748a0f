//! The rules of the house that a compiler doesn't keep: the doors between rooms, where unsafe and
//! `io_uring` may be named, file headers, file length, panics on the path of a peer's bytes, metric names.
//!
//! Reads the sources as text; names file and line of each offence, all at once.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

/// Lines of a Rust file that one can still read in one sitting.
const LINES_MAX: usize = 700;

/// Who may import whom (ARCHITECTURE.md, "The doors"). A room may always import itself.
const DOORS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("telemetry", &["base"]),
    ("proto", &["base"]),
    ("policy", &["base", "proto"]),
    ("snapshot", &["base", "telemetry", "proto", "policy", "tls"]),
    ("rt", &["base"]),
    ("tls", &["base"]),
    ("controlplane", &["base", "telemetry", "proto", "policy", "tls", "snapshot"]),
    ("dataplane", &["base", "telemetry", "proto", "policy", "tls", "snapshot", "rt"]),
    ("server", ALL),
    ("cli", ALL),
    ("main", ALL),
    ("lib", ALL),
];

const ALL: &[&str] = &[
    "base",
    "telemetry",
    "proto",
    "policy",
    "snapshot",
    "rt",
    "tls",
    "controlplane",
    "dataplane",
    "server",
    "cli",
];

/// Who may import whom inside `dataplane`: no arrow back.
const INNER_DOORS: &[(&str, &[&str])] = &[
    ("worker", &["proxy", "downstream", "shard", "upstream", "plugin", "context"]),
    ("proxy", &["downstream", "shard", "upstream", "plugin", "context", "streams"]),
    ("downstream", &["context"]),
    ("shard", &["plugin", "upstream", "context"]),
    ("plugin", &["context"]),
    ("upstream", &["streams"]),
    ("streams", &[]),
    ("context", &[]),
];

struct Source {
    path: PathBuf,
    /// `src/proto/h1/head.rs`
    name: String,
    /// `proto`
    room: String,
    text: String,
}

impl Source {
    /// Lines with their numbers, comments and string literals blanked, so that only code speaks.
    fn code(&self) -> Vec<(usize, String)> {
        blank(&self.text).lines().map(str::to_owned).enumerate().map(|(i, l)| (i + 1, l)).collect()
    }

    /// The same without the tests at the bottom of the file.
    fn shipped(&self) -> Vec<(usize, String)> {
        let code = self.code();
        let tests = code.iter().position(|(_, line)| {
            let line = line.trim();
            line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test")
        });
        code[..tests.unwrap_or(code.len())].to_vec()
    }

    /// Whether the whole file is compiled for tests only: its parent, or a parent's parent, declares
    /// it so.
    fn is_test_only(&self, sources: &[Source]) -> bool {
        let directory = self.path.parent().expect("a file has a directory");
        let name = match self.path.file_stem().and_then(|stem| stem.to_str()) {
            Some("mod") => directory.file_name().and_then(|name| name.to_str()),
            stem => stem,
        };
        let declaration = format!("mod {};", name.unwrap_or(""));
        let Some(parent) = sources.iter().find(|other| is_parent(other, self)) else {
            return false;
        };
        let lines: Vec<&str> = parent.text.lines().map(str::trim).collect();
        let declared = lines
            .windows(2)
            .any(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with(&declaration));
        declared || parent.is_test_only(sources)
    }
}

fn is_parent(parent: &Source, child: &Source) -> bool {
    let mut directory = child.path.parent().expect("a file has a directory");
    if child.path.ends_with("mod.rs") {
        directory = directory.parent().expect("a module has a parent");
    }
    parent.path != child.path
        && (parent.path == directory.join("mod.rs")
            || parent.path == directory.with_extension("rs"))
}

/// Replaces what stands in comments and literals by spaces; keeps the lines.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let end = if rest.starts_with("//") {
            at + rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            at + rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string_start(text, at) {
            let close = format!("\"{}", "#".repeat(hashes));
            let begin = at + 1 + hashes + 1;
            begin + text[begin..].find(&close).map_or(text.len() - begin, |end| end + close.len())
        } else if bytes[at] == b'"' {
            string_end(bytes, at + 1, b'"')
        } else if bytes[at] == b'\'' && is_char_literal(rest) {
            string_end(bytes, at + 1, b'\'')
        } else {
            out.push(bytes[at]);
            at += 1;
            continue;
        };
        out.extend(bytes[at..end].iter().map(|byte| if *byte == b'\n' { b'\n' } else { b' ' }));
        at = end;
        while !text.is_char_boundary(at) {
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn raw_string_start(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let after_name = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    let is_byte_raw = at > 0 && bytes[at - 1] == b'b';
    if bytes[at] != b'r' || (after_name && !is_byte_raw) {
        return None;
    }
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

fn string_end(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn is_char_literal(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(directory: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                rust_files(&path, files);
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files.sort();
}

fn read(directory: &str) -> Vec<Source> {
    let mut files = Vec::new();
    rust_files(&root().join(directory), &mut files);
    files
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root()).expect("below the root").display().to_string();
            let room = name.split('/').nth(1).unwrap_or("").trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("a source is UTF-8");
            Source { path, name, room, text }
        })
        .collect()
}

fn told(offences: Vec<String>) {
    assert!(offences.is_empty(), "{} offences:\n{}", offences.len(), offences.join("\n"));
}

/// Every `crate::a::b` that the code of a file names, with its line. Groups (`use crate::{a, b::c}`)
/// are taken apart, over several lines if need be.
fn crate_paths(source: &Source) -> Vec<(usize, Vec<String>)> {
    let code: String = source.code().iter().map(|(_, line)| format!("{line}\n")).collect();
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        expand(&code[at + "crate::".len()..], &mut Vec::new(), line, &mut paths);
    }
    paths
}

/// Takes one path, or the elements of a `{...}` group, apart. Returns the bytes read.
fn expand(
    text: &str,
    prefix: &mut Vec<String>,
    line: usize,
    paths: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let text_trimmed = text.trim_start();
    let skipped = text.len() - text_trimmed.len();
    let line = line + text[..skipped].matches('\n').count();
    if let Some(inside) = text_trimmed.strip_prefix('{') {
        let mut at = 0;
        loop {
            let rest = &inside[at..];
            let trimmed = rest.trim_start_matches([' ', '\n', '\t', ',']);
            let skip = rest.len() - trimmed.len();
            if trimmed.is_empty() || trimmed.starts_with('}') {
                return skipped + 1 + at + skip + 1;
            }
            let inner_line = line + inside[..at + skip].matches('\n').count();
            at += skip + expand(trimmed, prefix, inner_line, paths).max(1);
        }
    }
    let name_end =
        text_trimmed.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text_trimmed.len());
    prefix.push(text_trimmed[..name_end].to_owned());
    let mut used = skipped + name_end;
    if let Some(after) = text_trimmed[name_end..].strip_prefix("::") {
        used += 2 + expand(after, prefix, line, paths);
    } else {
        paths.push((line, prefix.clone()));
        // `as name`, generics and the like up to the next separator belong to no path.
        if let Some(after) = text_trimmed[name_end..].strip_prefix(" as ") {
            used += 4 + after.find([',', '}', ';', '\n']).unwrap_or(after.len());
        }
    }
    prefix.pop();
    used
}

fn door<'a>(doors: &'a [(&str, &'a [&'a str])], room: &str) -> Option<&'a [&'a str]> {
    doors.iter().find(|(name, _)| *name == room).map(|(_, allowed)| *allowed)
}

#[test]
fn doors_between_rooms() {
    let mut offences = Vec::new();
    for source in read("src") {
        let Some(allowed) = door(DOORS, &source.room) else {
            offences.push(format!("{}: the room {:?} is not in DOORS", source.name, source.room));
            continue;
        };
        for (line, path) in crate_paths(&source) {
            let to = path[0].as_str();
            let is_room = DOORS.iter().any(|(name, _)| *name == to);
            if is_room && to != source.room && !allowed.contains(&to) {
                let from = &source.room;
                offences.push(format!("{}:{line}: {from} may not import {to}", source.name));
            }
        }
    }
    told(offences);
}

#[test]
fn doors_inside_the_data_plane() {
    let mut offences = Vec::new();
    for source in read("src/dataplane") {
        let part = source.name.split('/').nth(2).unwrap_or("").trim_end_matches(".rs");
        let Some(allowed) = door(INNER_DOORS, part) else { continue };
        for (line, path) in crate_paths(&source) {
            let [room, to, ..] = path.as_slice() else { continue };
            let known = INNER_DOORS.iter().any(|(name, _)| name == to);
            if room == "dataplane" && known && to != part && !allowed.contains(&to.as_str()) {
                offences.push(format!("{}:{line}: {part} may not import {to}", source.name));
            }
        }
    }
    told(offences);
}

fn names_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let inside = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !inside(before) && !inside(after)
    })
}

/// Words that only some places may write, in code (not in comments or texts).
#[test]
fn words_with_a_place_of_their_own() {
    let sources = read("src");
    let mut offences = Vec::new();
    for source in &sources {
        let in_rt = source.room == "rt";
        let in_data = source.room == "dataplane";
        for (line, code) in source.code() {
            let mut bad = |what: &str| offences.push(format!("{}:{line}: {what}", source.name));
            if !in_rt && names_word(&code, "unsafe") {
                bad("`unsafe` belongs to rt/");
            }
            if !in_rt && (names_word(&code, "monoio") || names_word(&code, "io_uring")) {
                bad("io_uring is named in rt/ only; monoio was replaced: docs/adr/0009");
            }
            // The `h2` crate wants tokio's io traits; its runtime is not on a core.
            let is_io = source.name == "src/dataplane/streams/io.rs" && code.contains("tokio::io");
            if in_data && !is_io && names_word(&code, "tokio") {
                bad("tokio has no place on a core");
            }
            if in_data && code.contains("std::fs") {
                bad("a core never waits for a disk");
            }
            if in_data && (names_word(&code, "Mutex") || names_word(&code, "RwLock")) {
                bad("a core never waits for a lock");
            }
            if matches!(source.room.as_str(), "dataplane" | "proto" | "policy")
                && (code.contains("Box<dyn Error") || code.contains("anyhow"))
            {
                bad("errors are small enums here");
            }
        }
        for (number, line) in source.text.lines().enumerate() {
            if names_word(line, "TODO") || names_word(line, "FIXME") || line.contains("XXX") {
                offences.push(format!("{}:{}: unfinished", source.name, number + 1));
            }
        }
    }
    told(offences);
}

/// Bytes of a peer never make ringway panic: in the rooms they pass through nothing unwraps.
#[test]
fn nothing_unwraps_on_the_path_of_a_request() {
    let sources = read("src");
    let mut offences = Vec::new();
    for source in &sources {
        let on_path = matches!(source.room.as_str(), "dataplane" | "proto" | "tls");
        if !on_path || source.is_test_only(&sources) {
            continue;
        }
        for (line, code) in source.shipped() {
            for word in [".unwrap()", ".expect(", "todo!(", "unimplemented!(", "panic!("] {
                if code.contains(word) {
                    offences.push(format!("{}:{line}: {word}", source.name));
                }
            }
        }
    }
    told(offences);
}

#[test]
fn files_say_what_they_are_and_stay_short() {
    let mut offences = Vec::new();
    let tools = ["src", "tests", "fuzz", "bench"];
    for source in tools.iter().flat_map(|directory| read(directory)) {
        let mut lines = source.text.lines().skip_while(|line| {
            line.starts_with("#!") || line.is_empty() // `#![no_main]` of a fuzz target
        });
        if !lines.next().is_some_and(|line| line.starts_with("//!")) {
            offences.push(format!("{}:1: a file starts with what it is (`//!`)", source.name));
        }
        let count = source.text.lines().count();
        if count > LINES_MAX {
            offences.push(format!("{}:{count}: more than {LINES_MAX} lines", source.name));
        }
    }
    told(offences);
}

/// A metric's name is an interface: it is written once, in `telemetry/names.rs`.
#[test]
fn each_metric_name_is_written_once() {
    let mut seen: HashMap<String, String> = HashMap::new();
    let mut offences = Vec::new();
    let sources = read("src");
    for source in &sources {
        let tests = source.shipped().len();
        for (number, line) in source.text.lines().enumerate().take(tests) {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for name in line.split('"').skip(1).step_by(2).filter(|text| is_metric(text)) {
                let place = format!("{}:{}", source.name, number + 1);
                if let Some(first) = seen.insert(name.to_owned(), place.clone()) {
                    offences.push(format!("{place}: {name} is already written at {first}"));
                }
            }
        }
    }
    assert!(!seen.is_empty(), "no metric name found: does the test still look right?");
    told(offences);
}

fn is_metric(text: &str) -> bool {
    let prefixed = ["ringway_", "http_requests_", "http_request_", "process_"];
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    prefixed.iter().any(|prefix| text.len() > prefix.len() && text.starts_with(prefix))
        && text.chars().all(word)
}

/// A group of black-box tests that nobody declares would never run.
#[test]
fn all_groups_of_black_box_tests_are_declared() {
    let directory = root().join("tests/blackbox");
    let main = fs::read_to_string(directory.join("main.rs")).expect("tests/blackbox/main.rs");
    let mut offences = Vec::new();
    for entry in fs::read_dir(&directory).expect("tests/blackbox") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("").to_owned();
        if stem != "main" && !main.lines().any(|line| line == format!("mod {stem};")) {
            offences.push(format!("tests/blackbox/{stem}.rs is not declared in main.rs"));
        }
    }
    told(offences);
}

/// ARCHITECTURE.md names a test for each invariant; each of those names exists.
#[test]
fn tests_that_the_architecture_names_exist() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let code: String =
        ["src", "tests", "fuzz"].iter().flat_map(|d| read(d)).map(|source| source.text).collect();
    let mut offences = Vec::new();
    let table = text.split("## Invariants").nth(1).expect("a chapter on invariants");
    for (number, line) in table.lines().enumerate().filter(|(_, line)| line.starts_with("| ")) {
        for name in line.rsplit('|').nth(1).unwrap_or("").split('`').skip(1).step_by(2) {
            let function = name.rsplit("::").next().unwrap_or(name);
            if !code.contains(&format!("fn {function}("))
                && !code.contains(&format!("fn {function}<"))
            {
                offences.push(format!("ARCHITECTURE.md, invariant {number}: no test {name}"));
            }
        }
    }
    told(offences);
}

/// The checks above can fail: each is shown a text that offends.
#[test]
fn these_checks_can_fail() {
    let source = |text: &str| Source {
        path: root().join("src/proto/x.rs"),
        name: "src/proto/x.rs".to_owned(),
        room: "proto".to_owned(),
        text: text.to_owned(),
    };
    let paths = |text: &str| -> Vec<(usize, String)> {
        let found = crate_paths(&source(text));
        found.into_iter().map(|(line, path)| (line, path.join("::"))).collect()
    };
    assert_eq!(paths("use crate::rt::Stream;\n"), [(1, "rt::Stream".to_owned())]);
    assert_eq!(
        paths(
            "use crate::{\n    base::{ids::A, limits as l},\n    rt::Stream,\n};\nlet x = crate::server::run();"
        ),
        [
            (2, "base::ids::A".to_owned()),
            (2, "base::limits".to_owned()),
            (3, "rt::Stream".to_owned()),
            (5, "server::run".to_owned())
        ]
    );
    assert!(paths("// crate::rt\nlet s = \"crate::rt\"; // crate::rt\n/* crate::rt */").is_empty());
    assert!(paths("let s = r#\"crate::rt \" \"#; let c = '\"'; x(\"crate::rt\");").is_empty());
    assert_eq!(paths("fn f<'a>(x: &'a str) { crate::rt::y('\\'') }"), [(1, "rt::y".to_owned())]);
    let split = source("a.unwrap();\n#[cfg(test)]\nmod tests { b.unwrap(); }");
    assert_eq!(split.shipped().len(), 1);
    assert!(names_word("unsafe {", "unsafe") && !names_word("unsafe_code", "unsafe"));
    assert!(is_metric("ringway_panics_total") && !is_metric("ringway") && !is_metric("ringway_ x"));
}
