//! What a run of the load generator hands to the comparison, as values and as JSON.

use crate::stats::Histogram;
use serde_json::{Value, json};

/// One proxy in one cycle: both of its slices together.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// Right answers.
    pub requests: u64,
    /// CPU time of the proxy's threads.
    pub cpu_ns: u64,
    /// From the first request to the last answer.
    pub wall_ns: u64,
    /// CPU time of the load generator.
    pub client_ns: u64,
    /// CPU time of the origin.
    pub origin_ns: u64,
    /// Nanoseconds from the moment a request was due to its answer; fixed rate only.
    pub latency: Histogram,
}

/// What went wrong at one proxy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Wrong, missing or broken answers.
    pub errors: u64,
    /// The first of them in words.
    pub first_error: String,
    /// Idle connections that the proxy closed.
    pub reconnects: u64,
}

/// A whole run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Measured cycles, each with one slice per target.
    pub cycles: Vec<Vec<Slice>>,
    /// One per target.
    pub tallies: Vec<Tally>,
}

impl Slice {
    /// Adds another slice of the same proxy.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.cpu_ns += other.cpu_ns;
        self.wall_ns += other.wall_ns;
        self.client_ns += other.client_ns;
        self.origin_ns += other.origin_ns;
        self.latency.merge(&other.latency);
    }

    fn to_json(&self) -> Value {
        let latency: Vec<_> = self.latency.buckets().collect();
        json!([self.requests, self.cpu_ns, self.wall_ns, self.client_ns, self.origin_ns, latency])
    }

    fn from_json(value: &Value) -> Option<Self> {
        let number = |index: usize| value.get(index)?.as_u64();
        let mut latency = Histogram::default();
        for pair in value.get(5)?.as_array()? {
            latency.add(pair.get(0)?.as_u64()? as usize, pair.get(1)?.as_u64()?);
        }
        Some(Self {
            requests: number(0)?,
            cpu_ns: number(1)?,
            wall_ns: number(2)?,
            client_ns: number(3)?,
            origin_ns: number(4)?,
            latency,
        })
    }
}

impl Tally {
    fn to_json(&self) -> Value {
        let Self { errors, first_error, reconnects } = self;
        json!({ "errors": errors, "first_error": first_error, "reconnects": reconnects })
    }

    fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            errors: value.get("errors")?.as_u64()?,
            first_error: value.get("first_error")?.as_str()?.to_owned(),
            reconnects: value.get("reconnects")?.as_u64()?,
        })
    }
}

impl Outcome {
    /// Slices as arrays: requests, CPU, wall, client and origin nanoseconds, latency buckets.
    pub fn to_json(&self) -> Value {
        let cycle = |cycle: &Vec<Slice>| cycle.iter().map(Slice::to_json).collect::<Vec<_>>();
        json!({
            "cycles": self.cycles.iter().map(cycle).collect::<Vec<_>>(),
            "tallies": self.tallies.iter().map(Tally::to_json).collect::<Vec<_>>(),
        })
    }

    /// Reads what [`Self::to_json`] made; `None` if it did not.
    pub fn from_json(value: &Value) -> Option<Self> {
        let cycle = |cycle: &Value| cycle.as_array()?.iter().map(Slice::from_json).collect();
        Some(Self {
            cycles: value.get("cycles")?.as_array()?.iter().map(cycle).collect::<Option<_>>()?,
            tallies: value
                .get("tallies")?
                .as_array()?
                .iter()
                .map(Tally::from_json)
                .collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_json() {
        let mut slice = Slice { requests: 10, cpu_ns: 1000, ..Slice::default() };
        slice.latency.record(123_456);
        slice.merge(&slice.clone());
        let tally = Tally { errors: 1, first_error: "status 502".to_owned(), reconnects: 2 };
        let outcome = Outcome { cycles: vec![vec![slice]], tallies: vec![tally.clone()] };
        let text = outcome.to_json().to_string();
        let back = Outcome::from_json(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(back.tallies, [tally]);
        let slice = &back.cycles[0][0];
        assert_eq!((slice.requests, slice.cpu_ns, slice.latency.total()), (20, 2000, 2));
    }
}
