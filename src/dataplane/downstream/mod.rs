//! The client side: a connection that yields requests.

mod h1;

pub use h1::{Downstream, HeadEnd, TlsFacts};
