//! Consistent hashing: a key names its endpoint, and keeps naming it as others come and go.
//!
//! The table is built by the control plane from the endpoints' authorities and weights alone, so every
//! ringway with these endpoints sends a key to the same one. An endpoint that can't be picked is passed
//! over: its keys go to those behind it in the table, spread over all, and no other key moves.

use std::{net::IpAddr, sync::Arc};

use super::{Ask, Rotation, Strategy};
use crate::{base::ids::EndpointIndex, policy::route::hash_bytes};

/// The hash of what a request is known by; even over all of 64 bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(pub u64);

/// The hash of some bytes of a request. Keys that hash alike can be found by who looks for them: an
/// endpoint can be picked on purpose, which is what a key is for.
pub fn hash_key(bytes: &[u8]) -> KeyHash {
    KeyHash(hash_bytes(KEY_SEED, bytes))
}

/// The hash of a client's address; that of an IPv4 address in either spelling.
pub fn hash_address(address: IpAddr) -> KeyHash {
    match address.to_canonical() {
        IpAddr::V4(address) => hash_key(&address.octets()),
        IpAddr::V6(address) => hash_key(&address.octets()),
    }
}

const KEY_SEED: u32 = 0;
const OFFSET_SEED: u32 = 1;
const SKIP_SEED: u32 = 2;
/// The first of as many as an endpoint has points.
const POINT_SEED: u32 = 16;

/// Points of a ring for each endpoint of average weight: the shares differ by about 3 % then.
const POINTS_PER_ENDPOINT: u64 = 1_024;

/// Points of one ring. With more than 1,024 endpoints each has fewer.
const POINTS_MAX: u64 = 1 << 20;

/// Slots of a Maglev table, 2 bytes each; prime. Always the same, for with another size nearly all keys
/// would move. The more there are for an endpoint, the fewer keys of others move when one is taken
/// out: with 32 endpoints less than a tenth as many as its own.
const SLOTS: usize = 262_147;

/// Places looked at for one request before the remaining endpoints are compared directly.
const PLACES_TRIED_MAX: usize = 128;

/// How keys are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// Points on a ring. Source: Karger et al., "Consistent hashing and random trees", 1997; known
    /// as ketama.
    Ring,
    /// A table filled by each endpoint's own permutation. Source: Eisenbud et al., "Maglev: a fast
    /// and reliable software network load balancer", 2016, §3.4.
    Maglev,
}

/// From hashes to endpoints.
#[derive(Debug, PartialEq, Eq)]
pub struct HashTable {
    algorithm: HashAlgorithm,
    /// Of a ring: where each place ends, ascending.
    points: Box<[u64]>,
    /// Of a ring: by the first bits of a hash, the first place that may hold it.
    starts: Box<[u32]>,
    /// By place.
    owners: Box<[EndpointIndex]>,
}

impl HashTable {
    /// A table of endpoints with these names and weights, in their order; a weight of 0 has no part
    /// in it. Takes some milliseconds: for the control plane.
    pub fn build<'a>(
        algorithm: HashAlgorithm,
        endpoints: impl Iterator<Item = (&'a str, u32)>,
    ) -> Self {
        let named = endpoints.enumerate().filter(|(_, (_, weight))| *weight > 0);
        let owners: Vec<Owner<'a>> = named
            .map(|(index, (name, weight))| Owner {
                index: EndpointIndex(index as u16),
                name,
                weight: u64::from(weight),
            })
            .collect();
        match algorithm {
            HashAlgorithm::Ring => Self::ring(&owners),
            HashAlgorithm::Maglev => Self::maglev(&owners),
        }
    }

    /// What it was built by.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    fn ring(owners: &[Owner<'_>]) -> Self {
        let weights: u64 = owners.iter().map(|one| one.weight).sum();
        let all = (POINTS_PER_ENDPOINT * owners.len() as u64).min(POINTS_MAX);
        let mut placed: Vec<(u64, EndpointIndex)> = Vec::with_capacity(all as usize);
        for one in owners {
            let count = (all * one.weight).checked_div(weights).unwrap_or(0).max(1) as u32;
            let point = |number| hash_bytes(POINT_SEED + number, one.name.as_bytes());
            placed.extend((0..count).map(|number| (point(number), one.index)));
        }
        placed.sort_unstable();
        let points: Box<[u64]> = placed.iter().map(|one| one.0).collect();
        let buckets = points.len().next_power_of_two().max(2) as u64;
        let first = |bucket: u64| bucket << (64 - buckets.ilog2());
        let start = |bucket| points.partition_point(|point| *point < first(bucket)) as u32;
        Self {
            algorithm: HashAlgorithm::Ring,
            starts: (0..buckets).map(start).collect(),
            owners: placed.iter().map(|one| one.1).collect(),
            points,
        }
    }

    fn maglev(owners: &[Owner<'_>]) -> Self {
        let slots = match owners.is_empty() {
            true => Box::default(),
            false => fill(owners),
        };
        Self {
            algorithm: HashAlgorithm::Maglev,
            points: Box::default(),
            starts: Box::default(),
            owners: slots,
        }
    }

    /// The place of a hash, in `0..owners`.
    #[inline]
    fn place(&self, hash: u64) -> usize {
        match self.algorithm {
            HashAlgorithm::Maglev => super::below(hash, self.owners.len() as u64) as usize,
            HashAlgorithm::Ring => {
                let bucket = hash >> (64 - (self.starts.len() as u64).ilog2());
                let start = self.starts.get(bucket as usize).map_or(0, |start| *start as usize);
                let behind = self.points.get(start..).unwrap_or_default();
                let found = behind.iter().position(|point| *point >= hash);
                found.map_or(0, |at| start + at) // behind the last comes the first
            }
        }
    }
}

struct Owner<'a> {
    index: EndpointIndex,
    name: &'a str,
    weight: u64,
}

/// Lets the endpoints claim slots in turn, each as often as its weight says, each in its own order.
fn fill(owners: &[Owner<'_>]) -> Box<[EndpointIndex]> {
    const FREE: EndpointIndex = EndpointIndex(u16::MAX);
    struct Claims {
        slot: usize,
        skip: usize,
        credit: u64,
    }
    let begin = |one: &Owner<'_>| Claims {
        slot: (hash_bytes(OFFSET_SEED, one.name.as_bytes()) % SLOTS as u64) as usize,
        skip: (hash_bytes(SKIP_SEED, one.name.as_bytes()) % (SLOTS as u64 - 1) + 1) as usize,
        credit: 0,
    };
    let mut claims: Vec<Claims> = owners.iter().map(begin).collect();
    let mut slots = vec![FREE; SLOTS].into_boxed_slice();
    let heaviest = owners.iter().map(|one| one.weight).max().unwrap_or(1);
    let mut left = SLOTS;
    loop {
        for (one, claim) in owners.iter().zip(&mut claims) {
            claim.credit += one.weight;
            if claim.credit < heaviest {
                continue;
            }
            claim.credit -= heaviest;
            // The size is prime, so that a skip leads through all slots.
            while slots[claim.slot] != FREE {
                claim.slot = (claim.slot + claim.skip) % SLOTS;
            }
            slots[claim.slot] = one.index;
            left -= 1;
            if left == 0 {
                return slots;
            }
        }
    }
}

/// Picks by the key of a request; one without a key goes anywhere.
#[derive(Debug)]
pub(super) struct ConsistentHash {
    table: Arc<HashTable>,
    bounded_percent: Option<u32>,
}

impl ConsistentHash {
    pub(super) fn new(table: Arc<HashTable>, bounded_percent: Option<u32>) -> Self {
        Self { table, bounded_percent }
    }

    /// Whether an endpoint may take one more: it has less than its bounded share of all requests in
    /// flight, this one included. Source: Mirrokni, Thorup, Zadimoghaddam, "Consistent hashing with
    /// bounded loads", 2018.
    fn has_room(&self, rotation: &Rotation, ask: &Ask<'_>, endpoint: EndpointIndex) -> bool {
        let Some(percent) = self.bounded_percent else { return true };
        let weight = rotation.member(endpoint).map_or(0, |one| one.weight);
        let all = u128::from(ask.load.in_flight_total()) + 1;
        let share = all * u128::from(percent) * u128::from(weight);
        let room = share.div_ceil(100 * u128::from(rotation.weight_total().max(1)));
        u128::from(ask.load.in_flight(endpoint)) < room
    }

    /// Of the remaining endpoints the one that this key ranks first: for when most are out.
    #[cold]
    fn compare(&self, rotation: &Rotation, ask: &Ask<'_>, hash: u64) -> Option<EndpointIndex> {
        let rank =
            |one: &EndpointIndex| super::next_random(hash ^ super::next_random(one.0.into()));
        let all = || {
            let members = rotation.members().iter().map(|one| one.endpoint);
            members.filter(|one| !ask.avoids(*one))
        };
        let roomy = all().filter(|one| self.has_room(rotation, ask, *one)).max_by_key(rank);
        roomy.or_else(|| all().max_by_key(rank))
    }
}

impl Strategy for ConsistentHash {
    fn update(&mut self, _: &Rotation) {}

    fn pick(&mut self, rotation: &Rotation, ask: &Ask<'_>) -> Option<EndpointIndex> {
        let hash = ask.key.map_or(ask.random, |key| key.0);
        let owners = &self.table.owners;
        let first = self.table.place(hash);
        let places = owners.iter().skip(first).chain(owners).take(PLACES_TRIED_MAX);
        let mut last = None;
        for owner in places {
            if last == Some(*owner) {
                continue;
            }
            last = Some(*owner);
            if rotation.contains(*owner)
                && !ask.avoids(*owner)
                && self.has_room(rotation, ask, *owner)
            {
                return Some(*owner);
            }
        }
        self.compare(rotation, ask, hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_the_same_everywhere_and_for_ever() {
        // Other numbers here would send every client elsewhere after an upgrade.
        assert_eq!(hash_key(b"user-7").0, 14_776_736_644_649_188_523);
        let names = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
        let table = |algorithm| {
            let table = HashTable::build(algorithm, names.into_iter().map(|name| (name, 1)));
            (0..8_u64).map(|n| table.owners[table.place(hash_key(&n.to_le_bytes()).0)].0).collect()
        };
        let (ring, maglev): (Vec<u16>, Vec<u16>) =
            (table(HashAlgorithm::Ring), table(HashAlgorithm::Maglev));
        assert_eq!(ring, [0, 0, 2, 0, 0, 0, 1, 1]);
        assert_eq!(maglev, [0, 2, 1, 2, 1, 0, 2, 0]);
    }

    #[test]
    fn a_place_on_the_ring_is_the_next_point() {
        let names: Vec<String> = (0..7).map(|n| format!("host-{n}:80")).collect();
        let named = names.iter().map(|name| (&**name, 1));
        let table = HashTable::build(HashAlgorithm::Ring, named);
        let mut random = 1;
        for _ in 0..100_000 {
            random = super::super::next_random(random);
            let scanned = table.points.partition_point(|point| *point < random);
            assert_eq!(table.place(random), scanned % table.points.len());
        }
        assert_eq!(table.place(u64::MAX), 0);
        assert_eq!(table.place(0), 0);
    }

    #[test]
    fn nobody_and_one() {
        for algorithm in [HashAlgorithm::Ring, HashAlgorithm::Maglev] {
            let none = HashTable::build(algorithm, [("a:1", 0)].into_iter());
            assert!(none.owners.is_empty());
            assert_eq!(none.place(7), 0);
            let one = HashTable::build(algorithm, [("a:1", 0), ("b:1", 5)].into_iter());
            assert!(one.owners.iter().all(|owner| owner.0 == 1));
        }
    }

    #[test]
    fn addresses_have_one_hash_in_either_spelling() {
        let hash = |text: &str| hash_address(text.parse().expect("an address"));
        assert_eq!(hash("192.0.2.1"), hash("::ffff:192.0.2.1"));
        assert!(hash("192.0.2.1") != hash("192.0.2.2"));
        assert!(hash("2001:db8::1") != hash("2001:db8::2"));
    }
}
