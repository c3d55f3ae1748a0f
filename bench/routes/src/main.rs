//! Nanoseconds per match and bytes per route of ringway's route table.
//!
//! `cargo run --release` prints a markdown table: for each mode (exact, parameter, prefix, regex,
//! mixed; many hosts; one path with many regexes) and number of routes, the time of one look-up of
//! a random route of the table, of one that matches nothing, the time to build the table, and what
//! it weighs with the `snapshot::Route` and the id of each route. Bytes are counted by the
//! allocator, not estimated; time is that of the processor. Requests are spread over the whole table in a random order, so large
//! tables are measured out of cache.
//!
//! `cargo run --release -- quick` makes fewer look-ups.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    hint::black_box,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use ringway::{
    base::ids::{ListenerIndex, RouteIndex, RouteKey, UpstreamIndex},
    policy::route::{
        Captures, FieldSource, PathSpec, RouteMatch, RouteQuery, RouteSpec, RouteTable,
        TableBuilder,
    },
    snapshot::Route,
    telemetry::core_stats::ROUTE_OTHER,
};

/// Counts the bytes in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: passes every call on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct NoFields;

impl FieldSource for NoFields {
    fn values<'s>(&'s self, _: &[u8]) -> impl Iterator<Item = &'s [u8]> {
        std::iter::empty()
    }
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Exact,
    Parameter,
    Prefix,
    SegmentRegex,
    PathRegex,
    Mixed,
    Hosts,
    Wildcards,
    Priorities,
    OpenRegex,
}

/// A route of a table, and a request that it takes.
struct Case {
    host: String,
    pattern: String,
    kind: Mode,
    priority: i64,
    request_host: String,
    request_path: String,
}

fn case(mode: Mode, n: usize) -> Case {
    let mut made = Case {
        host: "api.example.com".into(),
        pattern: String::new(),
        kind: mode,
        priority: 0,
        request_host: "api.example.com".into(),
        request_path: String::new(),
    };
    let (team, service) = (n % 97, n);
    let base = format!("/team{team}/service-{service}");
    let (pattern, path) = match mode {
        Mode::Exact => (format!("{base}/items"), format!("{base}/items")),
        Mode::Parameter => (format!("{base}/users/{{id}}/posts"), format!("{base}/users/77/posts")),
        Mode::Prefix => (base.clone(), format!("{base}/assets/app.js")),
        Mode::SegmentRegex => (format!("{base}/{{id:[0-9]+}}"), format!("{base}/12345")),
        Mode::PathRegex => (format!("^{base}/v[0-9]+/.*$"), format!("{base}/v2/items/7")),
        Mode::OpenRegex => (format!("/service-{service}/v[0-9]+$"), format!("{base}/v2")),
        Mode::Mixed | Mode::Priorities => {
            let modes = [Mode::Exact, Mode::Parameter, Mode::Prefix, Mode::SegmentRegex];
            let priority = if mode == Mode::Priorities { n as i64 % 5 } else { 0 };
            return Case { priority, ..case(modes[n % 4], n) };
        }
        Mode::Hosts => {
            made.host = format!("tenant-{n}.example.com");
            made.request_host = made.host.clone();
            ("/".into(), "/any/path".into())
        }
        Mode::Wildcards => {
            made.host = format!("*.tenant-{n}.example.com");
            made.request_host = format!("www.tenant-{n}.example.com");
            ("/".into(), "/any/path".into())
        }
    };
    (made.pattern, made.request_path) = (pattern, path);
    made
}

fn add(builder: &mut TableBuilder, n: usize, case: &Case) {
    let path = match case.kind {
        Mode::Prefix | Mode::Hosts | Mode::Wildcards => PathSpec::Prefix(&case.pattern),
        Mode::PathRegex | Mode::OpenRegex => PathSpec::Regex(&case.pattern),
        _ => PathSpec::Pattern(&case.pattern),
    };
    let hosts = vec![&*case.host];
    let spec = RouteSpec { hosts, path, priority: case.priority, ..RouteSpec::default() };
    if let Err(errors) = builder.add(RouteIndex(n as u32), &spec) {
        panic!("{}: {errors:?}", case.pattern);
    }
}

fn find(table: &RouteTable, host: &str, path: &str, captures: &mut Captures) -> RouteMatch {
    let query = RouteQuery {
        listener: ListenerIndex(0),
        host: host.as_bytes(),
        path: path.as_bytes(),
        query: None,
        method: b"GET",
        fields: &NoFields,
    };
    table.find(&query, captures)
}

/// Seconds of processor time that this thread has used: a busy machine changes it less than it
/// changes the clock on the wall.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives through the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Nanoseconds of one look-up, the best of three rounds.
fn time(
    table: &RouteTable,
    requests: &[(String, String)],
    lookups: usize,
    expect: impl Fn(RouteMatch) -> bool,
) -> f64 {
    let mut captures = Captures::default();
    for (host, path) in requests {
        let found = find(table, host, path, &mut captures);
        assert!(expect(found), "{host} {path}: {found:?}");
    }
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = cpu_seconds();
        for n in 0..lookups {
            let (host, path) = &requests[n % requests.len()];
            black_box(find(black_box(table), host, path, &mut captures));
        }
        best = best.min((cpu_seconds() - start) * 1e9 / lookups as f64);
    }
    best
}

fn measure(name: &str, mode: Mode, count: usize, lookups: usize) {
    let cases: Vec<Case> = (0..count).map(|n| case(mode, n)).collect();
    let before = IN_USE.load(Relaxed);
    let start = cpu_seconds();
    let mut builder = TableBuilder::new(1);
    for (n, case) in cases.iter().enumerate() {
        add(&mut builder, n, case);
    }
    let added = cpu_seconds() - start;
    let conflicts = builder.conflicts().len();
    let checked = cpu_seconds() - start;
    let table = builder.build();
    let built = cpu_seconds() - start - (checked - added);
    assert_eq!(conflicts, 0);
    let routes: Box<[Route]> = (0..count)
        .map(|n| Route {
            id: format!("route-{n:07}").into(),
            upstream: UpstreamIndex(0),
            stats: ROUTE_OTHER,
            key: RouteKey(0),
            extra: None,
        })
        .collect();
    let bytes = (IN_USE.load(Relaxed) - before) as f64 / count as f64;
    let mut state = 7;
    let sample = count.min(100_000);
    let mut hits = Vec::with_capacity(sample);
    let mut misses = Vec::with_capacity(sample);
    for _ in 0..sample {
        let case = &cases[(random(&mut state) % count as u64) as usize];
        hits.push((case.request_host.clone(), case.request_path.clone()));
        let by_host = matches!(mode, Mode::Hosts | Mode::Wildcards);
        misses.push(if by_host {
            (case.request_host.clone() + "m", case.request_path.clone())
        } else {
            (case.request_host.clone(), case.request_path.replace("/service-", "/servise-"))
        });
    }
    drop(cases);
    let hit = time(&table, &hits, lookups, |found| matches!(found, RouteMatch::Found(_)));
    let miss = time(&table, &misses, lookups, |found| found == RouteMatch::NotFound);
    println!(
        "| {name} | {count} | {hit:.0} | {miss:.0} | {bytes:.0} | {:.0} | {:.0} |",
        built * 1e3,
        (checked - added) * 1e3
    );
    drop(routes);
}

fn main() {
    let quick = std::env::args().nth(1).as_deref() == Some("quick");
    let lookups = if quick { 200_000 } else { 3_000_000 };
    println!(
        "| mode | routes | ns per match | ns per miss | bytes per route | build, ms | check, ms |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (name, mode) in [
        ("exact", Mode::Exact),
        ("parameter", Mode::Parameter),
        ("prefix", Mode::Prefix),
        ("segment regex", Mode::SegmentRegex),
        ("mixed", Mode::Mixed),
        ("mixed, five priorities", Mode::Priorities),
        ("one route per host", Mode::Hosts),
        ("one route per wildcard", Mode::Wildcards),
    ] {
        for count in [10, 1_000, 100_000] {
            measure(name, mode, count, lookups);
        }
    }
    for count in [10, 1_000, 100_000] {
        measure("path regex, literal start", Mode::PathRegex, count, lookups);
    }
    for count in [10, 1_000, 10_000] {
        measure(
            "path regex, no literal start",
            Mode::OpenRegex,
            count,
            lookups.min(2_000_000 / count),
        );
    }
}
