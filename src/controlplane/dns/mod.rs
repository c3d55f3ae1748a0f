//! Names of endpoints, looked up on the control side; no core ever waits for an answer.
//!
//! [`Names`] holds the last good answer to each [`Query`]. A change of the rules asks for names that are
//! new and waits for them a moment ([`Names::look_up`]), so that nothing starts without addresses for
//! want of patience; from then on each name has a task that asks again when its answer is too old
//! ([`Names::follow`]). Another answer is a change of the upstreams that name it, and of nothing else: it
//! goes through the queue of changes as the quick kind. No answer changes nothing, and is said.
//! Tests: in the files, and `tests/blackbox/dns.rs`.

mod ask;
mod records;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hickory_resolver::TokioResolver;
use tokio::{
    sync::{Notify, Semaphore},
    task::{AbortHandle, JoinSet},
    time::{sleep, sleep_until, timeout_at},
};

use self::{ask::Answer, records::Records};
use crate::{
    base::{
        ids::Identity,
        limits::{DNS_FIRST_WAIT, DNS_QUERIES_MAX, DNS_RETRY_MAX, DNS_RETRY_MIN},
    },
    controlplane::{
        changes::{Change, Changes, Current, Edit, Effect, Plan, Why},
        log,
    },
    snapshot::{
        Endpoint, Snapshot, Upstream,
        cells::UpstreamCell,
        names::{DnsSettings, Query, Template},
    },
};

/// How long a resolver is used before another one is made, which reads the system's files anew.
const RESOLVER_KEPT: Duration = Duration::from_secs(1);

/// How long the applying task waits when too many changes wait already.
const BUSY_WAIT: Duration = Duration::from_millis(100);

/// The answers.
#[derive(Debug)]
pub struct Names {
    known: Mutex<HashMap<Query, Known>>,
    asking: Mutex<Asking>,
    places: Semaphore,
    /// An answer is another one than before.
    changed: Notify,
    /// Questions that were answered.
    pub answered: AtomicU64,
    /// Questions that were not.
    pub failed: AtomicU64,
}

/// What is known of one name.
#[derive(Clone, Debug)]
struct Known {
    /// The last good answer.
    records: Option<Arc<Records>>,
    /// Why the last question was not answered, if it was not.
    error: Option<Box<str>>,
    /// Questions without an answer since the last good one.
    failures: u32,
    /// When to ask again.
    due: Instant,
}

/// Who asks.
#[derive(Default)]
struct Asking {
    settings: Option<Arc<DnsSettings>>,
    tasks: HashMap<Query, AbortHandle>,
    resolver: Option<(Instant, TokioResolver)>,
}

impl std::fmt::Debug for Asking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asking").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

/// A name, as `/v1/status` shows it.
#[derive(Debug)]
pub struct Shown {
    /// What is asked.
    pub query: Query,
    /// What it stands for.
    pub addresses: Vec<String>,
    /// Why the last question was not answered, if it was not.
    pub error: Option<Box<str>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Names {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            asking: Mutex::default(),
            places: Semaphore::new(DNS_QUERIES_MAX),
            changed: Notify::new(),
            answered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }
}

impl Names {
    /// Asks for names that were never asked for, all at once, and waits for [`DNS_FIRST_WAIT`] at most:
    /// what is not answered by then is asked again soon. Blocks: for the thread that prepares changes.
    pub fn look_up(self: &Arc<Self>, settings: &DnsSettings, queries: impl Iterator<Item = Query>) {
        let new: BTreeSet<Query> = {
            let known = lock(&self.known);
            queries.filter(|query| !known.contains_key(query)).collect()
        };
        if new.is_empty() {
            return;
        }
        // In a thread of its own: the caller's may run tasks already.
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| self.look_up_now(settings, &new));
            if asked.join().is_err() {
                log::error(format_args!(
                    "a defect of ringway ended the thread that looks up names"
                ));
            }
        });
        let mut known = lock(&self.known);
        for query in new {
            known.entry(query).or_insert_with(|| Known::unanswered("no answer in time"));
        }
    }

    fn look_up_now(self: &Arc<Self>, settings: &DnsSettings, queries: &BTreeSet<Query>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else { return };
        runtime.block_on(async {
            let (resolver, settings) = (ask::resolver(settings), Arc::new(settings.clone()));
            let mut asked = JoinSet::new();
            for query in queries.clone() {
                let (names, settings) = (Arc::clone(self), Arc::clone(&settings));
                let resolver = resolver.clone();
                asked.spawn(async move {
                    let Ok(_place) = names.places.acquire().await else { return };
                    let answer = ask::ask(&resolver, &settings, &query).await;
                    names.note(&settings, &query, answer);
                });
            }
            let end = tokio::time::Instant::now() + DNS_FIRST_WAIT;
            while let Ok(Some(_)) = timeout_at(end, asked.join_next()).await {}
        });
    }

    /// The endpoints of an upstream, by the answers so far.
    pub fn endpoints(&self, templates: &[Template], cell: &Arc<UpstreamCell>) -> Box<[Endpoint]> {
        let known = lock(&self.known);
        records::expand(templates, cell, |query| known.get(query)?.records.clone())
    }

    /// Why a name has no address, if it has none.
    pub fn error(&self, query: &Query) -> Option<Box<str>> {
        let known = lock(&self.known);
        let known = known.get(query).filter(|known| known.records.is_none())?;
        known.error.clone()
    }

    /// Applies other answers as they come, until the process ends.
    pub async fn apply(self: Arc<Self>, changes: Changes) {
        loop {
            self.changed.notified().await;
            let edit = |current: &Current<'_>| {
                let all = current.snapshot.upstreams.iter();
                let changed = all.filter_map(|one| current.names.renewed(one)).collect();
                let overlay = Arc::clone(current.overlay);
                Ok(Plan { overlay, effect: Effect::Upstreams(changed) })
            };
            let edit = Edit::With(Box::new(edit));
            let change = Change { from: "DNS".into(), edit, dry_run: false };
            match changes.submit(change).await {
                Ok(_) => {}
                Err(refused) if refused.why == Why::Leaving => return,
                Err(refused) => {
                    if refused.why != Why::Busy {
                        log::error(format_args!("DNS: other addresses were refused:\n{refused}"));
                    }
                    sleep(BUSY_WAIT).await;
                    self.changed.notify_one();
                }
            }
        }
    }

    /// An upstream with the endpoints of now, if they are others.
    fn renewed(&self, upstream: &Upstream) -> Option<Upstream> {
        let endpoints = self.endpoints(upstream.templates.as_deref()?, &upstream.cell);
        if endpoints == upstream.endpoints {
            return None;
        }
        let pools = vec![Identity::default(); endpoints.len()].into();
        let mut renewed = Upstream { endpoints, pools, ..upstream.clone() };
        renewed.rebalance();
        Some(renewed)
    }

    /// Keeps the answers young that new rules need, and forgets the others. Must be called on the
    /// control thread's runtime. Costs nothing if no upstream that changed has a name.
    pub fn follow(self: &Arc<Self>, old: Option<&Snapshot>, new: &Snapshot) {
        let is_new = self.obey(&new.dns);
        let has_names = |upstreams: &[Arc<Upstream>], others: &[Arc<Upstream>]| {
            let is_shared = |at: usize, one: &Arc<Upstream>| {
                others.get(at).is_some_and(|other| Arc::ptr_eq(one, other))
            };
            let mut all = upstreams.iter().enumerate();
            all.any(|(at, one)| !is_shared(at, one) && one.templates.is_some())
        };
        let before = old.map_or(&[][..], |old| &old.upstreams);
        if !is_new && !has_names(before, &new.upstreams) && !has_names(&new.upstreams, before) {
            return;
        }
        let templates = new.upstreams.iter().filter_map(|one| one.templates.as_deref()).flatten();
        let wanted: BTreeSet<&Query> = templates.filter_map(|one| one.from.query()).collect();
        let mut asking = lock(&self.asking);
        asking.tasks.retain(|query, task| {
            let is_wanted = wanted.contains(query);
            if !is_wanted {
                task.abort();
            }
            is_wanted
        });
        lock(&self.known).retain(|query, _| wanted.contains(query));
        for query in wanted {
            if !asking.tasks.contains_key(query) {
                let task = tokio::spawn(Arc::clone(self).keep(query.clone())).abort_handle();
                asking.tasks.insert(query.clone(), task);
            }
        }
    }

    /// Takes the settings of new rules. Whether they are others: then every name is asked for again.
    fn obey(&self, settings: &Arc<DnsSettings>) -> bool {
        let mut asking = lock(&self.asking);
        if asking.settings.as_ref().is_some_and(|known| *known == *settings) {
            return false;
        }
        let is_first = asking.settings.is_none();
        asking.settings = Some(Arc::clone(settings));
        asking.resolver = None;
        if !is_first {
            asking.tasks.drain().for_each(|(_, task)| task.abort());
            let now = Instant::now();
            lock(&self.known).values_mut().for_each(|known| known.due = now);
        }
        true
    }

    /// Asks for one name whenever its answer is too old, until the task is aborted.
    async fn keep(self: Arc<Self>, query: Query) {
        loop {
            let due = lock(&self.known).get(&query).map(|known| known.due);
            sleep_until(due.unwrap_or_else(Instant::now).into()).await;
            let Ok(_place) = self.places.acquire().await else { return };
            let Some((settings, resolver)) = self.resolver() else { return };
            let answer = ask::ask(&resolver, &settings, &query).await;
            if self.note(&settings, &query, answer) {
                self.changed.notify_one();
            }
        }
    }

    fn resolver(&self) -> Option<(Arc<DnsSettings>, TokioResolver)> {
        let mut asking = lock(&self.asking);
        let settings = Arc::clone(asking.settings.as_ref()?);
        let kept = asking.resolver.take().filter(|(made, _)| made.elapsed() < RESOLVER_KEPT);
        let (made, resolver) = kept.unwrap_or_else(|| (Instant::now(), ask::resolver(&settings)));
        asking.resolver = Some((made, resolver.clone()));
        Some((settings, resolver))
    }

    /// Takes in an answer, or that there is none. Whether it is another one than before.
    fn note(&self, settings: &DnsSettings, query: &Query, answer: Result<Answer, String>) -> bool {
        let mut known = lock(&self.known);
        let before = known.get(query).cloned().unwrap_or_else(|| Known::unanswered(""));
        let name = query.name();
        let after = match answer {
            Ok(Answer { records, ttl }) => {
                self.answered.fetch_add(1, Relaxed);
                if before.failures > 0 && before.records.is_some() {
                    log::info(format_args!("name `{name}`: answered again"));
                }
                let due = Instant::now() + ttl.clamp(settings.ttl_min, settings.ttl_max);
                Known { records: Some(Arc::new(records)), error: None, failures: 0, due }
            }
            Err(error) => {
                self.failed.fetch_add(1, Relaxed);
                let failures = before.failures.saturating_add(1);
                // Said once, not each time it is asked again.
                if before.error.as_deref() != Some(&*error) {
                    match &before.records {
                        Some(_) => log::warn(format_args!(
                            "name `{name}`: {error}; its last addresses stay"
                        )),
                        None => log::warn(format_args!("name `{name}`: {error}; asked again soon")),
                    }
                }
                let due = Instant::now() + retry_after(failures);
                let error = Some(error.into());
                Known { records: before.records.clone(), error, failures, due }
            }
        };
        let is_changed = after.records != before.records;
        if is_changed && let Some(records) = &after.records {
            log::info(format_args!("name `{name}`: {}", records.shown().join(", ")));
        }
        known.insert(query.clone(), after);
        is_changed
    }

    /// How many names there are whose last question was not answered.
    pub fn failing(&self) -> usize {
        lock(&self.known).values().filter(|known| known.error.is_some()).count()
    }

    /// All names, those without an answer to the last question first.
    pub fn shown(&self) -> Vec<Shown> {
        let known = lock(&self.known);
        let show = |(query, known): (&Query, &Known)| Shown {
            query: query.clone(),
            addresses: known.records.as_ref().map(|records| records.shown()).unwrap_or_default(),
            error: known.error.clone(),
        };
        let mut shown: Vec<Shown> = known.iter().map(show).collect();
        drop(known);
        shown.sort_by(|a, b| (a.error.is_none(), &a.query).cmp(&(b.error.is_none(), &b.query)));
        shown
    }
}

impl Known {
    fn unanswered(error: &str) -> Self {
        let error = Some(error.into()).filter(|_| !error.is_empty());
        Self { records: None, error, failures: 0, due: Instant::now() + DNS_RETRY_MIN }
    }
}

/// How long to wait after so many questions without an answer.
fn retry_after(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (DNS_RETRY_MIN * 2_u32.pow(doublings)).min(DNS_RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::snapshot::names::Family;

    fn settings() -> DnsSettings {
        DnsSettings {
            servers: Box::default(),
            family: Family::Auto,
            timeout: Duration::from_secs(1),
            ttl_min: Duration::from_secs(1),
            ttl_max: Duration::from_secs(60),
        }
    }

    fn answer(addresses: &[[u8; 4]], ttl: u64) -> Result<Answer, String> {
        let addresses = addresses.iter().map(|ip| IpAddr::from(*ip)).collect();
        Ok(Answer { records: Records::Addresses(addresses), ttl: Duration::from_secs(ttl) })
    }

    #[test]
    fn the_last_good_answer_stays_and_another_one_is_news() {
        let (names, settings) = (Names::default(), settings());
        let query = Query::Address("a.test".into());
        let due = || {
            let due = lock(&names.known)[&query].due.saturating_duration_since(Instant::now());
            due.as_secs_f64().ceil() as u64
        };
        assert!(!names.note(&settings, &query, Err("SERVFAIL".into())), "nothing to change yet");
        assert_eq!(names.error(&query).as_deref(), Some("SERVFAIL"));
        assert!(names.note(&settings, &query, answer(&[[10, 0, 0, 1]], 7)));
        assert_eq!((due(), names.error(&query)), (7, None));
        assert!(!names.note(&settings, &query, answer(&[[10, 0, 0, 1]], 0)));
        assert_eq!(due(), 1, "ttl_min");
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            assert!(!names.note(&settings, &query, Err("SERVFAIL".into())));
            assert_eq!(due(), expected);
        }
        let shown = names.shown();
        assert_eq!(shown[0].addresses, ["10.0.0.1"]);
        assert_eq!(shown[0].error.as_deref(), Some("SERVFAIL"));
        assert!(names.note(&settings, &query, answer(&[[10, 0, 0, 2]], 900)));
        assert_eq!(due(), 60, "ttl_max");
        assert_eq!((names.answered.load(Relaxed), names.failed.load(Relaxed)), (3, 8));
    }

    #[test]
    fn names_of_this_machine_are_known_without_a_server() {
        let (names, settings) = (Arc::new(Names::default()), settings());
        let query = Query::Address("localhost".into());
        names.look_up(&settings, [query.clone()].into_iter());
        assert_eq!(names.shown()[0].addresses, ["127.0.0.1"]);
        assert_eq!(names.error(&query), None);
    }
}
