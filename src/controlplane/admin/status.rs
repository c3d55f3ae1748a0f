//! `/v1/status`: one page of JSON about the whole process.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    base::limits::ENDPOINTS_SHOWN_MAX,
    controlplane::{
        by_hand::{Said, said},
        dns,
        health::Shown,
        rollout,
        state::{Rules, State},
    },
    snapshot::Snapshot,
    telemetry::{CoreStats, RouteStats, core_stats::ROUTE_NONE},
};

/// The whole process.
#[derive(Debug, Serialize)]
pub struct Status {
    /// How long the last change took, from the wish to the last core; 0 before the first.
    pub applied_after_ms: f64,
    /// The version of the newest accepted rules; a core obeys them when its own is the same.
    pub version: u64,
    /// The process that answers; another one after an upgrade.
    pub pid: u32,
    /// Which ringway this is.
    pub ringway: &'static str,
    /// `starting`, `ready` or `draining`.
    pub state: &'static str,
    /// Seconds since the start.
    pub uptime_seconds: f64,
    /// What moves bytes, and with which setup flags.
    pub driver: String,
    /// Why that is not `io_uring`, and what to do; `null` if it is, or was not wanted.
    pub driver_reason: Option<String>,
    /// Each core.
    pub cores: Vec<Core>,
    /// Where the rules come from.
    pub sources: Vec<Source>,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// How many routes and upstreams the rules have.
    pub rules: RuleCounts,
    /// Endpoints that are checked.
    pub health: Health,
    /// Rollouts and what they have come to.
    pub rollouts: Vec<rollout::Shown>,
    /// Names of endpoints that are looked up, those without an answer to the last question first; up
    /// to a bound.
    pub names: Vec<Name>,
    /// Routes that served a request since the start, the busiest first.
    pub routes: Vec<Route>,
    /// How the access log fares.
    pub access_log: AccessLog,
}

/// One core.
#[derive(Debug, Serialize)]
pub struct Core {
    /// The number of its CPU.
    pub id: usize,
    /// The version of the rules it obeys.
    pub version: i64,
    /// Connections of clients open.
    pub connections: i64,
    /// Requests between head and last byte.
    pub requests_in_flight: i64,
    /// Requests that ended.
    pub requests_total: u64,
    /// Idle connections to endpoints.
    pub pool_idle: i64,
    /// The longest delay of its clock since the start.
    pub stall_longest_us: u64,
    /// Defects that cost a connection.
    pub panics: u64,
}

/// Where rules come from.
#[derive(Debug, Serialize)]
pub struct Source {
    /// The file or directory; for the admin API the file where it keeps what it was told.
    pub name: String,
    /// The version of the rules that came from it.
    pub version: u64,
    /// Why its last change was refused.
    pub error: Option<String>,
}

/// Where clients connect.
#[derive(Debug, Serialize)]
pub struct Listener {
    /// The name in TOML.
    pub name: String,
    /// Address and port.
    pub address: String,
}

/// How many there are.
#[derive(Debug, Serialize)]
pub struct RuleCounts {
    /// Routes.
    pub routes: usize,
    /// Upstreams.
    pub upstreams: usize,
}

/// Endpoints that are checked.
#[derive(Debug, Serialize)]
pub struct Health {
    /// How many there are.
    pub checked: usize,
    /// How many of them the checks say are down.
    pub down: usize,
    /// Each of them, those that are down first, up to a bound.
    pub endpoints: Vec<Endpoint>,
    /// Endpoints that somebody took out by hand, checked or not, up to a bound.
    pub by_hand: Vec<Said>,
}

/// One endpoint that is checked.
#[derive(Debug, Serialize)]
pub struct Endpoint {
    /// The name of its upstream.
    pub upstream: Box<str>,
    /// Its `host:port`.
    pub endpoint: Box<str>,
    /// Where that is.
    pub address: String,
    /// `up`, `down` or `draining`, whoever said so.
    pub health: &'static str,
    /// Whether the checks say that it is up.
    pub check_up: bool,
    /// Why the last check failed, if it did.
    pub check_error: Option<String>,
}

/// A name of endpoints.
#[derive(Debug, Serialize)]
pub struct Name {
    /// What is asked.
    pub name: String,
    /// `A` for addresses of both kinds, `SRV` for a service.
    pub r#type: &'static str,
    /// What it stands for: the last good answer.
    pub addresses: Vec<String>,
    /// Why the last question was not answered, if it was not.
    pub error: Option<Box<str>>,
}

/// One route since the start: durations in microseconds, off by 6 % at most.
#[derive(Debug, Serialize)]
pub struct Route {
    /// The id in TOML, `(other)` for those without counters of their own, `(none)` for requests
    /// that matched none.
    pub id: String,
    /// Requests that ended.
    pub requests: u64,
    /// Those answered with 500 and above.
    pub errors: u64,
    /// Half of the requests took at most this long.
    pub p50_us: u64,
    /// 90 % did.
    pub p90_us: u64,
    /// 99 % did.
    pub p99_us: u64,
    /// 99.9 % did.
    pub p999_us: u64,
    /// 99.99 % did.
    pub p9999_us: u64,
}

/// How the access log fares.
#[derive(Debug, Serialize)]
pub struct AccessLog {
    /// Lines that reached their file.
    pub written: u64,
    /// Lines dropped because the writer did not keep up.
    pub dropped: u64,
    /// Lines that could not be written.
    pub lost: u64,
}

/// The files, and the admin API if it was told anything.
fn sources(rules: &Rules) -> Vec<Source> {
    let version = rules.snapshot.version;
    let files = Source { name: rules.source.clone(), version, error: rules.error.clone() };
    let told = (!rules.overlay.is_empty()).then(|| rules.overlay.name().to_owned());
    let api = told.map(|name| Source { name, version, error: None });
    std::iter::once(files).chain(api).collect()
}

/// Describes the process as it is now. Bounded: as many routes as have counters.
pub fn status(state: &State) -> Status {
    let rules = state.rules();
    let (written, lost) = state.log_lines();
    let listeners = rules.snapshot.listeners.iter().map(|listener| Listener {
        name: listener.name.to_string(),
        address: listener.address.to_string(),
    });
    Status {
        applied_after_ms: rules.took.as_secs_f64() * 1e3,
        version: rules.snapshot.version,
        pid: std::process::id(),
        ringway: env!("CARGO_PKG_VERSION"),
        state: state.phase().word(),
        uptime_seconds: state.started.elapsed().as_secs_f64(),
        driver: state.driver.description.clone(),
        driver_reason: state.driver.reason.clone(),
        cores: state.cores.iter().map(|core| self::core(core)).collect(),
        sources: sources(&rules),
        listeners: listeners.collect(),
        rules: RuleCounts {
            routes: rules.snapshot.routes.len(),
            upstreams: rules.snapshot.upstreams.len(),
        },
        health: health(state, &rules.snapshot),
        rollouts: state.rollouts.shown(),
        names: names(state),
        routes: routes(state, &rules),
        access_log: AccessLog {
            written,
            dropped: state.sum(|core| core.access_log_dropped.get()),
            lost,
        },
    }
}

/// Those that are down first: they are what somebody looks for.
fn health(state: &State, snapshot: &Snapshot) -> Health {
    let mut shown = state.checks.shown();
    shown.sort_by_key(|one| one.up);
    let (checked, down) = (shown.len(), shown.iter().filter(|one| !one.up).count());
    shown.truncate(ENDPOINTS_SHOWN_MAX);
    let endpoint = |one: Shown| Endpoint {
        upstream: one.upstream,
        endpoint: one.endpoint,
        address: one.address.to_string(),
        health: one.health.name(),
        check_up: one.up,
        check_error: one.why,
    };
    let endpoints = shown.into_iter().map(endpoint).collect();
    Health { checked, down, endpoints, by_hand: said(snapshot).take(ENDPOINTS_SHOWN_MAX).collect() }
}

fn names(state: &State) -> Vec<Name> {
    let shown = state.names.shown().into_iter().take(ENDPOINTS_SHOWN_MAX);
    let name = |one: dns::Shown| Name {
        name: one.query.name().to_owned(),
        r#type: one.query.kind(),
        addresses: one.addresses,
        error: one.error,
    };
    shown.map(name).collect()
}

fn core(core: &CoreStats) -> Core {
    Core {
        id: core.core(),
        version: core.snapshot_version.get(),
        connections: core.connections_open.get(),
        requests_in_flight: core.requests_in_flight.get(),
        requests_total: core.requests_total.get(),
        pool_idle: core.pool_idle.get(),
        stall_longest_us: core.loop_stall_micros_max.get(),
        panics: core.panics.get(),
    }
}

/// Merges each route's buckets of all cores into one HDR histogram, used again for the next route.
fn routes(state: &State, rules: &Rules) -> Vec<Route> {
    // 1 us to 2^32 us with two digits; these bounds are valid, see `Histogram::new_with_bounds`.
    let Ok(mut merged) = Histogram::<u64>::new_with_bounds(1, 1 << 32, 2) else {
        return Vec::new();
    };
    let mut routes: Vec<Route> = rules
        .series
        .routes()
        .filter_map(|(slot, id)| {
            merged.reset();
            let mut errors = 0;
            for stats in state.cores.iter().filter_map(|core| core.route_if_used(slot)) {
                errors += add(stats, &mut merged);
            }
            (!merged.is_empty()).then(|| route(id, errors, &merged))
        })
        .collect();
    debug_assert!(routes.len() <= usize::from(ROUTE_NONE.0) + 1);
    routes.sort_by_key(|route| std::cmp::Reverse(route.requests));
    routes
}

/// Adds one core's durations; returns its number of failed requests.
fn add(stats: &RouteStats, merged: &mut Histogram<u64>) -> u64 {
    stats.durations().for_each(|micros, count| merged.saturating_record_n(micros.max(1), count));
    let mut errors = 0;
    stats.for_each(|_, status, count| errors += if status >= 500 { count } else { 0 });
    errors
}

fn route(id: &str, errors: u64, merged: &Histogram<u64>) -> Route {
    Route {
        id: id.to_owned(),
        requests: merged.len(),
        errors,
        p50_us: merged.value_at_quantile(0.5),
        p90_us: merged.value_at_quantile(0.9),
        p99_us: merged.value_at_quantile(0.99),
        p999_us: merged.value_at_quantile(0.999),
        p9999_us: merged.value_at_quantile(0.9999),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{base::ids::StatsSlot, controlplane::fixtures};

    #[test]
    fn percentiles_of_all_cores_together() {
        let state = fixtures::state(2);
        for micros in 1..=5_000 {
            state.cores[0].route(StatsSlot(0)).record(0, 200, micros);
            state.cores[1].route(StatsSlot(0)).record(0, 503, micros + 5_000);
        }
        state.cores[0].route(ROUTE_NONE).record(0, 404, 7);
        let status = status(&state);
        assert_eq!(status.routes.len(), 2);
        let route = &status.routes[0];
        assert_eq!((route.id.as_str(), route.requests, route.errors), ("first", 10_000, 5_000));
        for (shown, true_value) in [
            (route.p50_us, 5_000u64),
            (route.p90_us, 9_000),
            (route.p99_us, 9_900),
            (route.p999_us, 9_990),
            (route.p9999_us, 9_999),
        ] {
            assert!(shown.abs_diff(true_value) * 100 <= true_value * 6, "{shown} for {true_value}");
        }
        assert_eq!(status.routes[1].id, "(none)");
    }

    #[test]
    fn the_page_has_the_fields_that_scripts_read() {
        let state = fixtures::state(2);
        state.cores[1].snapshot_version.set(1);
        let page = serde_json::to_value(status(&state)).expect("JSON");
        assert_eq!(page["version"], 1);
        assert_eq!(page["state"], "starting");
        assert_eq!(page["cores"][1]["id"], 1);
        assert_eq!(page["cores"][1]["version"], 1);
        assert_eq!(page["sources"][0]["name"], "ringway.toml");
        assert_eq!(page["sources"][0]["error"], serde_json::Value::Null);
        assert_eq!(page["listeners"][0]["name"], "edge");
        assert_eq!(page["rules"]["routes"], 2);
    }
}
