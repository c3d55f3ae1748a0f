//! Random, in proportion to the weights.

use super::{Ask, Rotation, Strategy, below};
use crate::base::ids::EndpointIndex;

/// A table to draw from.
#[derive(Debug, Default)]
pub(super) struct Chance {
    /// Sums of the weights up to and with each member; empty if all weights are the same.
    sums: Vec<u64>,
}

impl Chance {
    /// The position of one member by chance.
    pub(super) fn draw(&self, rotation: &Rotation, random: u64) -> usize {
        match self.sums.is_empty() {
            true => below(random, rotation.members().len() as u64) as usize,
            false => {
                let at = below(random, rotation.weight_total());
                self.sums.partition_point(|sum| *sum <= at)
            }
        }
    }
}

impl Strategy for Chance {
    fn update(&mut self, rotation: &Rotation) {
        self.sums.clear();
        if rotation.is_uniform() {
            return;
        }
        let sums = rotation.members().iter().scan(0, |sum, one| {
            *sum += u64::from(one.weight);
            Some(*sum)
        });
        self.sums.extend(sums);
    }

    fn pick(&mut self, rotation: &Rotation, ask: &Ask<'_>) -> Option<EndpointIndex> {
        let first = rotation.members().get(self.draw(rotation, ask.random))?.endpoint;
        if !ask.avoids(first) {
            return Some(first); // nearly always
        }
        let others = || rotation.members().iter().filter(|one| !ask.avoids(one.endpoint));
        let mut left = below(ask.random, others().map(|one| u64::from(one.weight)).sum());
        for one in others() {
            match left.checked_sub(u64::from(one.weight)) {
                Some(rest) => left = rest,
                None => return Some(one.endpoint),
            }
        }
        None
    }
}
