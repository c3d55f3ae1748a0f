//! One request in the access log: what is known of it, and its line in each format.
//!
//! `docs/access-log.md` describes the fields to operators; a test holds it to the names here.

use std::net::SocketAddr;

use crate::{
    base::reason::Reason,
    telemetry::{
        escape::{write_json_string, write_log_quoted},
        time::{write_clf, write_decimal, write_rfc3339, write_to},
    },
};

/// How an access log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// One JSON object a line.
    Json,
    /// Apache's common format.
    Common,
    /// Apache's combined format: common plus Referer and User-Agent.
    Combined,
}

/// What is known of one request when it has ended. Bytes are as the client sent them; what was not
/// known (a head that could not be read) is empty.
#[derive(Clone, Copy, Debug)]
pub struct AccessRecord<'a> {
    /// When the request began, microseconds since 1970.
    pub unix_micros: u64,
    /// The listener's name.
    pub listener: &'a str,
    /// The route's id, if one matched.
    pub route: Option<&'a str>,
    /// The upstream's name, if one was chosen.
    pub upstream: Option<&'a str>,
    /// The endpoint tried last, `host:port` as configured.
    pub endpoint: Option<&'a str>,
    /// The peer of the connection.
    pub client: SocketAddr,
    /// The method; `TCP` for a connection that was passed through.
    pub method: &'a [u8],
    /// The authority asked for, with its port if one was given; the name that TLS was asked for.
    pub host: &'a [u8],
    /// Path and query as received.
    pub target: &'a [u8],
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`; `TCP` for a connection that was passed through.
    pub version: &'static str,
    /// What the client was told, or would have been.
    pub status: u16,
    /// Why ringway answered by itself or cut the exchange short.
    pub reason: Option<Reason>,
    /// Bytes of the request body received.
    pub bytes_in: u64,
    /// Bytes of the response body sent.
    pub bytes_out: u64,
    /// From the first byte of the request to the last of the response, microseconds.
    pub duration_us: u64,
    /// From the choice of an endpoint to its response head, microseconds.
    pub upstream_us: Option<u64>,
    /// Tries after the first.
    pub retries: u8,
    /// The User-Agent field.
    pub user_agent: Option<&'a [u8]>,
    /// The Referer field.
    pub referer: Option<&'a [u8]>,
    /// The CPU whose worker served it.
    pub core: usize,
}

/// Appends one line with its line end. Allocates nothing but room in `out`.
pub fn encode(record: &AccessRecord<'_>, format: AccessLogFormat, out: &mut Vec<u8>) {
    match format {
        AccessLogFormat::Json => encode_json(record, out),
        AccessLogFormat::Common => encode_common(record, out),
        AccessLogFormat::Combined => {
            encode_common(record, out);
            write_optional_quoted(record.referer, out);
            write_optional_quoted(record.user_agent, out);
        }
    }
    out.push(b'\n');
}

/// A field's name as it stands in a line: one literal, as twenty of them are copied for each line.
macro_rules! name {
    ($name:literal) => {
        concat!(",\"", $name, "\":").as_bytes()
    };
}

fn encode_json(record: &AccessRecord<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"time\":\"");
    write_rfc3339(record.unix_micros, out);
    out.push(b'"');
    json_text(name!("listener"), Some(record.listener.as_bytes()), out);
    json_text(name!("route"), record.route.map(str::as_bytes), out);
    json_text(name!("upstream"), record.upstream.map(str::as_bytes), out);
    json_text(name!("endpoint"), record.endpoint.map(str::as_bytes), out);
    out.extend_from_slice(b",\"client\":\"");
    write_client(record.client, out);
    out.push(b'"');
    json_text(name!("method"), Some(record.method), out);
    json_text(name!("host"), Some(record.host), out);
    json_text(name!("target"), Some(record.target), out);
    json_text(name!("version"), Some(record.version.as_bytes()), out);
    json_number(name!("status"), Some(u64::from(record.status)), out);
    json_text(name!("reason"), record.reason.map(|reason| reason.code().as_bytes()), out);
    json_number(name!("bytes_in"), Some(record.bytes_in), out);
    json_number(name!("bytes_out"), Some(record.bytes_out), out);
    json_number(name!("duration_us"), Some(record.duration_us), out);
    json_number(name!("upstream_us"), record.upstream_us, out);
    json_number(name!("retries"), Some(u64::from(record.retries)), out);
    json_text(name!("user_agent"), record.user_agent, out);
    json_text(name!("referer"), record.referer, out);
    json_number(name!("core"), Some(record.core as u64), out);
    out.push(b'}');
}

/// `192.0.2.7:50123`, `[2001:db8::7]:50123`.
fn write_client(client: SocketAddr, out: &mut Vec<u8>) {
    let SocketAddr::V4(client) = client else {
        return write_to(out, format_args!("{client}"));
    };
    for (index, part) in client.ip().octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        write_decimal(out, part.into());
    }
    out.push(b':');
    write_decimal(out, client.port().into());
}

/// `null` for what is not known, so that every line has the same fields. Inlined, as is the next one, so
/// that names are copied without a call for each.
#[inline(always)]
fn json_text(name: &'static [u8], value: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    match value {
        Some(bytes) => write_json_string(bytes, out),
        None => out.extend_from_slice(b"null"),
    }
}

#[inline(always)]
fn json_number(name: &'static [u8], value: Option<u64>, out: &mut Vec<u8>) {
    out.extend_from_slice(name);
    match value {
        Some(number) => write_decimal(out, number),
        None => out.extend_from_slice(b"null"),
    }
}

/// `127.0.0.1 - - [20/Nov/2026:11:16:22 +0000] "GET /x HTTP/1.1" 200 612`
fn encode_common(record: &AccessRecord<'_>, out: &mut Vec<u8>) {
    write_to(out, format_args!("{} - - [", record.client.ip()));
    write_clf(record.unix_micros, out);
    out.extend_from_slice(b"] \"");
    if record.method.is_empty() {
        out.push(b'-');
    } else {
        write_log_quoted(record.method, out);
        out.push(b' ');
        // Of a connection that was passed through there is only the name.
        let target = if record.target.is_empty() { record.host } else { record.target };
        write_log_quoted(target, out);
        out.push(b' ');
        out.extend_from_slice(record.version.as_bytes());
    }
    write_to(out, format_args!("\" {} {}", record.status, record.bytes_out));
}

fn write_optional_quoted(value: Option<&[u8]>, out: &mut Vec<u8>) {
    out.extend_from_slice(b" \"");
    write_log_quoted(value.unwrap_or(b"-"), out);
    out.push(b'"');
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn record() -> AccessRecord<'static> {
        AccessRecord {
            unix_micros: 1_763_637_382_000_123,
            listener: "edge",
            route: Some("users"),
            upstream: Some("users"),
            endpoint: Some("127.0.0.1:8081"),
            client: "192.0.2.7:50123".parse().expect("an address"),
            method: b"GET",
            host: b"api.example.com",
            target: b"/api/users/7?x=%20",
            version: "HTTP/1.1",
            status: 200,
            reason: None,
            bytes_in: 0,
            bytes_out: 612,
            duration_us: 1234,
            upstream_us: Some(1100),
            retries: 0,
            user_agent: Some(b"curl/8"),
            referer: None,
            core: 1,
        }
    }

    fn line(record: &AccessRecord<'_>, format: AccessLogFormat) -> String {
        let mut out = Vec::new();
        encode(record, format, &mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn json_line() {
        assert_eq!(
            line(&record(), AccessLogFormat::Json),
            concat!(
                r#"{"time":"2025-11-20T11:16:22.000123Z","listener":"edge","route":"users","#,
                r#""upstream":"users","endpoint":"127.0.0.1:8081","client":"192.0.2.7:50123","#,
                r#""method":"GET","host":"api.example.com","target":"/api/users/7?x=%20","#,
                r#""version":"HTTP/1.1","status":200,"reason":null,"bytes_in":0,"bytes_out":612,"#,
                r#""duration_us":1234,"upstream_us":1100,"retries":0,"user_agent":"curl/8","#,
                r#""referer":null,"core":1}"#,
                "\n"
            )
        );
    }

    #[test]
    fn apache_lines() {
        let common = "192.0.2.7 - - [20/Nov/2025:11:16:22 +0000] \
                      \"GET /api/users/7?x=%20 HTTP/1.1\" 200 612";
        assert_eq!(line(&record(), AccessLogFormat::Common), format!("{common}\n"));
        assert_eq!(
            line(&record(), AccessLogFormat::Combined),
            format!("{common} \"-\" \"curl/8\"\n")
        );
        let unread = AccessRecord {
            method: b"",
            status: 400,
            reason: Some(Reason::BadRequest),
            bytes_out: 0,
            ..record()
        };
        assert!(line(&unread, AccessLogFormat::Common).ends_with("\"-\" 400 0\n"));
        assert!(line(&unread, AccessLogFormat::Json).contains(r#""reason":"bad_request""#));
    }

    #[test]
    fn every_field_is_described_to_operators() {
        let line = line(&record(), AccessLogFormat::Json);
        let fields: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&line).expect("JSON");
        let text = include_str!("../../docs/access-log.md");
        for name in fields.keys() {
            assert!(text.contains(&format!("| `{name}` |")), "{name} is not in access-log.md");
        }
    }

    proptest! {
        #[test]
        fn nobody_injects_a_line_or_a_field(
            target: Vec<u8>,
            host: Vec<u8>,
            user_agent: Vec<u8>,
            route: String,
        ) {
            let record = AccessRecord {
                target: &target,
                host: &host,
                user_agent: Some(&user_agent),
                route: Some(&route),
                ..record()
            };
            let json = line(&record, AccessLogFormat::Json);
            prop_assert_eq!(json.matches('\n').count(), 1);
            let fields: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&json).expect("one JSON object");
            prop_assert_eq!(fields.len(), 20);
            prop_assert_eq!(fields["route"].as_str(), Some(route.as_str()));
            let combined = line(&record, AccessLogFormat::Combined);
            prop_assert_eq!(combined.matches('\n').count(), 1);
        }
    }
}
