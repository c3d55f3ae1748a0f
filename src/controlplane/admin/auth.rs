//! Who may call the admin API.

use std::net::SocketAddr;

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};

use super::{problem, serve::Peer};

/// The token, if one is set.
#[derive(Clone)]
pub(super) struct Guard {
    token: Option<Box<[u8]>>,
}

impl Guard {
    pub(super) fn new(token: Option<&str>) -> Self {
        Self { token: token.map(|token| token.as_bytes().into()) }
    }

    /// Whether a call with this Authorization from this peer may pass.
    fn admits(&self, authorization: Option<&HeaderValue>, peer: SocketAddr) -> Result<(), Refusal> {
        let Some(token) = &self.token else {
            return if is_local(peer) { Ok(()) } else { Err(Refusal::NotLocal) };
        };
        match authorization.and_then(|value| bearer(value.as_bytes())) {
            Some(given) if same(given, token) => Ok(()),
            Some(_) => Err(Refusal::WrongToken),
            None => Err(Refusal::NoToken),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    NotLocal,
    NoToken,
    WrongToken,
}

/// Lets a call pass or answers it.
pub(super) async fn check(
    State(guard): State<Guard>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let hint = "send `Authorization: Bearer TOKEN` with the token of [admin]";
    if guard.token.is_none() && !may_be_named(request.uri().path(), request.headers()) {
        return problem(
            StatusCode::FORBIDDEN,
            "without a token this must be called by address, not by name",
            "call http://127.0.0.1 or localhost, or set `token` in [admin]",
        );
    }
    match guard.admits(request.headers().get(header::AUTHORIZATION), peer) {
        Ok(()) => next.run(request).await,
        Err(Refusal::NotLocal) => problem(
            StatusCode::FORBIDDEN,
            "without a token only this machine may call",
            "set `token` in [admin], or call from 127.0.0.1",
        ),
        Err(Refusal::NoToken) => challenge(problem(StatusCode::UNAUTHORIZED, "no token", hint)),
        Err(Refusal::WrongToken) => {
            challenge(problem(StatusCode::UNAUTHORIZED, "wrong token", hint))
        }
    }
}

/// Whether the Host of a call is one that no other site can have. A page somewhere can point its own
/// name at this machine and call as its visitor's browser (DNS rebinding); what only shows numbers is
/// left open for scrapers that call by name.
fn may_be_named(path: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }
    });
    let address = name.trim_start_matches('[').trim_end_matches(']');
    matches!(path, "/metrics" | "/v1/status")
        || name.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok()
}

/// Source: RFC 9110 §11.6.1: a 401 says how to authenticate.
fn challenge(mut response: Response) -> Response {
    let how = HeaderValue::from_static("Bearer realm=\"ringway\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
    response
}

/// The token of `Bearer TOKEN`; the scheme in any case. Source: RFC 9110 §11.1, RFC 6750 §2.1.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// Compares without telling by its duration how many bytes are right; only the length shows.
fn same(given: &[u8], token: &[u8]) -> bool {
    let differing = given.iter().zip(token).fold(0, |sum, (a, b)| sum | (a ^ b));
    given.len() == token.len() && std::hint::black_box(differing) == 0
}

fn is_local(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(token: Option<&str>, authorization: Option<&str>, peer: &str) -> Result<(), Refusal> {
        let value = authorization.map(|text| HeaderValue::from_str(text).expect("a value"));
        Guard::new(token).admits(value.as_ref(), peer.parse().expect("an address"))
    }

    #[test]
    fn a_token_opens_from_anywhere_and_is_needed_everywhere() {
        let far = "192.0.2.1:5";
        assert_eq!(admits(Some("s3cret"), Some("Bearer s3cret"), far), Ok(()));
        assert_eq!(admits(Some("s3cret"), Some("bearer  s3cret "), far), Ok(()));
        for wrong in ["Bearer s3cre", "Bearer s3cretx", "Bearer ", "Bearer S3CRET"] {
            assert_eq!(admits(Some("s3cret"), Some(wrong), far), Err(Refusal::WrongToken));
        }
        for none in [None, Some("Basic s3cret"), Some("s3cret"), Some("")] {
            assert_eq!(admits(Some("s3cret"), none, "127.0.0.1:5"), Err(Refusal::NoToken));
        }
    }

    #[test]
    fn other_sites_have_no_address_of_this_machine() {
        let call = |path: &str, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_str(host).expect("a value"));
            may_be_named(path, &headers)
        };
        for host in ["127.0.0.1:9180", "127.0.0.1", "[::1]:9180", "[::1]", "LocalHost:9180"] {
            assert!(call("/v1/config", host), "{host}");
        }
        for host in ["evil.test:9180", "127.0.0.1.evil.test", "", "localhost.evil.test:80"] {
            assert!(!call("/v1/config", host), "{host}");
        }
        assert!(call("/metrics", "host.example") && !may_be_named("/v1/config", &HeaderMap::new()));
    }

    #[test]
    fn without_a_token_only_this_machine_may_call() {
        assert_eq!(admits(None, None, "127.0.0.1:5"), Ok(()));
        assert_eq!(admits(None, None, "[::1]:5"), Ok(()));
        assert_eq!(admits(None, None, "[::ffff:127.0.0.1]:5"), Ok(()));
        assert_eq!(admits(None, None, "192.0.2.1:5"), Err(Refusal::NotLocal));
        assert_eq!(admits(None, None, "[::ffff:192.0.2.1]:5"), Err(Refusal::NotLocal));
    }
}
