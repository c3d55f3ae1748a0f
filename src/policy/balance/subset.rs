//! Which endpoints a core uses where it does not use all of them.
//!
//! Endpoints lie on a ring, each as long as its weight; cores begin at even distances and go on for a
//! whole number of these, so each point of the ring is used by equally many cores. One at the end of
//! a core's way counts there as much as it lies on it: all cores together give each endpoint
//! exactly its share, if they have equally much to do. Source: Finagle, deterministic aperture.

use super::{Member, rotation::Viewer};
use crate::base::ids::EndpointIndex;

/// Leaves the members that this core uses, at least `count_min` of them on the average of all cores, and
/// returns the others.
pub(super) fn keep(
    members: &mut Vec<Member>,
    count_min: u16,
    viewer: Viewer,
) -> impl Iterator<Item = EndpointIndex> + use<> {
    let (core, cores) = (u64::from(viewer.core), u64::from(viewer.cores.max(1)));
    // How many cores use each point.
    let depth = (u64::from(count_min) * cores).div_ceil(members.len().max(1) as u64);
    let mut left = Vec::new();
    if depth < cores {
        let whole: u64 = members.iter().map(|one| u64::from(one.weight)).sum();
        // In parts of a weight: a weight has `cores` of them, and so the ring has `cores` times `whole`.
        let way = core * whole..(core + depth) * whole;
        let (mut begin, mut parts) = (0, Vec::with_capacity(members.len()));
        members.retain(|one| {
            let end = begin + u64::from(one.weight) * cores;
            let around = cores * whole;
            let part = common(begin..end, &way) + common(begin + around..end + around, &way);
            begin = end;
            match part {
                0 => left.push(one.endpoint),
                part => parts.push(part),
            }
            part > 0
        });
        if !viewer.sees_loads {
            let bits = parts.iter().max().map_or(0, |most| u64::BITS - most.leading_zeros());
            for (member, part) in members.iter_mut().zip(parts) {
                let part = part >> bits.saturating_sub(u32::BITS);
                member.weight = u32::try_from(part).unwrap_or(u32::MAX).max(1);
            }
        }
    }
    left.into_iter()
}

/// How much two stretches have in common.
fn common(a: std::ops::Range<u64>, b: &std::ops::Range<u64>) -> u64 {
    a.end.min(b.end).saturating_sub(a.start.max(b.start))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::balance::next_random;

    fn members(weights: &[u32]) -> Vec<Member> {
        let member = |(at, weight): (usize, &u32)| Member {
            endpoint: EndpointIndex(at as u16),
            weight: *weight,
        };
        weights.iter().enumerate().map(member).collect()
    }

    /// What each core uses, and that all is used or left.
    fn subsets(weights: &[u32], count_min: u16, cores: u32) -> Vec<Vec<Member>> {
        let of = |core| {
            let mut kept = members(weights);
            let left = keep(&mut kept, count_min, Viewer { core, cores, sees_loads: false });
            assert_eq!(kept.len() + left.count(), weights.len());
            kept
        };
        (0..cores).map(of).collect()
    }

    #[test]
    fn all_cores_together_give_each_endpoint_exactly_its_share() {
        let mut seed = 1;
        for round in 0..2_000 {
            let mut below = |count: u64| {
                seed = next_random(seed);
                seed % count
            };
            let weights: Vec<u32> = (0..1 + below(40))
                .map(|_| 1 + below(if round % 2 == 0 { 1 } else { 9 }) as u32)
                .collect();
            let (cores, count_min) = (1 + below(20) as u32, 1 + below(12) as u16);
            let all = subsets(&weights, count_min, cores);
            let mut got = vec![0.0; weights.len()];
            for core in &all {
                let sum: f64 = core.iter().map(|one| f64::from(one.weight)).sum();
                for one in core {
                    got[usize::from(one.endpoint.0)] += f64::from(one.weight) / sum;
                }
            }
            let whole: f64 = weights.iter().map(|one| f64::from(*one)).sum();
            for (got, weight) in got.iter().zip(&weights) {
                let ideal = f64::from(*weight) / whole * f64::from(cores);
                assert!((got - ideal).abs() < 1e-9, "{weights:?}, {count_min} of {cores} cores");
            }
        }
    }

    #[test]
    fn an_endpoint_is_used_by_few_cores_and_a_core_uses_enough_endpoints() {
        for (count, count_min, cores) in [(10, 3, 4), (100, 10, 16), (7, 2, 16), (64, 4, 64)] {
            let all = subsets(&vec![1; count], count_min, cores);
            let depth = (usize::from(count_min) * cores as usize).div_ceil(count);
            assert!(all.iter().all(|core| core.len() >= usize::from(count_min)));
            for endpoint in 0..count as u16 {
                let is_used =
                    |core: &&Vec<Member>| core.iter().any(|one| one.endpoint.0 == endpoint);
                let users = all.iter().filter(is_used).count();
                assert!(
                    (depth..=depth + (cores as usize).div_ceil(count)).contains(&users),
                    "{users} of {cores} cores use one"
                );
            }
        }
        assert!(subsets(&[1; 3], 3, 4).iter().all(|core| core.len() == 3), "there are no more");
    }
}
