//! The path keys `path` and `path_prefix`: literals, parameters, a rest.

use super::{error::Problem, literal, regexes};
use crate::base::limits::{CAPTURES_MAX, PATTERN_BYTES_MAX, PATTERN_SEGMENTS_MAX};

/// The name of what a `path_prefix`, or a route without a path, leaves.
const REST: &str = "rest";

/// A path key as it was written, cut into segments; [`Pattern::resolve`] makes literals normal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern<'a> {
    raw: Vec<Raw<'a>>,
    tail: Tail,
    /// The captures in their order, the rest last.
    names: Vec<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Raw<'a> {
    Literal(&'a str),
    /// A parameter, with the regex it must match.
    Parameter(Option<&'a str>),
}

/// How a path may go on after the segments of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Not at all.
    End,
    /// With a `/` and anything: `{*rest}`.
    Rest,
    /// Not at all, or with a `/` and anything: `path_prefix`.
    Prefix,
}

/// A pattern in the form the table keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segments<'a> {
    pub(super) list: Vec<Segment<'a>>,
    pub(super) tail: Tail,
}

/// What one segment of a path must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment<'a> {
    /// This, normal.
    Literal(Vec<u8>),
    /// Something non-empty that this regex matches as a whole.
    Regex(&'a str),
    /// Something non-empty.
    Any,
}

impl Segments<'_> {
    /// The only path it matches, if there is but one.
    pub(super) fn exact(&self) -> Option<Vec<u8>> {
        let mut path = Vec::new();
        for segment in &self.list {
            let Segment::Literal(bytes) = segment else { return None };
            path.push(b'/');
            path.extend_from_slice(bytes);
        }
        (self.tail == Tail::End).then_some(path)
    }
}

impl<'a> Pattern<'a> {
    /// All paths: what a route without a path key matches.
    pub(super) fn all() -> Self {
        Self { raw: Vec::new(), tail: Tail::Rest, names: vec![REST.into()] }
    }

    /// Reads a `path_prefix`.
    pub(super) fn parse_prefix(text: &'a str) -> Result<Self, Problem> {
        let inner = begin(text)?;
        let mut raw = Vec::new();
        for segment in inner.split('/') {
            refuse_query(segment)?;
            if segment.contains(['{', '}']) || segment.starts_with([':', '*']) {
                return Err(Problem::new(
                    format!("{segment:?}: a path_prefix has no parameters"),
                    if segment.starts_with('*') {
                        "leave it out: a prefix matches whatever follows".into()
                    } else {
                        format!("write path = \"{}/{{*rest}}\"", text.trim_end_matches('/'))
                    },
                ));
            }
            raw.push(Raw::Literal(segment));
        }
        let pattern = Self { raw, tail: Tail::Prefix, names: vec![REST.into()] };
        pattern.refuse_depth()?;
        Ok(pattern)
    }

    /// Reads a `path`.
    pub(super) fn parse(text: &'a str) -> Result<Self, Problem> {
        let mut pattern = Self { raw: Vec::new(), tail: Tail::End, names: Vec::new() };
        let mut left = Some(begin(text)?);
        while let Some(rest) = left {
            if pattern.tail != Tail::End {
                return Err(Problem::new(
                    "something follows the rest",
                    "{*rest} takes all that is left, so it must be the last segment",
                ));
            }
            let end = segment_end(rest)?;
            pattern.push(&rest[..end])?;
            left = rest.get(end + 1..);
        }
        if !pattern.names.is_empty() {
            pattern.refuse_depth()?;
        }
        Ok(pattern)
    }

    /// An exact path is found by hash; only the others make the walk deeper.
    fn refuse_depth(&self) -> Result<(), Problem> {
        if self.raw.len() <= PATTERN_SEGMENTS_MAX {
            return Ok(());
        }
        let message = format!("more than {PATTERN_SEGMENTS_MAX} segments");
        Err(Problem::new(message, "shorten it, or end it with {*rest}"))
    }

    fn push(&mut self, segment: &'a str) -> Result<(), Problem> {
        let (name, regex) = if let Some(inner) = segment.strip_prefix('{') {
            let inner = inner.strip_suffix('}').unwrap_or(inner); // segment_end saw the brace
            match inner.split_once(':') {
                Some((name, regex)) => (name, Some(regex)),
                None => (inner, None),
            }
        } else if let Some(name) = segment.strip_prefix(':') {
            (name, None)
        } else if segment.starts_with('*') {
            (segment, None)
        } else {
            refuse_query(segment)?;
            self.raw.push(Raw::Literal(segment));
            return Ok(());
        };
        if let Some(rest) = name.strip_prefix('*') {
            if regex.is_some() {
                return Err(Problem::new(
                    format!("{segment:?}: a rest has no regex"),
                    "write {*name}, or use path_regex",
                ));
            }
            self.tail = Tail::Rest;
            return self.name(rest, segment);
        }
        self.raw.push(Raw::Parameter(regex));
        self.name(name, segment)
    }

    fn name(&mut self, name: &str, segment: &str) -> Result<(), Problem> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if name.is_empty() {
            let hint = if segment.contains('*') {
                "write {*rest}, or path_prefix; a literal star can't begin a segment"
            } else {
                "write {name}; a segment that begins with a colon is {name::regex}"
            };
            return Err(Problem::new(format!("{segment:?}: a parameter without a name"), hint));
        }
        if let Some(odd) = name.chars().find(|c| !plain(*c)).filter(|_| !segment.starts_with('{')) {
            return Err(inside_a_segment(segment, odd));
        }
        if !starts || !name.chars().all(plain) {
            return Err(Problem::new(
                format!("{segment:?}: {name:?} is no name for a parameter"),
                "use letters, digits, _ and -, and begin with a letter or _",
            ));
        }
        if self.names.iter().any(|known| **known == *name) {
            return Err(Problem::new(
                format!("two captures are called {name:?}"),
                "give each its own name",
            ));
        }
        if self.names.len() == CAPTURES_MAX {
            return Err(Problem::new(
                format!("more than {CAPTURES_MAX} captures"),
                "put the last ones into one {*rest}",
            ));
        }
        self.names.push(name.into());
        Ok(())
    }

    /// The captures in their order, the rest last.
    pub(super) fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// The pattern with its literals in the normal form of a listener's paths. Literals are joined
    /// and made normal up to the next parameter, so that `.`, `..` and `//` mean what they mean in
    /// a request; a `..` that would remove a parameter is an error.
    pub(super) fn resolve(&self, merge_slashes: bool) -> Result<Segments<'a>, Problem> {
        let mut list = Vec::with_capacity(self.raw.len());
        let mut run = String::new();
        for raw in &self.raw {
            match raw {
                Raw::Literal(text) => {
                    run.push('/');
                    run.push_str(text);
                }
                Raw::Parameter(regex) => {
                    push_run(&mut run, true, merge_slashes, &mut list)?;
                    list.push(regex.map_or(Segment::Any, Segment::Regex));
                }
            }
        }
        match self.tail {
            Tail::End => push_run(&mut run, false, merge_slashes, &mut list)?,
            Tail::Rest => push_run(&mut run, true, merge_slashes, &mut list)?,
            Tail::Prefix => {
                push_run(&mut run, false, merge_slashes, &mut list)?;
                list.pop_if(|last| *last == Segment::Literal(Vec::new())); // "/a/" is "/a"
            }
        }
        Ok(Segments { list, tail: self.tail })
    }
}

/// Appends the segments of a run of literals. `goes_on`: a capture follows, so the run ends before
/// a slash; something stands in for the capture, or else `/a//` could not be told from `/a/`.
fn push_run(
    run: &mut String,
    goes_on: bool,
    merge_slashes: bool,
    list: &mut Vec<Segment<'_>>,
) -> Result<(), Problem> {
    if run.is_empty() {
        return Ok(());
    }
    if goes_on {
        run.push_str("/x");
    }
    let mut path = Vec::with_capacity(run.len());
    literal::normalise(run, merge_slashes, &mut path)?;
    run.clear();
    if goes_on {
        path.truncate(path.len().saturating_sub(2));
    }
    let literals = path.split(|byte| *byte == b'/').skip(1);
    list.extend(literals.map(|literal| Segment::Literal(literal.to_vec())));
    Ok(())
}

fn begin(text: &str) -> Result<&str, Problem> {
    if text.len() > PATTERN_BYTES_MAX {
        return Err(Problem::new(format!("longer than {PATTERN_BYTES_MAX} bytes"), "shorten it"));
    }
    text.strip_prefix('/').ok_or_else(|| {
        Problem::new(
            format!("{text:?} does not start with /"),
            match text {
                "*" | "" => "leave the key out to match all paths".into(),
                _ => format!("write \"/{}\"", text.split_once("://").map_or(text, |(_, t)| t)),
            },
        )
    })
}

fn refuse_query(segment: &str) -> Result<(), Problem> {
    match segment.find(['?', '#']) {
        Some(at) if segment[at..].starts_with('?') => Err(Problem::new(
            "a ? begins the query, which is no part of a path",
            "write query = { key = \"value\" }; a literal ? is %3F",
        )),
        Some(_) => Err(Problem::new(
            "a # begins a fragment, which clients never send",
            "remove it; a literal # is %23",
        )),
        None => Ok(()),
    }
}

fn inside_a_segment(segment: &str, odd: char) -> Problem {
    Problem::new(
        format!("{segment:?}: a parameter is a whole segment, {odd:?} can't be beside it"),
        "write {name:regex} for the whole segment, or use path_regex; a brace itself is %7B or %7D",
    )
}

/// Where the segment at the start of `text` ends. A `/` inside the braces of a parameter does not
/// end it, and braces of its regex (`[0-9]{4}`) may nest.
fn segment_end(text: &str) -> Result<usize, Problem> {
    let slash = text.find('/').unwrap_or(text.len());
    if !text.starts_with('{') {
        return match text[..slash].find(['{', '}']) {
            Some(_) => Err(inside_a_segment(&text[..slash], '{')),
            None => Ok(slash),
        };
    }
    let close = closing_brace(text).map_err(|open| unclosed(&text[..slash], &open))?;
    let end = close + 1;
    match text[end..].chars().next() {
        None | Some('/') => Ok(end),
        Some(odd) => {
            let rest = text[end..].find('/').map_or(text.len(), |slash| end + slash);
            Err(inside_a_segment(&text[..rest], odd))
        }
    }
}

/// What is open at the end of a text.
enum Open {
    Brace,
    /// A character class, which may have swallowed the brace.
    Class,
}

fn unclosed(segment: &str, open: &Open) -> Problem {
    let regex = segment.strip_suffix('}').and_then(|inner| inner.split_once(':'));
    let swallowed = regex.filter(|_| matches!(open, Open::Class));
    swallowed.and_then(|(_, regex)| regexes::problem(regex)).unwrap_or_else(|| {
        Problem::new(
            format!("{segment:?}: the brace is not closed"),
            "write {name} or {name:regex}; inside a regex escape a single brace as \\{ or \\}",
        )
    })
}

/// The position of the brace that closes the one at the start. Braces that are escaped or in a
/// character class don't count.
fn closing_brace(text: &str) -> Result<usize, Open> {
    let bytes = text.as_bytes();
    let (mut depth, mut class, mut at) = (0_usize, 0_usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 1,
            b'[' => {
                class += 1;
                if bytes.get(at + 1) == Some(&b'^') {
                    at += 1;
                }
                if bytes.get(at + 1) == Some(&b']') {
                    at += 1; // a ] right at the start is a member
                }
            }
            b']' => class = class.saturating_sub(1),
            b'{' if class == 0 => depth += 1,
            b'}' if class == 0 => {
                depth -= 1; // the brace at the start was counted first
                if depth == 0 {
                    return Ok(at);
                }
            }
            _ => {}
        }
        at += 1;
    }
    Err(if class > 0 { Open::Class } else { Open::Brace })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Segment<'static> {
        Segment::Literal(text.as_bytes().to_vec())
    }

    fn segments(text: &str, merge: bool) -> Vec<Segment<'_>> {
        Pattern::parse(text).unwrap().resolve(merge).unwrap().list
    }

    fn prefix(text: &str, merge: bool) -> Vec<Segment<'_>> {
        Pattern::parse_prefix(text).unwrap().resolve(merge).unwrap().list
    }

    #[test]
    fn all_spellings_of_captures_are_read() {
        for text in ["/a/{id}/{*rest}", "/a/:id/*rest", "/a/:id/{*rest}"] {
            let pattern = Pattern::parse(text).unwrap();
            assert_eq!(pattern.names(), ["id".into(), "rest".into()]);
            assert_eq!(pattern.tail, Tail::Rest);
            assert_eq!(pattern.resolve(true).unwrap().list, [literal("a"), Segment::Any]);
        }
        assert_eq!(segments("/{x:[0-9]{4}}", true), [Segment::Regex("[0-9]{4}")]);
        assert_eq!(segments("/{x:a:b}", true), [Segment::Regex("a:b")]);
        assert_eq!(
            segments("/{x:[^/}]+}/{y:\\}|[]}]}/z", true),
            [Segment::Regex("[^/}]+"), Segment::Regex("\\}|[]}]"), literal("z")]
        );
        assert_eq!(segments("/a:b/c*d", true), [literal("a:b"), literal("c*d")]);
    }

    #[test]
    fn slashes_make_segments() {
        assert_eq!(segments("/", true), [literal("")]);
        assert_eq!(segments("/a", true), [literal("a")]);
        assert_eq!(segments("/a/", true), [literal("a"), literal("")]);
        assert_eq!(segments("/{x}/", true), [Segment::Any, literal("")]);
        assert_eq!(segments("/a//{x}//b//", true), {
            [literal("a"), Segment::Any, literal("b"), literal("")]
        });
        assert_eq!(segments("/a//{x}//b//", false), {
            let (empty, any) = (literal(""), Segment::Any);
            [literal("a"), empty.clone(), any, empty.clone(), literal("b"), empty.clone(), empty]
        });
        assert_eq!(segments("/a/../{x}/./b", true), [Segment::Any, literal("b")]);
        assert_eq!(segments("/%7Ea/{x}", true), [literal("~a"), Segment::Any]);
    }

    #[test]
    fn a_prefix_ends_with_whole_segments() {
        assert_eq!(prefix("/", true), []);
        assert_eq!(prefix("/a", true), [literal("a")]);
        assert_eq!(prefix("/a/", true), [literal("a")]);
        assert_eq!(prefix("/a//", true), [literal("a")]);
        assert_eq!(prefix("/a//", false), [literal("a"), literal("")]);
        assert_eq!(prefix("/a/..", true), []);
    }

    #[test]
    fn only_literals_to_the_end_are_exact() {
        let exact = |text| Pattern::parse(text).unwrap().resolve(true).unwrap().exact();
        assert_eq!(exact("/a/b/").as_deref(), Some(&b"/a/b/"[..]));
        assert_eq!(exact("/").as_deref(), Some(&b"/"[..]));
        assert_eq!(exact("/{x}"), None);
        assert_eq!(exact("/a/{*rest}"), None);
        assert_eq!(Pattern::parse_prefix("/a").unwrap().resolve(true).unwrap().exact(), None);
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (text, hint) in [
            ("a/b", "\"/a/b\""),
            ("*", "leave the key out"),
            ("/img-{id}.png", "path_regex"),
            ("/{id}.png", "path_regex"),
            ("/{a}{b}", "path_regex"),
            ("/:id.png", "path_regex"),
            ("/x}", "%7B"),
            ("/{id", "{name}"),
            ("/{id:[0-9]{4}", "{name}"),
            ("/{id:[0-9}", "syntax"),
            ("/{}", "{name}"),
            ("/:", "{name}"),
            ("/a/*", "{*rest}"),
            ("/a/{*}", "{*rest}"),
            ("/{*rest}/a", "last segment"),
            ("/{*rest:x}", "path_regex"),
            ("/{a b}", "letters"),
            ("/{1}", "begin with a letter"),
            ("/{id}/{id}", "own name"),
            ("/{id}/{*id}", "own name"),
            ("/a?b=c", "query = "),
            ("/a#b", "%23"),
        ] {
            let problem = Pattern::parse(text).expect_err(text);
            assert!(problem.hint.contains(hint), "{text}: {}; {}", problem.message, problem.hint);
        }
        assert!(Pattern::parse("/{x}/../a").unwrap().resolve(true).is_err());
        assert!(Pattern::parse("/..").unwrap().resolve(true).is_err());
        for text in ["a", "/{x}", "/:x", "/a/*", "/a?b"] {
            assert!(Pattern::parse_prefix(text).is_err(), "{text}");
        }
        let many: String = (0..17).map(|n| format!("/{{p{n}}}")).collect();
        assert!(Pattern::parse(&many).unwrap_err().message.contains("16"));
    }
}
