//! What the table asks of a request, and what it answers.

use crate::base::ids::{ListenerIndex, RouteIndex};

/// The parts of a request that decide its route.
#[derive(Debug)]
pub struct RouteQuery<'a, F> {
    /// Where it came in.
    pub listener: ListenerIndex,
    /// Lower-case, without port and final dot; empty when the request names none.
    pub host: &'a [u8],
    /// Normalised, still encoded, or `*`; at most 64 KiB.
    pub path: &'a [u8],
    /// What follows `?`, as sent.
    pub query: Option<&'a [u8]>,
    /// As sent.
    pub method: &'a [u8],
    /// The fields of its head.
    pub fields: &'a F,
}

/// Gives the values of a field.
pub trait FieldSource {
    /// The values of all fields with this name (lower-case), in the order they were sent.
    fn values<'s>(&'s self, name: &[u8]) -> impl Iterator<Item = &'s [u8]>;
}

/// What the table says about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteMatch {
    /// This route takes it.
    Found(RouteIndex),
    /// Only the method is wrong: 405, with [`super::RouteTable::allow`].
    MethodNotAllowed,
    /// 404.
    NotFound,
}
