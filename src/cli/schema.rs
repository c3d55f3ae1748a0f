//! `ringway schema`: the JSON Schema of the configuration, for editors.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::controlplane::config::schema;

/// Prints the JSON Schema of the configuration.
///
/// Editors complete keys and mark mistakes with it: save it as ringway.schema.json, and write
/// `#:schema ./ringway.schema.json` on the first line of ringway.toml (Taplo, Even Better TOML).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  ringway schema > ringway.schema.json")]
pub struct Args {}

/// Prints the schema.
pub fn run(_args: &Args) -> ExitCode {
    let mut out = io::stdout().lock();
    let printed = serde_json::to_writer_pretty(&mut out, &schema::schema())
        .map_err(io::Error::from)
        .and_then(|()| writeln!(out));
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("ringway: the schema can't be written: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
