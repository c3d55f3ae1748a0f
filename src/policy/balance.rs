//! Which endpoint gets the next request. Pure: chance comes in as an argument.

use crate::base::ids::EndpointIndex;

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Each in turn; weights don't count, but for 0.
    RoundRobin,
    /// Each in turn, as often as its weight says, evenly spread.
    WeightedRoundRobin,
    /// By chance, in proportion to the weights.
    Random,
}

/// Where one core stands with one upstream.
#[derive(Clone, Debug)]
pub struct Balancer {
    strategy: Strategy,
    peers: Box<[Peer]>,
    weight_total: i64,
    /// Of round-robin: whose turn it is.
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    weight: u32,
    /// Of weighted round-robin: how much this endpoint is owed.
    credit: i64,
}

impl Balancer {
    /// A balancer over endpoints with these weights, in their order. A weight of 0 gets nothing,
    /// whatever the strategy. `offset` is the number of the core: each begins elsewhere, so
    /// that cores which serve at the same pace don't all send to the same endpoint.
    pub fn new(strategy: Strategy, weights: impl IntoIterator<Item = u32>, offset: u32) -> Self {
        let weights = weights.into_iter().take(usize::from(u16::MAX));
        let peers: Box<[_]> = weights.map(|weight| Peer { weight, credit: 0 }).collect();
        let weight_total = peers.iter().map(|peer| i64::from(peer.weight)).sum();
        let next = offset.checked_rem(peers.len() as u32).unwrap_or(0);
        let mut balancer = Self { strategy, peers, weight_total, next };
        if strategy == Strategy::WeightedRoundRobin {
            balancer.start_credits_at(offset);
        }
        balancer
    }

    /// Goes `offset` steps into the cycle. A cycle is as long as the sum of the weights, so at most
    /// the number of endpoints steps are taken: enough to begin elsewhere, bounded for huge weights.
    fn start_credits_at(&mut self, offset: u32) {
        let steps = offset.checked_rem(self.peers.len() as u32).unwrap_or(0);
        for _ in 0..steps {
            self.pick_smooth(|_| true);
        }
    }

    /// The endpoint for the next request, none if all are in `avoid`, have weight 0, or may not be
    /// picked now.
    ///
    /// `random` is any number, evenly spread; only [`Strategy::Random`] uses it. `avoid` holds the
    /// endpoints already tried for this request. Does not allocate.
    pub fn pick(
        &mut self,
        random: u64,
        avoid: &[EndpointIndex],
        is_available: impl Fn(EndpointIndex) -> bool,
    ) -> Option<EndpointIndex> {
        let may =
            |index: usize| !is_avoided(avoid, index) && is_available(EndpointIndex(index as u16));
        let index = match self.strategy {
            Strategy::RoundRobin => self.pick_in_turn(may),
            Strategy::WeightedRoundRobin => self.pick_smooth(may),
            Strategy::Random => self.pick_by_chance(random, may),
        };
        index.map(|index| EndpointIndex(index as u16)) // `new` keeps at most u16::MAX peers
    }

    fn pick_in_turn(&mut self, may: impl Fn(usize) -> bool) -> Option<usize> {
        let count = self.peers.len();
        let first = self.next as usize;
        let mut turns = (first..count).chain(0..first);
        let index = turns.find(|index| self.peers[*index].weight > 0 && may(*index))?;
        self.next = ((index + 1) % count) as u32;
        Some(index)
    }

    /// Smooth weighted round-robin, as nginx does it: each endpoint earns its weight, the one that
    /// is owed most serves and pays what all earned. Over one cycle each serves exactly as often as
    /// its weight says, and never in a burst.
    fn pick_smooth(&mut self, may: impl Fn(usize) -> bool) -> Option<usize> {
        let mut best: Option<usize> = None;
        let mut earned = 0;
        for index in 0..self.peers.len() {
            let weight = i64::from(self.peers[index].weight);
            if weight == 0 || !may(index) {
                continue;
            }
            earned += weight;
            self.peers[index].credit += weight;
            if best.is_none_or(|best| self.peers[index].credit > self.peers[best].credit) {
                best = Some(index);
            }
        }
        let best = best?;
        self.peers[best].credit -= earned;
        Some(best)
    }

    fn pick_by_chance(&self, random: u64, may: impl Fn(usize) -> bool) -> Option<usize> {
        // Nearly always the first that chance names will do.
        let first = self.draw(random, self.weight_total as u64, |_| true)?; // a sum of u32
        if may(first) {
            return Some(first);
        }
        let indices = (0..self.peers.len()).filter(|index| may(*index));
        let total = indices.map(|index| u64::from(self.peers[index].weight)).sum();
        self.draw(random, total, may)
    }

    fn draw(&self, random: u64, total: u64, may: impl Fn(usize) -> bool) -> Option<usize> {
        // The high half of a 128 bit product: as even as `random`, without a division.
        let mut left = ((u128::from(random) * u128::from(total)) >> 64) as u64;
        for index in (0..self.peers.len()).filter(|index| may(*index)) {
            match left.checked_sub(u64::from(self.peers[index].weight)) {
                Some(rest) => left = rest,
                None => return Some(index),
            }
        }
        None
    }
}

fn is_avoided(avoid: &[EndpointIndex], index: usize) -> bool {
    avoid.iter().any(|endpoint| usize::from(endpoint.0) == index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(balancer: &mut Balancer, count: usize) -> Vec<u16> {
        (0..count).map(|_| balancer.pick(0, &[], |_| true).unwrap().0).collect()
    }

    /// SplitMix64: an even, seeded stream.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    #[test]
    fn a_weight_of_nothing_gets_nothing() {
        for strategy in [Strategy::RoundRobin, Strategy::WeightedRoundRobin, Strategy::Random] {
            let mut balancer = Balancer::new(strategy, [0, 2, 0], 2);
            let mut state = 7;
            for _ in 0..10 {
                assert_eq!(
                    balancer.pick(random(&mut state), &[], |_| true),
                    Some(EndpointIndex(1))
                );
            }
            assert_eq!(balancer.pick(1, &[EndpointIndex(1)], |_| true), None);
            assert_eq!(Balancer::new(strategy, [0, 0], 1).pick(u64::MAX, &[], |_| true), None);
        }
    }

    #[test]
    fn round_robin_takes_turns_and_ignores_weights() {
        let mut balancer = Balancer::new(Strategy::RoundRobin, [9, 1, 1], 0);
        assert_eq!(picks(&mut balancer, 7), [0, 1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn smooth_round_robin_spreads_the_heavy_one() {
        let mut balancer = Balancer::new(Strategy::WeightedRoundRobin, [5, 1, 1], 0);
        // The sequence of nginx's own commit message, with a, b, c as 0, 1, 2.
        assert_eq!(picks(&mut balancer, 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(picks(&mut balancer, 7), [0, 0, 1, 0, 2, 0, 0], "cycles are alike");
    }

    #[test]
    fn smooth_round_robin_is_exact_over_a_cycle_wherever_it_starts() {
        let weights = [7_u32, 3, 1, 13, 2];
        let cycle = weights.iter().sum::<u32>() as usize;
        for offset in 0..40 {
            let mut balancer = Balancer::new(Strategy::WeightedRoundRobin, weights, offset);
            let picked = picks(&mut balancer, cycle);
            for (index, weight) in weights.iter().enumerate() {
                let times = picked.iter().filter(|pick| usize::from(**pick) == index).count();
                assert_eq!(times, *weight as usize, "endpoint {index}, offset {offset}");
            }
        }
    }

    #[test]
    fn cores_start_apart() {
        for strategy in [Strategy::RoundRobin, Strategy::WeightedRoundRobin] {
            let first = |core| {
                Balancer::new(strategy, [1, 1, 1, 1], core).pick(0, &[], |_| true).unwrap().0
            };
            assert_eq!([first(0), first(1), first(2), first(3), first(4)], [0, 1, 2, 3, 0]);
        }
    }

    #[test]
    fn chance_follows_the_weights() {
        let mut balancer = Balancer::new(Strategy::Random, [1, 2, 7, 0], 0);
        let (mut counts, mut state) = ([0_u32; 4], 42);
        for _ in 0..100_000 {
            counts[usize::from(balancer.pick(random(&mut state), &[], |_| true).unwrap().0)] += 1;
        }
        assert_eq!(counts[3], 0);
        for (index, expected) in [(0, 10_000_u32), (1, 20_000), (2, 70_000)] {
            // Four standard deviations are below 600 here.
            assert!(counts[index].abs_diff(expected) < 600, "{index}: {}", counts[index]);
        }
        assert_eq!(balancer.pick(u64::MAX, &[], |_| true).unwrap().0, 2);
    }

    #[test]
    fn avoided_endpoints_are_not_picked_until_none_is_left() {
        let all = [EndpointIndex(0), EndpointIndex(1), EndpointIndex(2)];
        for strategy in [Strategy::RoundRobin, Strategy::WeightedRoundRobin, Strategy::Random] {
            let (mut balancer, mut state) = (Balancer::new(strategy, [3, 2, 1], 0), 7);
            for _ in 0..1_000 {
                let pick = balancer.pick(random(&mut state), &all[..2], |_| true);
                assert_eq!(pick, Some(EndpointIndex(2)), "{strategy:?}");
            }
            assert_eq!(balancer.pick(1, &all, |_| true), None, "{strategy:?}");
        }
    }

    #[test]
    fn endpoints_that_may_not_be_picked_are_passed_over() {
        for strategy in [Strategy::RoundRobin, Strategy::WeightedRoundRobin, Strategy::Random] {
            let (mut balancer, mut state) = (Balancer::new(strategy, [3, 2, 1], 0), 7);
            for _ in 0..1_000 {
                let pick = balancer.pick(random(&mut state), &[], |one| one.0 == 1);
                assert_eq!(pick, Some(EndpointIndex(1)), "{strategy:?}");
            }
            assert_eq!(balancer.pick(1, &[], |_| false), None, "{strategy:?}");
        }
    }

    #[test]
    fn no_endpoint_and_no_weight_are_no_pick() {
        for strategy in [Strategy::RoundRobin, Strategy::WeightedRoundRobin, Strategy::Random] {
            assert_eq!(Balancer::new(strategy, [], 3).pick(9, &[], |_| true), None);
        }
        assert_eq!(Balancer::new(Strategy::Random, [0, 0], 3).pick(9, &[], |_| true), None);
        assert_eq!(
            Balancer::new(Strategy::WeightedRoundRobin, [0, 0], 3).pick(9, &[], |_| true),
            None
        );
    }
}
