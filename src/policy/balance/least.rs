//! Strategies that look at the load: least connections, and the better of two.

use super::{Ask, Load, Member, Rotation, Strategy, below, chance::Chance, next_random};
use crate::base::ids::EndpointIndex;

/// Endpoints that least-connections compares for one request. Each costs a cache line that other
/// cores write; of 16 by chance the least is nearly the least of all.
const COMPARED_MAX: usize = 16;

/// The one with the fewest requests in flight for its weight; among equals by chance.
#[derive(Debug)]
pub(super) struct LeastConnections;

impl Strategy for LeastConnections {
    fn update(&mut self, _: &Rotation) {}

    fn pick(&mut self, rotation: &Rotation, ask: &Ask<'_>) -> Option<EndpointIndex> {
        let members = rotation.members();
        let start = below(ask.random, members.len() as u64) as usize;
        let ring = members[start..].iter().chain(&members[..start]);
        let mut compared = ring.filter(|one| !ask.avoids(one.endpoint)).take(COMPARED_MAX);
        let mut best = *compared.next()?;
        let mut best_in_flight = u64::from(ask.load.in_flight(best.endpoint));
        let mut equals_weight = u64::from(best.weight);
        let mut random = ask.random;
        for one in compared {
            let in_flight = u64::from(ask.load.in_flight(one.endpoint));
            let weight = u64::from(one.weight);
            // a/b < c/d without a division
            let (here, there) = (in_flight * u64::from(best.weight), best_in_flight * weight);
            let is_better = here < there
                || here == there && {
                    // Equals are drawn in proportion to their weights, each as it comes by.
                    equals_weight += weight;
                    random = next_random(random);
                    below(random, equals_weight) < weight
                };
            if here < there {
                equals_weight = weight;
            }
            if is_better {
                (best, best_in_flight) = (*one, in_flight);
            }
        }
        Some(best.endpoint)
    }
}

/// Of two by chance the one with less work: average latency times requests in flight, for its weight.
/// Source: Mitzenmacher, "The power of two choices in randomized load balancing", 2001.
#[derive(Debug, Default)]
pub(super) struct TwoChoices {
    chance: Chance,
}

impl Strategy for TwoChoices {
    fn update(&mut self, rotation: &Rotation) {
        self.chance.update(rotation);
    }

    fn pick(&mut self, rotation: &Rotation, ask: &Ask<'_>) -> Option<EndpointIndex> {
        let members = rotation.members();
        if members.len() < 2 || !ask.avoid.is_empty() {
            return self.chance.pick(rotation, ask); // a second try: any other one will do
        }
        let first = self.chance.draw(rotation, ask.random);
        let mut second = self.chance.draw(rotation, next_random(ask.random));
        if second == first {
            second = (first + 1) % members.len();
        }
        let (first, second) = (members.get(first)?, members.get(second)?);
        Some(if is_less_work(second, first, ask.load) { second } else { first }.endpoint)
    }
}

fn is_less_work(a: &Member, b: &Member, load: &dyn Load) -> bool {
    let waiting = |one: &Member| u128::from(load.in_flight(one.endpoint)) + 1;
    let (in_a, in_b) = (waiting(a) * u128::from(b.weight), waiting(b) * u128::from(a.weight));
    match (load.latency_us(a.endpoint), load.latency_us(b.endpoint)) {
        (Some(one), Some(other)) => in_a * u128::from(one) < in_b * u128::from(other),
        _ => in_a < in_b, // while one of them is unknown, it counts like the other
    }
}

/// Nothing in flight, nothing known.
#[derive(Debug)]
pub(super) struct Idle;

impl Load for Idle {
    fn in_flight(&self, _: EndpointIndex) -> u32 {
        0
    }

    fn in_flight_total(&self) -> u32 {
        0
    }

    fn latency_us(&self, _: EndpointIndex) -> Option<u32> {
        None
    }
}
