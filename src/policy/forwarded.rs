//! Whose word about the client is believed.

/// Networks whose `X-Forwarded-*` fields are believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies;
