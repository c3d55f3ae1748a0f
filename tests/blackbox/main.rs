//! The black-box tests: one program, so that the support is compiled and linked once and the tests'
//! waits overlap. Run a group with `cargo test --test blackbox smuggling::`.
//!
//! Each file is a group; `tests/tidy.rs` sees to it that none is forgotten below.

mod support;

mod admin;
mod balancing;
mod cli;
mod cores;
mod cors;
mod dns;
mod drain;
mod edges;
mod endpoint_faults;
mod endpoints;
mod failing;
mod fallback;
mod faults;
mod grpc;
mod grpc_web;
mod health;
mod health_protocols;
mod heartbeats;
mod hedging;
mod hop_by_hop;
mod hosts_targets;
mod http2;
mod http2_floods;
mod http2_rules;
mod http2_tls;
mod http2_upstream;
mod http2_websocket;
mod http2_windows;
mod limits;
mod listeners;
mod memory;
mod mirror;
mod mutations;
mod observe;
mod overload;
mod pools;
mod protocol;
mod proxy_protocol;
mod proxy_protocol_out;
mod reload;
mod responses;
mod retries;
mod rollouts;
mod routing;
mod smuggling;
mod split;
mod streams;
mod systemd;
mod takeover;
mod tcp;
mod tls;
mod tls_upstream;
mod upgrade;
