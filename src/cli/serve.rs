//! What the commands that serve have in common: run the server, say why it ended.

use std::{io::Write, net::SocketAddr, process::ExitCode};

use crate::{
    cli::{EXIT_CONFIG, EXIT_USAGE},
    controlplane::config::{ConfigErrors, Severity},
    server::{self, Options, Running, ServerError, Source},
    telemetry::escape::write_json_string,
};

/// Serves until a signal ends it.
pub(super) fn serve(source: Source, options: Options, on_ready: impl FnOnce(Running)) -> ExitCode {
    let from_file = matches!(source, Source::Path(_));
    match server::run(source, options, on_ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(ServerError::Config(errors)) if from_file => refuse(&errors),
        Err(ServerError::Config(errors)) => refuse_arguments(&errors),
        Err(error) => fail(&error),
    }
}

/// Says what is wrong with a configuration.
fn refuse(errors: &ConfigErrors) -> ExitCode {
    let count = errors.count(Severity::Error);
    let noun = if count == 1 { "mistake" } else { "mistakes" };
    let text =
        format!("{errors}ringway: {count} {noun} in the configuration; nothing was started\n");
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
    ExitCode::from(EXIT_CONFIG)
}

/// Says what is wrong with arguments that were made into a configuration: places in a text that
/// nobody wrote would only confuse.
fn refuse_arguments(errors: &ConfigErrors) -> ExitCode {
    for problem in errors.0.iter().filter(|problem| problem.severity == Severity::Error) {
        fail(&format_args!("{}; {}", problem.message, problem.hint));
    }
    ExitCode::from(EXIT_USAGE)
}

/// Says why something failed.
pub(super) fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "ringway: error: {error}");
    ExitCode::FAILURE
}

/// Text as a TOML string that means exactly this text, `${` included. TOML's basic strings know
/// every escape that JSON's know. Source: TOML 1.0, "String".
pub(super) fn toml_string(text: &str) -> String {
    let mut out = Vec::new();
    write_json_string(text.replace("${", "$${").as_bytes(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Reads an address as people write it: `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`; `:8080`
/// and `8080` mean that port of `host`.
///
/// # Errors
/// What was expected.
pub(super) fn parse_address(text: &str, host: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix(':').unwrap_or(text);
    let full = match port.parse::<u16>() {
        Ok(port) => format!("{host}:{port}"),
        Err(_) => text.to_owned(),
    };
    let expected = || format!("`{text}` is no address; write 127.0.0.1:8080, [::1]:8080 or :8080");
    match full.parse() {
        Ok(address) => Ok(address),
        Err(_) => std::net::ToSocketAddrs::to_socket_addrs(full.as_str())
            .ok()
            .and_then(|mut addresses| addresses.next())
            .ok_or_else(expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        let parse = |text| parse_address(text, "0.0.0.0").map(|address| address.to_string());
        assert_eq!(parse(":8080").as_deref(), Ok("0.0.0.0:8080"));
        assert_eq!(parse("8080").as_deref(), Ok("0.0.0.0:8080"));
        assert_eq!(parse("127.0.0.1:80").as_deref(), Ok("127.0.0.1:80"));
        assert_eq!(parse("[::1]:80").as_deref(), Ok("[::1]:80"));
        for wrong in ["", ":", "99999", "127.0.0.1", "a b:80", "::1:80:x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn text_survives_toml() {
        assert_eq!(toml_string("a\"b\\c\n"), r#""a\"b\\c\n""#);
        assert_eq!(toml_string("http://x/${HOME}"), r#""http://x/$${HOME}""#);
    }
}
