//! The routes of the simulation, as ringway compiles them and as the oracle reads them.

use ringway::{
    base::ids::{ListenerIndex, RouteIndex},
    policy::{
        balance::Kind as Strategy,
        route::{PathSpec, RouteSpec, RouteTable, TableBuilder, TargetRule},
    },
};

use crate::random::Random;

/// One kind of route: the keys of its `[[route]]`.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) host: Option<&'static str>,
    pub(crate) path: PathSpec<'static>,
    pub(crate) methods: &'static [&'static str],
    pub(crate) priority: i64,
    pub(crate) strip: bool,
    pub(crate) rewrite: Option<&'static str>,
    pub(crate) upstream: usize,
    /// The Host that the endpoint sees: the client's, `""` for its own, or this one.
    pub(crate) host_header: Option<&'static str>,
}

const PLAIN: Kind = Kind {
    host: None,
    path: PathSpec::None,
    methods: &[],
    priority: 0,
    strip: false,
    rewrite: None,
    upstream: 0,
    host_header: None,
};

/// In the order of precedence: the first one that matches takes the request.
const KINDS: [Kind; 9] = [
    Kind { path: PathSpec::Prefix("/admin"), methods: &["GET", "HEAD"], priority: 7, ..PLAIN },
    Kind {
        host: Some("a.test"),
        path: PathSpec::Pattern("/users/me"),
        host_header: Some(""),
        upstream: 1,
        ..PLAIN
    },
    Kind {
        host: Some("a.test"),
        path: PathSpec::Pattern("/users/{id}"),
        rewrite: Some("/people/{id}/profile"),
        ..PLAIN
    },
    Kind {
        host: Some("*.a.test"),
        path: PathSpec::Pattern("/files/{*rest}"),
        strip: true,
        upstream: 2,
        ..PLAIN
    },
    Kind {
        host: Some("*.a.test"),
        path: PathSpec::Prefix("/static"),
        host_header: Some("assets.test:81"),
        upstream: 1,
        ..PLAIN
    },
    Kind {
        path: PathSpec::Pattern("/health"),
        methods: &["GET"],
        rewrite: Some("/ok"),
        upstream: 1,
        ..PLAIN
    },
    Kind { path: PathSpec::Prefix("/api/v1"), upstream: 2, ..PLAIN },
    Kind { path: PathSpec::Prefix("/api"), host_header: Some(""), upstream: 1, ..PLAIN },
    Kind { upstream: 2, ..PLAIN },
];

/// An upstream: its strategy, and the weight of each endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    pub(crate) strategy: Strategy,
    pub(crate) weights: Vec<u32>,
    /// The core the balancer is on.
    pub(crate) offset: u32,
    /// An endpoint that accepts no connection.
    pub(crate) down: Option<usize>,
}

/// The rules of one run.
pub(crate) struct Rules {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) table: RouteTable,
    pub(crate) targets: Vec<TargetRule>,
    pub(crate) upstreams: Vec<Upstream>,
    /// Whether the clients are believed what they say about theirs.
    pub(crate) trusted: bool,
    pub(crate) forwarded: bool,
}

/// What the oracle says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    To { kind: usize, path: String },
    Refused(u16),
}

pub(crate) fn authority(upstream: usize, endpoint: usize) -> String {
    format!("10.0.{upstream}.{endpoint}:8080")
}

impl Rules {
    pub(crate) fn random(random: &mut Random) -> Self {
        let kinds: Vec<Kind> = KINDS.into_iter().filter(|_| !random.one_in(6)).collect();
        let mut order: Vec<usize> = (0..kinds.len()).collect();
        for place in (1..order.len()).rev() {
            order.swap(place, random.below(place + 1)); // no precedence comes from the file
        }
        let mut builder = TableBuilder::new(1);
        let mut targets = vec![TargetRule::Keep; kinds.len()];
        for index in order {
            let kind = &kinds[index];
            let spec = RouteSpec {
                hosts: kind.host.into_iter().collect(),
                path: kind.path,
                methods: kind.methods.to_vec(),
                priority: kind.priority,
                strip_path: kind.strip,
                rewrite: kind.rewrite,
                ..RouteSpec::default()
            };
            targets[index] = builder.add(RouteIndex(index as u32), &spec).expect("a valid route");
        }
        let strategies = [Strategy::RoundRobin, Strategy::WeightedRoundRobin, Strategy::Random];
        let upstreams = (0..3).map(|_| {
            let count = random.below(4) + 1;
            Upstream {
                strategy: strategies[random.below(strategies.len())].clone(),
                weights: (0..count).map(|_| random.below(5) as u32 + 1).collect(),
                offset: random.below(4) as u32,
                down: (count > 1 && random.one_in(4)).then(|| random.below(count)),
            }
        });
        let upstreams = upstreams.collect();
        let (trusted, forwarded) = (random.one_in(3), random.one_in(3));
        Self { kinds, table: builder.build(), targets, upstreams, trusted, forwarded }
    }

    /// Where a request goes, by a scan with plain string comparisons. `path` is in normal form.
    pub(crate) fn oracle(&self, host: &str, path: &str, method: &str) -> Verdict {
        let mut wrong_method = false;
        for (index, kind) in self.kinds.iter().enumerate() {
            let is_host = match kind.host {
                None => true,
                Some(name) => match name.strip_prefix('*') {
                    Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
                    None => host == name,
                },
            };
            let Some(to) = (if is_host { new_path(kind, path) } else { None }) else { continue };
            if kind.methods.is_empty() || kind.methods.contains(&method) {
                return Verdict::To { kind: index, path: to };
            }
            wrong_method = true;
        }
        Verdict::Refused(if wrong_method { 405 } else { 404 })
    }

    /// The listener that all of this is about.
    pub(crate) const LISTENER: ListenerIndex = ListenerIndex(0);
}

/// The path that is forwarded, if the route takes this one.
fn new_path(kind: &Kind, path: &str) -> Option<String> {
    match kind.path {
        PathSpec::None => Some(path.to_owned()),
        PathSpec::Prefix(prefix) => {
            let rest = path.strip_prefix(prefix)?;
            (rest.is_empty() || rest.starts_with('/')).then(|| path.to_owned())
        }
        PathSpec::Pattern("/users/{id}") => {
            let id = path.strip_prefix("/users/")?;
            (!id.is_empty() && !id.contains('/')).then(|| format!("/people/{id}/profile"))
        }
        PathSpec::Pattern("/files/{*rest}") => {
            path.strip_prefix("/files/").map(|rest| format!("/{rest}"))
        }
        PathSpec::Pattern(exact) => {
            (path == exact).then(|| kind.rewrite.unwrap_or(exact).to_owned())
        }
        PathSpec::Regex(_) => unreachable!("the oracle knows no regexes"),
    }
}
