//! The call of a gRPC health check. Source: grpc/doc/health-checking.md.

use http::HeaderMap;

use super::{
    http::USER_AGENT,
    http2,
    probe::{Failure, Stream},
};
use crate::{proto::grpc, snapshot::health::GrpcProbe};

/// The longest answer that is looked at, with its frame.
const ANSWER_BYTES_MAX: usize = 1024;

/// Calls `Check` and judges the answer.
pub(super) async fn ask(
    stream: impl Stream,
    probe: &GrpcProbe,
    scheme: &str,
    host: &str,
) -> Result<(), Failure> {
    let request = http2::start("POST", scheme, host, grpc::HEALTH_CHECK)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", USER_AGENT);
    let message = grpc::health_request(&probe.service).into();
    let answer = http2::exchange(stream, request, Some(message), ANSWER_BYTES_MAX).await?;
    if answer.status != 200 {
        return Err(Failure::Status(answer.status));
    }
    match status(&answer.trailers).or_else(|| status(&answer.fields)) {
        Some("0") => {}
        Some(other) => return Err(Failure::Grpc(other.into())),
        None => return Err(Failure::Invalid),
    }
    match grpc::parse_health_response(&answer.body) {
        Some(1) => Ok(()),
        Some(other) => Err(Failure::NotServing(other)),
        None => Err(Failure::Invalid),
    }
}

fn status(fields: &HeaderMap) -> Option<&str> {
    fields.get("grpc-status")?.to_str().ok()
}
