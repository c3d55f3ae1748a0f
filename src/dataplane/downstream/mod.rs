//! The client side: a connection that yields requests.

mod h1;
mod proxied;

pub use h1::{Downstream, HeadEnd, TlsFacts};
