//! A ringway with one more strategy: `strategy = "fill-up"` sends each request to the first endpoint
//! that has fewer than eight requests in flight, so that the last ones can be switched off at night.
//!
//! ```console
//! $ cargo run --example strategy -- run -c ringway.toml
//! ```
//!
//! `tests/blackbox/balancing.rs` runs it.

use std::process::ExitCode;

use ringway::{
    base::ids::EndpointIndex,
    policy::balance::{Ask, Rotation, Strategy, register},
};

/// Requests that an endpoint takes before the next one is used.
const FULL: u32 = 8;

/// Keeps nothing: what is in flight is counted by ringway, over all cores.
struct FillUp;

impl Strategy for FillUp {
    fn update(&mut self, _: &Rotation) {}

    fn pick(&mut self, rotation: &Rotation, ask: &Ask<'_>) -> Option<EndpointIndex> {
        let mut candidates =
            rotation.members().iter().map(|one| one.endpoint).filter(|one| !ask.avoids(*one));
        let has_room = |one: &EndpointIndex| ask.load.in_flight(*one) < FULL;
        let first = candidates.clone().find(has_room);
        first.or_else(|| candidates.next())
    }
}

fn main() -> ExitCode {
    register("fill-up", |_core| Box::new(FillUp));
    ringway::cli::main()
}
