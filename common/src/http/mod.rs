//! What clients cannot do: stall, or confuse with what HTTP forbids.

pub mod deadlines;
pub mod guard;
