//! What an endpoint is now, and who keeps requests from it, in the words of metrics and the Admin API.

use serde::Serialize;

use crate::{
    policy::breaker,
    snapshot::{
        Endpoint, Guards, Upstream,
        cells::{Counts, Health, Voice},
    },
};

/// One endpoint as of some moment.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    /// Whose it is.
    pub upstream: &'a Upstream,
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    now_ms: u64,
}

/// One endpoint, as the Admin API shows it.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// Its `host:port`.
    pub endpoint: String,
    /// Where that is; `null` while its name has no address.
    pub address: Option<String>,
    /// What it is: see [`Standing::state`].
    pub state: &'static str,
    /// Who keeps requests from it: see [`Standing::kept_by`].
    pub kept_by: Vec<&'static str>,
    /// How much longer it is ejected; `null` if it is not.
    pub ejected_for_ms: Option<u64>,
    /// Ejections in a row.
    pub ejections: u32,
    /// `closed`, `open` or `half_open`; `null` without a breaker.
    pub breaker: Option<&'static str>,
    /// Tries that are with it.
    pub in_flight: u64,
    /// Tries since it is an endpoint of its upstream.
    pub requests: u64,
    /// Those it failed.
    pub errors: u64,
    /// Those that were not the first one of their request.
    pub retries: u64,
}

impl<'a> Standing<'a> {
    /// All endpoints of an upstream.
    pub fn of_all(upstream: &'a Upstream, now_ms: u64) -> impl Iterator<Item = Self> {
        upstream.endpoints.iter().map(move |endpoint| Self { upstream, endpoint, now_ms })
    }

    /// `up`, `down`, `draining`, `ejected` or `disabled`. What was said of it comes before what was
    /// seen of it.
    pub fn state(&self) -> &'static str {
        let cell = &self.endpoint.cell;
        match cell.health() {
            _ if self.endpoint.weight == 0 => "disabled",
            Health::Up if cell.is_out(self.now_ms) => "ejected",
            health => health.name(),
        }
    }

    /// Everybody who keeps requests from it, in a word each: `disabled`, `no_address`,
    /// `health_check`, `heartbeat`, `hand`, `ejected`, `breaker`. Nobody if it may be picked.
    pub fn kept_by(&self) -> Vec<&'static str> {
        let cell = &self.endpoint.cell;
        let is_shut = self.breaker_rule().is_some_and(|r| cell.breaker().is_shut(r, self.now_ms));
        let voices = Voice::ALL.map(|voice| (voice.name(), cell.said_by(voice) != Health::Up));
        let facts = [
            ("disabled", self.endpoint.weight == 0),
            ("no_address", self.endpoint.address.is_none()),
            ("ejected", cell.is_out(self.now_ms)),
            ("breaker", is_shut),
        ];
        let all = facts.into_iter().chain(voices);
        all.filter(|(_, holds)| *holds).map(|(word, _)| word).collect()
    }

    /// What its breaker is, if it has one.
    pub fn breaker(&self) -> Option<breaker::State> {
        self.breaker_rule().map(|_| self.endpoint.cell.breaker().state())
    }

    fn breaker_rule(&self) -> Option<&'a breaker::BreakerRule> {
        self.upstream.guards.as_deref().and_then(Guards::endpoint_breaker)
    }

    /// How its tries went.
    pub fn counts(&self) -> Counts {
        self.endpoint.cell.counts()
    }

    /// Where it is; empty while its name has no address.
    pub fn address(&self) -> String {
        self.endpoint.address.map(|address| address.to_string()).unwrap_or_default()
    }

    /// All of it.
    pub fn shown(&self) -> Shown {
        let (cell, counts) = (&self.endpoint.cell, self.counts());
        let is_out = cell.is_out(self.now_ms);
        Shown {
            endpoint: self.endpoint.authority.to_string(),
            address: self.endpoint.address.map(|address| address.to_string()),
            state: self.state(),
            kept_by: self.kept_by(),
            ejected_for_ms: is_out.then(|| cell.ejected_until_ms().saturating_sub(self.now_ms)),
            ejections: cell.ejections(),
            breaker: self.breaker().map(breaker::State::name),
            in_flight: counts.in_flight(),
            requests: counts.begun,
            errors: counts.failed,
            retries: counts.retried,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controlplane::fixtures;

    #[test]
    fn everybody_who_keeps_requests_away_is_named() {
        let snapshot = fixtures::snapshot(1);
        let upstream = &snapshot.upstreams[0];
        let shown = |now_ms| Standing::of_all(upstream, now_ms).next().expect("one").shown();
        let cell = &upstream.endpoints[0].cell;
        assert_eq!((shown(1).state, &shown(1).kept_by[..]), ("up", &["no_address"][..]));
        assert!(cell.eject(500, 100));
        assert_eq!((shown(200).state, shown(200).ejected_for_ms), ("ejected", Some(300)));
        assert_eq!(shown(900).ejected_for_ms, Some(0), "it has to prove itself");
        cell.set_health(Voice::Hand, Health::Draining, 200);
        assert_eq!(shown(200).state, "draining");
        cell.set_health(Voice::Check, Health::Down, 200);
        assert_eq!(shown(200).state, "down");
        assert_eq!(shown(200).kept_by, ["no_address", "ejected", "health_check", "hand"]);
        cell.add_counts(Counts { begun: 7, ended: 5, failed: 2, retried: 1 });
        let shown = shown(200);
        let numbers = (shown.requests, shown.in_flight, shown.errors, shown.retries);
        assert_eq!(numbers, (7, 2, 2, 1));
    }
}
