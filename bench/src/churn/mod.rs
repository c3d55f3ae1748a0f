//! What changes do to traffic: a proxy with many routes under a steady load, while its rules, its
//! endpoints or its process are exchanged.
//!
//! The load runs on a thread of its own ([`load`]) at a fixed rate, and checks of each answer that it
//! is the one of rules that may be in force. WebSockets are held all the time.

pub mod load;
pub mod origin;
pub mod ringway;
