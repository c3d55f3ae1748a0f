//! What path is sent upstream: as it came, without its literal beginning, or another one.

use super::{captures::Captures, error::Problem, literal};

/// How the path that is sent upstream is made. The query is kept by the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TargetRule {
    /// As it came.
    #[default]
    Keep,
    /// Without the literal part before the first capture.
    Strip(Strip),
    /// Another path, with captures in it.
    Rewrite(Rewrite),
}

/// What is left of a path that is stripped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strip {
    /// Nothing: a path without captures becomes `/`.
    Whole,
    /// What the first capture begins, with a `/` in front.
    BeforeCapture,
}

/// A path with places for captures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    parts: Box<[Part]>,
    /// Groups of a regex may cut a percent-encoding in two; segments can't.
    mend: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<[u8]>),
    Capture(u8),
}

impl TargetRule {
    /// Whether it puts captures in.
    pub fn uses_captures(&self) -> bool {
        matches!(self, Self::Rewrite(rewrite) if rewrite.uses_captures())
    }

    /// Appends the new path to `out`: it starts with `/` (or is the `*` that came) and holds only
    /// bytes a request line may hold, given that `path` does and `captures` are those of its match.
    pub fn write(&self, path: &[u8], captures: &Captures, out: &mut Vec<u8>) {
        match self {
            Self::Keep => out.extend_from_slice(path),
            Self::Strip(_) if path == b"*" => out.push(b'*'),
            Self::Strip(Strip::Whole) => out.push(b'/'),
            Self::Strip(Strip::BeforeCapture) => {
                let (start, _) = captures.span(0);
                out.push(b'/');
                out.extend_from_slice(path.get(start..).unwrap_or_default());
            }
            Self::Rewrite(rewrite) => rewrite.write(path, captures, out),
        }
    }
}

impl Rewrite {
    fn write(&self, path: &[u8], captures: &Captures, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(bytes) => out.extend_from_slice(bytes),
                Part::Capture(index) => {
                    let (start, end) = captures.span(usize::from(*index));
                    let bytes = path.get(start..end).unwrap_or_default();
                    if self.mend {
                        push_mended(bytes, out);
                    } else {
                        out.extend_from_slice(bytes);
                    }
                }
            }
        }
    }

    /// Reads a `rewrite`. `names` are the captures of the route, in their order; `mend` says that a
    /// regex makes them.
    pub(super) fn parse(text: &str, names: &[Box<str>], mend: bool) -> Result<Self, Problem> {
        if !text.starts_with('/') {
            return Err(Problem::new(
                format!("{text:?} does not start with /"),
                format!("write \"/{text}\""),
            ));
        }
        if text.contains(['?', '#']) {
            return Err(Problem::new(
                "a rewrite is a path: no ? and no #",
                "drop the ? and what follows: the query of the request is kept",
            ));
        }
        let is_dots = |segment: &&str| {
            matches!(&*segment.to_ascii_lowercase().replace("%2e", "."), "." | "..")
        };
        if let Some(dots) = text.split('/').find(is_dots) {
            return Err(Problem::new(
                format!("a segment {dots:?}, which a reader of the path may resolve or not"),
                "write the path that it leads to",
            ));
        }
        let mut parts = Vec::new();
        let mut left = text;
        while let Some(open) = left.find(['{', '}']) {
            let (literal, rest) = left.split_at(open);
            push_literal(literal, &mut parts)?;
            let close = rest.find('}').filter(|_| rest.starts_with('{'));
            let Some(close) = close else {
                return Err(Problem::new(
                    "a { without } or a } without {",
                    "write captures as {name}; a brace itself is %7B or %7D",
                ));
            };
            parts.push(Part::Capture(capture_index(&rest[1..close], names)?));
            left = &rest[close + 1..];
        }
        push_literal(left, &mut parts)?;
        Ok(Self { parts: parts.into(), mend })
    }

    /// Whether a capture is used at all.
    pub(super) fn uses_captures(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Capture(_)))
    }
}

fn push_literal(text: &str, parts: &mut Vec<Part>) -> Result<(), Problem> {
    if !text.is_empty() {
        let mut bytes = Vec::with_capacity(text.len());
        literal::encode(text, &mut bytes)?;
        parts.push(Part::Literal(bytes.into()));
    }
    Ok(())
}

fn capture_index(name: &str, names: &[Box<str>]) -> Result<u8, Problem> {
    if let Some(index) = names.iter().position(|known| **known == *name) {
        return Ok(index as u8); // at most CAPTURES_MAX
    }
    let bare = name.strip_prefix('*').unwrap_or(name).split(':').next().unwrap_or_default();
    let hint = if names.iter().any(|known| **known == *bare) {
        format!("write {{{bare}}}: a rewrite names the capture only")
    } else if names.is_empty() {
        "this route captures nothing: name a part of its path, as in path = \"/users/{id}\"".into()
    } else {
        let list: Vec<_> = names.iter().map(|name| format!("{{{name}}}")).collect();
        format!("this route captures {}", list.join(", "))
    };
    Err(Problem::new(format!("{{{name}}} is not a capture of this route's path"), hint))
}

/// Copies `bytes`; a `%` that does not begin an encoding becomes `%25`.
fn push_mended(bytes: &[u8], out: &mut Vec<u8>) {
    for (index, byte) in bytes.iter().enumerate() {
        out.push(*byte);
        let digits = bytes.get(index + 1..index + 3).unwrap_or_default();
        if *byte == b'%' && !(digits.len() == 2 && digits.iter().all(u8::is_ascii_hexdigit)) {
            out.extend_from_slice(b"25");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(text: &str, names: &[&str], mend: bool) -> Result<TargetRule, Problem> {
        let names: Vec<Box<str>> = names.iter().map(|name| (*name).into()).collect();
        Rewrite::parse(text, &names, mend).map(TargetRule::Rewrite)
    }

    fn write(rule: &TargetRule, path: &str, spans: &[(u32, u32)]) -> String {
        let (mut captures, mut out) = (Captures::default(), Vec::new());
        captures.set(spans);
        rule.write(path.as_bytes(), &captures, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn captures_are_put_in_still_encoded() {
        let rule = rewrite("/people/{id}/{id}/of-{org}", &["org", "id"], false).unwrap();
        assert_eq!(write(&rule, "/o/a%2Fb", &[(1, 2), (3, 8)]), "/people/a%2Fb/a%2Fb/of-o");
        let plain = rewrite("/caf\u{e9} menu", &[], false).unwrap();
        assert_eq!(write(&plain, "/x", &[]), "/caf%C3%A9%20menu");
    }

    #[test]
    fn half_an_encoding_is_mended() {
        let rule = rewrite("/{a}{b}", &["a", "b"], true).unwrap();
        assert_eq!(write(&rule, "/%2Fx", &[(1, 2), (3, 5)]), "/%25Fx");
        assert_eq!(write(&rule, "/%2Fx", &[(1, 4), (4, 5)]), "/%2Fx");
        // An encoding cut across two captures stays harmless, if not pretty.
        assert_eq!(write(&rule, "/%2Fx", &[(1, 3), (3, 5)]), "/%252Fx");
    }

    #[test]
    fn strip_leaves_what_the_first_capture_begins() {
        let strip = TargetRule::Strip(Strip::BeforeCapture);
        assert_eq!(write(&strip, "/api/users/7", &[(11, 12)]), "/7");
        assert_eq!(write(&strip, "/api", &[(4, 4)]), "/");
        assert_eq!(write(&strip, "/api/", &[(5, 5)]), "/");
        assert_eq!(write(&strip, "*", &[(1, 1)]), "*");
        assert_eq!(write(&TargetRule::Strip(Strip::Whole), "/api", &[]), "/");
        assert_eq!(write(&TargetRule::Keep, "/api", &[]), "/api");
    }

    #[test]
    fn mistakes_say_what_to_write() {
        for (text, hint) in [
            ("people", "\"/people\""),
            ("/a?b=c", "query"),
            ("/{id", "%7B"),
            ("/id}", "%7D"),
            ("/{ident}", "{id}, {rest}"),
            ("/{*rest}", "write {rest}"),
            ("/{id:[0-9]+}", "write {id}"),
            ("/%zz", "%25"),
        ] {
            let problem = rewrite(text, &["id", "rest"], false).unwrap_err();
            assert!(problem.hint.contains(hint), "{text}: {}; {}", problem.message, problem.hint);
        }
        assert!(rewrite("/{id}", &[], false).unwrap_err().hint.contains("captures nothing"));
    }
}
