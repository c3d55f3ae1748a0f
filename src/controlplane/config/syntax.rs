//! TOML text to a tree with places. Text that is not TOML is repaired line by line, so that one
//! slip does not hide the other mistakes of a file.

use std::{panic::resume_unwind, thread};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{errors::Report, text::Source};

/// Slips repaired in one file before its rest is given up.
const REPAIRS_MAX: usize = 64;

/// Bytes of a text from which on its tree is made on a thread of its own.
const APART_BYTES_MIN: usize = 32 * 1024;

/// The tree of a text, if it is TOML.
///
/// The allocator gives each thread pages of its own. A tree takes 30 times the memory of its text and
/// is gone when it has been read; what was read from it stays. On one thread the two would share
/// pages, none of which could be given back.
pub(super) fn parse(text: &str) -> Option<Spanned<DeTable<'_>>> {
    if text.len() < APART_BYTES_MIN {
        return parse_here(text);
    }
    thread::scope(|scope| {
        let apart = thread::Builder::new().name("ringway-parse".into());
        match apart.spawn_scoped(scope, || parse_here(text)) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => parse_here(text),
        }
    })
}

fn parse_here(text: &str) -> Option<Spanned<DeTable<'_>>> {
    let (tree, errors) = DeTable::parse_recoverable(text);
    errors.is_empty().then_some(tree)
}

/// The tree of a repaired file: whatever of it could be read.
pub(super) fn parse_repaired(source: &Source) -> Spanned<DeTable<'_>> {
    DeTable::parse_recoverable(&source.text).0
}

/// Reports what is not TOML, and returns the text with those parts closed or blanked.
pub(super) fn repair(source: &Source, report: &Report) -> Source {
    let mut source = source.clone();
    for _ in 0..REPAIRS_MAX {
        let slips = slips(&source);
        let Some(slip) = slips.iter().find(|slip| slip.is_breaking()) else {
            slips.iter().for_each(|slip| report_slip(&source, slip, report));
            return source;
        };
        let first = slips.iter().find(|slip| slip.is_in_brackets()).unwrap_or(slip);
        if !repair_slip(&mut source, slip, first.start, report) {
            slips.iter().for_each(|slip| report_slip(&source, slip, report));
            break;
        }
    }
    report.set_incomplete();
    source
}

/// One complaint of the TOML parser.
struct Slip {
    start: usize,
    end: usize,
    message: String,
}

impl Slip {
    /// Whether the parser lost more than the line of the slip.
    fn is_breaking(&self) -> bool {
        self.message.starts_with("key with no value") || self.message.starts_with("unclosed")
    }

    /// Whether an array or inline table that runs on may be the reason.
    fn is_in_brackets(&self) -> bool {
        ["array", "inline table", "key-value pair"].iter().any(|word| self.message.contains(word))
            && !self.message.contains("array table")
    }
}

/// What the parser says, from the top.
fn slips(source: &Source) -> Vec<Slip> {
    let (_, errors) = DeTable::parse_recoverable(&source.text);
    let mut slips: Vec<Slip> = errors
        .iter()
        .map(|error| {
            let span = error.span().unwrap_or(0..0);
            Slip { start: span.start, end: span.end, message: error.message().to_owned() }
        })
        .collect();
    slips.sort_by_key(|slip| slip.start);
    slips
}

/// Reports a slip that breaks the rest of the file and takes it out of the way. False if nothing
/// can be done about it.
fn repair_slip(source: &mut Source, slip: &Slip, first: usize, report: &Report) -> bool {
    if slip.message.starts_with("key with no value") {
        report_slip(source, slip, report);
        let line = source.line_range(slip.start);
        // The complaint may stand at the start of the next line.
        let blank = source.text[line.clone()].trim().is_empty();
        source.blank(line);
        return !blank;
    }
    if slip.message.starts_with("unclosed table") || slip.message.starts_with("unclosed array t") {
        report_slip(source, slip, report);
        source.insert(slip.start, ']');
        return true;
    }
    let closing = if slip.message.starts_with("unclosed array") { ']' } else { '}' };
    close_bracket(source, first, closing, report)
}

/// Closes an array or inline table that runs into the following lines, where its line ends.
fn close_bracket(source: &mut Source, first: usize, closing: char, report: &Report) -> bool {
    let opening = if closing == ']' { '[' } else { '{' };
    let mut line = source.line_range(first);
    let own = source.text[line.start..first.min(line.end)].trim();
    // `key =` is the next key of the table, taken for an element.
    let next_key = source.text[first..].starts_with('=')
        && own.chars().all(|c| c.is_alphanumeric() || "_-.\"'".contains(c));
    let own_line_goes_on = !own.is_empty() && !next_key;
    if !own_line_goes_on {
        let before = source.text[..line.start].trim_end().len();
        line = source.line_range(before);
    }
    let end = line.start + without_comment(&source.text[line.clone()]).trim_end().len();
    let Some(open) = unclosed(&source.text[..end], opening, closing) else { return false };
    let message = format!("the \"{opening}\" that opens here is never closed");
    let hint = format!("put a \"{closing}\" after its last element");
    let key = key_at(source, open);
    report.syntax_error(source.place(open), &key, message, hint);
    source.insert(end, closing);
    true
}

/// Offset of the last opening bracket without its partner; strings are not looked into, so this
/// can be wrong for brackets in strings, which costs a line number and no more.
fn unclosed(text: &str, opening: char, closing: char) -> Option<usize> {
    let mut depth = 0usize;
    for (at, c) in text.char_indices().rev() {
        if c == closing {
            depth += 1;
        } else if c == opening {
            if depth == 0 {
                return Some(at);
            }
            depth -= 1;
        }
    }
    None
}

/// A line up to its comment.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => return &line[..at],
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if c == open => quote = None,
            _ => {}
        }
    }
    line
}

/// The dotted key that an offset belongs to, as far as the text shows it.
fn key_at(source: &Source, offset: usize) -> String {
    let line = source.line_range(offset);
    let text = source.text[line.clone()].trim();
    let name = |text: &str| text.trim_matches(|c: char| "[] \t\"'".contains(c)).to_owned();
    if text.starts_with('[') {
        return name(without_comment(text));
    }
    let header = source.text[..line.start]
        .lines()
        .rev()
        .find(|line| line.trim_start().starts_with('['))
        .map(|line| name(without_comment(line)));
    let word = text.split(|c: char| c == '=' || c == ':' || c.is_whitespace()).next().map(name);
    match (header, word.filter(|word| !word.is_empty())) {
        (Some(header), Some(word)) => format!("{header}.{word}"),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => String::new(),
    }
}

/// Puts a complaint of the parser into words that name a remedy.
fn report_slip(source: &Source, slip: &Slip, report: &Report) {
    let line = source.line_range(slip.start);
    let text = source.text[line.clone()].trim();
    let bare = source.text.get(slip.start..slip.end).unwrap_or("");
    let mut start = slip.start;
    let is_scalar = [
        "string values",
        "invalid float",
        "invalid integer",
        "invalid date",
        "invalid bool",
        "unexpected leading",
    ];
    if is_scalar.iter().any(|prefix| slip.message.starts_with(prefix)) {
        // The complaint may begin inside the word.
        let before = &source.text[line.start..start.min(line.end)];
        start = line.start + before.rfind([' ', '\t', '=', ',', '[', '{']).map_or(0, |at| at + 1);
    }
    let word = bare_value(&source.text[start.min(line.end)..line.end], bare);
    let (message, hint) = match slip.message.as_str() {
        "duplicate key" => return report_duplicate(source, slip, report),
        m if m.starts_with("string values must be quoted") && bare.trim().is_empty() => {
            ("there is no value after the \"=\"".into(), "write one, or remove the line".into())
        }
        m if m.starts_with("invalid boolean") => (
            format!("{word}: not a TOML value"),
            format!("write {} without capitals", word.to_ascii_lowercase()),
        ),
        m if m.starts_with("string values must be quoted")
            || m.starts_with("invalid float")
            || m.starts_with("invalid integer")
            || m.starts_with("invalid date") =>
        {
            (format!("{word}: not a TOML value"), instead_of_bare(word))
        }
        m if m.starts_with("key with no value") => no_value(text),
        m if m.starts_with("unclosed table") || m.starts_with("unclosed array table") => {
            let name = text.trim_matches(['[', ']', ' ']);
            let hint = if text.starts_with("[[") {
                format!("write [[{name}]]")
            } else {
                format!("write [{name}]")
            };
            ("the header of a table is not closed".into(), hint)
        }
        m if m.contains("multi-line")
            && m.contains("string")
            && slip.start >= source.text.len() =>
        {
            let delimiter = if m.contains("literal") { "'''" } else { "\"\"\"" };
            start = source.text.rfind(delimiter).unwrap_or(start);
            report.set_incomplete();
            (
                "the string that starts here is never closed".into(),
                format!("end it with {delimiter}"),
            )
        }
        m if m.starts_with("invalid basic string") || m.starts_with("invalid literal string") => (
            "the string is not closed, or holds a control character".into(),
            "end it on the same line, with the quote it starts with".into(),
        ),
        m if m.starts_with("missing escaped value") => (
            "a backslash before a character that has no escape".into(),
            "write \"\\\\\" for one backslash, or single quotes: '\\d+'".into(),
        ),
        m if m.starts_with("missing comma") => {
            ("a comma is missing before this".into(), "put a comma between elements".into())
        }
        m if m.starts_with("extra comma") => {
            ("there is a comma too many".into(), "remove it".into())
        }
        m if m.starts_with("unexpected key or value") => (
            "there is something after the end of the value or header".into(),
            "put each key on a line of its own; a comment starts with #".into(),
        ),
        m if m.starts_with("unexpected leading zero") => {
            ("a number starts with 0".into(), "remove the leading zero".into())
        }
        m if m.starts_with("cannot extend value") => {
            (m.to_owned(), "write all its keys in one place".into())
        }
        m if text.starts_with('{') => {
            (m.to_owned(), "this looks like JSON; ringway reads TOML".into())
        }
        m => (m.to_owned(), "correct the line; see https://toml.io/en/v1.0.0".into()),
    };
    report.syntax_error(source.place(start), &key_at(source, start), message, hint);
}

/// What stands where a value should: up to the end of the word, not only what the parser took.
fn bare_value<'a>(rest: &'a str, bare: &'a str) -> &'a str {
    let word = rest.split([',', ']', '}', '#']).next().unwrap_or(rest).trim();
    if word.is_empty() || bare.contains('\n') { bare.trim() } else { word }
}

/// What to write instead of a word that is no value.
fn instead_of_bare(word: &str) -> String {
    const CURLY_QUOTES: [char; 4] = ['\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}'];
    if matches!(&*word.to_ascii_lowercase(), "null" | "none" | "nil" | "undefined") {
        return "leave the key out for none".into();
    }
    if word.starts_with(CURLY_QUOTES) {
        return format!("write \"{}\", with straight quotes", word.trim_matches(CURLY_QUOTES));
    }
    match word.strip_suffix(';') {
        Some(_) => "remove the semicolon: a line ends a value".into(),
        None => format!("write \"{word}\", in quotes"),
    }
}

fn no_value(line: &str) -> (String, String) {
    let message = String::from("a key without a value");
    let key = line.split([':', ' ', '\t']).next().unwrap_or(line);
    if line.starts_with("//") || line.starts_with(';') || line.starts_with("--") {
        return ("not a comment in TOML".into(), "start comments with #".into());
    }
    if let Some((key, _)) = line.split_once(':') {
        return (message, format!("write {key} = ...; TOML has \"=\", not \":\""));
    }
    match key.starts_with(|c: char| c.is_alphanumeric() || c == '"') {
        true => (message, format!("write {key} = ...")),
        false => (message, "write key = value, or remove the line".into()),
    }
}

/// Names the place of the first of two keys.
fn report_duplicate(source: &Source, slip: &Slip, report: &Report) {
    let name = source.text.get(slip.start..slip.end).unwrap_or("");
    let name = name.trim_matches(['"', '\'']);
    let (tree, _) = DeTable::parse_recoverable(&source.text);
    let line = source.line_range(slip.start);
    let header = source.text[line.clone()].trim();
    let first = match header.starts_with('[') {
        true => source.text[..line.start].rfind(header),
        false => last_before(tree.get_ref(), name, slip.start),
    };
    let (message, hint) = match first {
        Some(offset) => (
            format!("\"{name}\" is already at line {}", source.place(offset).line),
            duplicate_hint(source, slip),
        ),
        None => (format!("\"{name}\" stands here twice"), duplicate_hint(source, slip)),
    };
    report.syntax_error(source.place(slip.start), &key_at(source, slip.start), message, hint);
}

fn duplicate_hint(source: &Source, slip: &Slip) -> String {
    let line = source.text[source.line_range(slip.start)].trim();
    let name = line.trim_matches(['[', ']', ' ']);
    match name {
        "listener" | "route" | "upstream" if line.starts_with("[[") => {
            format!("tables such as [{name}.x] belong below it; write [[{name}]], each time")
        }
        "listener" | "route" | "upstream" => {
            format!("write [[{name}]] with two brackets, each time")
        }
        _ if line.starts_with('[') => "put its keys below the first one".into(),
        _ => "remove one of the two".into(),
    }
}

/// The last place before an offset where a key of this name stands in the tree.
fn last_before(table: &DeTable<'_>, name: &str, before: usize) -> Option<usize> {
    let own =
        table.iter().filter(|(key, _)| key.get_ref() == name).map(|(key, _)| key.span().start);
    let inner = table.iter().filter_map(|(_, value)| last_in_value(value.get_ref(), name, before));
    own.chain(inner).filter(|&at| at < before).max()
}

fn last_in_value(value: &DeValue<'_>, name: &str, before: usize) -> Option<usize> {
    match value {
        DeValue::Table(table) => last_before(table, name, before),
        DeValue::Array(array) => {
            array.iter().filter_map(|value| last_in_value(value.get_ref(), name, before)).max()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Problems of a text, and what could still be read of it.
    fn read(text: &str) -> (Vec<String>, String) {
        let report = Report::default();
        let source = Source::new(report.add_file("f"), Path::new(""), text);
        assert!(parse(&source.text).is_none(), "{text} is TOML");
        let repaired = repair(&source, &report);
        let keys: Vec<String> = flatten(parse_repaired(&repaired).get_ref(), "");
        (report.finish().0.iter().map(ToString::to_string).collect(), keys.join(" "))
    }

    fn flatten(table: &DeTable<'_>, prefix: &str) -> Vec<String> {
        let mut keys = Vec::new();
        for (key, value) in table {
            let path = format!("{prefix}{}", key.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) => keys.extend(flatten(inner, &format!("{path}."))),
                DeValue::Array(array) => {
                    keys.push(path.clone());
                    for inner in array.iter().filter_map(|value| value.get_ref().as_table()) {
                        keys.extend(flatten(inner, &format!("{path}.")));
                    }
                }
                _ => keys.push(path),
            }
        }
        keys
    }

    #[test]
    fn one_slip_hides_nothing_else() {
        let rest = "\n[[upstream]]\nname = \"u\"\n";
        for (slip, place) in [
            ("[[route]\nid = \"a\"", "f:1:9: route: "),
            ("[[route\nid = \"a\"", "f:1:8: route: "),
            ("[[route]]\nid \"a\"", "f:2:4: route.id: "),
            ("[[route]]\nid: \"a\"", "f:2:"),
            ("[[route]]\nhosts = [\"a\", \"b\"\nid = \"a\"", "f:2:9: route.hosts: "),
            ("[[route]]\nheaders = { a = \"b\"\nid = \"a\"", "f:2:11: route.headers: "),
            ("[[route]]\nhosts = [ # why\n  \"a\",\nid = \"a\"", "f:2:9: route.hosts: "),
            ("[[route]]\nid = a", "f:2:6: route.id: a: not a TOML value; write \"a\", in quotes"),
            ("[[route]]\nid = \"a", "f:2:8: route.id: "),
            ("[[route]]\npath = \"\\d\"", "f:2:10: route.path: "),
            ("[[route]]\nid = ", "f:2:6: route.id: there is no value"),
            ("[[route]]\nid = null", "f:2:6: route.id: null: not a TOML value; leave the key out"),
            (
                "[[route]]\nid = \u{201c}a\u{201d}",
                "f:2:6: route.id: \u{201c}a\u{201d}: not a TOML value; write \"a\", with",
            ),
            (
                "[[route]]\npriority = 1;",
                "f:2:12: route.priority: 1;: not a TOML value; remove the",
            ),
            ("[[route]]\nid = True", "f:2:6: route.id: True: not a TOML value; write true"),
            ("// note", "f:1:"),
            ("[[route]]\nid = \"a\"\nid = \"b\"", "f:3:1: route.id: \"id\" is already at line 2;"),
        ] {
            let (problems, keys) = read(&format!("{slip}{rest}"));
            assert!(problems[0].starts_with(place), "{slip}: {problems:?}");
            assert_eq!(problems.len(), 1, "{slip}: {problems:?}");
            assert!(keys.ends_with("upstream upstream.name"), "{slip}: {keys}");
        }
    }

    #[test]
    fn several_slips_are_all_named() {
        let text = "a\n[b\nc = d\n[e]\nf = [1\ng = 2\ng = 3\n";
        let (problems, keys) = read(text);
        let places: Vec<&str> = problems.iter().map(|p| p.split(": ").next().unwrap()).collect();
        assert_eq!(places, ["f:1:2", "f:2:3", "f:3:5", "f:5:5", "f:7:1"]);
        assert_eq!(keys, "b.c e.f e.g");
    }

    #[test]
    fn strings_and_json_that_never_end_are_refused_in_bounded_time() {
        for text in
            ["a = '''x\ny", "a = \"\"\"x\ny", "{\"a\": 1}", "a = [[[[", "a = {{{{", "[[[[[["]
        {
            assert!(!read(text).0.is_empty(), "{text}");
        }
    }
}
