//! Heartbeats of endpoints, pushed through the Admin API: one that has sent none for its time to live is
//! down until the next.
//!
//! Upstreams with `[upstream.heartbeat]` expect them of every endpoint. Each has a task that sleeps
//! until its time runs out; a heartbeat begins it anew. The verdict goes into the endpoint's cell, as
//! that of health checks does. Tests: here, and `tests/blackbox/heartbeats.rs`.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::task::AbortHandle;

use crate::{
    base::clock::now_ms,
    controlplane::log,
    snapshot::{
        Endpoint, Snapshot, Upstream,
        cells::{EndpointCell, Health, Voice},
    },
};

/// The endpoints whose heartbeats are expected.
#[derive(Debug, Default)]
pub struct Heartbeats {
    expected: Mutex<HashMap<Name, Expected>>,
}

/// Whose endpoint it is, its `host:port`, and where that is.
type Name = (Box<str>, Box<str>, Option<SocketAddr>);

#[derive(Debug)]
struct Expected {
    cell: Arc<EndpointCell>,
    /// Says that it is down when its time has run out.
    expiry: AbortHandle,
}

impl Expected {
    /// From now on `ttl` is left.
    fn begin(name: Name, cell: &Arc<EndpointCell>, ttl: Duration) -> Self {
        cell.set_health(Voice::Heartbeat, Health::Up, now_ms());
        let silent = Arc::clone(cell);
        let expire = async move {
            tokio::time::sleep(ttl).await;
            silent.set_health(Voice::Heartbeat, Health::Down, now_ms());
            let (upstream, endpoint, _) = name;
            log::warn(format_args!(
                "upstream `{upstream}`: {endpoint} is down: no heartbeat for {ttl:?}"
            ));
        };
        Self { cell: Arc::clone(cell), expiry: tokio::spawn(expire).abort_handle() }
    }

    /// Nothing is expected of it any more.
    fn end(&self) {
        self.expiry.abort();
        self.cell.set_health(Voice::Heartbeat, Health::Up, now_ms());
    }
}

/// Why a heartbeat was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unexpected {
    /// The upstream does not have such an endpoint.
    Endpoint,
    /// The upstream does not expect heartbeats.
    Upstream,
}

impl Heartbeats {
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Expected>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Expects heartbeats of what new rules expect them of, and no longer of others. An endpoint that
    /// is new has its time to live for the first one. Must be called on the control thread's runtime.
    pub fn follow(&self, new: &Snapshot) {
        let mut expected = self.lock();
        let all = || new.upstreams.iter().filter_map(|one| Some((one, one.heartbeat?)));
        let kept: HashSet<Name> =
            all().flat_map(|(one, _)| one.endpoints.iter().map(|end| name(one, end))).collect();
        expected.retain(|name, one| {
            let stays = kept.contains(name);
            if !stays {
                one.end();
            }
            stays
        });
        for (upstream, ttl) in all() {
            for endpoint in &upstream.endpoints {
                let name = name(upstream, endpoint);
                let is_known =
                    expected.get(&name).is_some_and(|one| Arc::ptr_eq(&one.cell, &endpoint.cell));
                if !is_known {
                    let begun = Expected::begin(name.clone(), &endpoint.cell, ttl);
                    if let Some(before) = expected.insert(name, begun) {
                        before.expiry.abort();
                    }
                }
            }
        }
    }

    /// An endpoint lives: it is up, as far as heartbeats are concerned, for `ttl` or the upstream's
    /// time to live. `endpoint` is its `host:port`, or the address of one of several behind it.
    /// Returns how long that is. Must be called on the control thread's runtime.
    ///
    /// # Errors
    /// When nobody expects it.
    pub fn beat(
        &self,
        upstream: &Upstream,
        endpoint: &str,
        ttl: Option<Duration>,
    ) -> Result<Duration, Unexpected> {
        let ttl = upstream.heartbeat.map(|own| ttl.unwrap_or(own)).ok_or(Unexpected::Upstream)?;
        let mut expected = self.lock();
        let is_meant = |one: &&Endpoint| {
            *one.authority == *endpoint
                || one.address.is_some_and(|address| address.to_string() == endpoint)
        };
        let mut count = 0;
        for one in upstream.endpoints.iter().filter(is_meant) {
            let name = name(upstream, one);
            if one.cell.said_by(Voice::Heartbeat) == Health::Down {
                log::info(format_args!("upstream `{}`: {endpoint} is back: a heartbeat", name.0));
            }
            if let Some(before) = expected.remove(&name) {
                before.expiry.abort();
            }
            expected.insert(name.clone(), Expected::begin(name, &one.cell, ttl));
            count += 1;
        }
        if count == 0 { Err(Unexpected::Endpoint) } else { Ok(ttl) }
    }
}

fn name(upstream: &Upstream, endpoint: &Endpoint) -> Name {
    (upstream.name.clone(), endpoint.authority.clone(), endpoint.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controlplane::fixtures;

    fn rules(ttl: Option<Duration>) -> Snapshot {
        let mut snapshot = fixtures::snapshot(1);
        Arc::get_mut(&mut snapshot.upstreams[0]).expect("nobody else has it").heartbeat = ttl;
        snapshot
    }

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(3600);

    async fn until_down(cell: &EndpointCell) {
        while cell.health() != Health::Down {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn silence_takes_an_endpoint_out_until_the_next_heartbeat() {
        let beats = Heartbeats::default();
        let ttl = Duration::from_millis(5);
        let rules = rules(Some(ttl));
        let upstream = &rules.upstreams[0];
        let (cell, name) = (&upstream.endpoints[0].cell, &*upstream.endpoints[0].authority);
        beats.follow(&rules);
        assert_eq!(cell.health(), Health::Up, "it has time for the first");
        until_down(cell).await;
        beats.follow(&rules);
        assert_eq!(cell.health(), Health::Down, "other rules are no heartbeat");
        assert_eq!(beats.beat(upstream, name, Some(LONG)), Ok(LONG));
        tokio::time::sleep(ttl * 3).await;
        assert_eq!(cell.health(), Health::Up, "the time before does not count any more");
        assert_eq!(beats.beat(upstream, name, None), Ok(ttl));
        until_down(cell).await;
        assert_eq!(beats.beat(upstream, "nobody:1", None), Err(Unexpected::Endpoint));
    }

    #[tokio::test]
    async fn who_expects_none_hears_none() {
        let beats = Heartbeats::default();
        let with = rules(Some(Duration::from_millis(5)));
        beats.follow(&with);
        let cell = &with.upstreams[0].endpoints[0].cell;
        until_down(cell).await;
        let without = rules(None);
        beats.follow(&without);
        assert_eq!(cell.health(), Health::Up, "nobody says that it is down");
        let upstream = &without.upstreams[0];
        let name = &*upstream.endpoints[0].authority;
        assert_eq!(beats.beat(upstream, name, None), Err(Unexpected::Upstream));
    }
}
