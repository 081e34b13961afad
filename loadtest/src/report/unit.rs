//! Units of figures.

use serde::{Deserialize, Serialize};

/// What a number counts or measures.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// How many; shown without a fraction.
    Count,
    /// How many on average; shown with one digit of the fraction.
    Mean,
    /// Per second.
    PerSecond,
    /// Microseconds, shown in the unit that fits.
    Microseconds,
    /// One over another; 1 is equal. Shown with three digits of the fraction.
    Ratio,
    /// How many times as much, where two digits of the fraction are enough.
    Times,
    /// Seconds of CPU time.
    Seconds,
    /// A number that is a name, such as a process id.
    Id,
    /// The part of all, in percent, that lies below: 50 is the median, 99.9 the slowest in 1000.
    Percentile,
    /// A part of the whole, 0 to 1; shown in percent.
    Part,
    /// A probability.
    Probability,
    /// Words.
    #[default]
    Text,
}
