//! The only room that names monoio.
