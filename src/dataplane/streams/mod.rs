//! HTTP/2 as a transport: a connection that carries streams, and streams that the rest of the data
//! plane takes for sockets with HTTP/1 on them.
//!
//! [`Carrier`] is a client's connection, [`Link`] one to an endpoint: both drive the `h2` crate over a
//! [`Socket`](super::socket::Socket) ([`io`]). A [`Stream`] reads as the text that `proto::h2` makes of
//! what arrives, and takes text apart into frames; nothing is kept in between but the buffer that
//! the reader or writer brings, so flow control is the back-pressure from end to end. Why it is done
//! so is in `docs/adr/0011-http2.md`.

mod carrier;
mod chunk;
mod held;
mod io;
mod link;
mod places;
mod reading;
mod room;
mod stream;
mod writing;

pub use carrier::{Accepted, Carrier, CarrierEnd, CarrierLimits, StreamGuard};
pub use held::HeldByCore;
pub use link::{Link, LinkDriver};
pub use room::{Room, Waits};
pub use stream::Stream;
