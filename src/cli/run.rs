//! `ringway run`: serve what a configuration says.

use std::{path::PathBuf, process::ExitCode};

use crate::{cli::serve::serve, server::Source};

const AFTER: &str = "\
Signals:
  HUP           read the configuration again: routes, upstreams, limits and the
                access log change at once, requests in flight finish under the
                old rules; a mistake leaves everything as it was. The file of
                the access log is opened anew.
  USR1          open the file of the access log anew, nothing else
  TERM, INT     take no new connections, finish requests (at most
                `drain_timeout` of [runtime]), end; a second signal ends at once

Examples:
  ringway run -c ringway.toml
  ringway run -c /etc/ringway/       all *.toml files there are one configuration
  ringway check -c ringway.toml && kill -HUP $(pidof ringway)

Exit codes: 0 stopped by a signal, 1 failed, 2 usage, 78 wrong configuration";

/// Serve what a configuration file or directory says
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(super) struct Args {
    /// The configuration: a file, or a directory of *.toml files
    #[arg(short, long, value_name = "FILE|DIR", default_value = "ringway.toml")]
    config: PathBuf,
}

/// Serves until a signal ends it.
pub(super) fn run(args: &Args) -> ExitCode {
    serve(Source::Path(args.config.clone()), |_| {})
}
