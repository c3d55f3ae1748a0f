//! Which upstream of a split a request goes to. Routes with one upstream pay one branch.

use super::{exchange::Exchange, target::Fields};
use crate::{
    base::ids::UpstreamIndex,
    policy::route::FieldSource,
    snapshot::{
        RouteExtra,
        split::{Split, Sticky},
    },
};

impl Exchange<'_> {
    /// Chooses an upstream. It stays the same for all tries of the request.
    #[inline(never)]
    pub(super) fn choose(
        &mut self,
        split: &Split,
        extra: Option<&RouteExtra>,
    ) -> Option<UpstreamIndex> {
        let names = extra.map_or(&[][..], |extra| &extra.key_captures);
        let bytes = self.client.input_bytes();
        let fields = Fields { head: &self.context.head, bytes };
        let choice = match (split.by_conditions(&fields), &split.sticky) {
            (Some(choice), _) => choice,
            (None, Sticky::No) => split.by_turn(self.shard.core),
            (None, Sticky::Key(key)) => match self.hash_of(key, names) {
                Some(hash) => split.by_place(hash.0),
                None => split.by_turn(self.shard.core),
            },
            (None, Sticky::Cookie(cookie)) => {
                let known = cookie.find(fields.values(b"cookie"));
                let place = known.unwrap_or_else(|| self.shard.random());
                if known.is_none() {
                    let secure = self.client.tls.is_some();
                    cookie.write(place, secure, &mut self.context.place_cookie);
                }
                split.by_place(place)
            }
        };
        split.choices.get(choice).map(|choice| choice.upstream)
    }
}
