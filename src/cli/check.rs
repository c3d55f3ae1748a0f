//! `ringway check`: names everything that is wrong with a configuration; changes nothing.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use crate::controlplane::{
    certificates::kept,
    config::{self, Config, ConfigErrors, Loaded, Severity},
};

/// Exit code for a bad configuration. Source: sysexits.h, `EX_CONFIG`.
const EX_CONFIG: u8 = 78;

/// Checks a configuration and names every mistake in it.
///
/// Prints one line per problem: `file:line:column: key: what is wrong; what to do`. Exits with 0 if
/// the configuration can be used (warnings included), 78 if not.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ringway check ringway.toml\n  ringway check -c \
                        /etc/ringway --json | jq -r '.[].message'")]
pub struct Args {
    /// A file, or a directory whose *.toml files are one configuration
    #[arg(value_name = "FILE|DIR", required_unless_present = "config", conflicts_with = "config")]
    pub path: Option<PathBuf>,
    /// The same, spelled as for `ringway run`
    #[arg(short, long, value_name = "FILE|DIR")]
    pub config: Option<PathBuf>,
    /// Print a JSON array with one object per problem
    #[arg(long)]
    pub json: bool,
}

/// Checks, prints, and says by its exit code how it went.
pub fn run(args: &Args) -> ExitCode {
    let Some(path) = args.path.as_ref().or(args.config.as_ref()) else {
        return ExitCode::from(2); // clap asks for one of them
    };
    kept::refuse_expired();
    let (found, problems) = match config::load(path) {
        Ok(Loaded { config, warnings, .. }) => (Some(config), ConfigErrors(warnings)),
        Err(errors) => (None, errors),
    };
    let text = match args.json {
        true => format!("{}\n", problems.to_json()),
        false => format!(
            "{problems}{}\n",
            summary(&path.display().to_string(), found.as_ref(), &problems)
        ),
    };
    // A reader that went away (`| head`) is no reason to fail.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    if found.is_some() { ExitCode::SUCCESS } else { ExitCode::from(EX_CONFIG) }
}

/// The last line for people.
fn summary(name: &str, found: Option<&Config>, problems: &ConfigErrors) -> String {
    let count = |number: usize, noun: &str| {
        format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
    };
    let warnings = problems.count(Severity::Warning);
    let Some(config) = found else {
        let errors = problems.count(Severity::Error);
        return format!("{}, {}", count(errors, "error"), count(warnings, "warning"));
    };
    let parts = format!(
        "{name}: ok: {}, {}, {}",
        count(config.listeners.len(), "listener"),
        count(config.routes.len(), "route"),
        count(config.upstreams.len(), "upstream")
    );
    match warnings {
        0 => parts,
        _ => format!("{parts} ({})", count(warnings, "warning")),
    }
}
