//! What ringway has to know of gRPC: its deadlines, and how a call fails in its terms.
//!
//! Source: grpc/doc/PROTOCOL-HTTP2.md, grpc/doc/http-grpc-status-mapping.md.

use std::time::Duration;

use super::bytes::{parse_u64, push_decimal};
use crate::base::reason::Reason;

/// Whether this Content-Type is that of a call: `application/grpc`, also with `+proto` and others,
/// but not `application/grpc-web`.
pub fn is_call(content_type: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    content_type.get(..TYPE.len()).is_some_and(|start| start.eq_ignore_ascii_case(TYPE))
        && matches!(content_type.get(TYPE.len()), None | Some(b'+' | b';' | b' '))
}

/// How long a `grpc-timeout` is: up to eight digits and a unit, `H`, `M`, `S`, `m`, `u` or `n`.
/// `None` if it is none of these: the endpoint may complain about it.
pub fn parse_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.len() > 8 {
        return None;
    }
    let number = parse_u64(digits)?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The code of a call that ringway itself ended.
pub fn status_of(reason: Reason) -> u8 {
    const CANCELLED: u8 = 1;
    const DEADLINE_EXCEEDED: u8 = 4;
    const RESOURCE_EXHAUSTED: u8 = 8;
    const UNIMPLEMENTED: u8 = 12;
    const INTERNAL: u8 = 13;
    const UNAVAILABLE: u8 = 14;
    match reason {
        Reason::ClientGone => CANCELLED,
        Reason::RouteTimeout | Reason::UpstreamTimeout => DEADLINE_EXCEEDED,
        Reason::NoRoute | Reason::MethodNotAllowed => UNIMPLEMENTED,
        Reason::UpstreamInvalid | Reason::UpstreamHeaderTooLarge | Reason::Internal => INTERNAL,
        reason => match reason.status() {
            413 | 414 | 429 | 431 => RESOURCE_EXHAUSTED,
            502..=504 => UNAVAILABLE,
            408 => DEADLINE_EXCEEDED,
            _ => INTERNAL,
        },
    }
}

/// Whether the trailers of a response, each line with its CRLF, say that a call failed.
pub fn has_failed(trailers: &[u8]) -> bool {
    let lines = trailers.split(|byte| *byte == b'\n');
    let mut fields =
        lines.filter_map(|line| line.split_at_checked(line.iter().position(|b| *b == b':')?));
    let status = fields.find(|(name, _)| name.eq_ignore_ascii_case(b"grpc-status"));
    status.is_some_and(|(_, value)| value[1..].trim_ascii() != b"0")
}

/// The path of a health check. Source: grpc/doc/health-checking.md.
pub const HEALTH_CHECK: &str = "/grpc.health.v1.Health/Check";

/// The message that asks for the health of a service, empty for that of the server, with its frame.
pub fn health_request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a); // field 1, of bytes
        let mut length = service.len();
        while length > 0x7f {
            message.push(0x80 | (length & 0x7f) as u8);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0]; // not compressed
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(&message);
    framed
}

/// The `status` of the answer, by number: 1 is SERVING. `None` if `framed` is no such message.
pub fn parse_health_response(framed: &[u8]) -> Option<u64> {
    let (head, rest) = framed.split_at_checked(5)?;
    let [0, length @ ..] = head else { return None };
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let mut message = rest.get(..usize::try_from(length).ok()?)?;
    let mut status = 0; // left out where it is 0
    while !message.is_empty() {
        let tag = take_varint(&mut message)?;
        let skipped = match tag & 7 {
            0 => {
                let value = take_varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(take_varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(status)
}

/// Takes a number off the front. Source: protobuf.dev, "Encoding", base 128 varints.
fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Appends the answer to a call that ringway itself ended: a response of trailers only.
pub fn write_answer(out: &mut Vec<u8>, reason: Reason, date: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\nserver: ringway\r\ndate: ");
    out.extend_from_slice(date);
    out.extend_from_slice(b"\r\ncontent-type: application/grpc\r\nx-ringway-reason: ");
    out.extend_from_slice(reason.code().as_bytes());
    out.extend_from_slice(b"\r\n");
    write_failure(out, reason);
    out.extend_from_slice(b"\r\n");
}

/// Appends the fields that say why ringway itself ended a call.
pub fn write_failure(out: &mut Vec<u8>, reason: Reason) {
    out.extend_from_slice(b"grpc-status: ");
    push_decimal(out, u64::from(status_of(reason)));
    out.extend_from_slice(b"\r\ngrpc-message: ringway: ");
    out.extend_from_slice(reason.code().as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_say_whether_a_call_failed() {
        assert!(has_failed(b"grpc-status: 13\r\ngrpc-message: x\r\n"));
        assert!(has_failed(b"x: 1\r\nGrpc-Status:5\r\n") && has_failed(b"grpc-status:\r\n"));
        assert!(!has_failed(b"grpc-status: 0\r\n") && !has_failed(b"grpc-status:0\r\nx: 5\r\n"));
        assert!(!has_failed(b"") && !has_failed(b"x-grpc-status: 5\r\n"));
    }

    #[test]
    fn calls_by_their_type() {
        for is in ["application/grpc", "application/grpc+proto", "Application/GRPC;x=y"] {
            assert!(is_call(is.as_bytes()), "{is}");
        }
        for is_not in ["", "application/grpc-web", "application/grpc-web+proto", "text/grpc"] {
            assert!(!is_call(is_not.as_bytes()), "{is_not}");
        }
    }

    #[test]
    fn timeouts() {
        let millis = |value: &str| parse_timeout(value.as_bytes()).map(|time| time.as_millis());
        assert_eq!(millis("1H"), Some(3_600_000));
        assert_eq!(millis("2M"), Some(120_000));
        assert_eq!(millis("3S"), Some(3_000));
        assert_eq!(millis("99999999m"), Some(99_999_999));
        assert_eq!(millis("5000u"), Some(5));
        assert_eq!(millis("7000000n"), Some(7));
        for none in ["", "S", "1", "1s", "-1S", "1.5S", "123456789S", " 1S"] {
            assert_eq!(millis(none), None, "{none}");
        }
    }

    #[test]
    fn every_reason_is_a_failure() {
        assert!(Reason::ALL.iter().all(|reason| (1..=16).contains(&status_of(*reason))));
        assert_eq!(status_of(Reason::UpstreamConnectRefused), 14);
        assert_eq!(status_of(Reason::UpstreamTimeout), 4);
        assert_eq!(status_of(Reason::NoRoute), 12);
    }

    #[test]
    fn health_is_asked_for_and_understood() {
        assert_eq!(health_request(""), [0, 0, 0, 0, 0]);
        assert_eq!(health_request("a.B"), *b"\0\0\0\0\x05\x0a\x03a.B");
        let long = health_request(&"x".repeat(300));
        assert_eq!(long[..8], *b"\0\0\0\x01\x2f\x0a\xac\x02");
        for (bytes, status) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], Some(1)),
            (b"\0\0\0\0\x02\x08\x02 more", Some(2)),
            (b"\0\0\0\0\0", Some(0)),
            (b"\0\0\0\0\x06\x12\x02xy\x08\x01", Some(1)),
            (b"\x01\0\0\0\x02\x08\x01", None),
            (b"\0\0\0\0\x03\x08\x01", None),
            (b"\0\0\0\0\x02\x08\x81", None),
            (b"\0\0\0\0\x02\x12\x09", None),
            (b"\0\0", None),
        ] {
            assert_eq!(parse_health_response(bytes), status, "{bytes:?}");
        }
    }
}
