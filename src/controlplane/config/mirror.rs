//! `route.mirror`.

use super::{links::Named, retry::share, table::Table, upstream::UpstreamConfig};
use crate::{base::ids::UpstreamIndex, snapshot::Mirror};

/// The mirror of a route, if it has one.
///
/// # Errors
/// Something is wrong with it, which was reported.
pub(super) fn read(
    route: &Table<'_>,
    upstreams: &Named<UpstreamConfig>,
) -> Result<Option<Mirror>, ()> {
    let Some(value) = route.get("mirror") else { return Ok(None) };
    let read = || {
        let table = value.table()?;
        let share_per_10k = share(&table, "share");
        let name = table.require("upstream")?;
        let position = upstreams.resolve(&name.text()?, &name, "upstream")?;
        Some(Mirror { upstream: UpstreamIndex(position as u32), share_per_10k })
    };
    let mirror = read();
    if mirror.is_none() {
        upstreams.use_all(); // which one was meant is not known
    }
    mirror.map(Some).ok_or(())
}
