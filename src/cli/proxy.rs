//! `ringway proxy`: a reverse proxy without a configuration file.

use std::{fmt::Write, net::SocketAddr, process::ExitCode};

use crate::{
    cli::serve::{parse_address, serve, toml_string},
    server::{Options, Source},
};

const AFTER: &str = "\
Examples:
  ringway proxy --listen :8080 --to http://127.0.0.1:3000
  ringway proxy --listen :8080 --to 3000 --to 3001 --access-log
  ringway proxy --listen 127.0.0.1:8080 --to http://app.internal:3000 \\
                --host-header upstream --admin 127.0.0.1:9180

Several endpoints take turns. For more than one route write a configuration and
use `ringway run`; `--print-config` shows the one this command works with.";

/// Forward everything to one or more endpoints, no configuration file needed
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(super) struct Args {
    /// Where clients connect; ":8080" and "8080" mean all IPv4 addresses; may be
    /// given several times
    #[arg(short, long, value_name = "ADDR", default_value = "127.0.0.1:8080",
          value_parser = |text: &str| parse_address(text, "0.0.0.0"))]
    listen: Vec<SocketAddr>,

    /// Where requests go; "3000" means http://127.0.0.1:3000; may be given
    /// several times
    #[arg(short, long, value_name = "URL", required = true, value_parser = parse_endpoint)]
    to: Vec<String>,

    /// What Host the endpoint sees: "preserve" (the client's), "upstream" (its
    /// own) or a name
    #[arg(long, value_name = "HOST", default_value = "preserve")]
    host_header: String,

    /// Write a JSON line for each request to standard output, or to a file
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "stdout")]
    access_log: Option<String>,

    /// Serve /metrics, /v1/status and the probes here
    #[arg(long, value_name = "ADDR", value_parser = |text: &str| parse_address(text, "127.0.0.1"))]
    admin: Option<SocketAddr>,

    /// Cores to run on, as Linux lists them: "0-3,8"
    #[arg(long, value_name = "LIST", default_value = "all")]
    cores: String,

    /// Print the configuration this means, and end
    #[arg(long)]
    print_config: bool,
}

/// Serves until a signal ends it.
pub(super) fn run(args: &Args) -> ExitCode {
    let text = config(args);
    if args.print_config {
        print!("{text}");
        return ExitCode::SUCCESS;
    }
    serve(Source::Text { name: "the command line".into(), text }, Options::default(), |_| {})
}

/// The configuration that the arguments mean.
fn config(args: &Args) -> String {
    let mut text = String::new();
    let mut line = |parts: std::fmt::Arguments<'_>| {
        let _ = text.write_fmt(parts); // writing to a String cannot fail
        text.push('\n');
    };
    line(format_args!("[runtime]\ncores = {}\n", toml_string(&args.cores)));
    match args.admin {
        Some(address) => line(format_args!("[admin]\naddress = \"{address}\"\n")),
        None => line(format_args!("[admin]\nenabled = false\n")),
    }
    if let Some(target) = &args.access_log {
        line(format_args!("[log]\naccess = {}\n", toml_string(target)));
    }
    for (number, address) in args.listen.iter().enumerate() {
        let name = if number == 0 { "proxy".into() } else { format!("proxy-{}", number + 1) };
        line(format_args!("[[listener]]\nname = \"{name}\"\naddress = \"{address}\"\n"));
    }
    let host_header = toml_string(&args.host_header);
    line(format_args!("[[route]]\nid = \"all\"\nupstream = \"to\"\nhost_header = {host_header}\n"));
    let endpoints: Vec<String> =
        args.to.iter().map(|url| format!("  {{ url = {} }},\n", toml_string(url))).collect();
    line(format_args!("[[upstream]]\nname = \"to\"\nendpoints = [\n{}]", endpoints.concat()));
    text
}

/// Completes what people leave out: `3000`, `:3000`, `app:3000`.
fn parse_endpoint(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("write a URL such as http://127.0.0.1:3000".into());
    }
    let port = text.strip_prefix(':').unwrap_or(text);
    Ok(match port.parse::<u16>() {
        Ok(port) => format!("http://127.0.0.1:{port}"),
        Err(_) if text.contains("://") => text.to_owned(),
        Err(_) => format!("http://{text}"),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::controlplane::config;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(text: &str) -> Args {
        Cli::try_parse_from(text.split(' ')).expect("valid arguments").args
    }

    #[test]
    fn endpoints_as_people_write_them() {
        assert_eq!(parse_endpoint("3000").as_deref(), Ok("http://127.0.0.1:3000"));
        assert_eq!(parse_endpoint(":3000").as_deref(), Ok("http://127.0.0.1:3000"));
        assert_eq!(parse_endpoint("app:3000").as_deref(), Ok("http://app:3000"));
        assert_eq!(parse_endpoint("http://app").as_deref(), Ok("http://app"));
    }

    #[test]
    fn every_combination_is_a_valid_configuration() {
        for text in [
            "x --to 3000",
            "x --listen :8080 --listen [::1]:8080 --to 3000 --to 3001 --access-log",
            "x --to http://127.0.0.1:1 --access-log=/tmp/a.log --admin :9180 --host-header upstream",
            "x --to 3000 --host-header example.com --cores 0",
        ] {
            let text = config(&args(text));
            if let Err(errors) = config::load_str("test", &text) {
                panic!("{errors}\n{text}");
            }
        }
    }
}
