//! Requests to endpoints that speak HTTP/2: a stream each, on connections that a core keeps few of.

use std::time::Duration;

use crate::{
    base::reason::Reason,
    dataplane::{
        shard::Shard,
        streams::LinkDriver,
        upstream::{
            EndpointPool, Full, KeepLimits, LinkNeeds, Permit, TlsWish, UpstreamConnection,
        },
    },
    rt,
    snapshot::Upstream,
};

/// A stream on a connection that other requests use too, made if need be.
///
/// # Errors
/// The reason that a client is given if no other endpoint can be had; [`Reason::UpstreamOverloaded`] if
/// there is no leave to make a connection.
///
/// # Cancel safety
/// Cancel safe: nothing was sent.
pub(super) async fn connect_stream(
    shard: &Shard,
    pool: &EndpointPool,
    upstream: &Upstream,
    tls: Option<TlsWish<'_>>,
    within: Duration,
    permit: &dyn Fn() -> Result<Option<Permit>, Full>,
) -> Result<UpstreamConnection, Reason> {
    let Shard { buffers, deadlines, stats, .. } = shard;
    let spawn = |driver: LinkDriver, permit: Option<Permit>| {
        stats.upstream_connects.inc();
        let driven = async move {
            driver.run().await;
            drop(permit);
        };
        rt::spawn_guarded(driven, shard.at_panic());
    };
    let needs = LinkNeeds {
        address: pool.address,
        tls,
        within,
        write_within: upstream.response_timeout,
        keep: keep_limits(upstream).of_links(),
        buffers,
        deadlines,
        permit,
        spawn: &spawn,
    };
    let stream = pool.links.stream(needs).await?;
    Ok(UpstreamConnection::of_stream(stream, deadlines))
}

/// How long and how many connections to an endpoint of an upstream are kept.
pub(super) fn keep_limits(upstream: &Upstream) -> KeepLimits {
    KeepLimits {
        idle_max: upstream.pool_idle_max_per_core,
        idle: upstream.pool_idle,
        age_max: upstream.pool_age_max,
    }
}
