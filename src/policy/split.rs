//! Which of several upstreams a request of a split goes to. Pure: turns, places and shares are
//! arguments.
//!
//! Two ways. In turn ([`by_turn`]): each core gives every choice its share of the requests it sees, off
//! by less than one request for two choices. By place ([`by_place`]): a client has a place, the hash of
//! its key or the number in its cookie, and the place decides; whoever has a choice keeps it while the
//! share of that choice grows.

pub use super::balance::token_of;
use super::balance::{cookie, next_random, read_token, write_token};

/// What all shares of a split make together.
pub const WHOLE: u64 = 1 << 32;

/// Choices of one split at most: each pick looks at all of them.
pub const CHOICES_MAX: usize = 16;

/// The share of each weight: together exactly [`WHOLE`] (nothing if all weights are 0), each off by less
/// than one part; a weight of 0 has none.
pub fn shares(weights: &[u32]) -> Vec<u64> {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let mut passed = 0;
    let share = |weight: &u32| {
        // The differences of rounded sums are whole parts, and add up to the whole.
        let before = (passed * WHOLE).checked_div(total).unwrap_or(0);
        passed += u64::from(*weight);
        (passed * WHOLE).checked_div(total).unwrap_or(0) - before
    };
    weights.iter().map(share).collect()
}

/// Whose turn it is: the choice that is owed most. `owed` holds, for each choice, what this core owes
/// it in parts of a request ([`WHOLE`] is one); starts at zeros and belongs to one core. A choice
/// without a share has no turn. `None` if no choice has a share.
///
/// With shares that stand, after any number of requests, each of `n` choices has had less than one
/// request too many and less than `n - 1` too few. Source: smooth weighted round-robin, as nginx has it.
pub fn by_turn(shares: impl Iterator<Item = u64>, owed: &mut [i64]) -> Option<usize> {
    let mut best: Option<(usize, i64)> = None;
    for (at, (share, owed)) in shares.zip(owed.iter_mut()).enumerate() {
        if share == 0 {
            continue;
        }
        *owed += share as i64;
        if best.is_none_or(|(_, most)| *owed > most) {
            best = Some((at, *owed));
        }
    }
    let (at, _) = best?;
    owed[at] -= WHOLE as i64;
    Some(at)
}

/// The choice of a place: choices are told by their tokens and shares. A choice keeps all its places
/// while its share grows and no other one does. `None` if no choice has a share.
///
/// Source: Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005 (weighted rendezvous
/// hashing).
pub fn by_place(place: u64, choices: impl Iterator<Item = (u64, u64)>) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (at, (token, share)) in choices.enumerate() {
        if share == 0 {
            continue;
        }
        // Evenly spread over 0..1, without its ends.
        let chance = ((next_random(place ^ token) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        let distance = -chance.ln() / share as f64;
        if best.is_none_or(|(_, nearest)| distance < nearest) {
            best = Some((at, distance));
        }
    }
    best.map(|(at, _)| at)
}

/// The cookie that holds a client's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceCookie {
    name: Box<[u8]>,
    /// What follows the value, from `; ` on.
    attributes: Box<[u8]>,
}

impl PlaceCookie {
    /// `attributes` begin with `; ` unless they are empty.
    pub fn new(name: &str, attributes: &str) -> Self {
        Self { name: name.as_bytes().into(), attributes: attributes.as_bytes().into() }
    }

    /// The place that a client was given before, by the Cookie fields of its request.
    pub fn find<'a>(&self, fields: impl Iterator<Item = &'a [u8]>) -> Option<u64> {
        read_token(cookie(fields, &self.name)?)
    }

    /// Appends the field that gives a client a place. `secure`: for HTTPS only.
    pub fn write(&self, place: u64, secure: bool, out: &mut Vec<u8>) {
        out.extend_from_slice(b"set-cookie: ");
        out.extend_from_slice(&self.name);
        out.push(b'=');
        write_token(place, out);
        out.extend_from_slice(&self.attributes);
        out.extend_from_slice(if secure { b"; Secure\r\n" } else { b"\r\n" });
    }
}

/// What a request must bring along for a choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether it is a cookie; else a field.
    pub is_cookie: bool,
    /// Lower-case for a field.
    pub name: Box<[u8]>,
    /// What it must be; `None` for anything.
    pub value: Option<Box<[u8]>>,
}

impl Condition {
    /// Whether a request meets it: its first field, or cookie, of that name counts.
    pub fn holds<F: super::route::FieldSource>(&self, fields: &F) -> bool {
        let found = match self.is_cookie {
            true => cookie(fields.values(b"cookie"), &self.name),
            false => fields.values(&self.name).next(),
        };
        found.is_some_and(|found| self.value.as_deref().is_none_or(|value| value == found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each choice has had its turn on so many cores, each core seeing its requests alone.
    fn turns(cores: usize, requests: usize, weights: &[u32]) -> Vec<usize> {
        let shares = shares(weights);
        let mut owed = vec![vec![0; weights.len()]; cores];
        let mut counts = vec![0; weights.len()];
        let mut random = 7u64;
        for _ in 0..requests {
            random = next_random(random); // which core the kernel gives the connection to
            let core = (random % cores as u64) as usize;
            counts[by_turn(shares.iter().copied(), &mut owed[core]).expect("a share")] += 1;
        }
        counts
    }

    #[test]
    fn shares_make_a_whole() {
        for weights in [&[90, 10][..], &[1, 1, 1], &[0, 5], &[1_000_000, 1], &[7, 0, 3, 11]] {
            let shares = shares(weights);
            assert_eq!(shares.iter().sum::<u64>(), WHOLE, "{weights:?}");
            let total: u32 = weights.iter().sum();
            for (share, weight) in shares.iter().zip(weights) {
                let exact = WHOLE as f64 * f64::from(*weight) / f64::from(total);
                assert!((*share as f64 - exact).abs() < 1.0 && (*share == 0) == (*weight == 0));
            }
        }
        assert_eq!(shares(&[0, 0]), [0, 0]);
    }

    #[test]
    fn turns_err_by_less_than_one_request_per_core() {
        for cores in [1, 2, 4, 16] {
            for weights in [[90, 10], [99, 1], [1, 1], [9_995, 5]] {
                for requests in [10, 1_000, 100_000] {
                    let total: u32 = weights.iter().sum();
                    let ideal = requests as f64 * f64::from(weights[1]) / f64::from(total);
                    let error = (turns(cores, requests, &weights)[1] as f64 - ideal).abs();
                    assert!(error < cores as f64, "{cores} {weights:?} {requests}: {error}");
                }
            }
        }
    }

    #[test]
    fn turns_of_many_choices_err_by_their_bound_per_core() {
        let weights = [50, 30, 15, 4, 1];
        for cores in [2, 4, 16] {
            let counts = turns(cores, 30_000, &weights);
            for (count, weight) in counts.iter().zip(weights) {
                let error = *count as f64 - 300.0 * f64::from(weight);
                assert!(error < cores as f64 && error > -4.0 * cores as f64, "{counts:?}");
            }
        }
    }

    #[test]
    fn a_change_of_shares_is_not_paid_for_with_old_debts() {
        let mut owed = vec![0; 2];
        let mut turn = |weights: &[u32; 2]| by_turn(shares(weights).into_iter(), &mut owed);
        assert_eq!((0..50).filter(|_| turn(&[99, 1]).is_none()).count(), 0);
        assert!((0..1_000).all(|_| turn(&[1, 0]) == Some(0)), "no share, no turn");
        let new = (0..1_000).filter(|_| turn(&[50, 50]) == Some(1)).count();
        assert!((499..=501).contains(&new), "{new}");
        assert_eq!(turn(&[0, 0]), None);
    }

    fn placed(place: u64, weights: &[u32]) -> usize {
        let choices = shares(weights).into_iter().enumerate();
        by_place(place, choices.map(|(at, share)| (next_random(at as u64 + 77), share)))
            .expect("one")
    }

    #[test]
    fn places_are_shared_out_by_weight() {
        let mut counts = [0.0f64; 3];
        (0..100_000u64).for_each(|place| counts[placed(next_random(place), &[70, 25, 5])] += 1.0);
        for (count, ideal) in counts.iter().zip([70_000.0, 25_000.0, 5_000.0f64]) {
            let deviation = (ideal * (1.0 - ideal / 1e5)).sqrt();
            assert!((count - ideal).abs() < 4.5 * deviation, "{counts:?}");
        }
    }

    #[test]
    fn who_is_on_the_new_version_stays_there_while_its_share_grows() {
        let steps = [[100, 0, 40], [95, 5, 40], [75, 25, 40], [50, 50, 40], [0, 100, 40]];
        for place in (0..20_000).map(next_random) {
            let on: Vec<usize> = steps.iter().map(|weights| placed(place, weights)).collect();
            let first = on.iter().position(|one| *one == 1).unwrap_or(on.len());
            assert!(on[first..].iter().all(|one| *one == 1), "{on:?}");
        }
    }

    #[test]
    fn a_place_comes_back_in_its_cookie() {
        let cookie = PlaceCookie::new("v", "; Path=/");
        let mut field = Vec::new();
        cookie.write(0xABCD, true, &mut field);
        assert_eq!(field, b"set-cookie: v=000000000000abcd; Path=/; Secure\r\n");
        let find = |text: &'static str| cookie.find([text.as_bytes()].into_iter());
        assert_eq!(find("a=b; v=000000000000abcd"), Some(0xABCD));
        assert_eq!(find("v=abcd"), None);
    }
}
