//! A seeded simulation of `proto` and `policy`, without sockets and without a clock: random clients,
//! a network that splits and delays at every byte and sometimes cuts, a gateway made of the pure
//! rooms only, and endpoints that read with a parser of their own.
//!
//! A failure prints its seed and the smallest traffic that still fails;
//! `RINGWAY_SIM_SEED=n cargo test --test sim` runs that seed alone, `RINGWAY_SIM_SEEDS=n` so many.

#[path = "sim/body.rs"]
mod body;
#[path = "sim/check.rs"]
mod check;
#[path = "sim/gateway.rs"]
mod gateway;
#[path = "sim/invalid.rs"]
mod invalid;
#[path = "sim/naive.rs"]
mod naive;
#[path = "sim/random.rs"]
mod random;
#[path = "sim/responses.rs"]
mod responses;
#[path = "sim/routes.rs"]
mod routes;
#[path = "sim/traffic.rs"]
mod traffic;
#[path = "sim/world.rs"]
mod world;

use std::{
    env,
    ops::Add,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    thread,
};

use check::Scenario;
use random::Random;

/// Seeds of one run; each is a set of rules with its clients, run whole and torn.
const SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn seeds() -> std::ops::Range<u64> {
    match number("RINGWAY_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("RINGWAY_SIM_SEEDS").unwrap_or(SEEDS),
    }
}

/// A failure, be it said or a panic.
fn outcome<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// Leaves out clients and requests as long as it still fails.
fn shrink(mut scenario: Scenario, mut why: String) -> (Scenario, String) {
    loop {
        let smaller = scenario.smaller().into_iter().find_map(|candidate| {
            let failure = outcome(|| candidate.run()).err()?;
            Some((candidate, failure))
        });
        match smaller {
            Some((next, failure)) => (scenario, why) = (next, failure),
            None => return (scenario, why),
        }
    }
}

/// Runs the seeds, half of them on a thread of its own, and adds up what they tell.
fn over_seeds<T: Default + Add<Output = T> + Send>(run: fn(u64) -> T) -> T {
    let half = |odd: u64| {
        seeds().filter(|seed| seed % 2 == odd).fold(T::default(), |sum, seed| sum + run(seed))
    };
    thread::scope(|scope| {
        let odd = scope.spawn(|| half(1));
        let even = half(0);
        even + odd.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn valid(seed: u64) -> check::Tally {
    let scenario = Scenario::random(seed);
    outcome(|| scenario.run()).unwrap_or_else(|why| {
        let (scenario, why) = shrink(scenario, why);
        panic!("RINGWAY_SIM_SEED={seed}: {why}\n{scenario}");
    })
}

#[test]
fn valid_traffic_arrives_once_unchanged_and_in_order_however_it_is_cut() {
    let tally = over_seeds(valid);
    println!("{} requests arrived, {} were answered", tally.arrived, tally.answered);
    let (off, variance) = (tally.random_off, tally.random_variance);
    // Random picks over all seeds: the share of each first endpoint, within five deviations.
    assert!(off * off <= 25.0 * variance, "random picks are off by {off}, variance {variance}");
    assert!(number("RINGWAY_SIM_SEED").is_some() || tally.arrived > 0, "nothing was tried");
}

fn invalid(seed: u64) -> invalid::Tally {
    outcome(|| invalid::run(seed)).unwrap_or_else(|why| panic!("RINGWAY_SIM_SEED={seed}: {why}"))
}

#[test]
fn invalid_traffic_is_refused_or_framed_as_a_strict_reader_does() {
    let tally = over_seeds(invalid);
    println!("{} requests forwarded, {} streams refused", tally.forwarded, tally.refused);
}

/// The checks see what they are there for: a world with a fault planted in it fails.
#[test]
fn a_planted_fault_is_found() {
    let found = (0..40).filter(|seed| {
        let mut scenario = Scenario::random(*seed);
        scenario.spoil(&mut Random(*seed));
        outcome(|| scenario.run()).is_err()
    });
    assert!(found.count() >= 20, "most planted faults are found");
}
