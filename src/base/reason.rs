//! Why ringway itself answered, closed or cut: one code for the log, the metrics and the client.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal;)*) => {
        /// Why ringway answered a request by itself, or ended one early.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $name),* }

        impl Reason {
            /// All reasons, in the order of their discriminants.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),*];

            /// The code in logs, metrics and the `x-ringway-reason` field: a stable interface.
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$name => $code),* }
            }

            /// The status this reason is answered with while no response head has been sent.
            /// Source: RFC 9110 §15.5, §15.6; RFC 6585 §5.
            pub const fn status(self) -> u16 {
                match self { $(Reason::$name => $status),* }
            }
        }
    };
}

reasons! {
    /// No route matches.
    NoRoute = "no_route", 404;
    /// A route matches but for its method.
    MethodNotAllowed = "method_not_allowed", 405;
    /// A preflight of CORS, answered for a route that allows the origin.
    CorsPreflight = "cors_preflight", 204;
    /// A preflight of CORS from an origin that the route does not allow.
    CorsRefused = "cors_refused", 403;
    /// CONNECT is not offered.
    ConnectRefused = "connect_refused", 405;
    /// `Max-Forwards: 0`: ringway is the last recipient.
    MaxForwards = "max_forwards", 200;
    /// The request head breaks the grammar.
    BadRequest = "bad_request", 400;
    /// The request's framing could be read in two ways.
    BadFraming = "bad_framing", 400;
    /// Missing, repeated or invalid Host, or one that contradicts the target.
    BadHost = "bad_host", 400;
    /// The target's path can't be normalised safely.
    BadTarget = "bad_target", 400;
    /// Plain HTTP where TLS is spoken.
    PlainHttp = "plain_http", 400;
    /// The connection was made for a name whose clients are asked for something else.
    Misdirected = "misdirected", 421;
    /// A transfer coding other than chunked.
    CodingUnsupported = "coding_unsupported", 501;
    /// An HTTP version other than 1.0 and 1.1.
    VersionUnsupported = "version_unsupported", 505;
    /// An upgrade on the way to an endpoint that speaks HTTP/2 and does not offer it there.
    UpgradeUnsupported = "upgrade_unsupported", 501;
    /// An Expect other than `100-continue`.
    ExpectationFailed = "expectation_failed", 417;
    /// The request line is longer than `header_bytes_max`.
    TargetTooLong = "target_too_long", 414;
    /// The head is longer than `header_bytes_max` or has more than `header_count_max` fields.
    HeaderTooLarge = "header_too_large", 431;
    /// The body is longer than `body_bytes_max`.
    BodyTooLarge = "body_too_large", 413;
    /// A chunk of the request body breaks the grammar.
    BadChunk = "bad_chunk", 400;
    /// The head did not arrive within `header_timeout`.
    HeaderTimeout = "header_timeout", 408;
    /// The request body paused longer than `body_timeout`.
    BodyTimeout = "body_timeout", 408;
    /// The client went away; nobody sees the status, the log does (as nginx writes it).
    ClientGone = "client_gone", 499;
    /// The client stopped reading or writing and was cut off.
    ClientStalled = "client_stalled", 499;
    /// Connecting to the endpoint was refused.
    UpstreamConnectRefused = "upstream_connect_refused", 502;
    /// Connecting took longer than `timeouts.connect`.
    UpstreamConnectTimeout = "upstream_connect_timeout", 504;
    /// Connecting failed for another reason (unreachable, no address, no free port).
    UpstreamConnectFailed = "upstream_connect_failed", 502;
    /// The TLS handshake with the endpoint failed: its certificate, or nothing in common.
    UpstreamTlsFailed = "upstream_tls_failed", 502;
    /// The endpoint closed or reset the connection before a whole response head.
    UpstreamClosed = "upstream_closed", 502;
    /// The endpoint's response breaks the grammar, or its framing could be read in two ways.
    UpstreamInvalid = "upstream_invalid", 502;
    /// The endpoint's response head is too large.
    UpstreamHeaderTooLarge = "upstream_header_too_large", 502;
    /// The endpoint was silent for longer than `timeouts.response`.
    UpstreamTimeout = "upstream_timeout", 504;
    /// The endpoint's body ended early; the client was shown so.
    UpstreamTruncated = "upstream_truncated", 502;
    /// The endpoint sent its body slower than `timeouts.body_rate_min`; the client was shown so.
    UpstreamTooSlow = "upstream_too_slow", 504;
    /// The exchange took longer than the route's `timeout`.
    RouteTimeout = "route_timeout", 504;
    /// The upstream has no endpoint.
    NoEndpoint = "no_endpoint", 503;
    /// The circuit breaker of the upstream, or of all its endpoints, is open.
    CircuitOpen = "circuit_open", 503;
    /// As many requests as may be are with the upstream (`[upstream.overload]`), or as many connections
    /// as may be are in use, and too many wait.
    UpstreamOverloaded = "upstream_overloaded", 503;
    /// The request waited for `overload.pending_timeout` and no place or connection came free.
    PendingTimeout = "pending_timeout", 503;
    /// No buffer or other memory is free on this core.
    Overloaded = "overloaded", 503;
    /// This core has as many connections as it may.
    ConnectionLimit = "connection_limit", 503;
    /// ringway is draining.
    Draining = "draining", 503;
    /// A defect of ringway; the connection was closed and the place is in the log.
    Internal = "internal", 500;
}

impl Reason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_ordered_by_discriminant() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert_eq!(Reason::ALL.iter().filter(|r| r.code() == reason.code()).count(), 1);
        }
    }
}
