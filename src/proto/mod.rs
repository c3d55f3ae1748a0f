//! Bytes in, decisions out: HTTP heads, framing, chunks. No socket, no clock.
//!
//! Called by the data plane (which owns the buffers) and by `policy` (head types, path and host
//! normal forms). What must hold: bytes of a peer never panic; a result never depends on how the
//! bytes were cut; whatever two parsers could read differently is refused. Tests: at the bottom of
//! each file, in `h1/cases/`, in `tests/proto_cuts.rs` and in `fuzz/`.

pub mod bytes;
pub mod grpc;
pub mod grpc_web;
pub mod h1;
pub mod h2;
pub mod host;
pub mod proxy_protocol;
pub mod uri;
pub mod websocket;
