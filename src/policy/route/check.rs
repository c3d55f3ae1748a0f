//! The checks of one route: text in, values that cannot be wrong or all its errors out.

use std::sync::Arc;

use super::{
    builder::TableBuilder,
    condition::{Check, Guard, MethodBits, Source, Want},
    error::{Problem, RouteError},
    guards::{GUARD_NONE, GuardKey},
    host::HostPattern,
    pattern::{Pattern, Segment, Segments, Tail},
    regexes::{self, Purpose},
    spec::{PathSpec, RouteSpec, ValueSpec},
    target::{Rewrite, Strip, TargetRule},
};
use crate::base::limits::{
    CAPTURES_MAX, METHOD_BYTES_MAX, METHODS_DISTINCT_MAX, PATTERN_BYTES_MAX,
};

/// A route whose values are all sound.
#[derive(Debug)]
pub(super) struct CheckedRoute<'a> {
    /// Sorted, none twice.
    pub(super) listeners: Vec<u16>,
    /// Sorted, none twice, at least one.
    pub(super) hosts: Vec<HostPattern>,
    pub(super) path: CheckedPath<'a>,
    pub(super) guard: u32,
    /// Whether named groups of its regex are used.
    pub(super) groups: bool,
    /// Its captures, in their order.
    pub(super) names: Vec<Box<str>>,
}

#[derive(Debug)]
pub(super) enum CheckedPath<'a> {
    Segments {
        merged: Segments<'a>,
        /// For listeners that keep repeated slashes, if that makes a difference.
        kept: Option<Segments<'a>>,
    },
    Search {
        regex: u32,
        /// What every path begins with that the regex is found in.
        prefix: Vec<u8>,
    },
}

/// Checks all keys of a route.
///
/// # Errors
/// All of them.
pub(super) fn check<'a>(
    builder: &mut TableBuilder,
    spec: &RouteSpec<'a>,
) -> Result<(CheckedRoute<'a>, TargetRule), Vec<RouteError>> {
    let mut errors = Vec::new();
    let listeners = check_listeners(builder, spec, &mut errors);
    let hosts = check_hosts(spec, &mut errors);
    let path = check_path(builder, spec, &mut errors);
    let guard = check_conditions(builder, spec, &mut errors);
    let target = path.as_ref().and_then(|(_, names)| check_target(spec, names, &mut errors));
    match (path, target) {
        (Some((path, names)), Some((target, groups))) if errors.is_empty() => {
            Ok((CheckedRoute { listeners, hosts, path, guard, groups, names }, target))
        }
        _ => Err(errors),
    }
}

fn check_listeners(
    builder: &TableBuilder,
    spec: &RouteSpec<'_>,
    errors: &mut Vec<RouteError>,
) -> Vec<u16> {
    let count = builder.merges.len();
    if spec.listeners.is_empty() {
        return (0..=u16::MAX).take(count).collect();
    }
    let mut listeners: Vec<u16> = spec.listeners.iter().map(|listener| listener.0).collect();
    listeners.sort_unstable();
    listeners.dedup();
    if listeners.last().is_some_and(|last| usize::from(*last) >= count) {
        errors.push(RouteError::new("listeners", "no such listener", "name a [[listener]]"));
    }
    listeners
}

fn check_hosts(spec: &RouteSpec<'_>, errors: &mut Vec<RouteError>) -> Vec<HostPattern> {
    let mut hosts = Vec::with_capacity(spec.hosts.len().max(1));
    for (place, text) in spec.hosts.iter().enumerate() {
        match HostPattern::parse(text) {
            Ok(host) => hosts.push(host),
            Err(problem) => errors.push(problem.at(format!("hosts[{place}]"))),
        }
    }
    if spec.hosts.is_empty() {
        hosts.push(HostPattern::Any);
    }
    hosts.sort();
    hosts.dedup();
    hosts
}

type PathAndNames<'a> = (CheckedPath<'a>, Vec<Box<str>>);

fn check_path<'a>(
    builder: &mut TableBuilder,
    spec: &RouteSpec<'a>,
    errors: &mut Vec<RouteError>,
) -> Option<PathAndNames<'a>> {
    let (key, result) = match spec.path {
        PathSpec::None => ("path", segments(builder, &Pattern::all())),
        PathSpec::Pattern(text) => {
            ("path", Pattern::parse(text).and_then(|pattern| segments(builder, &pattern)))
        }
        PathSpec::Prefix(text) => (
            "path_prefix",
            Pattern::parse_prefix(text).and_then(|pattern| segments(builder, &pattern)),
        ),
        PathSpec::Regex(text) => ("path_regex", search(builder, text)),
    };
    result.map_err(|problem| errors.push(problem.at(key))).ok()
}

fn segments<'a>(
    builder: &mut TableBuilder,
    pattern: &Pattern<'a>,
) -> Result<PathAndNames<'a>, Problem> {
    let merged = pattern.resolve(true)?;
    for segment in &merged.list {
        if let Segment::Regex(text) = segment {
            builder.regexes.intern(Purpose::Segment, text)?;
        }
    }
    let keeps = builder.merges.contains(&false);
    let kept = keeps.then(|| pattern.resolve(false)).transpose()?.filter(|kept| *kept != merged);
    Ok((CheckedPath::Segments { merged, kept }, pattern.names().to_vec()))
}

fn search<'a>(builder: &mut TableBuilder, text: &str) -> Result<PathAndNames<'a>, Problem> {
    if text.len() > PATTERN_BYTES_MAX {
        return Err(Problem::new(format!("longer than {PATTERN_BYTES_MAX} bytes"), "shorten it"));
    }
    let regex = builder.regexes.intern(Purpose::Path, text)?;
    let names: Vec<Box<str>> =
        builder.regexes.get(regex).capture_names().flatten().map(Box::from).collect();
    if names.len() > CAPTURES_MAX {
        return Err(Problem::new(
            format!("more than {CAPTURES_MAX} named groups"),
            "name only what rewrite uses; (?:...) groups without a name",
        ));
    }
    Ok((CheckedPath::Search { regex, prefix: regexes::required_prefix(text) }, names))
}

/// The rule, and whether it needs the named groups of a regex.
fn check_target(
    spec: &RouteSpec<'_>,
    names: &[Box<str>],
    errors: &mut Vec<RouteError>,
) -> Option<(TargetRule, bool)> {
    let by_regex = matches!(spec.path, PathSpec::Regex(_));
    if spec.strip_path && spec.rewrite.is_some() {
        errors.push(RouteError::new(
            "strip_path",
            "strip_path and rewrite are both set",
            "keep one: rewrite can say all that strip_path does",
        ));
    }
    if spec.strip_path && by_regex {
        errors.push(RouteError::new(
            "strip_path",
            "strip_path does not go with path_regex",
            "write rewrite = \"/{rest}\" and name that group in path_regex: (?<rest>.*)",
        ));
    }
    if spec.strip_path && spec.rewrite.is_none() {
        let strip = if names.is_empty() { Strip::Whole } else { Strip::BeforeCapture };
        return Some((TargetRule::Strip(strip), false));
    }
    let Some(text) = spec.rewrite else { return Some((TargetRule::Keep, false)) };
    match Rewrite::parse(text, names, by_regex) {
        Ok(rewrite) => {
            let groups = by_regex && rewrite.uses_captures();
            Some((TargetRule::Rewrite(rewrite), groups))
        }
        Err(problem) => {
            errors.push(problem.at("rewrite"));
            None
        }
    }
}

fn check_conditions(
    builder: &mut TableBuilder,
    spec: &RouteSpec<'_>,
    errors: &mut Vec<RouteError>,
) -> u32 {
    if spec.methods.is_empty() && spec.headers.is_empty() && spec.query.is_empty() {
        builder.guards.hold(GUARD_NONE);
        return GUARD_NONE;
    }
    let methods = check_methods(builder, spec, errors);
    let mut conditions = Vec::with_capacity(spec.headers.len() + spec.query.len());
    check_values(builder, Source::Header, &spec.headers, &mut conditions, errors);
    check_values(builder, Source::Query, &spec.query, &mut conditions, errors);
    conditions.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (keys, mut checks): (Vec<_>, Vec<_>) = conditions.into_iter().unzip();
    let key = GuardKey { methods, checks: keys.into() };
    builder.guards.intern(key, &mut builder.regexes, || {
        checks.sort_by_key(|check| matches!(check.want, Want::Regex(_))); // quick ones first
        Guard { methods, checks: checks.into() }
    })
}

fn check_methods(
    builder: &mut TableBuilder,
    spec: &RouteSpec<'_>,
    errors: &mut Vec<RouteError>,
) -> MethodBits {
    let mut bits = 0;
    for (place, method) in spec.methods.iter().enumerate() {
        match method_bit(&mut builder.methods, method) {
            Ok(bit) => bits |= 1 << bit,
            Err(problem) => errors.push(problem.at(format!("methods[{place}]"))),
        }
    }
    bits
}

fn method_bit(known: &mut Vec<Box<[u8]>>, method: &str) -> Result<usize, Problem> {
    let upper = method.to_ascii_uppercase();
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let starts = upper.starts_with(|c: char| c.is_ascii_uppercase());
    if !starts || !upper.chars().all(plain) || method.len() > METHOD_BYTES_MAX {
        return Err(Problem::new(
            format!("{method:?} is no method"),
            if method == "*" {
                "leave methods out to take all".into()
            } else {
                format!("write GET, POST or the like: A to Z, up to {METHOD_BYTES_MAX} characters")
            },
        ));
    }
    if upper != method {
        return Err(Problem::new(
            format!("{method:?} never matches: methods are compared with their case"),
            format!("write {upper:?}"),
        ));
    }
    if method == "CONNECT" {
        return Err(Problem::new(
            "CONNECT is refused before routes are looked at",
            "remove it: ringway is no forward proxy",
        ));
    }
    if let Some(bit) = known.iter().position(|name| **name == *method.as_bytes()) {
        return Ok(bit);
    }
    if known.len() == METHODS_DISTINCT_MAX {
        return Err(Problem::new(
            format!("more than {METHODS_DISTINCT_MAX} different methods in all routes"),
            "leave methods out where any method will do",
        ));
    }
    known.push(method.as_bytes().into());
    Ok(known.len() - 1)
}

/// A condition with the text by which equal ones are known.
type KeyedCheck = (Box<[u8]>, Check);

fn check_values(
    builder: &mut TableBuilder,
    source: Source,
    values: &[(&str, ValueSpec<'_>)],
    out: &mut Vec<KeyedCheck>,
    errors: &mut Vec<RouteError>,
) {
    let key = match source {
        Source::Header => "headers",
        Source::Query => "query",
    };
    let mut names: Vec<Box<[u8]>> = Vec::with_capacity(values.len());
    for (name, value) in values {
        let field = || format!("{key}.{name}");
        let checked = check_name(source, name).and_then(|name| {
            if names.contains(&name) {
                return Err(Problem::new("the same name twice", "keep one of them"));
            }
            names.push(name.clone());
            check_value(source, value)?;
            Ok((want(builder, value)?, name))
        });
        match checked {
            Ok((want, name)) => {
                let text = condition_key(source, &name, &want);
                out.push((text, Check { source, name, want }));
            }
            Err(problem) => errors.push(problem.at(field())),
        }
    }
}

fn check_name(source: Source, name: &str) -> Result<Box<[u8]>, Problem> {
    if source == Source::Query {
        return match name {
            "" => Err(Problem::new("an empty query key", "name the key")),
            _ => Ok(name.as_bytes().into()),
        };
    }
    // Source: RFC 9110 §5.6.2, token.
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(Problem::new(
            format!("{name:?} is no header name"),
            "use letters, digits and -, without a colon",
        ));
    }
    Ok(name.to_ascii_lowercase().into_bytes().into())
}

/// Source: RFC 9110 §5.5.
fn check_value(source: Source, value: &ValueSpec<'_>) -> Result<(), Problem> {
    let never = |byte: u8| byte.is_ascii_control() && byte != b'\t';
    match (source, value) {
        (Source::Header, ValueSpec::Literal(text)) if text.bytes().any(never) => Err(Problem::new(
            "a control character, which no request has in a header",
            "remove it; a header sent twice is joined with \", \"",
        )),
        _ => Ok(()),
    }
}

fn want(builder: &mut TableBuilder, value: &ValueSpec<'_>) -> Result<Want, Problem> {
    Ok(match value {
        ValueSpec::Present => Want::Present,
        ValueSpec::Literal(text) => Want::Literal(text.as_bytes().into()),
        ValueSpec::Regex(text) => {
            let number = builder.regexes.intern(Purpose::Value, text)?;
            Want::Regex(Arc::clone(builder.regexes.get(number)))
        }
    })
}

/// What [`condition_key`] ends with for a value that must be there, whatever it is.
pub(super) const PRESENT: u8 = b'p';

/// What ends the name in a [`condition_key`].
pub(super) const NAME_END: u8 = 0xFF;

/// Source, name, a byte that no name has (names are UTF-8), and what the value must be.
fn condition_key(source: Source, name: &[u8], want: &Want) -> Box<[u8]> {
    let (tag, text) = match want {
        Want::Present => (PRESENT, &[][..]),
        Want::Literal(text) => (b'=', &**text),
        Want::Regex(regex) => (b'~', regex.as_str().as_bytes()),
    };
    [&[source as u8], name, &[NAME_END, tag], text].concat().into()
}

/// Writes what makes two paths the same: names of parameters don't count. `path_prefix = "/"` and
/// `/{*rest}` match the same but are not the same path: one shadows the other.
pub(super) fn write_path_key(path: &CheckedPath<'_>, spec: &RouteSpec<'_>, out: &mut Vec<u8>) {
    let CheckedPath::Segments { merged, kept } = path else {
        out.push(b'~');
        if let PathSpec::Regex(text) = spec.path {
            out.extend_from_slice(text.as_bytes());
        }
        return;
    };
    for segments in [Some(merged), kept.as_ref()].into_iter().flatten() {
        for segment in &segments.list {
            match segment {
                Segment::Literal(bytes) => {
                    out.push(b'/');
                    out.extend_from_slice(bytes);
                }
                Segment::Regex(text) => {
                    out.extend_from_slice(b"/{:"); // no normal literal has a brace
                    out.extend_from_slice(text.as_bytes());
                    out.push(b'}');
                }
                Segment::Any => out.extend_from_slice(b"/{}"),
            }
        }
        out.push(match segments.tail {
            Tail::End => 1,
            Tail::Rest => 2,
            Tail::Prefix => 3,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::{ListenerIndex, RouteIndex};

    fn errors(spec: RouteSpec<'_>) -> Vec<(String, String)> {
        let mut builder = TableBuilder::new(1);
        let result = builder.add(RouteIndex(0), &spec);
        let errors = result.expect_err("it has mistakes");
        assert_eq!(builder.routes.len(), 0, "nothing was added");
        let pair =
            |error: RouteError| (error.field.into(), format!("{}; {}", error.message, error.hint));
        errors.into_iter().map(pair).collect()
    }

    #[test]
    fn all_mistakes_of_a_route_are_found_at_once() {
        let found = errors(RouteSpec {
            listeners: vec![ListenerIndex(3)],
            hosts: vec!["ok.test", "a.test:80", ""],
            path: PathSpec::Pattern("/{id"),
            methods: vec!["GET", "get", "C T", "*", "CONNECT"],
            headers: vec![
                ("x y", ValueSpec::Present),
                ("x-a", ValueSpec::Regex("(")),
                ("X-A", ValueSpec::Present),
            ],
            query: vec![("", ValueSpec::Present)],
            ..RouteSpec::default()
        });
        let fields: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "listeners",
                "hosts[1]",
                "hosts[2]",
                "path",
                "methods[1]",
                "methods[2]",
                "methods[3]",
                "methods[4]",
                "headers.x y",
                "headers.x-a",
                "headers.X-A",
                "query.",
            ]
        );
        assert!(found[4].1.contains("write \"GET\""));
    }

    #[test]
    fn targets_that_make_no_sense_are_refused() {
        let strip = RouteSpec { strip_path: true, ..RouteSpec::default() };
        for (spec, field) in [
            (RouteSpec { rewrite: Some("/x"), ..strip.clone() }, "strip_path"),
            (RouteSpec { path: PathSpec::Regex("^/a"), ..strip }, "strip_path"),
            (RouteSpec { rewrite: Some("x"), ..RouteSpec::default() }, "rewrite"),
            (RouteSpec { rewrite: Some("/{id}"), ..RouteSpec::default() }, "rewrite"),
            (
                RouteSpec {
                    path: PathSpec::Regex("^/(?<a>.*)"),
                    rewrite: Some("/{b}"),
                    ..RouteSpec::default()
                },
                "rewrite",
            ),
        ] {
            let found = errors(spec.clone());
            assert_eq!(found.len(), 1, "{spec:?}: {found:?}");
            assert_eq!(found[0].0, field, "{spec:?}");
        }
    }

    #[test]
    fn a_bad_regex_of_a_parameter_is_found() {
        let path = PathSpec::Pattern("/{id:[0-9}/{name:(a}");
        let found = errors(RouteSpec { path, ..RouteSpec::default() });
        assert_eq!(found[0].0, "path");
        let path = PathSpec::Pattern("/{id:a{2,1}}");
        let found = errors(RouteSpec { path, ..RouteSpec::default() });
        assert!(found[0].1.contains("a{2,1}"), "{found:?}");
    }

    #[test]
    fn too_many_methods_are_refused() {
        let mut builder = TableBuilder::new(1);
        let names: Vec<String> = (0..65).map(|n| format!("M{n}")).collect();
        let methods = names.iter().map(String::as_str).collect();
        let spec = RouteSpec { methods, ..RouteSpec::default() };
        let errors = builder.add(RouteIndex(0), &spec).unwrap_err();
        assert_eq!((errors.len(), &*errors[0].field), (1, "methods[64]"));
    }
}
