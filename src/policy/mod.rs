//! Decisions as pure functions: values in, decision out. No socket, no clock, no randomness of its own.

pub mod balance;
pub mod breaker;
pub mod connections;
pub mod cors;
pub mod forwarded;
pub mod health;
pub mod hedge;
pub mod key;
pub mod outlier;
pub mod overload;
pub mod pace;
pub mod retry;
pub mod rollout;
pub mod route;
pub mod split;
