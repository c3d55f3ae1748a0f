//! Which route a request takes, and why not the others: asks the code that serves requests, the
//! parser of heads included. `ringway explain` asks about files, `/v1/explain` about the rules in
//! force.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::config::Config;
use crate::{
    base::{
        ids::{ListenerIndex, RouteIndex, UpstreamIndex},
        reason::Reason,
    },
    policy::{
        route::{Candidate, Captures, FieldSource, RouteMatch, RouteQuery, RouteTable, TargetRule},
        split::WHOLE,
    },
    proto::{
        h1::{HeadLimits, Method, Parse, RequestHead, TargetForm},
        host::{normalise_host, parse_authority},
        uri::normalise_path,
    },
    snapshot::{Listener, Mode, RouteExtra, Snapshot, split::Split},
};

/// Rules that can be asked: those of files, or those in force.
pub trait Rules {
    /// Where clients connect.
    fn listeners(&self) -> &[Listener];
    /// Finds routes.
    fn table(&self) -> &RouteTable;
    /// How many routes there are.
    fn routes_len(&self) -> usize;
    /// The id of a route.
    fn route_id(&self, route: RouteIndex) -> &str;
    /// The name of the upstream a route goes to.
    fn upstream_name(&self, route: RouteIndex) -> &str;
    /// What most routes do not have.
    fn extra(&self, route: RouteIndex) -> Option<&RouteExtra>;
    /// The name of an upstream.
    fn name_of(&self, upstream: UpstreamIndex) -> &str;

    /// How the path that is sent is made.
    fn target_rule(&self, route: RouteIndex) -> &TargetRule {
        self.extra(route).map_or(&TargetRule::Keep, |extra| &extra.target)
    }

    /// The upstreams a route shares its requests out over, if it does.
    fn split(&self, route: RouteIndex) -> Option<&Split> {
        self.extra(route)?.split.as_deref()
    }

    /// Where copies of its requests go, and how many, if they do.
    fn mirror(&self, route: RouteIndex) -> Option<(&str, String)> {
        let mirror = self.extra(route)?.mirror?;
        let share = format!("{}%", f64::from(mirror.share_per_10k) / 100.0);
        Some((self.name_of(mirror.upstream), share))
    }

    /// Where requests of a route go, in words.
    fn goes_to(&self, route: RouteIndex) -> String {
        match self.split(route) {
            None => format!("upstream \"{}\"", self.upstream_name(route)),
            Some(split) => {
                let one = |(name, share)| format!("\"{name}\" ({share})");
                format!("upstreams {}", shares(split).map(one).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// The upstreams of a split, with their shares as percentages.
fn shares(split: &Split) -> impl Iterator<Item = (&str, String)> {
    let percent = |share: u64| {
        let percent = format!("{:.3}", share as f64 * 100.0 / WHOLE as f64);
        format!("{}%", percent.trim_end_matches('0').trim_end_matches('.'))
    };
    let names = split.choices.iter().map(|choice| &*choice.name);
    names.zip(split.cell.shares().map(percent))
}

impl Rules for Config {
    fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    fn table(&self) -> &RouteTable {
        &self.table
    }

    fn routes_len(&self) -> usize {
        self.routes.len()
    }

    fn route_id(&self, route: RouteIndex) -> &str {
        &self.routes[route.0 as usize].id
    }

    fn upstream_name(&self, route: RouteIndex) -> &str {
        let upstream = self.routes[route.0 as usize].upstream;
        &self.upstreams[upstream.0 as usize].name
    }

    fn extra(&self, route: RouteIndex) -> Option<&RouteExtra> {
        self.routes[route.0 as usize].extra.as_deref()
    }

    fn name_of(&self, upstream: UpstreamIndex) -> &str {
        &self.upstreams[upstream.0 as usize].name
    }
}

impl Rules for Snapshot {
    fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    fn table(&self) -> &RouteTable {
        &self.table
    }

    fn routes_len(&self) -> usize {
        self.routes.len()
    }

    fn route_id(&self, route: RouteIndex) -> &str {
        &self.route(route).id
    }

    fn upstream_name(&self, route: RouteIndex) -> &str {
        &self.upstream(self.route(route).upstream).name
    }

    fn extra(&self, route: RouteIndex) -> Option<&RouteExtra> {
        self.route(route).extra.as_deref()
    }

    fn name_of(&self, upstream: UpstreamIndex) -> &str {
        &self.upstream(upstream).name
    }
}

/// A request to explain.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The method, as it is sent.
    pub method: &'a str,
    /// A URL, or a path if a header names the host.
    pub url: &'a str,
    /// `name: value`, each.
    pub headers: &'a [String],
    /// Where it comes in; by default the listener with the port of the URL, or the first.
    pub listener: Option<&'a str>,
}

/// What becomes of a request.
#[derive(Debug)]
pub struct Explanation<'a> {
    rules: &'a dyn Rules,
    listener: ListenerIndex,
    answer: Answer,
}

impl std::fmt::Debug for dyn Rules + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rules with {} routes", self.routes_len())
    }
}

/// Asks the rules about a request.
///
/// # Errors
/// What is wrong with the question.
pub fn explain<'a>(
    rules: &'a dyn Rules,
    question: &Question<'_>,
) -> Result<Explanation<'a>, String> {
    let url = Url::split(question.url)?;
    let listener = pick_listener(rules.listeners(), question.listener, &url)?;
    if rules.listeners()[usize::from(listener.0)].mode == Mode::Tcp {
        return Ok(Explanation { rules, listener, answer: ask_by_name(rules, listener, &url) });
    }
    if url.tcp {
        return Err("no listener has mode = \"tcp\"; write an http or https URL".into());
    }
    let head = write_head(question.method, &url, question.headers)?;
    Ok(Explanation { rules, listener, answer: ask(rules, listener, &head) })
}

impl Explanation<'_> {
    /// `{"route", "status", "target", "upstream", "candidates": [{"route", "failed"}]}`. `upstream` is
    /// `null` where a split decides, whose shares are in `split` then.
    pub fn to_json(&self) -> Value {
        self.answer.to_json(self.rules)
    }

    /// For people: one line per route that was compared.
    pub fn to_text(&self) -> String {
        self.answer.to_text(self.rules, self.listener)
    }
}

/// The parts of a URL that a client sends.
#[derive(Debug, PartialEq, Eq)]
struct Url<'a> {
    authority: Option<&'a str>,
    https: bool,
    /// It is about a connection, not a request.
    tcp: bool,
    /// Path and query; as it was written, so that the parser judges it.
    target: String,
}

impl<'a> Url<'a> {
    fn split(text: &'a str) -> Result<Self, String> {
        let text = text.split('#').next().unwrap_or_default(); // clients keep fragments
        if text == "*" || text.starts_with('/') {
            return Ok(Self { authority: None, https: false, tcp: false, target: text.into() });
        }
        let named = |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let (scheme, rest) = match text.split_once("://").filter(|(scheme, _)| named(scheme)) {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => ("http".into(), text),
        };
        if !matches!(&*scheme, "http" | "https" | "tcp") {
            return Err(format!("{text}: the scheme must be http, https or tcp"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let target = if target.starts_with('/') { target.into() } else { format!("/{target}") };
        let (https, tcp) = (scheme == "https", scheme == "tcp");
        Ok(Self { authority: Some(authority), https, tcp, target })
    }

    /// The port a client connects to.
    fn port(&self) -> Option<u16> {
        let authority = self.authority?;
        if self.tcp {
            return authority.rsplit_once(':')?.1.parse().ok();
        }
        let port = parse_authority(authority.as_bytes()).ok()?.port;
        Some(port.unwrap_or(if self.https { 443 } else { 80 }))
    }

    /// The name that a client asks for, in the form in which names are compared; empty for none.
    fn name(&self) -> String {
        let authority = self.authority.unwrap_or_default();
        let name = authority.rsplit_once(':').map_or(authority, |(name, _)| name);
        name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
    }
}

fn pick_listener(
    listeners: &[Listener],
    name: Option<&str>,
    url: &Url<'_>,
) -> Result<ListenerIndex, String> {
    let port = url.port();
    let mode = if url.tcp { Mode::Tcp } else { Mode::Http };
    let place = match name {
        Some(name) => listeners.iter().position(|listener| &*listener.name == name),
        None => {
            let same_port = |listener: &Listener| Some(listener.address.port()) == port;
            let same_mode = || listeners.iter().position(|listener| listener.mode == mode);
            let first = || (!listeners.is_empty()).then_some(0);
            listeners.iter().position(same_port).or_else(same_mode).or_else(first)
        }
    };
    let names = || listeners.iter().map(|listener| &*listener.name).collect::<Vec<_>>().join(", ");
    match (place, name) {
        (Some(place), _) => Ok(ListenerIndex(place as u16)),
        (None, Some(name)) => Err(format!("no listener is called {name}; there are: {}", names())),
        (None, None) => Err("the configuration has no listener".into()),
    }
}

/// The head that a client would send.
fn write_head(method: &str, url: &Url<'_>, headers: &[String]) -> Result<Vec<u8>, String> {
    let mut fields = String::new();
    let mut has_host = false;
    for header in headers {
        let Some((name, value)) = header.split_once(':') else {
            return Err(format!("-H {header:?}: write 'name: value'"));
        };
        has_host |= name.eq_ignore_ascii_case("host");
        let _ = write!(fields, "{name}:{value}\r\n"); // writing to a String cannot fail
    }
    let host = match (has_host, url.authority) {
        (true, _) => String::new(),
        (false, Some(authority)) => format!("host: {authority}\r\n"),
        (false, None) => return Err("no host: write the whole URL, or add -H 'host: name'".into()),
    };
    Ok(format!("{method} {} HTTP/1.1\r\n{host}{fields}\r\n", url.target).into_bytes())
}

/// What a request gets, and by which routes.
#[derive(Debug)]
struct Answer {
    result: Result<Taken, Reason>,
    /// Of a 405.
    allow: String,
    candidates: Vec<Candidate>,
}

#[derive(Debug)]
struct Taken {
    route: RouteIndex,
    /// Path and query as they are sent; none of a connection.
    target: Option<String>,
    /// The choice of a split that the request's own fields lead to.
    choice: Option<usize>,
}

impl Taken {
    /// Where it goes; `None` if the shares of a split decide.
    fn upstream<'r>(&self, rules: &'r dyn Rules) -> Option<&'r str> {
        match rules.split(self.route) {
            None => Some(rules.upstream_name(self.route)),
            Some(split) => Some(&split.choices.get(self.choice?)?.name),
        }
    }
}

impl Answer {
    fn refused(reason: Reason) -> Self {
        Self { result: Err(reason), allow: String::new(), candidates: Vec::new() }
    }
}

/// Goes the way of a connection that is passed through.
fn ask_by_name(rules: &dyn Rules, listener: ListenerIndex, url: &Url<'_>) -> Answer {
    let name = url.name();
    let found = rules.table().find_name(listener, &name);
    let candidates = rules.table().explain_name(listener, &name);
    let taken = |route| Taken { route, target: None, choice: None };
    Answer { result: found.map(taken).ok_or(Reason::NoRoute), allow: String::new(), candidates }
}

/// Goes the way of a request through the data plane, up to the route.
fn ask(rules: &dyn Rules, listener: ListenerIndex, bytes: &[u8]) -> Answer {
    let settings = &rules.listeners()[usize::from(listener.0)];
    let mut head = RequestHead::default();
    let limits = HeadLimits {
        bytes_max: settings.limits.header_bytes_max,
        count_max: settings.limits.header_count_max,
    };
    match head.parse(bytes, limits) {
        Ok(Parse::Complete { head_bytes }) if head_bytes == bytes.len() => {}
        Ok(_) => return Answer::refused(Reason::BadRequest), // a line end in an argument
        Err(error) => return Answer::refused(error.reason()),
    }
    if head.method() == Method::Connect {
        return Answer::refused(Reason::ConnectRefused);
    }
    let (mut host, mut path) = (Vec::new(), Vec::new());
    if let Some(authority) = head.host(bytes) {
        match parse_authority(authority) {
            Ok(parts) => normalise_host(&authority[parts.host], &mut host),
            Err(_) => return Answer::refused(Reason::BadHost),
        }
    }
    if head.form() == TargetForm::Asterisk {
        path.push(b'*');
    } else if normalise_path(head.path(bytes), settings.merge_slashes, &mut path).is_err() {
        return Answer::refused(Reason::BadTarget);
    }
    let query = RouteQuery {
        listener,
        host: &host,
        path: &path,
        query: head.query(bytes),
        method: head.method_bytes(bytes),
        fields: &Fields { head: &head, bytes },
    };
    look_up(rules, &query)
}

fn look_up<F: FieldSource>(rules: &dyn Rules, query: &RouteQuery<'_, F>) -> Answer {
    let candidates = rules.table().explain(query);
    let (mut captures, mut allow) = (Captures::default(), Vec::new());
    let result = match rules.table().find(query, &mut captures) {
        RouteMatch::Found(route) => {
            let rule = rules.target_rule(route);
            let mut target = Vec::new();
            rule.write(query.path, &captures, &mut target);
            if let Some(query) = query.query {
                target.push(b'?');
                target.extend_from_slice(query);
            }
            let target = Some(String::from_utf8_lossy(&target).into_owned());
            let choice = rules.split(route).and_then(|split| split.by_conditions(query.fields));
            Ok(Taken { route, target, choice })
        }
        RouteMatch::MethodNotAllowed => {
            rules.table().allow(query, &mut allow);
            Err(Reason::MethodNotAllowed)
        }
        RouteMatch::NotFound => Err(Reason::NoRoute),
    };
    Answer { result, allow: String::from_utf8_lossy(&allow).into_owned(), candidates }
}

struct Fields<'a> {
    head: &'a RequestHead,
    bytes: &'a [u8],
}

impl FieldSource for Fields<'_> {
    fn values<'s>(&'s self, name: &[u8]) -> impl Iterator<Item = &'s [u8]> {
        let fields = self.head.fields(self.bytes);
        fields.filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
    }
}

impl Answer {
    fn to_json(&self, rules: &dyn Rules) -> Value {
        let taken = self.result.as_ref().ok();
        let candidates: Vec<Value> = self
            .candidates
            .iter()
            .map(|one| json!({ "route": rules.route_id(one.route), "failed": one.failed }))
            .collect();
        let mut out = json!({
            "route": taken.map(|taken| rules.route_id(taken.route)),
            "status": self.result.as_ref().map_or_else(|reason| reason.status(), |_| 200),
            "target": taken.map(|taken| &taken.target),
            "upstream": taken.and_then(|taken| taken.upstream(rules)),
            "candidates": candidates,
        });
        if let Some(split) = taken.and_then(|taken| rules.split(taken.route)) {
            let one = |(upstream, share)| json!({ "upstream": upstream, "share": share });
            out["split"] = shares(split).map(one).collect();
        }
        if let Some((upstream, share)) = taken.and_then(|taken| rules.mirror(taken.route)) {
            out["mirror"] = json!({ "upstream": upstream, "share": share });
        }
        out
    }

    fn to_text(&self, rules: &dyn Rules, listener: ListenerIndex) -> String {
        let listener = &rules.listeners()[usize::from(listener.0)];
        let mut lines = vec![match &self.result {
            Ok(taken) => {
                let to = match (taken.upstream(rules), taken.choice) {
                    (Some(name), None) => format!("upstream {name}"),
                    (Some(name), Some(_)) => format!("upstream {name}, as its fields say"),
                    (None, _) => format!("one of {}", rules.goes_to(taken.route)),
                };
                let what = taken.target.as_deref().unwrap_or("the connection");
                format!("route {} sends {what} to {to}", rules.route_id(taken.route))
            }
            Err(Reason::MethodNotAllowed) => {
                format!("405 method_not_allowed: no route takes the method; allow: {}", self.allow)
            }
            Err(Reason::NoRoute) if listener.mode == Mode::Tcp => {
                "no_route: no route takes the connection, it is closed".into()
            }
            Err(Reason::NoRoute) => "404 no_route: no route takes the request".into(),
            Err(reason) => format!("{} {}", reason.status(), reason.code()),
        }];
        if let Some((name, share)) = self.result.as_ref().ok().and_then(|it| rules.mirror(it.route))
        {
            lines.push(format!("  {share} of such requests are copied to upstream {name}"));
        }
        lines.push(format!("  listener {} at {}", listener.name, listener.address));
        let mut taken = false;
        for candidate in &self.candidates {
            let id = rules.route_id(candidate.route);
            lines.push(match &candidate.failed {
                Some(failed) => format!("  no   {id}: {failed}"),
                None if taken => format!("  late {id}: would take it, but comes after"),
                None => format!("  yes  {id}"),
            });
            taken |= candidate.failed.is_none();
        }
        let others = rules.routes_len() - self.candidates.len();
        if others > 0 && (self.result.is_ok() || !self.candidates.is_empty()) {
            lines.push(format!("  {others} more with another listener, host or path"));
        } else if self.candidates.is_empty() && self.result_is_no_route() {
            lines.push(format!("  all {others} have another listener, host or path"));
        }
        lines.join("\n") + "\n"
    }

    fn result_is_no_route(&self) -> bool {
        matches!(self.result, Err(Reason::NoRoute))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controlplane::{compile, config};

    const CONFIG: &str = r#"
[[listener]]
name = "edge"
address = "127.0.0.1:8080"
[[listener]]
name = "inside"
address = "127.0.0.1:8081"

[[route]]
id = "gray"
hosts = ["api.test"]
path = "/users/{id}"
headers = { x-env = "gray" }
upstream = "users"
[[route]]
id = "users"
hosts = ["api.test"]
path = "/users/{id}"
methods = ["GET"]
rewrite = "/people/{id}"
upstream = "users"
[[route]]
id = "inside"
listeners = ["inside"]
upstream = "users"

[[upstream]]
name = "users"
endpoints = [{ url = "http://127.0.0.1:9000" }]
"#;

    /// Method, URL, headers, listener.
    type Asked<'a> = (&'a str, &'a str, &'a [&'a str], Option<&'a str>);

    fn asked<T>(
        (method, url, headers, listener): Asked<'_>,
        show: impl Fn(&Explanation<'_>) -> T,
    ) -> Result<T, String> {
        let config = config::load_str("test.toml", CONFIG).unwrap().config;
        let headers: Vec<String> = headers.iter().map(|header| (*header).into()).collect();
        let question = Question { method, url, headers: &headers, listener };
        let of_files = show(&explain(&config, &question)?);
        let (snapshot, _) = compile::compile(config, 1, compile::Resolve::No).unwrap();
        explain(&snapshot, &question)?;
        Ok(of_files)
    }

    fn args<'a>(method: &'a str, url: &'a str, headers: &'a [&'a str]) -> Asked<'a> {
        (method, url, headers, None)
    }

    fn json_of(asked_for: Asked<'_>) -> Value {
        asked(asked_for, |found| found.to_json()).unwrap()
    }

    #[test]
    fn a_route_is_named_with_all_that_it_does() {
        let answer = json_of(args("GET", "http://API.test:8080/users/%37?a=b#c", &[]));
        assert_eq!(
            answer,
            json!({
                "route": "users",
                "status": 200,
                "target": "/people/7?a=b",
                "upstream": "users",
                "candidates": [
                    {
                        "route": "gray",
                        "failed": "header x-env is missing, must be \"gray\"",
                    },
                    { "route": "users", "failed": null },
                ],
            })
        );
        let gray = json_of(args("POST", "/users/7", &["X-Env: gray", "Host: api.test"]));
        assert_eq!((&gray["route"], &gray["target"]), (&json!("gray"), &json!("/users/7")));
    }

    #[test]
    fn urls_may_lack_a_scheme_and_hold_another() {
        let split = |text| {
            let url = Url::split(text).unwrap();
            (url.authority, url.port(), url.target)
        };
        assert_eq!(
            split("a.test/x?u=http://y"),
            (Some("a.test"), Some(80), "/x?u=http://y".into())
        );
        assert_eq!(split("/x?u=http://y"), (None, None, "/x?u=http://y".into()));
        assert_eq!(split("HTTPS://a.test?b#c"), (Some("a.test"), Some(443), "/?b".into()));
        assert_eq!(split("*"), (None, None, "*".into()));
    }

    #[test]
    fn refusals_have_their_status() {
        for (method, url, status) in [
            ("POST", "http://api.test/users/7", 405),
            ("GET", "http://api.test/users/", 404),
            ("GET", "http://other.test/users/7", 404),
            ("GET", "http://api.test/users/%zz", 400),
            ("GET", "http://api.test/../users", 400),
            ("GET", "http://api.test/a b", 400),
            ("GET", "http://api.test:99999/", 400),
            ("get", "http://api.test/", 400),
            ("CONNECT", "http://api.test/", 400),
        ] {
            let answer = json_of(args(method, url, &[]));
            assert_eq!(answer["status"], status, "{method} {url}");
            assert_eq!(answer["route"], Value::Null, "{method} {url}");
        }
    }

    #[test]
    fn the_listener_is_that_of_the_port_or_the_name() {
        let inside = json_of(args("GET", "http://api.test:8081/x", &[]));
        assert_eq!(inside["route"], "inside");
        let named = json_of(("GET", "http://a.test/", &[], Some("inside")));
        assert_eq!(named["route"], "inside");
        let edge = json_of(args("GET", "http://api.test/x", &[]));
        assert_eq!(edge["status"], 404, "the first one, for want of a better");
    }

    #[test]
    fn connections_go_by_the_name_alone() {
        let config = config::load_str(
            "test.toml",
            "[[listener]]\nname = \"web\"\naddress = \"127.0.0.1:80\"\n\
             [[listener]]\nname = \"pass\"\nmode = \"tcp\"\naddress = \"127.0.0.1:5432\"\n\
             [[route]]\nid = \"db\"\nsni = [\"db.test\"]\nupstream = \"u\"\n\
             [[route]]\nid = \"below\"\nsni = [\"*.test\"]\nupstream = \"u\"\n\
             [[upstream]]\nname = \"u\"\nendpoints = [\"tcp://127.0.0.1:1\"]\n",
        );
        let config = config.unwrap().config;
        let route = |url| {
            let question = Question { method: "TCP", url, headers: &[], listener: None };
            explain(&config, &question).unwrap().to_json()["route"].clone()
        };
        assert_eq!(route("tcp://DB.test.:5432"), "db");
        assert_eq!(route("tcp://x.test"), "below");
        assert_eq!(route("tcp://:5432"), Value::Null);
        assert_eq!(route("https://db.test:5432/"), "db", "the listener decides");
        assert_eq!(route("http://db.test/"), Value::Null, "the other listener has no route");
    }

    #[test]
    fn people_get_words() {
        let text = |args: Asked<'_>| asked(args, |found| found.to_text());
        assert_eq!(
            text(args("POST", "http://api.test/users/7", &[])).unwrap(),
            "405 method_not_allowed: no route takes the method; allow: GET\n  \
             listener edge at 127.0.0.1:8080\n  \
             no   gray: header x-env is missing, must be \"gray\"\n  \
             no   users: method is POST, the route takes GET\n  \
             1 more with another listener, host or path\n"
        );
        assert!(text(args("GET", "/users/7", &[])).unwrap_err().contains("-H 'host: name'"));
        assert!(text(args("GET", "ftp://a.test/", &[])).unwrap_err().contains("http"));
        assert!(text(args("GET", "http://a.test/", &["x"])).unwrap_err().contains("name: value"));
        assert!(
            text(("GET", "http://a.test/", &[], Some("x"))).unwrap_err().contains("edge, inside")
        );
    }

    #[test]
    fn a_split_is_told_by_its_shares_or_by_the_fields_that_decide() {
        let more = "[[route]]\nid = \"s\"\npath = \"/s\"\npriority = 1\n\
                    mirror = { upstream = \"v3\", share = \"2.5%\" }\nsplit = [\
                    { upstream = \"users\", weight = 2 }, { upstream = \"v2\", weight = 1 }, \
                    { upstream = \"v3\", headers = { x-v = \"3\" } }]\n\
                    [[upstream]]\nname = \"v2\"\nendpoints = [\"http://127.0.0.1:1\"]\n\
                    [[upstream]]\nname = \"v3\"\nendpoints = [\"http://127.0.0.1:2\"]\n";
        let config = config::load_str("x.toml", &format!("{CONFIG}{more}")).unwrap().config;
        let told = |headers: &[String]| {
            let question =
                Question { method: "GET", url: "http://a.test/s", headers, listener: None };
            let told = explain(&config, &question).unwrap();
            (told.to_json(), told.to_text())
        };
        let (json, text) = told(&[]);
        assert_eq!(json["upstream"], Value::Null);
        assert_eq!(json["split"][1], json!({ "upstream": "v2", "share": "33.333%" }));
        let line = "route s sends /s to one of upstreams \"users\" (66.667%), \"v2\" (33.333%), \
                    \"v3\" (0%)";
        assert_eq!(text.lines().next(), Some(line));
        assert_eq!(json["mirror"], json!({ "upstream": "v3", "share": "2.5%" }));
        assert!(text.contains("\n  2.5% of such requests are copied to upstream v3\n"), "{text}");
        let (json, text) = told(&["x-v: 3".into()]);
        assert_eq!(json["upstream"], "v3");
        assert!(text.starts_with("route s sends /s to upstream v3, as its fields say"), "{text}");
    }
}
