//! The command line: one file per command.

mod cert;
pub mod check;
mod demo;
pub mod diff;
pub mod explain;
pub mod live;
mod proxy;
mod run;
pub mod schema;
mod serve;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

const ABOUT: &str = "An L7 edge proxy and API gateway for Linux";

const LONG_ABOUT: &str = "\
An L7 edge proxy and API gateway for Linux.

Every core runs its own io_uring loop with its own listeners, connection pools and copy of the \
routes; nothing is shared on the path of a request, and everything can change while it runs.";

const AFTER: &str = "\
Examples:
  ringway demo                                          see it work, nothing to prepare
  ringway proxy --listen :8080 --to http://127.0.0.1:3000
  ringway check -c ringway.toml                         find every mistake at once
  ringway explain -c ringway.toml GET http://a.test/x   which route, and why
  ringway diff old.toml new.toml --traffic access.log   what would change, for whom
  ringway cert                                          certificates to develop with
  ringway run -c ringway.toml                           serve
  ringway run -c /etc/ringway/                          all *.toml files of a directory

`ringway help COMMAND` explains a command.";

const AFTER_LONG: &str = "\
Examples:
  ringway demo                                          see it work, nothing to prepare
  ringway proxy --listen :8080 --to http://127.0.0.1:3000
  ringway check -c ringway.toml                         find every mistake at once
  ringway explain -c ringway.toml GET http://a.test/x   which route, and why
  ringway diff old.toml new.toml --traffic access.log   what would change, for whom
  ringway cert                                          certificates to develop with
  ringway run -c ringway.toml                           serve
  ringway run -c /etc/ringway/                          all *.toml files of a directory
  kill -HUP $(pidof ringway)                            reload routes and upstreams
  kill -TERM $(pidof ringway)                           finish requests, then end
  curl http://127.0.0.1:9180/v1/status                  what it does now

Exit codes:
  0   done
  1   failed: standard error says why and what to do
  2   the command line is wrong
  78  the configuration is wrong: every mistake with file, line, column and remedy

Documentation:
  README.md                 what it is, a first configuration, how to measure it
  docs/configuration.md     every key, with its range and default
  config/ringway.toml       what most people set, to copy from
  docs/metrics.md           what /metrics shows
  docs/access-log.md        what a line of the access log says
  docs/admin-api.md         changing routes and upstreams while it runs
  ringway schema            JSON Schema of the configuration, for your editor";

/// `ringway`.
#[derive(Debug, Parser)]
#[command(
    name = "ringway",
    version,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_help = AFTER,
    after_long_help = AFTER_LONG,
    arg_required_else_help = true,
    subcommand_precedence_over_arg = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    /// Check the configuration and end, as `ringway check` does
    #[arg(short = 't', long = "test", requires = "config")]
    test: bool,

    /// The configuration that -t checks: a file, or a directory of *.toml files
    #[arg(short, long, value_name = "FILE|DIR", requires = "test")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    #[command(about = "Name every mistake of a configuration, change nothing")]
    Check(check::Args),
    #[command(about = "Tell which route a request takes, and why not the others")]
    Explain(explain::Args),
    #[command(about = "Tell what another configuration would do differently")]
    Diff(diff::Args),
    Proxy(proxy::Args),
    Demo(demo::Args),
    Cert(cert::Args),
    #[command(about = "Print the JSON Schema of the configuration, for editors")]
    Schema(schema::Args),
}

/// Runs the command that the arguments name. Usage errors end the process with 2.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match &cli.command {
        Some(Command::Run(args)) => run::run(args),
        Some(Command::Proxy(args)) => proxy::run(args),
        Some(Command::Demo(args)) => demo::run(args),
        Some(Command::Check(args)) => check::run(args),
        Some(Command::Explain(args)) => explain::run(args),
        Some(Command::Diff(args)) => diff::run(args),
        Some(Command::Cert(args)) => cert::run(args),
        Some(Command::Schema(args)) => schema::run(args),
        None => test(cli.config),
    }
}

/// `-t -c FILE`; clap lets neither of them stand alone, and shows the help if there is nothing.
fn test(config: Option<PathBuf>) -> ExitCode {
    match config {
        Some(config) => check::run(&check::Args { path: None, config: Some(config), json: false }),
        None => ExitCode::from(EXIT_USAGE),
    }
}

/// The command line is wrong.
const EXIT_USAGE: u8 = 2;

/// The configuration is wrong. Source: sysexits.h, `EX_CONFIG`.
const EXIT_CONFIG: u8 = 78;

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    #[test]
    fn the_declarations_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nothing_at_all_shows_the_help() {
        let error = Cli::try_parse_from(["ringway"]).expect_err("help");
        assert_eq!(error.kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand);
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE));
    }

    #[test]
    fn test_needs_a_configuration_and_the_other_way_round() {
        assert!(Cli::try_parse_from(["ringway", "-t", "-c", "x.toml"]).is_ok());
        assert!(Cli::try_parse_from(["ringway", "-t"]).is_err());
        assert!(Cli::try_parse_from(["ringway", "-c", "x.toml"]).is_err());
    }

    /// Help that does not fit a small terminal is not read.
    #[test]
    fn help_fits_eighty_columns() {
        let mut command = Cli::command().term_width(80);
        command.build();
        let mut texts = vec![command.render_long_help().to_string()];
        for sub in command.get_subcommands_mut() {
            texts.push(sub.render_long_help().to_string());
        }
        for line in texts.iter().flat_map(|text| text.lines()) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}
