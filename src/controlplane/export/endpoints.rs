//! The metrics of each endpoint: what it is, and how its tries went. Read from the cells that all cores
//! share; bounded by [`ENDPOINT_SERIES_MAX`].

use crate::{
    base::{clock::now_ms, limits::ENDPOINT_SERIES_MAX},
    controlplane::{export::exposition::Exposition, standing::Standing},
    snapshot::{Snapshot, cells::Counts},
    telemetry::names::{self, Metric},
};

/// Writes them.
pub fn write(out: &mut Exposition, snapshot: &Snapshot) {
    let now_ms = now_ms();
    let all = snapshot.upstreams.iter().flat_map(|one| Standing::of_all(one, now_ms));
    let all: Vec<(String, Standing<'_>)> =
        all.map(|one| (one.address(), one)).take(ENDPOINT_SERIES_MAX).collect();
    let labels = |(address, one): &(String, Standing<'_>)| {
        [&*one.upstream.name, &*one.endpoint.authority, address.as_str()].map(str::to_owned)
    };
    let state = |out: &mut Exposition, metric: &Metric, one: &_, state: &str| {
        let [upstream, endpoint, address] = &labels(one);
        out.sample(metric, &[upstream, endpoint, address, state], 1);
    };
    out.begin(&names::ENDPOINT_STATE);
    for one in &all {
        state(out, &names::ENDPOINT_STATE, one, one.1.state());
    }
    out.begin(&names::ENDPOINT_BREAKER);
    for one in &all {
        if let Some(breaker) = one.1.breaker() {
            state(out, &names::ENDPOINT_BREAKER, one, breaker.name());
        }
    }
    type Number = fn(&Counts) -> u64;
    let numbers: [(&Metric, Number); 4] = [
        (&names::ENDPOINT_IN_FLIGHT, Counts::in_flight),
        (&names::ENDPOINT_REQUESTS, |counts| counts.begun),
        (&names::ENDPOINT_ERRORS, |counts| counts.failed),
        (&names::ENDPOINT_RETRIES, |counts| counts.retried),
    ];
    for (metric, number) in numbers {
        out.begin(metric);
        for one in &all {
            let labels = labels(one);
            out.sample(metric, &labels.each_ref().map(String::as_str), number(&one.1.counts()));
        }
    }
}
