//! `ringway run`: serve what a configuration says.

use std::{path::PathBuf, process::ExitCode};

use crate::{
    cli::serve::serve,
    server::{Options, Source},
};

const AFTER: &str = "\
The configuration is watched: when it changes it is read again, unless --no-watch
is given.

Signals:
  HUP           read the configuration again: listeners, routes, upstreams, limits
                and the access log change at once, requests in flight finish
                under the old rules; a mistake leaves everything as it was. The
                file of the access log is opened anew.
  USR1          open the file of the access log anew, nothing else
  USR2          start the binary at the same path, hand the listening sockets to
                it, and end when it serves; if it does not, nothing changes
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

    /// The configuration, as for `ringway check`
    #[arg(value_name = "FILE|DIR", conflicts_with = "config")]
    path: Option<PathBuf>,

    /// Do not watch the configuration: only SIGHUP reads it again
    #[arg(long)]
    no_watch: bool,
}

/// Serves until a signal ends it.
pub(super) fn run(args: &Args) -> ExitCode {
    let path = args.path.as_ref().unwrap_or(&args.config);
    serve(Source::Path(path.clone()), Options { watch: !args.no_watch }, |_| {})
}
