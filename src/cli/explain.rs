//! `ringway explain`: which route a request takes, and why not the others. Of files, or with
//! `--live` of a ringway that runs.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use serde_json::json;

use crate::{
    cli::{EXIT_CONFIG, EXIT_USAGE, live::Live},
    controlplane::{
        config,
        explain::{self, Question},
    },
};

/// Shows which route a request takes, what is sent upstream, and why not the other routes.
///
/// Reads the configuration, sends nothing. Listed are the routes whose listener, host and path
/// match, in the order they are tried, each with the condition that fails. With --live the rules in
/// force of a running ringway are asked, through its admin API.
///
/// With --json: {"route", "status", "target", "upstream", "candidates": [{"route", "failed"}]}.
/// The status is 200 if a route takes the request, else the one ringway answers with (400, 404, 405).
/// Of listeners with mode = "tcp" only the name in the URL counts; they close what no route takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ringway explain GET https://api.example.com/users/7\n  \
                        ringway explain POST http://localhost:8080/ -H 'x-env: gray' --json\n  \
                        ringway explain GET /users/7 -H 'host: api.example.com' -c /etc/ringway\n  \
                        ringway explain --live GET https://api.example.com/users/7\n  \
                        ringway explain TCP tcp://db.example.com:5432")]
pub struct Args {
    /// The method, in upper case
    pub method: String,
    /// The URL; or a path, with -H 'host: ...'. tcp://NAME:PORT for a connection whose client asks
    /// for a name
    pub url: String,
    /// A header of the request; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// The configuration
    #[arg(
        short,
        long,
        value_name = "FILE|DIR",
        default_value = "ringway.toml",
        conflicts_with = "live"
    )]
    pub config: PathBuf,
    /// Where the request comes in; by default the listener with the port of the URL, or the first
    #[arg(long, value_name = "NAME")]
    pub listener: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    live: Live,
}

/// Explains, and says by its exit code whether it could.
pub fn run(args: &Args) -> ExitCode {
    let answer = if args.live.is_wanted() { ask_live(args) } else { ask_files(args) };
    match answer {
        Ok(text) => {
            // A reader that went away (`| head`) is no reason to fail.
            let _ = io::stdout().lock().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err((code, message)) => {
            eprintln!("{}", message.trim_end());
            ExitCode::from(code)
        }
    }
}

fn ask_files(args: &Args) -> Result<String, (u8, String)> {
    let config = config::load(&args.config).map_err(|errors| (EXIT_CONFIG, errors.to_string()))?;
    let question = Question {
        method: &args.method,
        url: &args.url,
        headers: &args.headers,
        listener: args.listener.as_deref(),
    };
    let explained = explain::explain(&config.config, &question)
        .map_err(|message| (EXIT_USAGE, format!("ringway explain: {message}")))?;
    Ok(match args.json {
        true => format!("{:#}\n", explained.to_json()),
        false => explained.to_text(),
    })
}

fn ask_live(args: &Args) -> Result<String, (u8, String)> {
    let question = json!({
        "method": args.method,
        "url": args.url,
        "headers": args.headers,
        "listener": args.listener,
    });
    let mut answer = args
        .live
        .post("/v1/explain", &question)
        .map_err(|error| (error.exit_code(), format!("ringway explain: {error}")))?;
    let text = answer.as_object_mut().and_then(|answer| answer.remove("text"));
    Ok(match (args.json, text.as_ref().and_then(|text| text.as_str())) {
        (false, Some(text)) => text.to_owned(),
        _ => format!("{answer:#}\n"),
    })
}
