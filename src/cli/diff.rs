//! `ringway diff`: what another configuration would do differently, in words and by recorded
//! requests.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, BufReader, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Value, json};

use crate::{
    cli::{EXIT_CONFIG, EXIT_USAGE, live::Live},
    controlplane::{
        config::{self, Config, Loaded, tree::Tree},
        diff::{
            self, Change,
            traffic::{self, Traffic},
        },
    },
};

/// Shows what a new configuration does differently from an old one, or from a running ringway.
///
/// Compared is what is meant, not how it is written. With --traffic an access log (JSON lines) is
/// read, and each request in it is asked of both: shown are those that would go elsewhere. A log
/// holds no headers but User-Agent and Referer; requests for which another one decides are counted.
///
/// Exit codes: 0 the same, 1 different, 2 it could not be compared, 78 wrong configuration.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ringway diff old.toml new.toml\n  ringway diff /etc/ringway \
                        new/ --traffic access.log\n  ringway diff --live new.toml --json")]
pub struct Args {
    /// OLD and NEW, each a file or directory; with --live only NEW
    #[arg(value_name = "FILE|DIR", required = true, num_args = 1..=2)]
    paths: Vec<PathBuf>,
    /// An access log in JSON: which of its requests would go elsewhere
    #[arg(long, value_name = "FILE")]
    traffic: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    live: Live,
}

/// The two are not the same.
const EXIT_DIFFERS: u8 = 1;

/// Compares, prints, and says by its exit code whether there is a difference.
pub fn run(args: &Args) -> ExitCode {
    match compare(args) {
        Ok(found) => {
            let text = if args.json { found.to_json() } else { found.to_text() };
            // A reader that went away (`| head`) is no reason to fail.
            let _ = io::stdout().lock().write_all(text.as_bytes());
            if found.is_same() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DIFFERS) }
        }
        Err((code, message)) => {
            eprintln!("{}", message.trim_end());
            ExitCode::from(code)
        }
    }
}

/// Everything that differs.
struct Found {
    changes: Vec<Change>,
    traffic: Option<Traffic>,
}

/// A configuration, and what is written in it.
type Side = (Config, Tree);

fn compare(args: &Args) -> Result<Found, (u8, String)> {
    let (old, new) = match (&args.paths[..], args.live.is_wanted()) {
        ([new], true) => (load_live(&args.live)?, load(new)?),
        ([old, new], false) => (load(old)?, load(new)?),
        ([_], false) => return Err(usage("name OLD and NEW, or --live and NEW")),
        _ => return Err(usage("--live stands for OLD: name only NEW")),
    };
    let changes = diff::diff(&old.1, &new.1);
    let traffic = args.traffic.as_ref().map(|log| replay(log, old, new)).transpose()?;
    Ok(Found { changes, traffic })
}

fn usage(message: &str) -> (u8, String) {
    (EXIT_USAGE, format!("ringway diff: {message}"))
}

fn load(path: &Path) -> Result<Side, (u8, String)> {
    let Loaded { config, known, .. } =
        config::load(path).map_err(|errors| (EXIT_CONFIG, errors.to_string()))?;
    Ok((config, Tree::read(&known.texts)))
}

/// What a running ringway obeys: the files as it read them, and what its admin API was told.
fn load_live(live: &Live) -> Result<Side, (u8, String)> {
    let fail = |error: &dyn std::fmt::Display| (EXIT_USAGE, format!("ringway diff: {error}"));
    let value = live.get("/v1/config").map_err(|error| fail(&error))?;
    let Value::Object(keys) = value else { return Err(fail(&"/v1/config is no configuration")) };
    let text = config::overlay::to_toml(&keys);
    let Loaded { config, known, .. } = config::load_str("(live)", &text).map_err(|errors| {
        let note = "the configuration in force can't be read here (does it use ${...}?)";
        (EXIT_CONFIG, format!("{errors}{note}"))
    })?;
    Ok((config, Tree::read(&known.texts)))
}

fn replay(log: &Path, old: Side, new: Side) -> Result<Traffic, (u8, String)> {
    let fail = |error: io::Error| {
        (EXIT_USAGE, format!("ringway diff: {} can't be read: {error}", log.display()))
    };
    let file = BufReader::new(File::open(log).map_err(fail)?);
    let (old, new) = traffic::sides((old.0, &old.1), (new.0, &new.1));
    traffic::replay(file, &old, &new).map_err(fail)
}

impl Found {
    fn is_same(&self) -> bool {
        self.changes.is_empty() && self.traffic.as_ref().is_none_or(|traffic| traffic.moved == 0)
    }

    fn to_json(&self) -> String {
        let value = json!({
            "same": self.is_same(),
            "changes": self.changes,
            "traffic": self.traffic,
        });
        format!("{value:#}\n")
    }

    fn to_text(&self) -> String {
        let mut out = String::new();
        for change in &self.changes {
            let _ = writeln!(out, "{change}"); // writing to a String cannot fail
        }
        if self.changes.is_empty() {
            out.push_str("no difference\n");
        }
        if let Some(traffic) = &self.traffic {
            write_traffic(traffic, &mut out);
        }
        out
    }
}

fn write_traffic(traffic: &Traffic, out: &mut String) {
    let requests = traffic.lines - traffic.unreadable;
    let _ = writeln!(out, "\ntraffic: {} of {requests} requests go elsewhere", traffic.moved);
    for moved in &traffic.moves {
        let _ = writeln!(out, "  {:>8}  {} -> {}", moved.count, moved.from, moved.to);
        for example in &moved.examples {
            let _ = writeln!(out, "            {}", example.escape_debug());
        }
    }
    for (count, what) in [
        (traffic.undecided, "for which a header decides that the log does not record"),
        (traffic.other_listener, "of listeners that OLD does not have, taken for its first one"),
        (traffic.unreadable, "that are no requests in JSON, left out"),
    ] {
        if count > 0 {
            let _ = writeln!(out, "  note: {count} lines {what}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controlplane::diff::{What, traffic::Move};

    #[test]
    fn people_read_it_line_by_line() {
        let found = Found {
            changes: vec![Change {
                kind: "route",
                name: "a".into(),
                change: What::Removed,
                keys: Vec::new(),
            }],
            traffic: Some(Traffic {
                lines: 10,
                unreadable: 1,
                moved: 2,
                moves: vec![Move {
                    from: "route \"a\" to upstream \"u\"".into(),
                    to: "404".into(),
                    count: 2,
                    examples: vec!["GET a.test /\u{1b}[0m".into()],
                }],
                ..Traffic::default()
            }),
        };
        assert_eq!(
            found.to_text(),
            "route \"a\" removed\n\
             \n\
             traffic: 2 of 9 requests go elsewhere\n         \
             2  route \"a\" to upstream \"u\" -> 404\n            \
             GET a.test /\\u{1b}[0m\n  \
             note: 1 lines that are no requests in JSON, left out\n"
        );
        assert!(!found.is_same());
        let value: Value = serde_json::from_str(&found.to_json()).unwrap();
        assert_eq!(value["changes"][0]["change"], "removed");
        assert_eq!(value["traffic"]["moves"][0]["count"], 2);
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let found = Found { changes: Vec::new(), traffic: None };
        assert_eq!(found.to_text(), "no difference\n");
        assert!(found.is_same());
    }
}
