//! The middle: one client connection, request by request, from its head to its log line.
//!
//! [`serve`] reads heads; each becomes an [`exchange`], which decides (route), forwards (endpoint,
//! connection, both bodies) or answers, and ends in one `finish`. Bodies of both directions move
//! through [`relay`].

mod affinity;
mod answer;
mod attempt;
mod browser;
mod choice;
mod connect;
mod connection;
mod converse;
mod exchange;
mod finish;
mod forward;
mod guard;
mod hedge;
mod http2;
mod links;
mod mirror;
mod pass;
mod piece;
mod relay;
mod respond;
mod retry;
mod target;
mod timing;
mod tls;
mod tunnel;
mod upload;

pub use connection::serve;
