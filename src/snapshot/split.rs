//! A route's split: the upstreams its requests are shared out over, and the shares, which change
//! without new rules.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
};

use crate::{
    base::ids::UpstreamIndex,
    policy::{
        key::RequestKey,
        rollout::Counts,
        route::FieldSource,
        split::{self, CHOICES_MAX, Condition, PlaceCookie},
    },
    telemetry::{
        counter::Counter,
        histogram::{BUCKETS, Histogram},
    },
};

/// What a route does instead of naming one upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// At least two, with different upstreams; at most [`CHOICES_MAX`].
    pub choices: Box<[Choice]>,
    /// Who a client is.
    pub sticky: Sticky,
    /// The shares in force, and whose turn it is; carried over as long as the choices and their
    /// weights stay.
    pub cell: Arc<SplitCell>,
    /// Whether a rollout wants to know how its requests fare.
    pub is_watched: bool,
}

/// One upstream of a split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Where its requests go.
    pub upstream: UpstreamIndex,
    /// The same by name.
    pub name: Box<str>,
    /// What stands for the name where places are shared out.
    pub token: u64,
    /// As configured; 0 for one that only its conditions lead to.
    pub weight: u32,
    /// A request that meets all of them goes here whatever its share; none of them mean nothing.
    pub conditions: Box<[Condition]>,
}

/// What keeps a client with its choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// Nothing: each request is shared out by itself.
    No,
    /// The hash of a key.
    Key(RequestKey),
    /// A cookie.
    Cookie(PlaceCookie),
}

impl Split {
    /// The choice whose conditions a request meets; the first one counts.
    pub fn by_conditions<F: FieldSource>(&self, fields: &F) -> Option<usize> {
        let meets = |choice: &Choice| {
            !choice.conditions.is_empty() && choice.conditions.iter().all(|one| one.holds(fields))
        };
        self.choices.iter().position(meets)
    }

    /// The choice of a place.
    pub fn by_place(&self, place: u64) -> usize {
        let tokens = self.choices.iter().map(|choice| choice.token);
        split::by_place(place, tokens.zip(self.cell.shares())).unwrap_or(0)
    }

    /// The choice whose turn it is on a core.
    pub fn by_turn(&self, core: usize) -> usize {
        self.cell.turn(core).unwrap_or(0)
    }

    /// Whether both have the same choices, with the same weights.
    pub fn is_shared_out_like(&self, other: &Self) -> bool {
        let key = |choice: &Choice| (choice.name.clone(), choice.weight);
        self.choices.iter().map(key).eq(other.choices.iter().map(key))
    }
}

/// The shares of a split, for all cores. The control plane writes them, cores read; what a core notes
/// for itself lies apart.
#[derive(Debug)]
pub struct SplitCell {
    /// In parts of [`split::WHOLE`], by choice.
    shares: Box<[AtomicU64]>,
    /// By number of the core; made when it first asks.
    lanes: Box<[OnceLock<Box<Lane>>]>,
}

/// What one core notes. Only that core writes it.
#[derive(Debug)]
#[repr(align(128))]
struct Lane {
    /// By choice: see [`split::by_turn`].
    owed: [AtomicI64; CHOICES_MAX],
    /// By choice, where a rollout wants to know.
    fared: OnceLock<Box<[Fared]>>,
}

/// How the requests of a choice fared on one core.
#[derive(Debug, Default)]
struct Fared {
    requests: Counter,
    errors: Counter,
    latencies: Histogram,
}

/// What changes is no part of the rules.
impl PartialEq for SplitCell {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for SplitCell {}

impl SplitCell {
    /// Shares by weight. `cores` is one more than the highest number of a core.
    pub fn new(weights: &[u32], cores: usize) -> Arc<Self> {
        Arc::new(Self {
            shares: split::shares(weights).into_iter().map(AtomicU64::new).collect(),
            lanes: (0..cores).map(|_| OnceLock::new()).collect(),
        })
    }

    /// The shares in force, by choice, in parts of [`split::WHOLE`].
    pub fn shares(&self) -> impl Iterator<Item = u64> {
        self.shares.iter().map(|share| share.load(Relaxed))
    }

    /// Other shares from now on: the next request of each core obeys them. A core that looks just now
    /// may see some of them, once.
    pub fn set_shares(&self, shares: &[u64]) {
        for (place, share) in self.shares.iter().zip(shares) {
            place.store(*share, Relaxed);
        }
    }

    /// Counts a request of a choice. To be called by that core only.
    pub fn record(&self, core: usize, choice: usize, is_error: bool, micros: u64) {
        let Some(lane) = self.lanes.get(core) else { return };
        let make = || self.shares.iter().map(|_| Fared::default()).collect();
        let fared = lane.get_or_init(Lane::new).fared.get_or_init(make);
        if let Some(fared) = fared.get(choice) {
            fared.requests.inc();
            fared.errors.add(u64::from(is_error));
            fared.latencies.record(micros);
        }
    }

    /// How the requests of a choice fared on all cores, latencies by bucket of [`Histogram`].
    pub fn counts(&self, choice: usize) -> Counts {
        let mut counts = Counts { latencies: vec![0; BUCKETS], ..Counts::default() };
        let lanes = self.lanes.iter().filter_map(|lane| lane.get()?.fared.get()?.get(choice));
        for fared in lanes {
            // In this order, so that no more have failed than there were.
            counts.errors += fared.errors.get();
            counts.requests += fared.requests.get();
            fared.latencies.add_to(&mut counts.latencies);
        }
        counts
    }

    /// Whose turn it is on a core; `None` if no choice has a share. To be called by that core only.
    fn turn(&self, core: usize) -> Option<usize> {
        let lane = self.lanes.get(core)?.get_or_init(Lane::new);
        let mut owed = [0; CHOICES_MAX];
        let count = self.shares.len().min(CHOICES_MAX);
        let kept = || lane.owed.iter().take(count);
        owed.iter_mut().zip(kept()).for_each(|(copy, kept)| *copy = kept.load(Relaxed));
        let turn = split::by_turn(self.shares(), owed.get_mut(..count)?);
        kept().zip(owed).for_each(|(kept, new)| kept.store(new, Relaxed));
        turn
    }
}

impl Lane {
    fn new() -> Box<Self> {
        Box::new(Self { owed: [const { AtomicI64::new(0) }; CHOICES_MAX], fared: OnceLock::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_change_under_the_cores() {
        let cell = SplitCell::new(&[95, 5], 2);
        let count = |core| (0..1_000).filter(|_| cell.turn(core) == Some(1)).count();
        assert!((49..=51).contains(&count(0)) && (49..=51).contains(&count(1)));
        cell.set_shares(&split::shares(&[75, 25]));
        assert!((249..=251).contains(&count(0)) && (249..=251).contains(&count(1)));
        cell.set_shares(&split::shares(&[1, 0]));
        assert_eq!((count(0), count(1)), (0, 0));
        assert_eq!(cell.turn(2), None, "no such core");
    }

    #[test]
    fn requests_are_counted_over_cores() {
        let cell = SplitCell::new(&[1, 1], 2);
        assert_eq!(cell.counts(0).requests, 0);
        (0..3).for_each(|n| cell.record(n % 2, 0, n == 0, 1_000));
        cell.record(1, 1, true, 5);
        cell.record(9, 1, true, 5);
        let (old, new) = (cell.counts(0), cell.counts(1));
        assert_eq!((old.requests, old.errors, new.requests, new.errors), (3, 1, 1, 1));
        assert_eq!(old.latencies.iter().sum::<u64>(), 3);
    }
}
