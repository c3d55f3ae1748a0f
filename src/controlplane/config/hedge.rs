//! `route.hedge`.

use super::{names, table::Table, units};
use crate::{
    base::limits::HEDGE_AFTER_MIN,
    policy::hedge::{After, HedgeRule, Quantile},
};

/// The rule; what is wrong has been reported.
pub(super) fn read(table: &Table<'_>) -> Option<HedgeRule> {
    let Some(value) = table.get("after") else {
        return parse(table.default("after")).map(|after| HedgeRule { after });
    };
    let text = value.text()?;
    let after = parse(&text);
    if after.is_none() {
        let words = names::list(Quantile::NAMES);
        let hint = format!("it takes {words}, or a duration from \"1ms\" such as \"50ms\"");
        value.error(format!("\"{}\" is not known here", value.shown(&text)), hint);
    }
    Some(HedgeRule { after: after? })
}

fn parse(text: &str) -> Option<After> {
    if let Some(place) = Quantile::NAMES.iter().position(|name| *name == text) {
        return Some(After::Quantile(Quantile::ALL[place]));
    }
    let length = units::parse_duration(text).ok()?;
    (length >= HEDGE_AFTER_MIN).then_some(After::Fixed(length))
}
