//! Regexes of a table: compiled once for each text, bounded in size.

use std::{collections::HashMap, sync::Arc};

use regex::bytes::{Regex, RegexBuilder};
use slab::Slab;

use super::{error::Problem, hash::NONE, tree::bound};
use crate::base::limits::{REGEX_BYTES_MAX, REGEX_CACHE_BYTES_MAX, REGEX_NESTING_MAX};

/// What a regex is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Does it match a whole segment?
    Segment,
    /// Is it found in the path?
    Path,
    /// Is it found in the value of a field or query key?
    Value,
}

/// All regexes of a table, each text once.
#[derive(Clone, Debug, Default)]
pub(super) struct Regexes {
    /// By purpose.
    numbers: [HashMap<Arc<str>, u32>; 3],
    list: Slab<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    regex: Arc<Regex>,
    purpose: Purpose,
    text: Arc<str>,
    users: u32,
}

impl Regexes {
    /// The number of the regex with this text and purpose. Nobody uses it yet if it is new.
    pub(super) fn intern(&mut self, purpose: Purpose, text: &str) -> Result<u32, Problem> {
        if let Some(number) = self.find(purpose, text) {
            return Ok(number);
        }
        let text: Arc<str> = text.into();
        let regex = Arc::new(compile(purpose, &text)?);
        let known = Known { regex, purpose, text: Arc::clone(&text), users: 0 };
        let number = self.list.insert(known) as u32;
        self.numbers[purpose as usize].insert(text, number);
        Ok(number)
    }

    /// The number of one that was interned before.
    pub(super) fn find(&self, purpose: Purpose, text: &str) -> Option<u32> {
        self.numbers[purpose as usize].get(text).copied()
    }

    pub(super) fn get(&self, number: u32) -> &Arc<Regex> {
        &self.list[number as usize].regex
    }

    /// One more uses it.
    pub(super) fn hold(&mut self, number: u32) {
        self.list[number as usize].users += 1;
    }

    /// One that used it does not any more; behind the last it is gone.
    pub(super) fn release(&mut self, number: u32) {
        let known = &mut self.list[number as usize];
        known.users -= 1;
        if known.users == 0 {
            let Known { purpose, text, .. } = self.list.remove(number as usize);
            self.numbers[purpose as usize].remove(&text);
        }
    }

    /// All of them, and by the number of each its place there.
    pub(super) fn list(&self) -> (Box<[Arc<Regex>]>, Vec<u32>) {
        let mut places = vec![NONE; bound(&self.list)];
        for (place, (number, _)) in self.list.iter().enumerate() {
            places[number] = place as u32;
        }
        (self.list.iter().map(|(_, known)| Arc::clone(&known.regex)).collect(), places)
    }
}

/// What is wrong with the regex of a segment, if anything is.
pub(super) fn problem(text: &str) -> Option<Problem> {
    compile(Purpose::Segment, text).err()
}

fn compile(purpose: Purpose, text: &str) -> Result<Regex, Problem> {
    if text.is_empty() {
        let hint = match purpose {
            Purpose::Segment => "write {name} for any segment, or a regex after the colon",
            Purpose::Path => "leave the key out to match all paths",
            Purpose::Value => "write \"present\" if any value will do",
        };
        return Err(Problem::new("an empty regex", hint));
    }
    // By itself first: a text such as `a)(b` must not pass because of the group put around it.
    let alone = build(purpose, text)?;
    if purpose != Purpose::Segment {
        return Ok(alone);
    }
    // The line break ends a comment that the text may close with, in its verbose mode.
    let whole = [format!(r"\A(?:{text})\z"), format!("\\A(?:{text}\n)\\z")];
    build(purpose, &whole[0]).or_else(|_| build(purpose, &whole[1]))
}

fn build(purpose: Purpose, text: &str) -> Result<Regex, Problem> {
    let build = |unicode| {
        RegexBuilder::new(text)
            .unicode(unicode)
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_CACHE_BYTES_MAX)
            .nest_limit(REGEX_NESTING_MAX)
            .build()
    };
    // Paths are ASCII: without Unicode tables a regex is smaller and means the same there.
    let built = match purpose {
        Purpose::Segment | Purpose::Path => build(false).or_else(|_| build(true)),
        Purpose::Value => build(true),
    };
    built.map_err(|error| explain(text, &error))
}

fn explain(text: &str, error: &regex::Error) -> Problem {
    match error {
        regex::Error::CompiledTooBig(_) => Problem::new(
            format!("the regex is too large: compiled, it takes more than {REGEX_BYTES_MAX} bytes"),
            "lower its counted repetitions, or write [a-z0-9_] for \\w",
        ),
        _ => {
            let report = error.to_string();
            let last = report.lines().rev().find(|line| !line.trim().is_empty());
            let cause = last.unwrap_or("invalid").trim().trim_start_matches("error: ");
            Problem::new(
                format!("bad regex {text:?}: {cause}"),
                "the syntax is that of RE2 and Rust's regex: no look-around, no back-references; \
                 in TOML write it in single quotes",
            )
        }
    }
}

/// Bytes with which each path begins that `regex` is found in: a cheap test before the regex.
/// Cautious: whatever is not plainly literal ends it, and an alternative at the top makes it empty.
pub(super) fn required_prefix(regex: &str) -> Vec<u8> {
    let Some(body) = regex.strip_prefix('^') else { return Vec::new() };
    if has_top_alternative(body) || has_inline_flags(body) {
        return Vec::new();
    }
    let mut prefix = Vec::new();
    let mut chars = body.chars().peekable();
    while let Some(next) = chars.next() {
        let literal = match next {
            '\\' => match chars.next() {
                Some(escaped) if is_plain_when_escaped(escaped) => escaped,
                _ => break,
            },
            '.' | '[' | '(' | ')' | '|' | '^' | '$' | '*' | '+' | '?' | '{' => break,
            _ if next.is_ascii() => next,
            _ => break,
        };
        match chars.peek() {
            Some('*' | '?' | '{') => break, // it may be missing
            Some('+') => {
                prefix.push(literal as u8);
                break;
            }
            _ => prefix.push(literal as u8),
        }
    }
    prefix
}

/// `\.` is a dot, but `\d` is a class and `\<` a word boundary.
fn is_plain_when_escaped(c: char) -> bool {
    c.is_ascii_punctuation() && !matches!(c, '<' | '>')
}

/// `(?x)` lets comments hide what the other checks look for.
fn has_inline_flags(regex: &str) -> bool {
    let mut groups = regex.split("(?").skip(1);
    groups.any(|group| !group.starts_with([':', 'P', '<']))
}

fn has_top_alternative(regex: &str) -> bool {
    let (mut groups, mut class, mut escaped) = (0_i32, 0_i32, false);
    for c in regex.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => class += 1,
            ']' => class -= 1,
            '(' if class <= 0 => groups += 1,
            ')' if class <= 0 => groups -= 1,
            // A `]` at the start of a class is miscounted: then this says yes too often.
            '|' if groups <= 0 || class != 0 => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(purpose: Purpose, regex: &str, text: &str) -> bool {
        compile(purpose, regex).unwrap().is_match(text.as_bytes())
    }

    #[test]
    fn a_segment_is_matched_as_a_whole() {
        assert!(matches(Purpose::Segment, "[0-9]+", "17"));
        assert!(!matches(Purpose::Segment, "[0-9]+", "17a"));
        assert!(!matches(Purpose::Segment, "a|b", "ab"));
        assert!(matches(Purpose::Segment, "a|ab", "ab"), "all alternatives count");
        assert!(matches(Purpose::Segment, "(?x) a b # a comment", "ab"));
        assert!(!matches(Purpose::Segment, "(?m)^a$", "a\nb"));
        assert!(compile(Purpose::Segment, "a)(b").is_err());
    }

    #[test]
    fn a_path_and_a_value_are_searched() {
        assert!(matches(Purpose::Path, "v[0-9]", "/api/v1/x"));
        assert!(!matches(Purpose::Path, "^v[0-9]", "/api/v1/x"));
        assert!(matches(Purpose::Value, "^.$", "\u{e9}"), "a letter is one, whatever its bytes");
        assert!(matches(Purpose::Path, r"\p{Greek}|a", "a"), "Unicode classes still work");
    }

    #[test]
    fn equal_texts_are_compiled_once() {
        let mut regexes = Regexes::default();
        let first = regexes.intern(Purpose::Segment, "[a-z]+").unwrap();
        assert_eq!(regexes.intern(Purpose::Segment, "[a-z]+"), Ok(first));
        assert_ne!(regexes.intern(Purpose::Path, "[a-z]+"), Ok(first));
        assert_eq!(regexes.list().0.len(), 2);
        for _ in 0..2 {
            regexes.hold(first);
        }
        regexes.release(first);
        assert_eq!(regexes.find(Purpose::Segment, "[a-z]+"), Some(first));
        regexes.release(first);
        assert_eq!(regexes.find(Purpose::Segment, "[a-z]+"), None);
        assert_eq!(regexes.list().0.len(), 1);
    }

    #[test]
    fn a_required_prefix_is_really_required() {
        for (regex, prefix) in [
            ("^/v[0-9]+/", "/v"),
            ("^/svc1/x$", "/svc1/x"),
            (r"^/a\.b/c", "/a.b/c"),
            (r"^/a\d", "/a"),
            (r"^/a\<b", "/a"),
            ("^/ab?c", "/a"),
            ("^/ab*c", "/a"),
            ("^/ab{0,1}c", "/a"),
            ("^/ab+c", "/ab"),
            ("^/(a|b)/c", "/"),
            ("^/a[|]b", "/a"),
            ("^/a|^/b", ""),
            ("^/a[]|]b", ""),
            ("/a", ""),
            ("(?i)^/a", ""),
            ("^/a(?x) # (\n|b", ""),
            ("^/a(?P<x>b)(?<y>c)(?:d)", "/a"),
            ("^*a", ""),
        ] {
            let found = required_prefix(regex);
            let text = String::from_utf8_lossy(&found);
            assert!(prefix.starts_with(&*text), "{regex}: {text} is more than {prefix}");
            if !regex.contains("[|]") && !regex.contains("[]|]") {
                assert_eq!(text, prefix, "{regex}");
            }
        }
    }

    #[test]
    fn bad_and_huge_regexes_are_refused_in_one_line() {
        for regex in ["(", "[a", "a{2,1}", "(?=a)", r"\1", r"\w{5000}", &"(".repeat(500)] {
            let problem = compile(Purpose::Value, regex).unwrap_err();
            assert!(!problem.message.contains('\n'), "{}", problem.message);
        }
    }
}
