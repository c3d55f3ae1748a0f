//! A seeded simulation of `proto` and `policy`, without sockets and without a clock: random clients,
//! a network that splits and delays at every byte and sometimes cuts, a gateway made of the pure
//! rooms only, and endpoints that read with a parser of their own.
//!
//! A failure prints its seed and the smallest traffic that still fails;
//! `RINGWAY_SIM_SEED=n cargo test --test sim` runs that seed alone, `RINGWAY_SIM_SEEDS=n` so many.

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
    panic::{AssertUnwindSafe, catch_unwind},
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

#[test]
fn valid_traffic_arrives_once_unchanged_and_in_order_however_it_is_cut() {
    let (mut off, mut variance, mut arrived, mut answered) = (0.0, 0.0, 0, 0);
    for seed in seeds() {
        let scenario = Scenario::random(seed);
        match outcome(|| scenario.run()) {
            Ok(tally) => {
                off += tally.random_off;
                variance += tally.random_variance;
                arrived += tally.arrived;
                answered += tally.answered;
            }
            Err(why) => {
                let (scenario, why) = shrink(scenario, why);
                panic!("RINGWAY_SIM_SEED={seed}: {why}\n{scenario}");
            }
        }
    }
    println!("{arrived} requests arrived, {answered} responses came back");
    // Random picks over all seeds: the share of each first endpoint, within five deviations.
    assert!(off * off <= 25.0 * variance, "random picks are off by {off}, variance {variance}");
    assert!(number("RINGWAY_SIM_SEED").is_some() || arrived > 0, "nothing was tried");
}

#[test]
fn invalid_traffic_is_refused_or_framed_as_a_strict_reader_does() {
    let (mut forwarded, mut refused) = (0, 0);
    for seed in seeds() {
        match outcome(|| invalid::run(seed)) {
            Ok(tally) => {
                forwarded += tally.forwarded;
                refused += tally.refused;
            }
            Err(why) => panic!("RINGWAY_SIM_SEED={seed}: {why}"),
        }
    }
    println!("{forwarded} requests forwarded, {refused} streams refused");
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
