//! What clients cannot do: stall, or confuse with what HTTP forbids.

pub mod answer;
pub mod body;
pub mod deadlines;
pub mod guard;
pub mod phase;
pub mod rebalance;
pub mod stream;
pub mod timed;
