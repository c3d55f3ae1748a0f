//! A route as the configuration writes it: the keys that decide whether it matches.

use std::borrow::Cow;

use crate::base::ids::ListenerIndex;

/// The matching and target keys of one `[[route]]`, as text. [`super::TableBuilder::add`] checks
/// them.
#[derive(Clone, Debug, Default)]
pub struct RouteSpec<'a> {
    /// Where it applies; empty for all listeners.
    pub listeners: Vec<ListenerIndex>,
    /// Names, `*.suffix` or `*`; empty for any host.
    pub hosts: Vec<&'a str>,
    /// Which paths.
    pub path: PathSpec<'a>,
    /// Which methods, exactly; empty for all.
    pub methods: Vec<&'a str>,
    /// Conditions on fields; names without regard to case.
    pub headers: Vec<(&'a str, ValueSpec<'a>)>,
    /// Conditions on query keys, as they are after percent-decoding.
    pub query: Vec<(&'a str, ValueSpec<'a>)>,
    /// Higher first; before everything else.
    pub priority: i64,
    /// Whether the literal part before the first capture is dropped.
    pub strip_path: bool,
    /// What replaces the path.
    pub rewrite: Option<&'a str>,
}

/// The path keys; a route has at most one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PathSpec<'a> {
    /// No path key: the same as `path = "/{*rest}"`.
    #[default]
    None,
    /// `path`: literals, `{id}`, `{id:regex}`, `{*rest}`, `:id`, `*rest`.
    Pattern(&'a str),
    /// `path_prefix`: whole segments.
    Prefix(&'a str),
    /// `path_regex`: searched in the path.
    Regex(&'a str),
}

/// What the value of a header or query key must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueSpec<'a> {
    /// This, byte by byte.
    Literal(&'a str),
    /// Anything, but it must be there.
    Present,
    /// Something in which this regex is found.
    Regex(&'a str),
}

impl<'a> ValueSpec<'a> {
    /// As it is written: what [`Self::parse`] reads.
    pub fn text(&self) -> Cow<'a, str> {
        match self {
            Self::Literal(text) => Cow::Borrowed(text),
            Self::Present => Cow::Borrowed("present"),
            Self::Regex(text) => Cow::Owned(format!("~{text}")),
        }
    }

    /// Reads the three spellings: `"present"`, `"~regex"`, any other text for itself.
    pub fn parse(text: &'a str) -> Self {
        match text.strip_prefix('~') {
            Some(regex) => Self::Regex(regex),
            None if text == "present" => Self::Present,
            None => Self::Literal(text),
        }
    }
}
