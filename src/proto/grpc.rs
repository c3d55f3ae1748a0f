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

/// Appends the answer to a call that ringway itself ended: a response of trailers only.
pub fn write_answer(out: &mut Vec<u8>, reason: Reason, date: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 200 OK\r\nserver: ringway\r\ndate: ");
    out.extend_from_slice(date);
    out.extend_from_slice(b"\r\ncontent-type: application/grpc\r\nx-ringway-reason: ");
    out.extend_from_slice(reason.code().as_bytes());
    out.extend_from_slice(b"\r\ngrpc-status: ");
    push_decimal(out, u64::from(status_of(reason)));
    out.extend_from_slice(b"\r\ngrpc-message: ringway: ");
    out.extend_from_slice(reason.code().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
