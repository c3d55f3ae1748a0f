//! What ties a request to an endpoint: the hash of its key, and the cookie its client was given.

use super::{exchange::Exchange, target::Fields};
use crate::{
    base::ids::EndpointIndex,
    dataplane::shard::Wish,
    policy::{
        balance::KeyHash,
        key::{KeySource, NamedCaptures, RequestKey},
        route::FieldSource,
    },
    snapshot::{RouteExtra, Upstream},
};

/// What ties a request to an endpoint; worked out once, since a retry may find the head gone.
#[derive(Default)]
pub(super) struct Affinity {
    key: Option<KeyHash>,
    sticky: Option<EndpointIndex>,
}

impl Affinity {
    /// As the balancer is told.
    pub(super) fn wish(&self) -> Wish<'static> {
        Wish { key: self.key, sticky: self.sticky, avoid: &[] }
    }
}

impl Affinity {
    /// Whether it matters which endpoint the request goes to.
    pub(super) fn is_bound(&self) -> bool {
        self.key.is_some() || self.sticky.is_some()
    }
}

impl Exchange<'_> {
    /// Notes what the request brings along that decides about its endpoint.
    pub(super) fn note_affinity(&mut self, upstream: &Upstream, extra: Option<&RouteExtra>) {
        if upstream.key.is_none() && upstream.sticky.is_none() {
            return;
        }
        let names = extra.map_or(&[][..], |extra| &extra.key_captures);
        let key = upstream.key.as_ref().and_then(|key| self.hash_of(key, names));
        let sticky = upstream.sticky.as_ref().and_then(|sticky| {
            let bytes = self.client.input_bytes();
            let fields = Fields { head: &self.context.head, bytes };
            sticky.find(fields.values(b"cookie"))
        });
        self.affinity = Affinity { key, sticky: sticky.map(EndpointIndex) };
    }

    /// The hash of what the request is known by.
    pub(super) fn hash_of(&self, key: &RequestKey, names: &NamedCaptures) -> Option<KeyHash> {
        let bytes = self.client.input_bytes();
        let head = &self.context.head;
        let fields = Fields { head, bytes };
        let client = match key {
            RequestKey::Ip => {
                let values = fields.values(b"x-forwarded-for");
                self.listener.trusted_proxies.client(self.client.peer.ip(), values)
            }
            _ => self.client.peer.ip(),
        };
        key.hash(&KeySource {
            client,
            fields: &fields,
            query: head.query(bytes),
            path: &self.context.path,
            captures: &self.context.captures,
            names,
        })
    }

    /// Writes the cookies that keep the client on this endpoint, if it has another one or none, and in
    /// its place of a split.
    pub(super) fn write_cookies(&mut self, upstream: &Upstream, endpoint: EndpointIndex) {
        self.context.cookies.clear();
        self.context.cookies.extend_from_slice(&self.context.place_cookie);
        if let Some(sticky) = &upstream.sticky
            && self.affinity.sticky != Some(endpoint)
        {
            sticky.write(endpoint.0, self.client.tls.is_some(), &mut self.context.cookies);
        }
    }
}
