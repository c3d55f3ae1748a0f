//! Active checks of endpoints, once per process, on the control thread's runtime; no core takes part.
//!
//! [`Checks::follow`] is told of every change of the rules. Each endpoint that is checked has a task of
//! its own, which sleeps, asks ([`probe`]), judges ([`crate::policy::health`]) and writes the
//! endpoint's cell when the verdict changes: the cores see it there, without new rules. Checks that a
//! change leaves alone go on undisturbed. Tests: in the files, and `tests/blackbox/health.rs`.

mod grpc;
mod http;
mod http2;
mod probe;

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    sync::Semaphore,
    task::AbortHandle,
    time::{Instant, sleep_until, timeout},
};

use self::probe::{Failure, Prober, Target};
use crate::{
    base::{clock::now_ms, limits::HEALTH_CHECKS_MAX},
    controlplane::log,
    policy::health::{Verdict, delay},
    snapshot::{
        Endpoint, Snapshot, Upstream,
        cells::{EndpointCell, Health, Voice},
        health::HealthCheck,
    },
    tls::pki_types::ServerName,
};

/// All endpoints that are checked.
#[derive(Debug)]
pub struct Checks {
    /// Places for checks under way.
    places: Arc<Semaphore>,
    counts: Arc<Counts>,
    watched: Mutex<HashMap<Name, Watched>>,
}

/// Whose endpoint it is, its `host:port`, and where that is: a name may have several addresses.
type Name = (Box<str>, Box<str>, SocketAddr);

/// Numbers for the metrics.
#[derive(Debug, Default)]
pub struct Counts {
    /// Checks that passed.
    pub passed: AtomicU64,
    /// Checks that failed.
    pub failed: AtomicU64,
}

/// One endpoint that is checked.
#[derive(Debug)]
struct Watched {
    check: Arc<HealthCheck>,
    /// Whom it has to prove to be.
    tls_name: Option<ServerName<'static>>,
    cell: Arc<EndpointCell>,
    seen: Arc<Mutex<Seen>>,
    task: AbortHandle,
}

/// What the checks of one endpoint came to.
#[derive(Clone, Debug)]
struct Seen {
    verdict: Verdict,
    /// Why the last check failed, if it did.
    failure: Option<Failure>,
}

/// An endpoint that is checked, as `/v1/status` and the metrics show it.
#[derive(Debug)]
pub struct Shown {
    /// The name of its upstream.
    pub upstream: Box<str>,
    /// Its `host:port`.
    pub endpoint: Box<str>,
    /// Where that is.
    pub address: SocketAddr,
    /// What it is, whoever said so.
    pub health: Health,
    /// Whether the checks say that it is up.
    pub up: bool,
    /// Why the last check failed, if it did.
    pub why: Option<String>,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(HEALTH_CHECKS_MAX)),
            counts: Arc::default(),
            watched: Mutex::default(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Checks {
    /// Checks what new rules want checked, and no longer what they do not; before any core obeys them,
    /// so that an endpoint that begins as down gets no request. `old` is what was followed before.
    /// Costs what changed. Must be called on the control thread's runtime.
    pub fn follow(&self, old: Option<&Snapshot>, new: &Snapshot) {
        let mut watched = lock(&self.watched);
        let old = old.map_or(&[][..], |old| &old.upstreams);
        let is_aligned = old.len() == new.upstreams.len()
            && old.iter().zip(&new.upstreams).all(|(a, b)| Arc::ptr_eq(a, b) || a.name == b.name);
        if !is_aligned {
            let names = new.upstreams.iter().flat_map(|upstream| names(upstream));
            let kept: std::collections::HashSet<Name> = names.collect();
            watched.retain(|name, one| kept.contains(name) || one.end());
            new.upstreams.iter().for_each(|upstream| self.watch(&mut watched, upstream));
            return;
        }
        for (old, new) in old.iter().zip(&new.upstreams).filter(|(a, b)| !Arc::ptr_eq(a, b)) {
            let kept: std::collections::HashSet<Name> = names(new).collect();
            for name in names(old).filter(|name| !kept.contains(name)) {
                watched.remove(&name).map(|one| one.end());
            }
            self.watch(&mut watched, new);
        }
    }

    /// Watches each endpoint of an upstream, unless it is watched the same way already.
    fn watch(&self, watched: &mut HashMap<Name, Watched>, upstream: &Upstream) {
        let Some(check) = &upstream.health_check else { return };
        let mut prober = None;
        for (name, endpoint) in names(upstream).zip(checked(upstream)) {
            let before = watched.get(&name);
            let is_same = |one: &&Watched| {
                one.check == *check
                    && one.tls_name == endpoint.tls_name
                    && Arc::ptr_eq(&one.cell, &endpoint.cell)
            };
            if before.is_some_and(|one| is_same(&one)) {
                continue;
            }
            // Another check of the same endpoint begins with what the last one found out.
            let verdict = before.map(|one| lock(&one.seen).verdict);
            let prober = prober.get_or_insert_with(|| Arc::new(Prober::new(check)));
            let verdict = verdict.unwrap_or(Verdict::new(check.initially_up));
            let one = self.start(&name, check, prober, endpoint, verdict);
            if let Some(before) = watched.insert(name, one) {
                before.task.abort();
            }
        }
    }

    fn start(
        &self,
        name: &Name,
        check: &Arc<HealthCheck>,
        prober: &Arc<Prober>,
        endpoint: &Endpoint,
        verdict: Verdict,
    ) -> Watched {
        let seen = Arc::new(Mutex::new(Seen { verdict, failure: None }));
        let cell = Arc::clone(&endpoint.cell);
        cell.set_health(Voice::Check, health(verdict), now_ms());
        let (upstream, authority, mut address) = name.clone();
        if let Some(port) = check.port {
            address.set_port(port);
        }
        let watch = Watch {
            upstream,
            authority,
            address,
            tls_name: endpoint.tls_name.clone(),
            check: Arc::clone(check),
            prober: Arc::clone(prober),
            cell: Arc::clone(&cell),
            seen: Arc::clone(&seen),
            places: Arc::clone(&self.places),
            counts: Arc::clone(&self.counts),
        };
        let task = tokio::spawn(watch.run()).abort_handle();
        let tls_name = endpoint.tls_name.clone();
        Watched { check: Arc::clone(check), tls_name, cell, seen, task }
    }

    /// Numbers for the metrics.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// All endpoints that are checked, by name.
    pub fn shown(&self) -> Vec<Shown> {
        let watched = lock(&self.watched);
        let show = |((upstream, endpoint, address), one): (&Name, &Watched)| {
            let seen = lock(&one.seen);
            Shown {
                upstream: upstream.clone(),
                endpoint: endpoint.clone(),
                address: *address,
                health: one.cell.health(),
                up: seen.verdict.is_up(),
                why: seen.failure.as_ref().map(ToString::to_string),
            }
        };
        let mut shown: Vec<Shown> = watched.iter().map(show).collect();
        drop(watched);
        shown.sort_by(|a, b| {
            (&a.upstream, &a.endpoint, a.address).cmp(&(&b.upstream, &b.endpoint, b.address))
        });
        shown
    }
}

impl Watched {
    /// Ends the checks; what they said no longer counts. Always `false`, for `retain`.
    fn end(&self) -> bool {
        self.task.abort();
        self.cell.set_health(Voice::Check, Health::Up, now_ms());
        false
    }
}

fn health(verdict: Verdict) -> Health {
    if verdict.is_up() { Health::Up } else { Health::Down }
}

/// The endpoints of an upstream that are checked: those whose address is known.
fn checked(upstream: &Upstream) -> impl Iterator<Item = &Endpoint> {
    let is_checked = upstream.health_check.is_some();
    upstream.endpoints.iter().filter(move |one| is_checked && one.address.is_some())
}

fn names(upstream: &Upstream) -> impl Iterator<Item = Name> {
    let name = |one: &Endpoint| Some((upstream.name.clone(), one.authority.clone(), one.address?));
    checked(upstream).filter_map(name)
}

/// The checks of one endpoint.
struct Watch {
    upstream: Box<str>,
    authority: Box<str>,
    /// What is asked.
    address: SocketAddr,
    tls_name: Option<ServerName<'static>>,
    check: Arc<HealthCheck>,
    prober: Arc<Prober>,
    cell: Arc<EndpointCell>,
    seen: Arc<Mutex<Seen>>,
    places: Arc<Semaphore>,
    counts: Arc<Counts>,
}

impl Watch {
    /// Checks until the task is aborted.
    async fn run(self) {
        let chance = RandomState::new(); // seeded by the system, one per endpoint
        let mut begin = Instant::now();
        for checks in 0.. {
            let random = chance.hash_one(checks);
            begin += delay(checks, self.check.interval, self.check.jitter_per_10k, random);
            sleep_until(begin).await;
            let Ok(place) = self.places.acquire().await else { return };
            begin = Instant::now();
            let target = Target {
                address: self.address,
                authority: &self.authority,
                tls_name: self.tls_name.as_ref(),
            };
            let asked = self.prober.ask(target);
            let result = timeout(self.check.timeout, asked).await;
            drop(place);
            self.note(result.unwrap_or(Err(Failure::Timeout)));
        }
    }

    fn note(&self, result: Result<(), Failure>) {
        let counter = if result.is_ok() { &self.counts.passed } else { &self.counts.failed };
        counter.fetch_add(1, Relaxed);
        let mut seen = lock(&self.seen);
        let is_turned = seen.verdict.note(result.is_ok(), self.check.thresholds);
        seen.failure = result.err();
        if !is_turned {
            return;
        }
        self.cell.set_health(Voice::Check, health(seen.verdict), now_ms());
        let (upstream, endpoint) = (&self.upstream, &self.authority);
        match &seen.failure {
            None => log::info(format_args!(
                "upstream `{upstream}`: {endpoint} is up (passed {} in a row)",
                self.check.thresholds.passes
            )),
            Some(failure) => log::warn(format_args!(
                "upstream `{upstream}`: {endpoint} is down: {failure} (failed {} in a row)",
                self.check.thresholds.fails
            )),
        }
    }
}
