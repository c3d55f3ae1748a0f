//! The conditions of a route besides host and path: methods, fields, query keys.

use std::{borrow::Cow, sync::Arc};

use regex::bytes::Regex;

use super::request::{FieldSource, RouteQuery};

/// Methods as bits: those of a route, or the one of a request. Which bit is which, the table knows.
pub(super) type MethodBits = u64;

/// The conditions of one or many routes (equal ones are kept once). Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    /// 0 for all.
    pub(super) methods: MethodBits,
    /// Quick ones first.
    pub(super) checks: Arc<[Check]>,
}

/// One condition on a field or query key.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) source: Source,
    /// Lower-case for a field.
    pub(super) name: Box<[u8]>,
    pub(super) want: Want,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// The fields with this name, joined with `, `. Source: RFC 9110 §5.3.
    Header,
    /// The first pair of the query with this key, both percent-decoded; `+` is a plus.
    Query,
}

/// What a value must be.
#[derive(Debug)]
pub(super) enum Want {
    Present,
    Literal(Box<[u8]>),
    Regex(Arc<Regex>),
}

/// How a request stands to the conditions of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All hold.
    Holds,
    /// All but the method.
    MethodFails,
    /// Another one fails.
    Fails,
}

impl Guard {
    /// Compares a request, whose method is `method`, with the conditions.
    pub(super) fn judge<F: FieldSource>(
        &self,
        query: &RouteQuery<'_, F>,
        method: MethodBits,
        scratch: &mut Vec<u8>,
    ) -> Verdict {
        if !self.checks.iter().all(|check| check.holds(query, scratch)) {
            Verdict::Fails
        } else if self.methods == 0 || self.methods & method != 0 {
            Verdict::Holds
        } else {
            Verdict::MethodFails
        }
    }

    /// The first condition that fails, in words; `names` are the methods by bit.
    pub(super) fn failure<F: FieldSource>(
        &self,
        query: &RouteQuery<'_, F>,
        method: MethodBits,
        names: &[Box<[u8]>],
    ) -> Option<Box<str>> {
        if self.methods != 0 && self.methods & method == 0 {
            let wanted = String::from_utf8_lossy(&join_methods(self.methods, names)).into_owned();
            let is = text(query.method);
            return Some(format!("method is {is}, the route takes {wanted}").into());
        }
        let mut scratch = Vec::new();
        let failed = self.checks.iter().find(|check| !check.holds(query, &mut scratch))?;
        Some(failed.failure(query))
    }
}

/// Writes methods as `Allow` does: `GET, HEAD`.
pub(super) fn join_methods(methods: MethodBits, names: &[Box<[u8]>]) -> Vec<u8> {
    let chosen = names.iter().enumerate().filter(|(bit, _)| methods & (1 << bit) != 0);
    chosen.map(|(_, name)| &**name).collect::<Vec<_>>().join(&b", "[..])
}

impl Check {
    fn holds<F: FieldSource>(&self, query: &RouteQuery<'_, F>, scratch: &mut Vec<u8>) -> bool {
        match self.source {
            Source::Header => self.header_holds(query.fields.values(&self.name), scratch),
            Source::Query => match query_value(query.query, &self.name) {
                Some(value) => self.query_holds(value, scratch),
                None => false,
            },
        }
    }

    fn header_holds<'s>(
        &self,
        mut values: impl Iterator<Item = &'s [u8]>,
        scratch: &mut Vec<u8>,
    ) -> bool {
        let Some(first) = values.next() else { return false };
        match &self.want {
            Want::Present => true,
            Want::Literal(want) => {
                let mut left = want.strip_prefix(first);
                for value in values {
                    left = left.and_then(|left| left.strip_prefix(b", "));
                    left = left.and_then(|left| left.strip_prefix(value));
                }
                left.is_some_and(<[u8]>::is_empty)
            }
            Want::Regex(regex) => match values.next() {
                None => regex.is_match(first),
                Some(second) => {
                    scratch.clear();
                    scratch.extend_from_slice(first);
                    for value in std::iter::once(second).chain(values) {
                        scratch.extend_from_slice(b", ");
                        scratch.extend_from_slice(value);
                    }
                    regex.is_match(scratch)
                }
            },
        }
    }

    fn query_holds(&self, value: &[u8], scratch: &mut Vec<u8>) -> bool {
        match &self.want {
            Want::Present => true,
            Want::Literal(want) => decode(value).eq(want.iter().copied()),
            Want::Regex(regex) if !value.contains(&b'%') => regex.is_match(value),
            Want::Regex(regex) => {
                scratch.clear();
                scratch.extend(decode(value));
                regex.is_match(scratch)
            }
        }
    }

    fn failure<F: FieldSource>(&self, query: &RouteQuery<'_, F>) -> Box<str> {
        let (kind, value): (_, Option<Vec<u8>>) = match self.source {
            Source::Header => {
                let values: Vec<_> = query.fields.values(&self.name).collect();
                ("header", (!values.is_empty()).then(|| values.join(&b", "[..])))
            }
            Source::Query => {
                let value = query_value(query.query, &self.name);
                ("query key", value.map(|value| decode(value).collect()))
            }
        };
        let is = match &value {
            Some(value) => format!("is {:?}", text(value)),
            None => "is missing".into(),
        };
        let wanted = match &self.want {
            Want::Present => "must be present".into(),
            Want::Literal(want) => format!("must be {:?}", text(want)),
            Want::Regex(regex) => format!("must match {:?}", regex.as_str()),
        };
        format!("{kind} {} {is}, {wanted}", text(&self.name)).into()
    }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The value, still encoded, of the first pair whose key is `name` once decoded.
pub(in crate::policy) fn query_value<'a>(query: Option<&'a [u8]>, name: &[u8]) -> Option<&'a [u8]> {
    let pairs = query?.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    for pair in pairs {
        let equals = pair.iter().position(|byte| *byte == b'=');
        let (key, value) = match equals {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &pair[pair.len()..]),
        };
        if decode(key).eq(name.iter().copied()) {
            return Some(value);
        }
    }
    None
}

/// The bytes that `encoded` stands for. A `%` without two digits stands for itself (the parser lets
/// none through).
fn decode(encoded: &[u8]) -> impl Iterator<Item = u8> {
    let mut left = encoded;
    std::iter::from_fn(move || {
        let (&first, rest) = left.split_first()?;
        if let (b'%', [high, low, after @ ..]) = (first, rest)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            left = after;
            return Some(high << 4 | low);
        }
        left = rest;
        Some(first)
    })
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ListenerIndex;

    struct Fields(Vec<(&'static str, &'static str)>);

    impl FieldSource for Fields {
        fn values<'s>(&'s self, name: &[u8]) -> impl Iterator<Item = &'s [u8]> {
            let name = name.to_vec();
            let same = move |field: &&(&str, &str)| field.0.as_bytes() == name;
            self.0.iter().filter(same).map(|field| field.1.as_bytes())
        }
    }

    fn check(source: Source, name: &str, want: Want) -> Check {
        Check { source, name: name.as_bytes().into(), want }
    }

    fn literal(text: &str) -> Want {
        Want::Literal(text.as_bytes().into())
    }

    fn regex(text: &str) -> Want {
        Want::Regex(Arc::new(Regex::new(text).unwrap()))
    }

    fn query<'a>(fields: &'a Fields, query: Option<&'a str>) -> RouteQuery<'a, Fields> {
        RouteQuery {
            listener: ListenerIndex(0),
            host: b"a.test",
            path: b"/",
            query: query.map(str::as_bytes),
            method: b"GET",
            fields,
        }
    }

    #[test]
    fn a_header_sent_twice_is_joined() {
        let fields = Fields(vec![("x", "a"), ("y", ""), ("x", "b, c")]);
        let holds = |name, want| {
            check(Source::Header, name, want).holds(&query(&fields, None), &mut Vec::new())
        };
        assert!(holds("x", literal("a, b, c")));
        assert!(!holds("x", literal("a")));
        assert!(!holds("x", literal("a, b, c, ")));
        assert!(!holds("x", literal("a,b, c")));
        assert!(holds("x", regex("^a, b")));
        assert!(holds("x", Want::Present));
        assert!(holds("y", literal("")), "an empty value is a value");
        assert!(holds("y", Want::Present));
        assert!(!holds("z", Want::Present));
        assert!(!holds("z", literal("")));
        assert!(!holds("z", regex("")));
    }

    #[test]
    fn a_query_is_decoded_and_its_first_value_counts() {
        let fields = Fields(Vec::new());
        let holds = |text, name, want| {
            let query = query(&fields, text);
            check(Source::Query, name, want).holds(&query, &mut Vec::new())
        };
        assert!(holds(Some("a=1&a=2"), "a", literal("1")));
        assert!(!holds(Some("a=1&a=2"), "a", literal("2")));
        assert!(holds(Some("&&a=1=2"), "a", literal("1=2")));
        assert!(holds(Some("%61%20b=%2B+"), "a b", literal("++")));
        assert!(!holds(Some("a=+"), "a", literal(" ")));
        assert!(holds(Some("a"), "a", literal("")));
        assert!(holds(Some("a="), "a", Want::Present));
        assert!(holds(Some("a=%C3%A9x"), "a", regex("^\u{e9}x$")));
        assert!(!holds(Some("A=1"), "a", Want::Present));
        assert!(!holds(Some(""), "a", Want::Present));
        assert!(!holds(None, "a", Want::Present));
    }

    #[test]
    fn failures_are_told_in_words() {
        let fields = Fields(vec![("x", "a")]);
        let words = |want| check(Source::Header, "x", want).failure(&query(&fields, None));
        assert_eq!(&*words(literal("b")), "header x is \"a\", must be \"b\"");
        let missing = check(Source::Query, "q", Want::Present).failure(&query(&fields, None));
        assert_eq!(&*missing, "query key q is missing, must be present");
        let guard = Guard { methods: 0b11, checks: Arc::new([]) };
        let names: Vec<Box<[u8]>> = vec![b"POST".as_slice().into(), b"PUT".as_slice().into()];
        assert_eq!(
            guard.failure(&query(&fields, None), 0, &names).as_deref(),
            Some("method is GET, the route takes POST, PUT")
        );
    }
}
