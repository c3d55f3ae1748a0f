//! A rollout: which route, from which version to which, and how.

use std::fmt::Write;

use super::{Snapshot, split::SplitCell};
use crate::{
    base::ids::RouteIndex,
    policy::{
        rollout::RolloutRule,
        split::{WHOLE, shares},
    },
};

/// `[[rollout]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// The name in TOML, the API, metrics and logs.
    pub name: Box<str>,
    /// The route whose requests are concerned.
    pub route: RouteIndex,
    /// The same by id.
    pub route_id: Box<str>,
    /// The old version among the choices of the route's split.
    pub from: usize,
    /// Its upstream.
    pub from_name: Box<str>,
    /// The new version.
    pub to: usize,
    /// Its upstream.
    pub to_name: Box<str>,
    /// The weights of all choices; those of both versions together are what is shared out.
    pub weights: Box<[u32]>,
    /// How it goes.
    pub rule: RolloutRule,
}

impl Rollout {
    /// The shares of all choices when the new version has `per_10k` of what both versions get.
    pub fn shares(&self, per_10k: u16) -> Vec<u64> {
        let mut shares = shares(&self.weights);
        let both =
            shares.get(self.from).copied().unwrap_or(0) + shares.get(self.to).copied().unwrap_or(0);
        debug_assert!(both <= WHOLE);
        let new = both * u64::from(per_10k) / 10_000;
        for (at, share) in shares.iter_mut().enumerate() {
            match at {
                at if at == self.to => *share = new,
                at if at == self.from => *share = both - new,
                _ => {}
            }
        }
        shares
    }

    /// The shares and counters of its route.
    pub fn cell<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a std::sync::Arc<SplitCell>> {
        let extra = snapshot.routes.get(self.route.0 as usize)?.extra.as_deref()?;
        Some(&extra.split.as_deref()?.cell)
    }

    /// What it says, in one line: a rollout with another one is another rollout.
    pub fn definition(&self) -> String {
        let Self { route_id, from_name, to_name, rule, .. } = self;
        let mut text = format!("{route_id:?} {from_name:?} {to_name:?}");
        for stage in &rule.stages {
            let (share, time, requests) = (stage.share_per_10k, stage.time_ms, stage.requests);
            let _ = write!(text, " {share}/{time}/{requests}"); // writing to a String cannot fail
        }
        let RolloutRule { window_ms, error_margin_per_10k, latency_margin_percent, .. } = rule;
        let floor = rule.latency_floor_us;
        text + &format!(
            " window {window_ms} errors {error_margin_per_10k} latency {latency_margin_percent}/{floor}"
        )
    }
}
