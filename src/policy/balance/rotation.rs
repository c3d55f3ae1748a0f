//! Who takes part in an upstream's balancing now, and with which weight: health, ejection, priority
//! levels, backups and slow start, worked out once per change instead of once per request.

use super::{Ask, subset};
use crate::base::ids::EndpointIndex;

/// Levels of endpoints: priorities 0 to 15, and the backups behind them.
pub const LEVELS: usize = 17;

/// Steps of a slow start: what a whole weight counts while one is under way.
const STEPS: u64 = 64;

/// Where a slow start begins: a tenth, as with Envoy. Less would be no request at all for long.
const FIRST_STEP: u64 = STEPS / 10;

/// The shortest time between two steps, milliseconds: about a tick.
const STEP_MS_MIN: u64 = 50;

/// What holds for all endpoints of an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Whether all weights but 0 are alike.
    pub ignore_weights: bool,
    /// How long an endpoint that came up takes to its full weight, milliseconds; 0 for at once.
    pub slow_start_ms: u64,
    /// The share of endpoints that must be left of a level and those before it, percent; below it
    /// the next level joins. 0: it joins when nothing is left.
    pub failover_below_percent: u8,
    /// How many endpoints a core uses at least, if there are so many; 0 for all.
    pub endpoints_per_core: u16,
}

/// Who looks at the endpoints.
#[derive(Clone, Copy, Debug)]
pub struct Viewer {
    /// Which core, counted from 0.
    pub core: u32,
    /// How many there are.
    pub cores: u32,
    /// Whether its strategy looks at loads, which all cores share: then an endpoint that a core uses in
    /// part keeps its whole weight.
    pub sees_loads: bool,
}

impl Default for Viewer {
    fn default() -> Self {
        Self { core: 0, cores: 1, sees_loads: false }
    }
}

/// How an endpoint stands.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Its configured weight; 0 takes no part.
    pub weight: u32,
    /// Its level, below [`LEVELS`].
    pub level: u8,
    /// Whether it may be picked.
    pub is_available: bool,
    /// When time alone makes it available, if it is not; `u64::MAX` for never.
    pub available_at_ms: u64,
    /// Since when it is available; 0 for since ever.
    pub up_since_ms: u64,
}

/// One that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which.
    pub endpoint: EndpointIndex,
    /// Its weight now, at least 1; relative to the other members.
    pub weight: u32,
}

/// Those that take part now, by index of the endpoint, ascending.
#[derive(Debug, Default)]
pub struct Rotation {
    members: Vec<Member>,
    weight_total: u64,
    is_uniform: bool,
    /// By endpoint: its position among the members, or [`NOWHERE`].
    places: Vec<u16>,
    /// Those that may be picked but wait behind the others, the first level first.
    reserve: Vec<(u8, EndpointIndex)>,
    /// `None` before the first look.
    epoch: Option<u32>,
    /// From then on time has changed something.
    until_ms: u64,
}

const NOWHERE: u16 = u16::MAX;

impl Rotation {
    /// Those that take part.
    #[inline]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The sum of their weights.
    pub fn weight_total(&self) -> u64 {
        self.weight_total
    }

    /// Whether all weights are the same.
    #[inline]
    pub fn is_uniform(&self) -> bool {
        self.is_uniform
    }

    /// Whether an endpoint takes part.
    #[inline]
    pub fn contains(&self, endpoint: EndpointIndex) -> bool {
        self.member(endpoint).is_some()
    }

    /// The member that an endpoint is.
    #[inline]
    pub fn member(&self, endpoint: EndpointIndex) -> Option<&Member> {
        let place = *self.places.get(usize::from(endpoint.0))?;
        self.members.get(usize::from(place))
    }

    /// Some member that a request does not avoid.
    pub fn any(&self, ask: &Ask<'_>) -> Option<EndpointIndex> {
        self.members.iter().map(|one| one.endpoint).find(|one| !ask.avoids(*one))
    }

    /// One that waits behind the members: for a request that has tried all of those.
    #[cold]
    pub(super) fn reserve(&self, ask: &Ask<'_>) -> Option<EndpointIndex> {
        self.reserve.iter().map(|(_, endpoint)| *endpoint).find(|one| !ask.avoids(*one))
    }

    #[inline]
    pub(super) fn is_current(&self, epoch: u32, now_ms: u64) -> bool {
        self.epoch == Some(epoch) && now_ms < self.until_ms
    }

    pub(super) fn rebuild(
        &mut self,
        rules: Rules,
        viewer: Viewer,
        standings: impl Iterator<Item = Standing> + Clone,
        epoch: u32,
        now_ms: u64,
    ) {
        let level_max = level_max(rules, standings.clone());
        let takes_part =
            |one: &Standing| one.is_available && one.weight > 0 && one.level <= level_max;
        let step = |one: &Standing| slow_start_step(rules, one.up_since_ms, now_ms);
        let is_ramping = standings.clone().any(|one| takes_part(&one) && step(&one) < STEPS);
        let back = standings.clone().filter(|one| !one.is_available).map(|one| one.available_at_ms);
        self.until_ms = back.filter(|at| *at > now_ms).min().unwrap_or(u64::MAX);
        if is_ramping {
            let step_ms = (rules.slow_start_ms / STEPS).max(STEP_MS_MIN);
            self.until_ms = self.until_ms.min(now_ms.saturating_add(step_ms));
        }
        self.epoch = Some(epoch);
        self.members.clear();
        self.places.clear();
        self.reserve.clear();
        for (index, one) in standings.enumerate().take(usize::from(NOWHERE)) {
            if !takes_part(&one) {
                self.places.push(NOWHERE);
                if one.is_available && one.weight > 0 {
                    self.reserve.push((one.level, EndpointIndex(index as u16)));
                }
                continue;
            }
            let whole = if rules.ignore_weights { 1 } else { u64::from(one.weight) };
            let weight = if is_ramping { whole * step(&one) } else { whole };
            self.places.push(NOWHERE);
            self.members.push(Member {
                endpoint: EndpointIndex(index as u16), // less than NOWHERE
                weight: u32::try_from(weight).unwrap_or(u32::MAX),
            });
        }
        if rules.endpoints_per_core > 0 {
            let left = subset::keep(&mut self.members, rules.endpoints_per_core, viewer);
            self.reserve.extend(left.map(|endpoint| (0, endpoint)));
        }
        for (place, member) in self.members.iter().enumerate() {
            self.places[usize::from(member.endpoint.0)] = place as u16;
        }
        self.reserve.sort_unstable();
        self.weight_total = self.members.iter().map(|one| u64::from(one.weight)).sum();
        self.is_uniform = self.members.windows(2).all(|pair| pair[0].weight == pair[1].weight);
    }
}

/// The last level that takes part: levels join until enough is left of those that did.
fn level_max(rules: Rules, standings: impl Iterator<Item = Standing>) -> u8 {
    let (mut all, mut available) = ([0_u64; LEVELS], [0_u64; LEVELS]);
    for one in standings.filter(|one| one.weight > 0) {
        let level = usize::from(one.level).min(LEVELS - 1);
        all[level] += 1;
        available[level] += u64::from(one.is_available);
    }
    let (mut all_so_far, mut available_so_far) = (0, 0);
    for level in 0..LEVELS {
        all_so_far += all[level];
        available_so_far += available[level];
        let wanted = all_so_far * u64::from(rules.failover_below_percent);
        if available_so_far > 0 && available_so_far * 100 >= wanted {
            return level as u8;
        }
    }
    LEVELS as u8
}

/// How much of its weight an endpoint has, of [`STEPS`]: rises evenly from [`FIRST_STEP`].
fn slow_start_step(rules: Rules, up_since_ms: u64, now_ms: u64) -> u64 {
    let up_ms = now_ms.saturating_sub(up_since_ms);
    if up_since_ms == 0 || up_ms >= rules.slow_start_ms {
        return STEPS;
    }
    (up_ms * STEPS / rules.slow_start_ms).max(FIRST_STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Standing =
        Standing { weight: 1, level: 0, is_available: true, available_at_ms: 0, up_since_ms: 0 };
    const DOWN: Standing = Standing { is_available: false, available_at_ms: u64::MAX, ..UP };

    fn members(rules: Rules, standings: &[Standing], now_ms: u64) -> Vec<(u16, u32)> {
        let mut rotation = Rotation::default();
        rotation.rebuild(rules, Viewer::default(), standings.iter().copied(), 1, now_ms);
        let members = rotation.members.iter();
        members.map(|one| (one.endpoint.0, one.weight)).collect()
    }

    #[test]
    fn those_that_are_up_take_part() {
        let rules = Rules::default();
        let all = [Standing { weight: 3, ..UP }, DOWN, Standing { weight: 0, ..UP }, UP];
        assert_eq!(members(rules, &all, 5), [(0, 3), (3, 1)]);
        let alike = Rules { ignore_weights: true, ..rules };
        assert_eq!(members(alike, &all, 5), [(0, 1), (3, 1)]);
        assert_eq!(members(rules, &[DOWN], 5), []);
    }

    #[test]
    fn time_ends_what_time_began() {
        let mut rotation = Rotation::default();
        assert!(!rotation.is_current(0, 0), "nobody has looked yet");
        let ejected = Standing { available_at_ms: 900, ..DOWN };
        let all = [UP, ejected, Standing { available_at_ms: 700, ..DOWN }, DOWN];
        rotation.rebuild(Rules::default(), Viewer::default(), all.iter().copied(), 4, 500);
        assert!(rotation.is_current(4, 699) && !rotation.is_current(4, 700));
        assert!(!rotation.is_current(5, 600));
        assert!(rotation.contains(EndpointIndex(0)) && !rotation.contains(EndpointIndex(1)));
        assert!(!rotation.contains(EndpointIndex(9)));
    }

    #[test]
    fn a_level_joins_when_too_little_is_left_of_those_before() {
        let backup = Standing { level: LEVELS as u8 - 1, ..UP };
        let second = Standing { level: 1, ..UP };
        let none = Rules::default();
        assert_eq!(members(none, &[UP, DOWN, second, backup], 1), [(0, 1)]);
        assert_eq!(members(none, &[DOWN, DOWN, second, backup], 1), [(2, 1)]);
        let second_down = Standing { level: 1, ..DOWN };
        assert_eq!(members(none, &[DOWN, DOWN, second_down, backup], 1), [(3, 1)]);
        let half = Rules { failover_below_percent: 50, ..none };
        assert_eq!(members(half, &[UP, DOWN, second], 1), [(0, 1)], "half is enough");
        assert_eq!(members(half, &[UP, DOWN, DOWN, second], 1), [(0, 1), (3, 1)]);
        let all = Rules { failover_below_percent: 100, ..none };
        assert_eq!(members(all, &[UP, DOWN, second, backup], 1), [(0, 1), (2, 1), (3, 1)]);
    }

    #[test]
    fn a_slow_start_rises_evenly_and_ends() {
        let rules = Rules { slow_start_ms: 6_400, ..Rules::default() };
        let fresh = Standing { up_since_ms: 10_000, ..UP };
        let at = |now_ms| members(rules, &[fresh, UP], now_ms);
        assert_eq!(at(10_000), [(0, FIRST_STEP as u32), (1, 64)]);
        assert_eq!(at(13_200), [(0, 32), (1, 64)]);
        assert_eq!(at(16_399), [(0, 63), (1, 64)]);
        assert_eq!(at(16_400), [(0, 1), (1, 1)]);
        let mut rotation = Rotation::default();
        rotation.rebuild(rules, Viewer::default(), [fresh, UP].into_iter(), 1, 10_000);
        assert!(rotation.is_current(1, 10_099) && !rotation.is_current(1, 10_100));
        rotation.rebuild(rules, Viewer::default(), [fresh, UP].into_iter(), 1, 20_000);
        assert!(rotation.is_current(1, u64::MAX - 1), "nothing is left to wait for");
    }
}
