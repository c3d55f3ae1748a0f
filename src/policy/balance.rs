//! Which endpoint gets the next request.

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Each in turn.
    RoundRobin,
    /// Each in turn, as often as its weight says, evenly spread.
    WeightedRoundRobin,
    /// By chance, in proportion to the weights.
    Random,
}
