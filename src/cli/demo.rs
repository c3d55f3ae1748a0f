//! `ringway demo`: a gateway with upstreams of its own, and three commands to try on it.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use axum::{
    Json, Router,
    http::{HeaderMap, Method, Uri},
};
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::{
    cli::serve::{fail, serve},
    server::{Options, Running, Source},
};

const AFTER: &str = "\
It starts three small upstreams on free ports of this machine and a gateway with
four routes in front of them, and prints three commands that show routing, an
error answer with its reason, and the metrics. Ctrl-C ends it.";

/// See it work: a gateway, its upstreams, three commands to try
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(super) struct Args {
    /// Make the three requests, print what comes back, end
    #[arg(long)]
    once: bool,
}

/// Upstreams that answer, by name.
const ORIGINS: [&str; 3] = ["users", "shop-1", "shop-2"];

/// Serves until a signal ends it, or until the three requests are made.
pub(super) fn run(args: &Args) -> ExitCode {
    let parts = match Parts::start() {
        Ok(parts) => parts,
        Err(error) => {
            return fail(&format_args!("no port on 127.0.0.1 for the demo's upstreams: {error}"));
        }
    };
    let once = args.once;
    let source = Source::Text { name: "the demo".into(), text: parts.config(once) };
    let failed = Arc::new(AtomicBool::new(false));
    let outcome = Arc::clone(&failed);
    let code = serve(source, Options::default(), move |running| {
        let tour = Tour::new(&running);
        if !once {
            tour.print();
            return;
        }
        // The control thread must not wait for answers of its own cores.
        thread::spawn(move || {
            if let Err(error) = tour.take() {
                outcome.store(true, SeqCst);
                fail(&error);
            }
            running.stop.stop();
        });
    });
    if failed.load(SeqCst) { ExitCode::FAILURE } else { code }
}

/// What the gateway is put in front of, and where it listens itself.
struct Parts {
    origins: Vec<SocketAddr>,
    /// Bound and never listened on: whoever connects is refused, and nobody else gets the port.
    closed: (Socket, SocketAddr),
    gateway: SocketAddr,
    admin: SocketAddr,
}

impl Parts {
    fn start() -> io::Result<Self> {
        let mut origins = Vec::new();
        for name in ORIGINS {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            origins.push(listener.local_addr()?);
            start_origin(name, listener)?;
        }
        let closed = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        closed.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = closed.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let (gateway, admin) = (free_port(8080)?, free_port(9180)?);
        Ok(Self { origins, closed: (closed, address), gateway, admin })
    }

    fn config(&self, once: bool) -> String {
        let Self { origins, closed: (_, closed), gateway, admin } = self;
        let (users, shop1, shop2) = (origins[0], origins[1], origins[2]);
        let log = match once {
            true => "level = \"error\"",
            false => "access = { to = \"stdout\", format = \"common\" }",
        };
        format!(
            r#"[runtime]
connections_max = 1000

[admin]
address = "{admin}"

[log]
{log}

[[listener]]
name = "demo"
address = "{gateway}"

[[route]]
id = "users"
path = "/api/users/{{id:[0-9]+}}"
rewrite = "/people/{{id}}"
upstream = "users"

[[route]]
id = "shop"
hosts = ["shop.example"]
upstream = "shop"

[[route]]
id = "reports"
path_prefix = "/reports"
upstream = "reports"

[[route]]
id = "start-page"
path = "/"
upstream = "shop"

[[upstream]]
name = "users"
endpoints = [{{ url = "http://{users}" }}]

[[upstream]]
name = "shop"
strategy = "weighted-round-robin"
endpoints = [{{ url = "http://{shop1}", weight = 3 }}, {{ url = "http://{shop2}" }}]

[[upstream]]
name = "reports" # nobody listens there
endpoints = [{{ url = "http://{closed}" }}]
"#
        )
    }
}

/// An upstream that tells what it was asked, on a thread of its own.
fn start_origin(name: &'static str, listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = move |method: Method, uri: Uri, headers: HeaderMap| async move {
        let field = |field: &str| {
            let value = headers.get(field).map(|value| value.as_bytes());
            String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
        };
        let mut page = Json(json!({
            "upstream": name,
            "asked": format!("{method} {uri}"),
            "host": field("host"),
            "x_forwarded_for": field("x-forwarded-for"),
        }))
        .0
        .to_string();
        page.push('\n');
        ([("content-type", "application/json")], page)
    };
    thread::Builder::new().name(format!("demo-{name}")).stack_size(256 * 1024).spawn(
        move || {
            runtime.block_on(async {
                if let Ok(listener) = tokio::net::TcpListener::from_std(listener) {
                    let _ = axum::serve(listener, Router::new().fallback(answer)).await;
                }
            });
        },
    )?;
    Ok(())
}

/// This port of the loopback address, or one of the kernel's choice if somebody has it.
fn free_port(wanted: u16) -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
        .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?
        .local_addr()
}

/// The three requests.
struct Tour {
    steps: [Step; 3],
}

struct Step {
    title: &'static str,
    curl: String,
    address: SocketAddr,
    path: &'static str,
    status: u16,
    /// Only lines that begin with this are shown.
    only: &'static str,
}

impl Tour {
    fn new(running: &Running) -> Self {
        let none = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let gateway = running.listeners.first().map_or(none, |(_, address)| *address);
        let admin = running.admin.unwrap_or(none);
        Self {
            steps: [
                Step {
                    title: "a route by path: the upstream is asked for /people/7",
                    curl: format!("curl http://{gateway}/api/users/7"),
                    address: gateway,
                    path: "/api/users/7",
                    status: 200,
                    only: "",
                },
                Step {
                    title: "an upstream that is down: 502, and the reason why",
                    curl: format!("curl -i http://{gateway}/reports/today"),
                    address: gateway,
                    path: "/reports/today",
                    status: 502,
                    only: "",
                },
                Step {
                    title: "what was counted",
                    curl: format!("curl -s http://{admin}/metrics | grep ^http_requests_total"),
                    address: admin,
                    path: "/metrics",
                    status: 200,
                    only: "http_requests_total{",
                },
            ],
        }
    }

    /// Prints the commands.
    fn print(&self) {
        let mut text = String::from("\nTry, in another terminal:\n");
        for Step { title, curl, .. } in &self.steps {
            text += &format!("\n  # {title}\n  {curl}\n");
        }
        text += "\nWith  -H 'host: shop.example'  requests go to two endpoints, 3 : 1.\n\
                 Requests appear below; Ctrl-C ends the demo.\n\n";
        let _ = io::stdout().lock().write_all(text.as_bytes());
    }

    /// Makes the requests and prints what comes back.
    fn take(&self) -> Result<(), String> {
        for step in &self.steps {
            let answer = step.answer()?;
            let text = format!("# {}\n$ {}\n{}\n", step.title, step.curl, step.shown(&answer));
            io::stdout().lock().write_all(text.as_bytes()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl Step {
    /// Asks until the answer shows what it should: a request is counted a moment after its answer.
    fn answer(&self) -> Result<String, String> {
        let mut last = String::new();
        for _ in 0..100 {
            let what = |error| format!("{}: {error}", self.curl);
            last = get(self.address, self.path).map_err(what)?;
            let expected = format!("HTTP/1.1 {} ", self.status);
            if last.starts_with(&expected) && last.contains(self.only) {
                return Ok(last);
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(format!("{}: unexpected answer:\n{last}", self.curl))
    }

    /// What the command would print.
    fn shown(&self, answer: &str) -> String {
        let from = match self.curl.contains(" -i ") {
            true => answer,
            false => answer.split_once("\r\n\r\n").map_or("", |(_, body)| body),
        };
        let lines = from.lines().filter(|line| line.starts_with(self.only));
        lines.flat_map(|line| [line, "\n"]).collect()
    }
}

/// One request on a connection of its own.
fn get(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controlplane::config;

    #[test]
    fn its_configuration_is_valid_without_a_warning() {
        let parts = Parts::start().expect("ports");
        for once in [false, true] {
            let text = parts.config(once);
            match config::load_str("demo", &text) {
                Ok(loaded) => assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings),
                Err(errors) => panic!("{errors}\n{text}"),
            }
        }
    }

    #[test]
    fn its_upstreams_answer() {
        let parts = Parts::start().expect("ports");
        let answer = get(parts.origins[0], "/people/7").expect("an answer");
        assert!(answer.contains(r#""asked":"GET /people/7""#), "{answer}");
        assert!(TcpStream::connect(parts.closed.1).is_err(), "refuses everybody");
    }

    #[test]
    fn a_port_that_is_taken_is_replaced() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = taken.local_addr().expect("an address").port();
        assert_ne!(free_port(port).expect("another port").port(), port);
    }
}
