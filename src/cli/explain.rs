//! `ringway explain`: which route a request takes, and why not the others. Offline: reads the files
//! and asks the code that serves requests, the parser of heads included.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use serde_json::{Value, json};

use crate::{
    base::{
        ids::{ListenerIndex, RouteIndex},
        reason::Reason,
    },
    controlplane::config::{self, Config},
    policy::route::{Candidate, Captures, FieldSource, RouteMatch, RouteQuery, TargetRule},
    proto::{
        h1::{HeadLimits, Method, Parse, RequestHead, TargetForm},
        host::{normalise_host, parse_authority},
        uri::normalise_path,
    },
    snapshot::Listener,
};

/// Exit code for a bad command line.
const EX_USAGE: u8 = 2;

/// Exit code for a bad configuration. Source: sysexits.h, `EX_CONFIG`.
const EX_CONFIG: u8 = 78;

/// Shows which route a request takes, what is sent upstream, and why not the other routes.
///
/// Reads the configuration, sends nothing. Listed are the routes whose listener, host and path
/// match, in the order they are tried, each with the condition that fails.
///
/// With --json: {"route", "status", "target", "upstream", "candidates": [{"route", "failed"}]}.
/// The status is 200 if a route takes the request, else the one ringway answers with (400, 404, 405).
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ringway explain GET https://api.example.com/users/7\n  \
                        ringway explain POST http://localhost:8080/ -H 'x-env: gray' --json\n  \
                        ringway explain GET /users/7 -H 'host: api.example.com' -c /etc/ringway")]
pub struct Args {
    /// The method, in upper case
    pub method: String,
    /// The URL; or a path, with -H 'host: ...'
    pub url: String,
    /// A header of the request; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// The configuration
    #[arg(short, long, value_name = "FILE|DIR", default_value = "ringway.toml")]
    pub config: PathBuf,
    /// Where the request comes in; by default the listener with the port of the URL, or the first
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Explains, and says by its exit code whether it could.
pub fn run(args: &Args) -> ExitCode {
    let config = match config::load(&args.config) {
        Ok(loaded) => loaded.config,
        Err(errors) => {
            eprint!("{errors}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    match explain(&config, args) {
        Ok(text) => {
            // A reader that went away (`| head`) is no reason to fail.
            let _ = io::stdout().lock().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("ringway explain: {message}");
            ExitCode::from(EX_USAGE)
        }
    }
}

fn explain(config: &Config, args: &Args) -> Result<String, String> {
    let url = Url::split(&args.url)?;
    let listener = pick_listener(&config.listeners, args.listener.as_deref(), url.port())?;
    let head = write_head(&args.method, &url, &args.headers)?;
    let answer = ask(config, listener, &head);
    Ok(match args.json {
        true => format!("{:#}\n", answer.to_json(config)),
        false => answer.to_text(config, listener),
    })
}

/// The parts of a URL that a client sends.
#[derive(Debug, PartialEq, Eq)]
struct Url<'a> {
    authority: Option<&'a str>,
    https: bool,
    /// Path and query; as it was written, so that the parser judges it.
    target: String,
}

impl<'a> Url<'a> {
    fn split(text: &'a str) -> Result<Self, String> {
        let text = text.split('#').next().unwrap_or_default(); // clients keep fragments
        if text == "*" || text.starts_with('/') {
            return Ok(Self { authority: None, https: false, target: text.into() });
        }
        let named = |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let (scheme, rest) = match text.split_once("://").filter(|(scheme, _)| named(scheme)) {
            Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
            None => ("http".into(), text),
        };
        if scheme != "http" && scheme != "https" {
            return Err(format!("{text}: the scheme must be http or https"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let target = if target.starts_with('/') { target.into() } else { format!("/{target}") };
        Ok(Self { authority: Some(authority), https: scheme == "https", target })
    }

    /// The port a client connects to.
    fn port(&self) -> Option<u16> {
        let authority = self.authority?;
        let port = parse_authority(authority.as_bytes()).ok()?.port;
        Some(port.unwrap_or(if self.https { 443 } else { 80 }))
    }
}

fn pick_listener(
    listeners: &[Listener],
    name: Option<&str>,
    port: Option<u16>,
) -> Result<ListenerIndex, String> {
    let place = match name {
        Some(name) => listeners.iter().position(|listener| &*listener.name == name),
        None => {
            let same_port = |listener: &Listener| Some(listener.address.port()) == port;
            listeners.iter().position(same_port).or((!listeners.is_empty()).then_some(0))
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
    /// Path and query as they are sent.
    target: String,
}

impl Answer {
    fn refused(reason: Reason) -> Self {
        Self { result: Err(reason), allow: String::new(), candidates: Vec::new() }
    }
}

/// Goes the way of a request through the data plane, up to the route.
fn ask(config: &Config, listener: ListenerIndex, bytes: &[u8]) -> Answer {
    let rules = &config.listeners[usize::from(listener.0)];
    let mut head = RequestHead::default();
    let limits = HeadLimits {
        bytes_max: rules.limits.header_bytes_max,
        count_max: rules.limits.header_count_max,
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
    } else if normalise_path(head.path(bytes), rules.merge_slashes, &mut path).is_err() {
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
    look_up(config, &query)
}

fn look_up<F: FieldSource>(config: &Config, query: &RouteQuery<'_, F>) -> Answer {
    let candidates = config.table.explain(query);
    let (mut captures, mut allow) = (Captures::default(), Vec::new());
    let result = match config.table.find(query, &mut captures) {
        RouteMatch::Found(route) => {
            let extra = &config.routes[route.0 as usize].extra;
            let rule = extra.as_ref().map_or(&TargetRule::Keep, |extra| &extra.target);
            let mut target = Vec::new();
            rule.write(query.path, &captures, &mut target);
            if let Some(query) = query.query {
                target.push(b'?');
                target.extend_from_slice(query);
            }
            Ok(Taken { route, target: String::from_utf8_lossy(&target).into_owned() })
        }
        RouteMatch::MethodNotAllowed => {
            config.table.allow(query, &mut allow);
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

fn route_id(config: &Config, route: RouteIndex) -> &str {
    &config.routes[route.0 as usize].id
}

fn upstream_name(config: &Config, route: RouteIndex) -> &str {
    let upstream = config.routes[route.0 as usize].upstream;
    &config.upstreams[upstream.0 as usize].name
}

impl Answer {
    fn to_json(&self, config: &Config) -> Value {
        let taken = self.result.as_ref().ok();
        let candidates: Vec<Value> = self
            .candidates
            .iter()
            .map(|one| json!({ "route": route_id(config, one.route), "failed": one.failed }))
            .collect();
        json!({
            "route": taken.map(|taken| route_id(config, taken.route)),
            "status": self.result.as_ref().map_or_else(|reason| reason.status(), |_| 200),
            "target": taken.map(|taken| &taken.target),
            "upstream": taken.map(|taken| upstream_name(config, taken.route)),
            "candidates": candidates,
        })
    }

    fn to_text(&self, config: &Config, listener: ListenerIndex) -> String {
        let listener = &config.listeners[usize::from(listener.0)];
        let mut lines = vec![match &self.result {
            Ok(taken) => format!(
                "route {} sends {} to upstream {}",
                route_id(config, taken.route),
                taken.target,
                upstream_name(config, taken.route)
            ),
            Err(Reason::MethodNotAllowed) => {
                format!("405 method_not_allowed: no route takes the method; allow: {}", self.allow)
            }
            Err(Reason::NoRoute) => "404 no_route: no route takes the request".into(),
            Err(reason) => format!("{} {}", reason.status(), reason.code()),
        }];
        lines.push(format!("  listener {} at {}", listener.name, listener.address));
        let mut taken = false;
        for candidate in &self.candidates {
            let id = route_id(config, candidate.route);
            lines.push(match &candidate.failed {
                Some(failed) => format!("  no   {id}: {failed}"),
                None if taken => format!("  late {id}: would take it, but comes after"),
                None => format!("  yes  {id}"),
            });
            taken |= candidate.failed.is_none();
        }
        let others = config.routes.len() - self.candidates.len();
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

    fn args(method: &str, url: &str, headers: &[&str]) -> Args {
        Args {
            method: method.into(),
            url: url.into(),
            headers: headers.iter().map(|header| (*header).into()).collect(),
            config: PathBuf::new(),
            listener: None,
            json: false,
        }
    }

    fn json_of(args: Args) -> Value {
        let config = config::load_str("test.toml", CONFIG).unwrap().config;
        let text = explain(&config, &Args { json: true, ..args }).unwrap();
        serde_json::from_str(&text).unwrap()
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
        let named = Args { listener: Some("inside".into()), ..args("GET", "http://a.test/", &[]) };
        assert_eq!(json_of(named)["route"], "inside");
        let edge = json_of(args("GET", "http://api.test/x", &[]));
        assert_eq!(edge["status"], 404, "the first one, for want of a better");
    }

    #[test]
    fn people_get_words() {
        let config = config::load_str("test.toml", CONFIG).unwrap().config;
        let text = |args: Args| explain(&config, &args);
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
        let unknown = Args { listener: Some("x".into()), ..args("GET", "http://a.test/", &[]) };
        assert!(text(unknown).unwrap_err().contains("edge, inside"));
    }
}
