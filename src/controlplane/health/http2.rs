//! The request of a health check over HTTP/2: one stream on a connection of its own.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, Request, request::Builder};
use tokio::{pin, select};

use super::{
    http::{Matcher, USER_AGENT},
    probe::{Failure, Stream},
};
use crate::{
    base::limits::{HEALTH_BODY_BYTES_MAX, RESPONSE_HEAD_BYTES_MAX},
    snapshot::health::HttpProbe,
};

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: HeaderMap,
    /// At most as many bytes as were asked for, and a frame.
    pub(super) body: Vec<u8>,
    /// Only where all of the body was read.
    pub(super) trailers: HeaderMap,
}

/// Sends the request and judges the response.
pub(super) async fn ask(
    stream: impl Stream,
    probe: &HttpProbe,
    matcher: Option<&Matcher>,
    scheme: &str,
    host: &str,
) -> Result<(), Failure> {
    let request = start(&probe.method, scheme, host, &probe.path);
    let own = probe.fields.iter().any(|(name, _)| &**name == "user-agent");
    let agent = (!own).then_some(("user-agent", USER_AGENT));
    let fields = probe.fields.iter().map(|(name, value)| (&**name, &**value));
    let request =
        fields.chain(agent).fold(request, |request, (name, value)| request.header(name, value));
    let wanted = if matcher.is_some() { HEALTH_BODY_BYTES_MAX } else { 0 };
    let mut answer = exchange(stream, request, None, wanted).await?;
    if !probe.status.contains(answer.status) {
        return Err(Failure::Status(answer.status));
    }
    answer.body.truncate(HEALTH_BODY_BYTES_MAX);
    match matcher {
        Some(matcher) if !matcher.matches(&answer.body) => Err(Failure::Body),
        _ => Ok(()),
    }
}

/// A request without its fields.
pub(super) fn start(method: &str, scheme: &str, host: &str, path: &str) -> Builder {
    Request::builder().method(method).uri(format!("{scheme}://{host}{path}"))
}

/// Sends a request and reads the response up to `wanted` bytes of its body.
pub(super) async fn exchange(
    stream: impl Stream,
    request: Builder,
    body: Option<Bytes>,
    wanted: usize,
) -> Result<Answer, Failure> {
    let request = request.body(()).map_err(|_| Failure::Invalid)?;
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).max_header_list_size(RESPONSE_HEAD_BYTES_MAX as u32);
    let (sender, connection) = builder.handshake::<_, Bytes>(stream).await.map_err(failure)?;
    let asked = async {
        let mut sender = sender.ready().await?;
        let (response, mut out) = sender.send_request(request, body.is_none())?;
        if let Some(body) = body {
            out.send_data(body, true)?;
        }
        let (head, mut incoming) = response.await?.into_parts();
        let mut body = Vec::new();
        let mut ended = false;
        while body.len() < wanted && !ended {
            match incoming.data().await {
                None => ended = true,
                Some(data) => {
                    let data = data?;
                    incoming.flow_control().release_capacity(data.len())?;
                    body.extend_from_slice(&data);
                }
            }
        }
        let trailers = if ended { incoming.trailers().await? } else { None };
        let trailers = trailers.unwrap_or_default();
        Ok(Answer { status: head.status.as_u16(), fields: head.headers, body, trailers })
    };
    pin!(asked);
    let result = select! {
        biased;
        result = &mut asked => result,
        _ = connection => asked.await, // it says why
    };
    result.map_err(failure)
}

fn failure(error: h2::Error) -> Failure {
    match error.get_io() {
        Some(error) => Failure::Cut(error.kind()),
        None if error.is_go_away() || error.is_reset() => Failure::Invalid,
        None => Failure::Cut(io::ErrorKind::UnexpectedEof),
    }
}
