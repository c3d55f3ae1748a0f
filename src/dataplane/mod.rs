//! The data plane: one copy per core, which never waits on a lock and shares nothing but the
//! snapshot.
//!
//! [`worker`] runs the loop of a core and hands each accepted connection to [`proxy`], which reads
//! requests through [`downstream`] and forwards them over connections of [`upstream`]. What a core
//! owns (table, pools, buffers, contexts, deadlines) is its [`shard`].

pub mod context;
pub mod downstream;
pub mod proxy;
pub mod shard;
pub mod signing;
pub mod socket;
pub mod streams;
pub mod upstream;
pub mod worker;
