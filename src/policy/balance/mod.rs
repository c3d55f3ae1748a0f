//! Which endpoint gets the next request. Pure: time, chance and load are arguments.
//!
//! Each core has a [`Balancer`] per upstream. It holds a [`Rotation`], the endpoints that take part
//! now with the weights they have now, made anew only when something changed: so a pick looks at no
//! endpoint that is down, ejected or in reserve, and costs the same however many of those there
//! are. A [`Strategy`] picks among the rotation; those of ringway are told apart by an enum, a
//! foreign one ([`register`]) is a boxed trait object.
//!
//! What several cores make of it together, and how far that is from ideal, is stated for operators in
//! `docs/balancing.md` and held by the tests in `cases.rs`.

#[cfg(test)]
mod cases;
mod chance;
mod foreign;
mod hash;
mod latency;
mod least;
mod rotation;
mod sticky;
mod subset;
mod turns;

pub(super) use self::sticky::{read_token, write_token};
pub use self::{
    foreign::{Factory, find_registered, register, registered},
    hash::{HashAlgorithm, HashTable, KeyHash, hash_address, hash_key},
    latency::{fade, moving_average},
    rotation::{LEVELS, Member, Rotation, Rules, Standing, Viewer},
    sticky::{StickyCookie, cookie, token_of},
};
use crate::base::ids::EndpointIndex;

/// How an endpoint is picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each in turn; weights don't count, but for 0.
    RoundRobin,
    /// Each in turn, as often as its weight says, evenly spread.
    WeightedRoundRobin,
    /// By chance, in proportion to the weights.
    Random,
    /// The one with the fewest requests in flight for its weight.
    LeastConnections,
    /// Of two by chance the one with less work: latency times requests in flight.
    P2cEwma,
    /// The one that a key of the request names.
    ConsistentHash {
        /// From key to endpoint.
        table: std::sync::Arc<HashTable>,
        /// What an endpoint may have in flight, in percent of its fair share; `None` for any.
        bounded_percent: Option<u32>,
    },
    /// One that was registered.
    Foreign(Factory),
}

impl Kind {
    /// The same over these endpoints: their names and weights. Takes some milliseconds where a
    /// table is made of them.
    #[must_use]
    pub fn over<'a>(&self, endpoints: impl Iterator<Item = (&'a str, u32)>) -> Self {
        match self {
            Self::ConsistentHash { table, bounded_percent } => Self::ConsistentHash {
                table: std::sync::Arc::new(HashTable::build(table.algorithm(), endpoints)),
                bounded_percent: *bounded_percent,
            },
            other => other.clone(),
        }
    }

    /// Whether [`Load::in_flight`] must be kept up for it.
    pub fn needs_load(&self) -> bool {
        match self {
            Self::RoundRobin | Self::WeightedRoundRobin | Self::Random => false,
            Self::LeastConnections | Self::P2cEwma | Self::Foreign(_) => true,
            Self::ConsistentHash { bounded_percent, .. } => bounded_percent.is_some(),
        }
    }

    /// Whether [`Ask::key`] means something to it.
    pub fn needs_key(&self) -> bool {
        matches!(self, Self::ConsistentHash { .. } | Self::Foreign(_))
    }
}

/// What is known of the load of endpoints, over all cores.
pub trait Load {
    /// Requests that are with an endpoint now. A number that other cores change meanwhile.
    fn in_flight(&self, endpoint: EndpointIndex) -> u32;

    /// Requests that are with all endpoints of the upstream now.
    fn in_flight_total(&self) -> u32;

    /// The moving average of an endpoint's latency, microseconds; it fades while nothing is sent
    /// there. `None` while none is known.
    fn latency_us(&self, endpoint: EndpointIndex) -> Option<u32>;
}

/// A request that wants an endpoint.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Any number, evenly spread over all of 64 bit.
    pub random: u64,
    /// The hash of the request's key, if it has one.
    pub key: Option<KeyHash>,
    /// Endpoints that must not be picked: those tried for this request already. A few at most.
    pub avoid: &'a [EndpointIndex],
    /// The load as it is now.
    pub load: &'a dyn Load,
}

impl Ask<'_> {
    /// Whether an endpoint must not be picked.
    #[inline]
    pub fn avoids(&self, endpoint: EndpointIndex) -> bool {
        self.avoid.contains(&endpoint)
    }
}

/// A way to pick endpoints, with what one core keeps for one upstream.
///
/// Called on the path of requests: a pick must not allocate, wait, or look at a clock. Each core has
/// one of its own, so it needs no lock, and sees about one n-th of the requests.
pub trait Strategy {
    /// The endpoints that take part, or their weights, are others now. Called before the first
    /// pick, then rarely; may allocate.
    fn update(&mut self, rotation: &Rotation);

    /// The endpoint for a request: a member of `rotation`, the one that was handed to the last
    /// [`Strategy::update`], that `ask` does not avoid. `None` if there is none.
    fn pick(&mut self, rotation: &Rotation, ask: &Ask<'_>) -> Option<EndpointIndex>;
}

/// Where one core stands with one upstream.
pub struct Balancer {
    viewer: Viewer,
    rotation: Rotation,
    picker: Picker,
}

enum Picker {
    Turns(turns::Turns),
    Chance(chance::Chance),
    Least(least::LeastConnections),
    TwoChoices(least::TwoChoices),
    Hash(hash::ConsistentHash),
    Foreign(Box<dyn Strategy>),
}

impl Balancer {
    /// A balancer of core number `core`, which has no endpoints yet: see [`Balancer::refresh`]. The
    /// number makes cores begin elsewhere, so that those which serve at the same pace don't all
    /// send to the same endpoint.
    pub fn new(kind: &Kind, core: u32) -> Self {
        Self::among(kind, core, Viewer::default())
    }

    /// The same, on one of several cores that share the endpoints out among them.
    pub fn among(kind: &Kind, core: u32, viewer: Viewer) -> Self {
        let picker = match kind {
            Kind::RoundRobin | Kind::WeightedRoundRobin => Picker::Turns(turns::Turns::new(core)),
            Kind::Random => Picker::Chance(chance::Chance::default()),
            Kind::LeastConnections => Picker::Least(least::LeastConnections),
            Kind::P2cEwma => Picker::TwoChoices(least::TwoChoices::default()),
            Kind::ConsistentHash { table, bounded_percent } => Picker::Hash(
                hash::ConsistentHash::new(std::sync::Arc::clone(table), *bounded_percent),
            ),
            Kind::Foreign(factory) => Picker::Foreign(factory.make(core)),
        };
        let viewer = Viewer { sees_loads: kind.needs_load(), ..viewer };
        Self { viewer, rotation: Rotation::default(), picker }
    }

    /// Whether [`Balancer::refresh`] has nothing to do: neither `epoch`, which rises when an
    /// endpoint changes, nor time has made a difference.
    #[inline]
    pub fn is_current(&self, epoch: u32, now_ms: u64) -> bool {
        self.rotation.is_current(epoch, now_ms)
    }

    /// Looks at the endpoints again, in the order of their indices. Costs their number.
    #[cold]
    pub fn refresh(
        &mut self,
        rules: Rules,
        standings: impl Iterator<Item = Standing> + Clone,
        epoch: u32,
        now_ms: u64,
    ) {
        self.rotation.rebuild(rules, self.viewer, standings, epoch, now_ms);
        match &mut self.picker {
            Picker::Turns(turns) => turns.update(&self.rotation),
            Picker::Chance(chance) => chance.update(&self.rotation),
            Picker::Least(least) => least.update(&self.rotation),
            Picker::TwoChoices(two) => two.update(&self.rotation),
            Picker::Hash(hash) => hash.update(&self.rotation),
            Picker::Foreign(foreign) => foreign.update(&self.rotation),
        }
    }

    /// Who takes part now.
    pub fn rotation(&self) -> &Rotation {
        &self.rotation
    }

    /// The endpoint for a request: one that takes part, or, if it avoids all of those, one that
    /// waits behind them. `None` if there is none. Does not allocate.
    #[inline]
    pub fn pick(&mut self, ask: &Ask<'_>) -> Option<EndpointIndex> {
        let rotation = &self.rotation;
        let picked = match &mut self.picker {
            Picker::Turns(turns) => turns.pick(rotation, ask),
            Picker::Chance(chance) => chance.pick(rotation, ask),
            Picker::Least(least) => least.pick(rotation, ask),
            Picker::TwoChoices(two) => two.pick(rotation, ask),
            Picker::Hash(hash) => hash.pick(rotation, ask),
            Picker::Foreign(foreign) => {
                let picked = foreign.pick(rotation, ask);
                let is_fine = |one: &EndpointIndex| rotation.contains(*one) && !ask.avoids(*one);
                picked.filter(is_fine).or_else(|| rotation.any(ask))
            }
        };
        picked.or_else(|| rotation.reserve(ask))
    }
}

/// One of `count` by chance, as evenly as `random` is: the high half of a product, no division.
#[inline]
fn below(random: u64, count: u64) -> u64 {
    ((u128::from(random) * u128::from(count)) >> 64) as u64
}

/// Another number from a random one. Source: Steele, Lea, Flood, "Fast splittable pseudorandom
/// number generators", 2014 (SplitMix64).
#[inline]
pub(super) fn next_random(random: u64) -> u64 {
    let mut mixed = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
