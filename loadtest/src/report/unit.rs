//! Units of figures.

use serde::{Deserialize, Serialize};

/// The unit of a number.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A count; shown without a fraction.
    Count,
    /// An average count; shown with one decimal.
    Mean,
    /// Per second.
    PerSecond,
    /// Microseconds, shown in a suitable unit.
    Microseconds,
    /// A ratio; 1 is equal. Shown with three decimals.
    Ratio,
    /// A ratio for which two decimals are enough.
    Times,
    /// Seconds of CPU time.
    Seconds,
    /// A number that is a name, such as a process id.
    Id,
    /// A percentile: 50 is the median, 99.9 the slowest in 1000.
    Percentile,
    /// A part of the whole, 0 to 1; shown in percent.
    Part,
    /// A probability.
    Probability,
    /// Words.
    #[default]
    Text,
}
