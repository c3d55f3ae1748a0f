//! What `docs/balancing.md` promises of each strategy, over 2, 4 and 16 cores. Cores are simulated:
//! each has its balancer and serves in an order of chance; loads are shared, and may be seen late.
//! A failure prints its seed.

use std::{cell::RefCell, collections::VecDeque, sync::Arc};

use super::{
    Ask, Balancer, HashAlgorithm, HashTable, Kind, Load, Rules, Standing, Viewer, hash_key,
    moving_average, next_random,
};
use crate::base::ids::EndpointIndex;

const CORES: [u32; 3] = [2, 4, 16];
const SEEDS: std::ops::Range<u64> = 0..20;

struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        next_random(self.0)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.roll() % count as u64) as usize
    }
}

/// What all cores know.
#[derive(Default)]
struct Loads {
    in_flight: RefCell<Vec<u32>>,
    latency_us: RefCell<Vec<u32>>,
}

impl Loads {
    fn new(count: usize) -> Self {
        Self { in_flight: vec![0; count].into(), latency_us: vec![0; count].into() }
    }

    fn add(&self, endpoint: usize, change: i32) {
        let mut in_flight = self.in_flight.borrow_mut();
        in_flight[endpoint] = in_flight[endpoint].checked_add_signed(change).expect("not below 0");
    }

    fn learn(&self, endpoint: usize, us: u32) {
        let mut latency = self.latency_us.borrow_mut();
        latency[endpoint] = moving_average(latency[endpoint], us);
    }
}

impl Load for Loads {
    fn in_flight(&self, endpoint: EndpointIndex) -> u32 {
        self.in_flight.borrow()[usize::from(endpoint.0)]
    }

    fn in_flight_total(&self) -> u32 {
        self.in_flight.borrow().iter().sum()
    }

    fn latency_us(&self, endpoint: EndpointIndex) -> Option<u32> {
        Some(self.latency_us.borrow()[usize::from(endpoint.0)]).filter(|us| *us > 0)
    }
}

fn standing(weight: u32) -> Standing {
    Standing { weight, level: 0, is_available: true, available_at_ms: 0, up_since_ms: 0 }
}

fn balancers(kind: &Kind, weights: &[u32], cores: u32) -> Vec<Balancer> {
    let rules = Rules { ignore_weights: *kind == Kind::RoundRobin, ..Rules::default() };
    let make = |core| {
        let mut balancer = Balancer::new(kind, core);
        balancer.refresh(rules, weights.iter().map(|weight| standing(*weight)), 0, 1);
        balancer
    };
    (0..cores).map(make).collect()
}

fn pick(balancer: &mut Balancer, dice: &mut Dice, key: Option<u64>, load: &Loads) -> usize {
    let key = key.map(|key| hash_key(&key.to_le_bytes()));
    let ask = Ask { random: dice.roll(), key, avoid: &[], load };
    usize::from(balancer.pick(&ask).expect("all are up").0)
}

/// How often each endpoint is picked in `total` requests that cores serve in an order of chance.
fn counts(kind: &Kind, weights: &[u32], cores: u32, total: usize, seed: u64) -> Vec<f64> {
    let (mut dice, load) = (Dice(seed), Loads::new(weights.len()));
    let mut balancers = balancers(kind, weights, cores);
    let mut counts = vec![0.0; weights.len()];
    for _ in 0..total {
        let core = dice.below(balancers.len());
        let key = Some(dice.roll());
        counts[pick(&mut balancers[core], &mut dice, key, &load)] += 1.0;
    }
    counts
}

fn some_weights(dice: &mut Dice) -> Vec<u32> {
    let count = 2 + dice.below(20);
    (0..count).map(|_| 1 + dice.below(10) as u32).collect()
}

fn share(weights: &[u32], index: usize) -> f64 {
    f64::from(weights[index]) / f64::from(weights.iter().sum::<u32>())
}

#[test]
fn round_robin_errs_by_less_than_one_request_per_core() {
    for (cores, seed) in CORES.into_iter().flat_map(|cores| SEEDS.map(move |seed| (cores, seed))) {
        let mut dice = Dice(seed);
        let weights = some_weights(&mut dice);
        let total = dice.below(5_000);
        let ideal = total as f64 / weights.len() as f64;
        for count in counts(&Kind::RoundRobin, &weights, cores, total, seed) {
            let error = (count - ideal).abs();
            assert!(error < f64::from(cores), "seed {seed}: {cores} cores, off by {error}");
        }
    }
}

#[test]
fn weighted_round_robin_errs_by_its_bound_per_core() {
    for (cores, seed) in CORES.into_iter().flat_map(|cores| SEEDS.map(move |seed| (cores, seed))) {
        let mut dice = Dice(seed);
        let weights = some_weights(&mut dice);
        let total = dice.below(5_000);
        let counts = counts(&Kind::WeightedRoundRobin, &weights, cores, total, seed);
        for (index, count) in counts.into_iter().enumerate() {
            let share = share(&weights, index);
            let error = (count - total as f64 * share).abs();
            let bound = f64::from(cores) * (0.5 + weights.len() as f64 * share / 2.0);
            assert!(error <= bound, "seed {seed}: {cores} cores, off by {error}, bound {bound}");
        }
    }
}

/// A request per core and round: cores that march in step would hit the same endpoint together.
#[test]
fn cores_that_serve_at_one_pace_do_not_march_in_step() {
    for kind in [Kind::RoundRobin, Kind::WeightedRoundRobin] {
        let (mut dice, load) = (Dice(1), Loads::new(4));
        let mut balancers = balancers(&kind, &[1; 4], 4);
        for round in 0..100 {
            let mut picked: Vec<usize> =
                balancers.iter_mut().map(|one| pick(one, &mut dice, None, &load)).collect();
            picked.sort_unstable();
            assert_eq!(picked, [0, 1, 2, 3], "{kind:?}, round {round}");
        }
    }
}

#[test]
fn weights_are_spread_and_never_in_a_burst() {
    let (mut dice, load) = (Dice(1), Loads::new(3));
    let mut balancer = balancers(&Kind::WeightedRoundRobin, &[5, 1, 1], 1).remove(0);
    let mut picked = || pick(&mut balancer, &mut dice, None, &load);
    let cycles: Vec<Vec<usize>> = (0..5).map(|_| (0..7).map(|_| picked()).collect()).collect();
    for cycle in &cycles {
        assert_eq!(cycle.iter().filter(|one| **one == 0).count(), 5, "{cycles:?}");
        let others = cycle.iter().position(|one| *one != 0);
        assert!(matches!(others, Some(1..=4)), "neither first nor last: {cycles:?}");
    }
}

/// For a binomial count four standard deviations are exceeded once in 16,000 times.
#[test]
fn random_errs_as_dice_do_on_any_number_of_cores() {
    for (cores, seed) in CORES.into_iter().flat_map(|cores| SEEDS.map(move |seed| (cores, seed))) {
        let mut dice = Dice(seed);
        let weights = some_weights(&mut dice);
        let counts = counts(&Kind::Random, &weights, cores, 20_000, seed);
        for (index, count) in counts.into_iter().enumerate() {
            let share = share(&weights, index);
            let deviation = (20_000.0 * share * (1.0 - share)).sqrt();
            let error = (count - 20_000.0 * share).abs();
            assert!(error < 4.5 * deviation, "seed {seed}: {cores} cores, {error} of {deviation}");
        }
    }
}

/// All cores decide at the same moment, then all their requests begin; some end, in any order.
#[test]
fn least_connections_picks_the_least_and_errs_by_what_cores_decide_at_once() {
    for (cores, seed) in CORES.into_iter().flat_map(|cores| SEEDS.map(move |seed| (cores, seed))) {
        let mut dice = Dice(seed);
        let count = 2 + dice.below(15);
        let (load, mut under_way) = (Loads::new(count), Vec::new());
        let mut balancers = balancers(&Kind::LeastConnections, &vec![1; count], cores);
        let bounds = || {
            let in_flight = load.in_flight.borrow().clone();
            let bound = |one: Option<&u32>| *one.expect("some");
            (bound(in_flight.iter().min()), bound(in_flight.iter().max()), in_flight)
        };
        for round in 0..1_000 {
            let (least, _, before) = bounds();
            let picked: Vec<usize> =
                balancers.iter_mut().map(|one| pick(one, &mut dice, None, &load)).collect();
            assert!(picked.iter().all(|one| before[*one] == least), "seed {seed}: {before:?}");
            picked.iter().for_each(|one| load.add(*one, 1));
            under_way.extend(picked);
            let (least, most, now) = bounds();
            if round < 100 {
                assert!(most - least <= cores, "seed {seed}: {cores} cores, {now:?}");
                continue; // nothing has ended yet
            }
            for _ in 0..cores {
                load.add(under_way.swap_remove(dice.below(under_way.len())), -1);
            }
        }
    }
}

/// With endpoints of one speed each gets its share within a tenth; one that is ten times as slow gets
/// less than a quarter of it.
#[test]
fn p2c_evens_out_and_leaves_a_slow_one_alone() {
    for (cores, seed) in CORES.into_iter().flat_map(|cores| SEEDS.map(move |seed| (cores, seed))) {
        for slow in [false, true] {
            let mut dice = Dice(seed);
            let count = 3 + dice.below(10);
            let load = Loads::new(count);
            let mut balancers = balancers(&Kind::P2cEwma, &vec![1; count], cores);
            let mut counts = vec![0_u32; count];
            let mut ends: VecDeque<Vec<usize>> = vec![Vec::new(); 101].into();
            for _ in 0..10_000 {
                for endpoint in ends.pop_front().expect("a tick") {
                    load.add(endpoint, -1);
                    let us = if slow && endpoint == 0 { 100_000 } else { 10_000 };
                    load.learn(endpoint, us);
                }
                ends.push_back(Vec::new());
                let core = dice.below(balancers.len());
                let endpoint = pick(&mut balancers[core], &mut dice, None, &load);
                load.add(endpoint, 1);
                counts[endpoint] += 1;
                ends[if slow && endpoint == 0 { 99 } else { 9 }].push(endpoint);
            }
            let share = 10_000.0 / count as f64;
            for (index, got) in counts.iter().enumerate() {
                let got = f64::from(*got) / share;
                match (slow, index) {
                    (true, 0) => assert!(got < 0.25, "seed {seed}: the slow one got {got}"),
                    (true, _) => {}
                    _ => assert!((0.9..1.1).contains(&got), "seed {seed}: {got} of its share"),
                }
            }
        }
    }
}

fn hashed(algorithm: HashAlgorithm, names: &[(String, u32)], bounded: Option<u32>) -> Kind {
    let named = names.iter().map(|(name, weight)| (&**name, *weight));
    Kind::ConsistentHash {
        table: Arc::new(HashTable::build(algorithm, named)),
        bounded_percent: bounded,
    }
}

fn names(count: usize, dice: &mut Dice) -> Vec<(String, u32)> {
    let prefix = dice.below(200);
    (0..count).map(|n| (format!("10.{prefix}.0.{}:8080", n + 1), 1)).collect()
}

const KEYS: u64 = 100_000;

/// Where each key goes, asked on a core of chance: they agree.
fn owners(kind: &Kind, weights: &[u32], down: Option<usize>, dice: &mut Dice) -> Vec<usize> {
    let load = Loads::new(weights.len());
    let mut balancers = balancers(kind, weights, 4);
    let standings = weights.iter().enumerate().map(|(index, weight)| Standing {
        is_available: Some(index) != down,
        available_at_ms: u64::MAX,
        ..standing(*weight)
    });
    balancers.iter_mut().for_each(|one| one.refresh(Rules::default(), standings.clone(), 1, 1));
    let owner = |key| {
        let core = dice.below(4);
        pick(&mut balancers[core], dice, Some(key), &load)
    };
    (0..KEYS).map(owner).collect()
}

#[test]
fn a_key_stays_on_its_endpoint_and_only_those_of_one_that_leaves_move() {
    for algorithm in [HashAlgorithm::Ring, HashAlgorithm::Maglev] {
        for (count, seed) in [(3, 1), (10, 2), (32, 3)] {
            let mut dice = Dice(seed);
            let names = names(count, &mut dice);
            let weights = vec![1; count];
            let kind = hashed(algorithm, &names, None);
            let before = owners(&kind, &weights, None, &mut dice);
            assert_eq!(before, owners(&kind, &weights, None, &mut dice), "all cores agree");
            let gone = dice.below(count);
            // Down or ejected: the table is the same.
            let down = owners(&kind, &weights, Some(gone), &mut dice);
            for (key, (before, after)) in before.iter().zip(&down).enumerate() {
                assert!(*before == gone || before == after, "{algorithm:?}: key {key} moved");
            }
            // Taken out of the configuration: another table.
            let mut left = names.clone();
            left.remove(gone);
            let after = owners(&hashed(algorithm, &left, None), &weights[1..], None, &mut dice);
            let name_before = before.iter().map(|one| &names[*one].0);
            let moved = name_before.zip(after.iter().map(|one| &left[*one].0));
            let moved = moved.filter(|(before, after)| before != after).count() as f64;
            for moved in [before.iter().filter(|one| **one == gone).count() as f64, moved] {
                let share = moved / KEYS as f64 * count as f64;
                assert!(share <= 1.1, "{algorithm:?}, {count}, seed {seed}: {share}/n moved");
            }
        }
    }
}

/// A ring gives each its share within 12 %, Maglev within 2 % (both with the noise of 100,000 keys).
#[test]
fn keys_are_spread_by_weight() {
    for (algorithm, error_max) in [(HashAlgorithm::Ring, 0.12), (HashAlgorithm::Maglev, 0.04)] {
        for seed in 0..5 {
            let mut dice = Dice(seed);
            let mut names = names(10, &mut dice);
            names.iter_mut().for_each(|one| one.1 = 1 + dice.below(3) as u32);
            let weights: Vec<u32> = names.iter().map(|one| one.1).collect();
            let owners = owners(&hashed(algorithm, &names, None), &weights, None, &mut dice);
            for (index, _) in weights.iter().enumerate() {
                let got = owners.iter().filter(|one| **one == index).count() as f64;
                let error = (got / (KEYS as f64 * share(&weights, index)) - 1.0).abs();
                assert!(error < error_max, "{algorithm:?}, seed {seed}: off by {error}");
            }
        }
    }
}

/// Most requests have one of three keys; yet nobody ever has more than its bounded share in flight.
#[test]
fn bounded_load_holds_its_bound_and_hot_keys_spill() {
    for (cores, seed) in CORES.into_iter().flat_map(|cores| SEEDS.map(move |seed| (cores, seed))) {
        let mut dice = Dice(seed);
        let count = 3 + dice.below(10);
        let names = names(count, &mut dice);
        let algorithm = [HashAlgorithm::Ring, HashAlgorithm::Maglev][dice.below(2)];
        let mut balancers =
            balancers(&hashed(algorithm, &names, Some(125)), &vec![1; count], cores);
        let (load, mut under_way) = (Loads::new(count), Vec::new());
        for _ in 0..3_000 {
            let key = if dice.below(4) > 0 { dice.below(3) as u64 } else { dice.roll() };
            let core = dice.below(balancers.len());
            let endpoint = pick(&mut balancers[core], &mut dice, Some(key), &load);
            load.add(endpoint, 1);
            under_way.push(endpoint);
            let bound = (1.25 * under_way.len() as f64 / count as f64).ceil() as u32;
            let has = load.in_flight.borrow()[endpoint];
            assert!(has <= bound, "seed {seed}: {has} in flight, bound {bound}");
            while under_way.len() > 40 {
                load.add(under_way.swap_remove(dice.below(40)), -1);
            }
        }
    }
}

#[test]
fn what_a_request_avoids_is_not_picked_until_nothing_is_left() {
    let names: Vec<(String, u32)> = names(5, &mut Dice(1));
    let kinds = [
        Kind::RoundRobin,
        Kind::WeightedRoundRobin,
        Kind::Random,
        Kind::LeastConnections,
        Kind::P2cEwma,
        hashed(HashAlgorithm::Ring, &names, None),
        hashed(HashAlgorithm::Maglev, &names, Some(125)),
    ];
    let all: Vec<EndpointIndex> = (0..5).map(EndpointIndex).collect();
    for kind in kinds {
        let (mut dice, load) = (Dice(3), Loads::new(5));
        let mut balancer = balancers(&kind, &[4, 3, 0, 2, 1], 1).remove(0);
        let mut pick = |avoid| {
            let key = Some(hash_key(&dice.roll().to_le_bytes()));
            balancer.pick(&Ask { random: dice.roll(), key, avoid, load: &load })
        };
        for _ in 0..1_000 {
            assert_eq!(pick(&all[..4]), Some(all[4]), "{kind:?}");
            assert!(pick(&all[..1]).is_some_and(|one| one != all[0] && one != all[2]), "{kind:?}");
        }
        assert_eq!(pick(&all), None, "{kind:?}");
        let mut nobody = balancers(&kind, &[0, 0], 1).remove(0);
        let ask = Ask { random: 5, key: None, avoid: &[], load: &load };
        assert_eq!(nobody.pick(&ask), None, "{kind:?}");
    }
}

#[test]
fn a_request_that_tried_all_others_gets_a_backup() {
    let load = Loads::new(3);
    let mut balancer = Balancer::new(&Kind::RoundRobin, 0);
    let all =
        [Standing { level: 16, ..standing(1) }, standing(1), Standing { level: 3, ..standing(1) }];
    balancer.refresh(Rules::default(), all.into_iter(), 0, 1);
    let mut tried = Vec::new();
    for expected in [1, 2, 0] {
        let ask = Ask { random: 5, key: None, avoid: &tried, load: &load };
        let picked = balancer.pick(&ask);
        assert_eq!(picked, Some(EndpointIndex(expected)));
        tried.extend(picked);
    }
    assert_eq!(balancer.pick(&Ask { random: 5, key: None, avoid: &tried, load: &load }), None);
}

/// Weights that change for a while (slow start) leave the turns of the others as they were.
#[test]
fn a_ramp_of_weights_gives_what_its_weights_say() {
    let rules = Rules { ignore_weights: true, slow_start_ms: 10_000, ..Rules::default() };
    let (mut dice, load) = (Dice(1), Loads::new(3));
    let mut balancer = Balancer::new(&Kind::RoundRobin, 0);
    let fresh = Standing { up_since_ms: 1_000, ..standing(1) };
    let mut counts = [[0_u32; 3]; 10];
    for request in 0..10_000_u64 {
        let now_ms = 1_000 + request;
        if !balancer.is_current(7, now_ms) {
            let all = [standing(1), fresh, standing(1)];
            balancer.refresh(rules, all.into_iter(), 7, now_ms);
        }
        counts[(request / 1_000) as usize][pick(&mut balancer, &mut dice, None, &load)] += 1;
    }
    for (second, [one, fresh, other]) in counts.into_iter().enumerate() {
        assert!(one.abs_diff(other) < 40, "{counts:?}");
        let weight = 0.05 + second as f64 / 10.0;
        let ideal = 1_000.0 * weight / (2.0 + weight);
        assert!((f64::from(fresh) - ideal).abs() < 30.0, "second {second}: {counts:?}");
    }
}

/// A core that shares the endpoints out with others goes beyond its own for a request they all failed.
#[test]
fn a_request_that_all_endpoints_of_a_core_failed_is_given_another() {
    let rules = Rules { ignore_weights: true, endpoints_per_core: 1, ..Rules::default() };
    let load = Loads::new(6);
    for core in 0..3 {
        let viewer = Viewer { core, cores: 3, ..Viewer::default() };
        let mut balancer = Balancer::among(&Kind::RoundRobin, core, viewer);
        balancer.refresh(rules, [standing(1); 6].into_iter(), 0, 1);
        let mut tried = Vec::new();
        while let Some(picked) =
            balancer.pick(&Ask { random: 7, key: None, avoid: &tried, load: &load })
        {
            let is_own = tried.len() < 2;
            assert_eq!(balancer.rotation().contains(picked), is_own, "core {core}: {tried:?}");
            assert!(!tried.contains(&picked));
            tried.push(picked);
        }
        assert_eq!(tried.len(), 6, "core {core} has tried all");
    }
}
