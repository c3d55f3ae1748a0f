//! What is wrong with a route, for the person who wrote it.

use std::fmt;

/// One problem of one route. The configuration room adds file, line and column and prints
/// `file:line:column: key: message; hint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteError {
    /// The key inside the route: `path`, `hosts[1]`, `headers.x-id`, `rewrite`.
    pub field: Box<str>,
    /// What is wrong, without a full stop.
    pub message: Box<str>,
    /// What to do about it, without a full stop.
    pub hint: Box<str>,
}

impl RouteError {
    pub(super) fn new(
        field: impl Into<Box<str>>,
        message: impl Into<Box<str>>,
        hint: impl Into<Box<str>>,
    ) -> Self {
        Self { field: field.into(), message: message.into(), hint: hint.into() }
    }
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.field, self.message, self.hint)
    }
}

/// What is wrong with one value; [`Problem::at`] adds which key holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) message: Box<str>,
    pub(super) hint: Box<str>,
}

impl Problem {
    pub(super) fn new(message: impl Into<Box<str>>, hint: impl Into<Box<str>>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }

    pub(super) fn at(self, field: impl Into<Box<str>>) -> RouteError {
        RouteError { field: field.into(), message: self.message, hint: self.hint }
    }
}
