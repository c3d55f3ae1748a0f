//! `[upstream.passive]`, `[upstream.circuit_breaker]` and `[upstream.overload]`.

use super::{retry::share, table::Table};
use crate::{
    policy::{
        breaker::BreakerRule,
        outlier::{Panic, PassiveRule},
        overload::OverloadRule,
    },
    snapshot::Guards,
};

/// What an upstream has of them; what is wrong has been reported.
pub(super) fn read(upstream: &Table<'_>) -> Option<Box<Guards>> {
    let guards = Guards {
        passive: upstream.table("passive").map(|table| passive(&table)),
        overload: upstream.table("overload").map(|table| overload(&table)),
        breaker: upstream.table("circuit_breaker").map(|table| breaker(&table)),
    };
    (guards != Guards::default()).then(|| Box::new(guards))
}

fn millis(table: &Table<'_>, name: &str) -> u64 {
    u64::try_from(table.duration(name).as_millis()).unwrap_or(u64::MAX)
}

fn passive(table: &Table<'_>) -> PassiveRule {
    PassiveRule {
        consecutive_errors: table.integer("consecutive_errors") as u32,
        error_rate_per_10k: share(table, "error_rate"),
        window_ms: millis(table, "window"),
        requests_min: table.integer("requests_min") as u32,
        eject_for_ms: millis(table, "eject_for"),
        eject_max_per_10k: share(table, "eject_max"),
        panic: match table.choice("panic") {
            "refuse" => Panic::Refuse,
            _ => Panic::All,
        },
        success_gap_per_10k: share(table, "success_gap"),
        latency_factor: table.integer("latency_factor") as u32,
    }
}

fn overload(table: &Table<'_>) -> OverloadRule {
    OverloadRule {
        requests_max: table.integer("requests_max") as u32,
        connections_max: table.integer_opt("connections_max").map(|number| number as u32),
        pending_max: table.integer("pending_max") as u32,
        pending_timeout_ms: millis(table, "pending_timeout"),
        adaptive: table.boolean("adaptive"),
    }
}

fn breaker(table: &Table<'_>) -> BreakerRule {
    let scope = table.choice("scope");
    BreakerRule {
        consecutive_failures: table.integer("consecutive_failures") as u32,
        open_for_ms: millis(table, "open_for"),
        half_open_requests: table.integer("half_open_requests") as u16,
        of_upstream: scope != "endpoint",
        of_endpoints: scope != "upstream",
    }
}
