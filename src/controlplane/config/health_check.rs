//! `[upstream.health_check]`: how endpoints are checked.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use regex::bytes::RegexBuilder;

use super::{host_header, table::Table, units, value::Value};
use crate::{
    base::limits::{REGEX_BYTES_MAX, REGEX_NESTING_MAX},
    policy::health::Thresholds,
    snapshot::health::{
        BodyMatch, GrpcProbe, HeaderField, HealthCheck, HttpProbe, Probe, StatusSet,
    },
    tls::ClientTls,
};

/// Keys that a check of another type does not have.
const HTTP_ONLY: [&str; 6] = ["path", "method", "headers", "status", "body", "http"];
const GRPC_ONLY: [&str; 1] = ["service"];
const NOT_TCP: [&str; 2] = ["host", "tls"];

/// Fields that a check sends by itself, or that would change where its answer ends.
const FIELDS_OWN: [&str; 6] =
    ["connection", "content-length", "host", "transfer-encoding", "upgrade", "expect"];

/// Reads the table. `tls` and `http2`: how the endpoints of the upstream are spoken to.
pub(super) fn read(
    table: &Table<'_>,
    tls: Option<&Arc<ClientTls>>,
    http2: bool,
) -> Option<HealthCheck> {
    let kind = table.choice("type");
    let interval = table.duration("interval");
    if kind != "grpc" {
        refuse(table, &GRPC_ONLY, kind, "grpc");
    }
    if kind != "http" {
        refuse(table, &HTTP_ONLY, kind, "http");
    }
    let probe = match kind {
        "tcp" => {
            refuse(table, &NOT_TCP, kind, "http");
            Some(Probe::Tcp)
        }
        "grpc" => grpc(table).map(|probe| Probe::Grpc(Box::new(probe))),
        _ => http(table).map(|probe| Probe::Http(Box::new(probe))),
    };
    let http2 = match table.get("http") {
        Some(_) => table.choice("http") == "h2",
        None => http2,
    };
    let tls = tls.filter(|_| table.boolean("tls")).cloned();
    // All of them are looked at, whatever is wrong with one.
    let port = table.integer_opt("port").map(|port| port as u16); // in its declared range
    let jitter_per_10k = table.share("jitter");
    let timeout = timeout(table, interval);
    let fails = table.integer("fails") as u32;
    let passes = table.integer("passes") as u32;
    let initially_up = table.choice("initial") == "up";
    Some(HealthCheck {
        probe: probe?,
        http2,
        proxy_protocol: None, // that of the upstream, which knows it
        tls,
        port,
        interval,
        jitter_per_10k,
        timeout: timeout?,
        thresholds: Thresholds { fails, passes },
        initially_up,
    })
}

/// Reports keys that mean nothing for a type of check.
fn refuse(table: &Table<'_>, keys: &[&str], kind: &str, other: &str) {
    for value in keys.iter().filter_map(|key| table.get(key)) {
        value.error(
            format!("a check of type \"{kind}\" has no such key"),
            format!("remove it, or write type = \"{other}\""),
        );
    }
}

/// A check that lasts longer than the interval would delay the next one.
fn timeout(table: &Table<'_>, interval: Duration) -> Option<Duration> {
    let timeout = table.duration("timeout");
    match table.get("timeout") {
        Some(value) if timeout > interval => {
            let shown = units::show_duration(interval);
            value.error(
                format!("it is longer than the interval, {shown}"),
                format!("write at most \"{shown}\", or a longer interval"),
            );
            None
        }
        _ => Some(timeout.min(interval)),
    }
}

fn grpc(table: &Table<'_>) -> Option<GrpcProbe> {
    let service = match table.get("service") {
        Some(value) => value.text().map(|text| (*text).into()),
        None => Some("".into()),
    };
    let host = optional(table, "host", host);
    Some(GrpcProbe { service: service?, host: host? })
}

/// What a key says, if it is there; `None` if that is wrong.
fn optional<T>(
    table: &Table<'_>,
    key: &str,
    read: fn(&Value<'_>) -> Option<T>,
) -> Option<Option<T>> {
    match table.get(key) {
        Some(value) => read(&value).map(Some),
        None => Some(None),
    }
}

fn http(table: &Table<'_>) -> Option<HttpProbe> {
    let path = path(table);
    let host = optional(table, "host", host);
    let fields = fields(table);
    let status = match table.get("status") {
        Some(value) => status(&value),
        None => Some(StatusSet([200..=299].into())),
    };
    let body = optional(table, "body", body);
    Some(HttpProbe {
        method: table.choice("method").into(),
        path: path?,
        host: host?,
        fields: fields?,
        status: status?,
        body: body?,
    })
}

fn path(table: &Table<'_>) -> Option<Box<str>> {
    let Some(value) = table.get("path") else { return Some("/".into()) };
    let text = value.text()?;
    let hint = format!("write \"/{}\"", text.trim_start_matches('/'));
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte);
    let problem = match text.as_bytes() {
        [] => "an empty path",
        [b'/', rest @ ..] if rest.iter().all(|byte| is_plain(*byte)) => {
            return Some((*text).into());
        }
        [b'/', ..] => {
            value.error(
                format!("\"{}\" has a character that a URL may not have", value.shown(&text)),
                "percent-encode it",
            );
            return None;
        }
        _ => "it does not begin with a slash",
    };
    value.error(problem, hint);
    None
}

fn host(value: &Value<'_>) -> Option<Box<str>> {
    let text = value.text()?;
    if host_header::is_authority(&text) {
        return Some((*text).into());
    }
    let hint = "write a host such as \"example.com\" or \"example.com:8080\"";
    value.error(format!("\"{}\" is not a host", value.shown(&text)), hint);
    None
}

fn fields(table: &Table<'_>) -> Option<Box<[HeaderField]>> {
    let Some(value) = table.get("headers") else { return Some(Box::default()) };
    let field = |pair: super::value::Pair<'_>| {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let name = pair.name.to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(is_token) {
            let hint = "write a name such as x-check";
            pair.value.error(format!("\"{}\" is no name of a header", pair.name), hint);
            return None;
        }
        if FIELDS_OWN.contains(&&*name) {
            let hint = match &*name {
                "host" => "write host = \"...\" instead",
                _ => "remove it: the check writes it",
            };
            pair.value.error(format!("\"{}\" can't be set", pair.name), hint);
            return None;
        }
        if pair.text.bytes().any(|byte| byte.is_ascii_control()) {
            pair.value.error("control characters in a header", "write printable text");
            return None;
        }
        Some((name.into(), (*pair.text).into()))
    };
    let fields: Vec<Option<_>> = value.pairs().into_iter().map(field).collect();
    fields.into_iter().collect()
}

fn status(value: &Value<'_>) -> Option<StatusSet> {
    let text = value.text()?;
    match parse_status(&text) {
        Ok(set) => Some(set),
        Err(part) => {
            let message = format!("\"{part}\" is neither a status nor a range of them");
            value.error(message, "write statuses in 100..=999: \"200\", \"200-299,404\"");
            None
        }
    }
}

/// `200-299,404`. The part that is wrong, if one is.
fn parse_status(text: &str) -> Result<StatusSet, &str> {
    let number = |text: &str| {
        let is_number = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|status| is_number && *status >= 100)
    };
    let range = |part: &str| -> Option<RangeInclusive<u16>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first.trim())?, number(last.trim())?);
        (first <= last).then_some(first..=last)
    };
    let parts = text.split(',').map(str::trim);
    let ranges: Result<_, &str> = parts.map(|part| range(part).ok_or(part)).collect();
    ranges.map(StatusSet)
}

fn body(value: &Value<'_>) -> Option<BodyMatch> {
    let text = value.text()?;
    if text.is_empty() || &*text == "~" {
        value.error("it matches every body", "leave the key out");
        return None;
    }
    let Some(regex) = text.strip_prefix('~') else {
        return Some(BodyMatch::Contains((*text).into()));
    };
    let built =
        RegexBuilder::new(regex).size_limit(REGEX_BYTES_MAX).nest_limit(REGEX_NESTING_MAX).build();
    match built {
        Ok(_) => Some(BodyMatch::Regex(regex.into())),
        Err(error) => {
            let report = error.to_string();
            let last = report.lines().rev().find(|line| !line.trim().is_empty());
            let cause = last.unwrap_or("invalid").trim().trim_start_matches("error: ");
            let hint = "the syntax is that of RE2 and Rust's regex: no look-around, no \
                        back-references; in TOML write it in single quotes";
            value.error(format!("bad regex \"{}\": {cause}", value.shown(regex)), hint);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_statuses() {
        let set = parse_status("200-299, 404").unwrap();
        for (status, is_in) in [(199, false), (200, true), (299, true), (300, false), (404, true)] {
            assert_eq!(set.contains(status), is_in, "{status}");
        }
        for wrong in ["", "2xx", "99", "1000", "300-200", "200-", "200,,404", "+20"] {
            assert!(parse_status(wrong).is_err(), "{wrong}");
        }
    }
}
