//! Routes: no pattern, target rule or path breaks the table; what it finds is what it explains.

use ringway::{
    base::ids::{ListenerIndex, RouteIndex},
    policy::route::{
        Captures, FieldSource, PathSpec, RouteMatch, RouteQuery, RouteSpec, TableBuilder,
    },
    proto::uri::normalise_path,
};

struct NoFields;

impl FieldSource for NoFields {
    fn values<'s>(&'s self, _: &[u8]) -> impl Iterator<Item = &'s [u8]> {
        std::iter::empty()
    }
}

/// One line is one route: its first byte says which path key the rest is for, and whether it comes
/// with a rewrite or a method.
fn spec(line: &str) -> Option<RouteSpec<'_>> {
    let (&kind, rest) = line.as_bytes().split_first()?;
    let (path, rewrite) = match std::str::from_utf8(rest).ok()?.split_once('>') {
        Some((path, rewrite)) => (path, Some(rewrite)),
        None => (std::str::from_utf8(rest).ok()?, None),
    };
    let mut spec = RouteSpec { rewrite, ..RouteSpec::default() };
    spec.path = match kind % 4 {
        0 => PathSpec::Pattern(path),
        1 => PathSpec::Prefix(path),
        2 if path.len() < 24 => PathSpec::Regex(path),
        _ => PathSpec::Pattern(path),
    };
    spec.strip_path = kind & 4 != 0;
    if kind & 8 != 0 {
        spec.methods = vec!["POST"];
    }
    spec.priority = i64::from(kind >> 6);
    Some(spec)
}

/// Panics if the table disagrees with itself.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let Some(raw) = lines.next() else { return };
    let mut path = Vec::new();
    if normalise_path(raw.as_bytes(), true, &mut path).is_err() {
        return;
    }
    let mut builder = TableBuilder::new(1);
    let mut rules = Vec::new();
    for spec in lines.take(16).filter_map(spec) {
        let index = RouteIndex(rules.len() as u32);
        if let Ok(rule) = builder.add(index, &spec) {
            rules.push(rule);
        }
    }
    let _ = builder.conflicts();
    let table = builder.build();
    let query = RouteQuery {
        listener: ListenerIndex(0),
        host: b"a.test",
        path: &path,
        query: None,
        method: b"GET",
        fields: &NoFields,
    };
    let mut captures = Captures::default();
    let found = table.find(&query, &mut captures);
    let explained = table.explain(&query).into_iter().find(|one| one.failed.is_none());
    match found {
        RouteMatch::Found(route) => {
            assert_eq!(explained.map(|one| one.route), Some(route));
            for index in 0..captures.len() {
                let (start, end) = captures.span(index);
                assert!(start <= end && end <= path.len());
            }
            let mut target = Vec::new();
            rules[route.0 as usize].write(&path, &captures, &mut target);
            assert_eq!(target.first(), Some(&b'/'));
            assert!(target.iter().all(|b| (0x21..0x7f).contains(b) && *b != b'?'));
        }
        RouteMatch::MethodNotAllowed | RouteMatch::NotFound => assert!(explained.is_none()),
    }
}
